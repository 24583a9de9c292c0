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
from escalade.nodes.context import DecisionContext, Limits

SHORTEST_KEY = 16


class Settings(BaseSettings):
    """Each field is the environment variable `ESCALADE_` + its name in capitals; lists and objects are JSON."""

    model_config = SettingsConfigDict(
        env_prefix="ESCALADE_", extra="forbid", frozen=True, env_ignore_empty=True, populate_by_name=True
    )

    api_keys: tuple[SecretStr, ...] = Field(
        default=(),
        description="API keys that the servers accept, such as `openssl rand -hex 16` makes; if empty, none is needed.",
    )
    domains: tuple[str, ...] = Field(
        default=("connect_four", "tic_tac_toe"),
        min_length=1,
        description="Domains to serve: names or module:Class. The first is the default.",
    )
    domain_options: dict[str, dict[str, Any]] = Field(
        default={}, description='Options by domain, such as {"intents": {"labels": "labels.csv"}}.'
    )
    bundles: dict[str, str] = Field(
        default={},
        description="Model bundle by domain: a folder, builtin:NAME or models:/NAME@ALIAS, such as "
        '{"connect_four": "models:/connect_four@champion"}.',
    )
    llm_calibrations: dict[str, Path] = Field(
        default={},
        description="Calibration file by domain, written by `escalade llm calibrate`.",
    )
    runs: Path = Field(default=Path("out/train"), description="Folder of training runs.")
    registry: str = Field(
        default="sqlite:///out/models.db",
        description="Model registry: the SQLite file that models:/… refers to.",
    )
    experience: Path | None = Field(
        default=None,
        description="Folder to record decisions and their outcomes in as training data, one subfolder per domain; if "
        "not set, they are not recorded.",
    )
    defaults: DecisionContext = Field(
        default=DecisionContext(), description='Default run options, such as {"simulations": 100}.'
    )
    rollouts: int = Field(
        default=8, ge=1, le=10_000, description="Random rollouts per leaf if the search has no network."
    )
    max_simulations: int = Field(
        default=100_000, ge=1, le=1_000_000, description="Most MCTS simulations that a client of a server may ask for."
    )
    max_samples: int = Field(
        default=16, ge=1, le=64, description="Most samples of the language model that a client of a server may ask for."
    )
    max_deadline_ms: float = Field(
        default=300_000,
        gt=0,
        allow_inf_nan=False,
        description="Longest deadline that a client of a server may ask for, in ms.",
    )
    deadline_ms: float = Field(
        default=60_000,
        gt=0,
        allow_inf_nan=False,
        description="Deadline on servers of decisions that come without one, in ms; ESCALADE_DEFAULTS may set another.",
    )
    shutdown_s: float = Field(
        default=25,
        ge=2,
        le=3600,
        allow_inf_nan=False,
        description="Seconds within which `escalade serve` ends after SIGTERM, whatever its clients do.",
    )
    prometheus_multiproc_dir: Path | None = Field(
        default=None,
        validation_alias="PROMETHEUS_MULTIPROC_DIR",
        description="Folder, empty at first, in which several server processes add up their metrics; if not "
        "set, each process counts for itself.",
    )
    compute_usd_per_hour: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="Price of compute time on this machine, in USD per hour; if not set, that of the "
        "price file, else only provider bills count.",
    )
    prices: Path | None = Field(
        default=None,
        description="TOML file of prices, of models and of compute time; settings take precedence over it.",
    )
    ledger: Path | None = Field(
        default=None,
        description="SQLite file to record the cost of decisions in, and what one expensive rung alone would have "
        "cost; if not set, it is not recorded.",
    )
    watch: Path | None = Field(
        default=None,
        description="SQLite file of the audits; if not set, no audits are made and certificates are not monitored. "
        "With ESCALADE_EXPERIENCE, audits are also recorded there, so that later certificates can be proven on them.",
    )
    audit_share: float = Field(
        default=0.05, gt=0, le=1, allow_inf_nan=False, description="Share of the decisions to audit, drawn at random."
    )
    false_alarms: float = Field(
        default=0.05,
        gt=0,
        le=1,
        allow_inf_nan=False,
        description="Largest probability of a false alarm within 100,000 decisions.",
    )
    trace_share: float = Field(
        default=1.0,
        ge=0,
        le=1,
        allow_inf_nan=False,
        description="Share of the decisions of this process's own commands and server to trace, if LANGSMITH_TRACING "
        "is on.",
    )
    llm_model: str | None = Field(
        default=None, description="Name of the chat model; if not set, there is no language model."
    )
    llm_api_key: SecretStr | None = Field(
        default=None, validation_alias="OPENAI_API_KEY", description="API key of the endpoint."
    )
    llm_base_url: str | None = Field(
        default=None,
        validation_alias="OPENAI_BASE_URL",
        description="Base URL of the endpoint, if it is not OpenAI's own.",
    )
    llm_timeout_s: float = Field(
        default=30.0, gt=0, allow_inf_nan=False, description="Timeout of one call in seconds, from its turn on."
    )
    llm_max_tokens: int = Field(default=512, ge=1, description="Maximum tokens of one answer.")
    llm_tokens_per_decision: int | None = Field(
        default=None,
        ge=1,
        description="Maximum tokens of all calls of one decision, prompts and answers; if not set, no limit.",
    )
    llm_tokens_per_hour: int | None = Field(
        default=None,
        ge=1,
        description="Maximum tokens of this process in any hour, prompts and answers; if not set, no limit.",
    )
    llm_temperature: float = Field(
        default=0.7,
        ge=0,
        le=2,
        description="Sampling temperature if several answers are sampled (option samples); a single answer uses 0.",
    )
    llm_batch_ms: float = Field(
        default=5.0,
        ge=0,
        allow_inf_nan=False,
        description="Milliseconds that a question of a one-step domain waits for others to share its prompt; 0 turns "
        "sharing off.",
    )
    llm_batch_most: int = Field(default=32, ge=1, description="Maximum questions in one prompt.")
    llm_at_once: int = Field(
        default=16,
        ge=1,
        description="Maximum concurrent calls; lowered by itself while the endpoint limits calls or answers late.",
    )
    llm_waiting: int = Field(default=256, ge=0, description="Maximum calls in the queue; further calls fail.")
    llm_leave_out: tuple[str, ...] = Field(
        default=(),
        description="What the endpoint does not accept in requests: names of parameters such as temperature, strict, "
        "response_format or tools, or system (messages) or consecutive_messages. What it refuses by name is found out.",
    )
    llm_input_usd_per_mtok: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="USD per million prompt tokens; if not set, unpriced."
    )
    llm_output_usd_per_mtok: float | None = Field(
        default=None, ge=0, allow_inf_nan=False, description="USD per million completion tokens; if not set, unpriced."
    )

    llm_cached_usd_per_mtok: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="USD per million prompt tokens read from the provider's cache; if not set, as all prompt tokens.",
    )

    @field_validator("llm_leave_out")
    @classmethod
    def _names(cls, given: tuple[str, ...]) -> tuple[str, ...]:
        for name in given:
            if not re.fullmatch(r"[A-Za-z_]{1,40}", name) or name in ("model", "messages"):
                raise ValueError(f"'{name[:40]}' is no parameter that can be left out, such as temperature")
        return given

    @field_validator("prometheus_multiproc_dir")
    @classmethod
    def _is_there(cls, given: Path | None) -> Path | None:
        if given is not None and not given.is_dir():
            raise ValueError(f"'{given}' must be a folder that exists")
        return given

    @property
    def limits(self) -> Limits:
        """Of what clients of a server may ask for. Raises SettingsError where the defaults are beyond them."""
        for option in ("simulations", "samples", "deadline_ms"):
            given, most = getattr(self.defaults, option), getattr(self, f"max_{option}")
            if option in self.defaults.model_fields_set and given is not None and given > most:
                raise SettingsError(
                    f"ESCALADE_DEFAULTS.{option} is {given:.10g}, but a client may ask for {most:.10g} at most: raise "
                    f"ESCALADE_MAX_{option.upper()}"
                )
        most_ms = self.max_deadline_ms
        return Limits(self.max_simulations, self.max_samples, most_ms, min(self.deadline_ms, most_ms))

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
        if not first["loc"]:  # several settings that do not go together
            raise SettingsError(first["msg"].removeprefix("Value error, ")) from None
        field = str(first["loc"][0])
        inner = "".join(f".{part}" for part in first["loc"][1:])
        name = field if field.isupper() else f"ESCALADE_{field.upper()}"
        raise SettingsError(f"{name}{inner}: {first['msg'].removeprefix('Value error, ')}") from None
    except SourceError as error:
        named = re.search(r'field "(\w+)"', str(error))
        name = f"ESCALADE_{named[1].upper()}" if named else "a setting"
        raise SettingsError(f"{name} must be JSON; docs/settings.md shows how each is written") from None


def drop_empty_folder() -> None:
    """Unset `PROMETHEUS_MULTIPROC_DIR` where it is empty: prometheus_client takes that for the current folder."""
    if os.environ.get("PROMETHEUS_MULTIPROC_DIR") == "":
        del os.environ["PROMETHEUS_MULTIPROC_DIR"]
