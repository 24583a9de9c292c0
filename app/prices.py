"""Prices, in a TOML file that a person can edit:

compute_usd_per_hour = 0.05       # of this machine's time, one core
llm_only = "gpt-4.1-mini"         # what "language model only" is compared with, where none is configured

[models."gpt-4.1-mini"]
input_usd_per_mtok = 0.40
cached_usd_per_mtok = 0.10        # of input that the provider had in its cache; left out: as all input
output_usd_per_mtok = 1.60
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError

from escalade.domains.errors import SettingsError
from escalade.neural.manifest import first_fault

Usd = Annotated[FiniteFloat, Field(ge=0, strict=True)]


class ModelPrice(BaseModel):
    """USD per million tokens."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    input_usd_per_mtok: Usd
    output_usd_per_mtok: Usd
    cached_usd_per_mtok: Usd | None = None

    def cost(self, read: float, written: float) -> float:
        """USD for so many tokens read and written."""
        return (read * self.input_usd_per_mtok + written * self.output_usd_per_mtok) / 1e6


class Prices(BaseModel):
    """The file; see the module's text. What it does not name has no price."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    compute_usd_per_hour: Usd | None = None
    llm_only: str | None = None
    models: dict[str, ModelPrice] = Field(default_factory=dict)


def read_prices(path: Path | None) -> Prices:
    """The prices in a file; none without one. Raises SettingsError naming the field at fault."""
    if path is None:
        return Prices()
    try:
        found = Prices.model_validate(tomllib.loads(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise SettingsError(f"ESCALADE_PRICES: '{path}' cannot be read: {error.strerror or error}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"ESCALADE_PRICES: '{path}' is not TOML: {error}") from None
    except ValidationError as error:
        raise SettingsError(f"ESCALADE_PRICES: '{path}': {first_fault(error)}") from None
    if found.llm_only is not None and found.llm_only not in found.models:
        raise SettingsError(f"ESCALADE_PRICES: '{path}': llm_only is '{found.llm_only}', which has no price in models")
    return found
