"""The record of one decision: the same for the API, the web page, the experience store and the trace."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

Rung = Literal["policy", "value", "reason", "search", "human"]
Outcome = Literal["accepted", "escalated", "skipped", "failed"]


class RungReport(BaseModel):
    """What one rung of the ladder said, and what became of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    rung: Rung
    outcome: Outcome
    reason: str = Field(description="Why that outcome, as a short code; docs/decision.md lists them all.")
    action: int | None = Field(default=None, description="Proposed index into the action space, from 0.")
    confidence: float | None = Field(
        default=None, ge=0, le=1, description="Calibrated probability that the action is as good as the reference's."
    )
    threshold: float | None = Field(default=None, description="Confidence it needed, if it needed any.")
    value: float | None = Field(
        default=None, ge=-1, le=1, description="Estimate of the state for the player to move, in [-1, 1]."
    )
    cost_usd: float | None = Field(default=0.0, ge=0, description="What the visit cost in USD; null when unpriced.")
    latency_ms: float = Field(default=0.0, ge=0, description="Measured time of the visit in milliseconds.")
    work_ms: float = Field(
        default=0.0, ge=0, description="This machine's time for it in ms; decisions under way together share that."
    )
    details: dict[str, Any] = Field(default_factory=dict, description="What only this kind of rung can tell.")


class Decision(BaseModel):
    """One decision and how it was reached."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    decision_id: str
    domain: str
    state: str = Field(description="The canonical text of the state decided.")
    action: int = Field(ge=0, description="Index into the action space, from 0.")
    action_name: str = Field(description="What a person types for the action.")
    source: Rung = Field(description="The rung whose action it is.")
    confidence: float | None = Field(default=None, ge=0, le=1, description="The source rung's calibrated confidence.")
    certified: bool = Field(description="Whether a valid certificate stood behind the threshold that was met.")
    best_effort: bool = Field(description="True if no rung was accepted and this is merely the best proposal.")
    value: float | None = Field(
        default=None, ge=-1, le=1, description="Estimate of the state for the player to move, in [-1, 1]."
    )
    policy: list[float] | None = Field(
        default=None, description="Distribution over all actions, `[num_actions]`, if the rung has one."
    )
    cost_usd: float | None = Field(ge=0, description="What all visits cost in USD; null if one of them is unpriced.")
    latency_ms: float = Field(ge=0, description="Time from request to decision in ms, pauses for a person left out.")
    rungs: list[RungReport] = Field(description="Every rung visited or skipped, in ladder order.")

    @property
    def simulated(self) -> bool:
        """Whether a simulated language model had a part in it (`escalade llm simulate`)."""
        return any(report.details.get("simulated") is True for report in self.rungs)


class FailedDecision(BaseModel):
    """A run that ended without a decision, and what was spent before it did."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    decision_id: str
    domain: str
    state: str = Field(description="The canonical text of the state; as it was given, cut, if it is no state.")
    outcome: Literal["refused", "failed", "cancelled"] = Field(
        description="refused: the input is at fault. failed: no rung gave a legal action, or a step broke. "
        "cancelled: whoever asked has left."
    )
    error: str = Field(description="Kind of the error, such as NoDecisionError.")
    message: str = Field(description="One sentence: why there is no decision, and what to do about it.")
    cost_usd: float | None = Field(ge=0, description="What all visits cost in USD; null if one of them is unpriced.")
    latency_ms: float = Field(ge=0, description="Time from request to failure in ms, pauses for a person left out.")
    rungs: list[RungReport] = Field(description="Every rung visited or skipped before it failed, in ladder order.")

    @property
    def simulated(self) -> bool:
        """Whether a simulated language model had a part in it."""
        return any(report.details.get("simulated") is True for report in self.rungs)
