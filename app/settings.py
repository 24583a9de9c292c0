"""Every setting there is, read from the environment; nothing else in Escalade reads it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from pydantic import Field, SecretStr, ValidationError, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from pydantic_settings import SettingsError as SourceError

from escalade.domains.errors import SettingsError
from escalade.nodes.context import DecisionContext

SHORTEST_KEY = 16


class Settings(BaseSettings):
    """Each field is the environment variable `ESCALADE_` + its name in capitals; lists and objects are JSON."""

    model_config = SettingsConfigDict(
        env_prefix="ESCALADE_", extra="forbid", frozen=True, env_ignore_empty=True, populate_by_name=True
    )

    api_keys: tuple[SecretStr, ...] = Field(
        default=(),
        description="Keys of those who may use the servers, such as `openssl rand -hex 16` makes; empty: anyone may.",
    )
    domains: tuple[str, ...] = Field(
        default=("connect_four", "tic_tac_toe"),
        min_length=1,
        description="Domains that servers offer: names or module:Class. The first is the default.",
    )
    domain_options: dict[str, dict[str, Any]] = Field(
        default={}, description='Options of domains, such as {"intents": {"labels": "labels.csv"}}.'
    )
    bundles: dict[str, str] = Field(
        default={},
        description="Trained bundle of each domain: a folder, builtin:NAME or models:/NAME@ALIAS, such as "
        '{"connect_four": "models:/connect_four@champion"}.',
    )
    llm_calibrations: dict[str, Path] = Field(
        default={},
        description="By domain, the file in which `escalade llm calibrate` wrote how sure the language model is.",
    )
    runs: Path = Field(default=Path("out/train"), description="Folder of training runs.")
    registry: str = Field(
        default="sqlite:///out/models.db",
        description="Model registry: the SQLite file in which models:/… is looked up.",
    )
    experience: Path | None = Field(
        default=None,
        description="Folder where decisions and their outcomes are kept to learn from, each domain in a folder of its "
        "own; empty: nowhere.",
    )
    defaults: DecisionContext = Field(
        default=DecisionContext(), description='Options of runs that give none, such as {"simulations": 100}.'
    )
    rollouts: int = Field(default=8, ge=1, le=10_000, description="Random games a leaf when search has no network.")
    compute_usd_per_hour: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="Price of this machine's time; empty: as in the file of prices, else only provider bills count.",
    )
    prices: Path | None = Field(
        default=None,
        description="TOML file of prices, of models and of this machine's time; settings of the same come before it.",
    )
    ledger: Path | None = Field(
        default=None,
        description="SQLite file where the cost of decisions is added up, and what one dear rung alone would have "
        "cost; empty: nowhere.",
    )
    watch: Path | None = Field(
        default=None,
        description="SQLite file of what audits of certified decisions found; empty: none are made, and certificates "
        "are taken at their word.",
    )
    audit_share: float = Field(
        default=0.05, gt=0, le=1, allow_inf_nan=False, description="Share of the decisions that are audited."
    )
    false_alarms: float = Field(
        default=0.05,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Chance that may be of a false alarm within 100,000 decisions.",
    )
    trace_share: float = Field(
        default=1.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Share of the decisions of this process's own commands and server that are traced, where "
        "LANGSMITH_TRACING is on.",
    )
    llm_model: str | None = Field(default=None, description="Name of the chat model; empty: no language model.")
    llm_api_key: SecretStr | None = Field(
        default=None, validation_alias="OPENAI_API_KEY", description="The endpoint's key."
    )
    llm_base_url: str | None = Field(
        default=None, validation_alias="OPENAI_BASE_URL", description="The endpoint, if it is not OpenAI's own."
    )
    llm_timeout_s: float = Field(
        default=30.0, gt=0, allow_inf_nan=False, description="Time-out of one call in seconds, from its turn on."
    )
    llm_max_tokens: int = Field(default=512, ge=1, description="Limit of one answer.")
    llm_tokens_per_decision: int | None = Field(
        default=None, ge=1, description="Limit of all calls of one decision, prompts and answers; empty: none."
    )
    llm_tokens_per_hour: int | None = Field(
        default=None, ge=1, description="Limit of this process in any hour, prompts and answers; empty: none."
    )
    llm_temperature: float = Field(
        default=0.7,
        ge=0,
        le=2,
        description="Of answers of which several are asked for (option samples); a single one is asked for with 0.",
    )
    llm_batch_ms: float = Field(
        default=5.0,
        ge=0,
        allow_inf_nan=False,
        description="How long a question of a one-step domain waits for others to share a prompt; 0: each by itself.",
    )
    llm_batch_most: int = Field(default=32, ge=1, description="Questions in one prompt.")
    llm_at_once: int = Field(
        default=16, ge=1, description="Calls at once, at most; fewer where the endpoint turns out not to take so many."
    )
    llm_waiting: int = Field(default=256, ge=0, description="Calls that may wait for their turn; further ones fail.")
    llm_input_usd_per_mtok: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="USD per million prompt tokens; empty: unpriced."
    )
    llm_output_usd_per_mtok: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="USD per million answer tokens; empty: unpriced."
    )

    @field_validator("llm_base_url")
    @classmethod
    def _an_address(cls, given: str | None) -> str | None:
        if given is None:
            return None
        try:
            parts = urlsplit(given)
            fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            fine = False
        if not fine or not given.isprintable() or " " in given:
            raise ValueError("must be an address such as https://api.openai.com/v1")
        if "@" in parts.netloc:  # it would be in traces
            raise ValueError("must not hold a name or password: give the key by OPENAI_API_KEY")
        return given

    @field_validator("llm_api_key")
    @classmethod
    def _fits_a_header(cls, given: SecretStr | None) -> SecretStr | None:
        text = "" if given is None else given.get_secret_value()
        if not (text.isascii() and text.isprintable() and " " not in text):
            raise ValueError("must be ASCII characters, without spaces or line ends")
        return given

    @field_validator("api_keys")
    @classmethod
    def _hard_to_guess(cls, given: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
        for key in given:
            text = key.get_secret_value()
            if len(text) < SHORTEST_KEY or not (text.isascii() and text.isprintable() and " " not in text):
                raise ValueError(f"keys must be at least {SHORTEST_KEY} ASCII characters, without spaces")
        return given


def read_settings(**overrides: Any) -> Settings:
    """Settings from the environment, with those given in place of it. Raises SettingsError naming the variable, also
    for one that is no setting at all: a typing error would otherwise go unnoticed."""
    for variable in os.environ:
        if variable.startswith("ESCALADE_") and variable.removeprefix("ESCALADE_").lower() not in Settings.model_fields:
            raise SettingsError(f"{variable} is not a setting; docs/settings.md lists those there are")
    try:
        return Settings(**overrides)
    except ValidationError as error:
        first = error.errors()[0]
        field = str(first["loc"][0]) if first["loc"] else "settings"
        inner = "".join(f".{part}" for part in first["loc"][1:])
        name = field if field.startswith("OPENAI_") else f"ESCALADE_{field.upper()}"
        raise SettingsError(f"{name}{inner}: {first['msg'].removeprefix('Value error, ')}") from None
    except SourceError as error:
        named = re.search(r'field "(\w+)"', str(error))
        name = f"ESCALADE_{named[1].upper()}" if named else "a setting"
        raise SettingsError(f"{name} must be JSON; docs/settings.md shows how each is written") from None
