"""The bodies of requests to the HTTP app and of its answers."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, JsonValue, field_validator, model_validator

from escalade.nodes.context import DecisionContext
from escalade.nodes.state import MAX_ID_LENGTH
from escalade.training.outcomes import LONGEST_NAME


def _finite(value: JsonValue) -> JsonValue:
    """JSON has no NaN and no infinity, though Python's reader lets them through."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for part in parts:
        _finite(part)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError("numbers must be finite")
    return value


State = Annotated[JsonValue, AfterValidator(_finite), Field(description="A state as its domain writes it: `4455`.")]
DomainName = Annotated[str | None, Field(description="One of the domains served; the first by default.")]


class PredictRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    state: State
    temperature: float = Field(default=1.0, ge=0, le=100, allow_inf_nan=False, description="0 takes the best action.")
    domain: DomainName = None
    seed: int | None = Field(default=None, ge=0, lt=2**63, description="Makes the draw repeatable.")


class Prediction(BaseModel):
    action: int
    confidence: float = Field(
        description="Calibrated confidence in the action if it is the network's first choice; else, and where no "
        "calibrator was fitted, its probability."
    )
    value: float
    latency_ms: float


class DecideRequest(DecisionContext):
    state: State
    domain: DomainName = None
    decision_id: str | None = Field(default=None, min_length=1, max_length=MAX_ID_LENGTH)

    @field_validator("human", "ladder")
    @classmethod
    def _nobody_to_ask(cls, given: bool | tuple[str, ...] | None) -> bool | tuple[str, ...] | None:
        if given is True or (isinstance(given, tuple) and "human" in given):
            raise ValueError("a person cannot be asked over this route: run the graph on the LangGraph server instead")
        return given

    def context(self) -> DecisionContext:
        """The options that were given, and no others."""
        return DecisionContext(
            **{f: getattr(self, f) for f in self.model_fields_set & DecisionContext.model_fields.keys()}
        )


class OutcomeReport(BaseModel):
    model_config = ConfigDict(extra="forbid")

    decision_id: str = Field(min_length=1, max_length=LONGEST_NAME)
    value: float | None = Field(
        default=None,
        ge=-1,
        le=1,
        allow_inf_nan=False,
        strict=True,
        description="How it ended, in [-1, 1], as the player who was to move in the decided state sees it.",
    )
    action: str | None = Field(
        default=None, max_length=10_000, description="The name of the action that would have been right."
    )
    by: str = Field(default="", max_length=LONGEST_NAME, description="Who says so.")
    domain: DomainName = None

    @field_validator("decision_id", "by")
    @classmethod
    def _can_be_kept(cls, given: str) -> str:
        if not given.isprintable():
            raise ValueError("only printable characters")
        return given

    @model_validator(mode="after")
    def _says_something(self) -> OutcomeReport:
        if self.value is None and self.action is None:
            raise ValueError("give value, action, or both")
        return self


class Accepted(BaseModel):
    status: str = Field(description="accepted: it is on disk within 30 seconds.")


class Health(BaseModel):
    status: str
    version: str
    domains: dict[str, str | None] = Field(description="Domains served, with the version of their bundle, if any.")
