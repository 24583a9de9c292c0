"""How sure a language model is, learned from how its samples agreed where it was right and where it was not."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from escalade.domains.errors import EscaladeError
from escalade.neural.calibration import Calibrator, IdentityCalibrator, calibrator_from_json
from escalade.nodes.context import DecisionContext


class ReasonCalibration(BaseModel):
    """Of one model, asked in one way, about one domain. reference: who said what is right. count, right: of the answers
    that it was fitted to. error: expected calibration error over as many others, with its 95 % interval."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    domain: str
    model: str
    samples: int = Field(ge=2)
    reasoning: Literal["short", "full"]
    reference: str
    states: str
    count: int = Field(ge=1)
    right: int = Field(ge=0)
    tested: int = Field(ge=1)
    error: float
    error_low: float
    error_high: float
    calibrator: dict[str, Any]

    @model_validator(mode="after")
    def _whole(self) -> ReasonCalibration:
        try:
            calibrator_from_json(self.calibrator, "reason")
        except EscaladeError as error:
            raise ValueError(str(error)) from None
        return self

    def of(self, model: str, context: DecisionContext) -> Calibrator:
        """The calibrator, where the model is asked as it was then; elsewhere the plain share of agreement."""
        asked = (model, context.samples, context.reasoning)
        if asked != (self.model, self.samples, self.reasoning):
            return IdentityCalibrator()
        return calibrator_from_json(self.calibrator, "reason")
