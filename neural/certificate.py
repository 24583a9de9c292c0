"""Certificates: how often a ladder that accepts from these thresholds on is wrong, proven for one set of weights.

What is promised. Draw a state as the calibration states were drawn. With confidence 1 - delta over the draw of those:

- of the decisions that the neural rungs make alone, at most a share alpha is worse than the reference's;
- of all decisions of the ladder, those of the rung behind them included, at most a share alpha is.

Both must pass at each setting of the path, so the setting's p-value is the larger of the two (R. Berger,
"Multiparameter hypothesis testing and acceptance sampling", Technometrics 1982); the path is tested by
`escalade.neural.fixed_sequence`. One that covers "own" promises the first line alone: where the rung behind is itself
worse than the reference more often than alpha, no threshold can bring the second. The promise is void for other
weights, calibrators or novelty limits, hence `bundle`, and says nothing of states that are drawn otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from escalade.neural.fixed_sequence import p_value

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Share = Annotated[float, Field(ge=0, le=1)]
NeuralRung = Literal["policy", "value"]
Covers = Literal["all", "own"]


def promise_name(alpha: float, covers: Covers) -> str:
    """For people."""
    return f"{alpha:g}" if covers == "all" else f"{alpha:g}, own"


class Tally(BaseModel):
    """n cases, k of them wrong; of a setting that was looked at by itself the risk is below `bound` with confidence
    1 - delta. What is proven of the one in use, chosen from a path, is alpha."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    n: int = Field(ge=0)
    k: int = Field(ge=0)
    bound: Share

    @model_validator(mode="after")
    def _possible(self) -> Tally:
        if self.k > self.n:
            raise ValueError("k cannot be more than n")
        return self


class Setting(BaseModel):
    """One place on the path: the threshold of each neural rung (1: it accepts nothing), and what the calibration states
    said. shares: of all decisions, by the rung that made them. cost_s: mean seconds of work a decision."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    thresholds: dict[NeuralRung, Share]
    accepted: Tally
    all: Tally
    shares: dict[str, Share]
    cost_s: FiniteFloat = Field(ge=0)

    def doubt(self, alpha: float, covers: Covers) -> float:
        """The p-value of a promise."""
        counted = (self.accepted,) if covers == "own" else (self.accepted, self.all)
        return max(p_value(tally.k, tally.n, alpha) for tally in counted)


class Split(BaseModel):
    """A set of states: how many, and the SHA-256 of their texts, a line each, in order."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    count: int = Field(ge=1)
    sha256: Sha256


class Certificate(BaseModel):
    """Thresholds in use, what was tested to find them, and what they are valid for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_version: Literal[1] = 1
    bundle: Sha256
    """Identity of all that decides."""
    alpha: float = Field(gt=0, lt=1)
    delta: float = Field(gt=0, lt=1)
    covers: Covers = "all"
    """"all" decisions, or those that the networks make on their "own"."""
    reference: str = Field(min_length=1, max_length=100)
    """What quality was measured against, such as "exact"."""
    states: str = Field(min_length=1, max_length=500)
    """Where the states came from, in words."""
    ladder: tuple[str, ...] = Field(min_length=2)
    """The rungs, the neural ones first, then the one behind them."""
    simulations: int | None = Field(default=None, ge=1)
    """Of the rung behind, if it is a search."""
    tried: FiniteFloat | None = Field(default=None, ge=0)
    """Simulations that it runs on average over all states, as it stops at a proof."""
    tune: Split
    calibrate: Split
    path: tuple[Setting, ...] = Field(min_length=1, max_length=1000)
    """The settings tested, in an order that the tune states alone fixed, up to the first that failed."""
    passed: int = Field(ge=1)
    """How many of them did not fail."""
    chosen: int = Field(ge=0)
    """Place on the path of the one in use."""
    novel: Share = 0.0
    """Share of the calibration states that were novel."""
    cost_s: dict[str, Annotated[FiniteFloat, Field(ge=0)]] = Field(default_factory=dict)
    """Mean seconds of a visit to each rung, one decision at a time, on the machine `measured_on`."""
    behind: Tally
    """What the last rung gets wrong, asked always."""
    measured_on: str = ""
    created: AwareDatetime
    max_cost_s: FiniteFloat | None = None
    """The most that a decision was to cost, if that was limited."""
    limit: Share | None = None
    """The largest share of decisions that any thresholds could leave to the networks within the promise, estimated on
    the tune states; None in older certificates."""
    census: bool = False
    """Whether tune and calibrate are all states there are, so that they may be those that taught too."""

    @model_validator(mode="after")
    def _consistent(self) -> Certificate:
        if not self.chosen < self.passed <= len(self.path):
            raise ValueError("chosen must be a place on the path that passed")
        for place, setting in enumerate(self.path):
            if (setting.doubt(self.alpha, self.covers) <= self.delta) != (place < self.passed):
                raise ValueError(f"path.{place}: its counts do not say that it passed, or that it did not")
        return self

    @property
    def name(self) -> str:
        """For people: alpha, and whether it is of the networks' own decisions alone."""
        return promise_name(self.alpha, self.covers)

    @property
    def setting(self) -> Setting:
        """The one in use."""
        return self.path[self.chosen]

    def threshold(self, rung: str) -> float | None:
        """From which confidence on a neural rung accepts; None for one that has no part in it."""
        return next((threshold for name, threshold in self.setting.thresholds.items() if name == rung), None)


def best_certificate(certificates: Sequence[Certificate], alpha: float, delta: float) -> Certificate | None:
    """The boldest one that promises at most alpha with confidence 1 - delta at least, and of such the one that covers
    more; None if there is none."""
    fitting = [one for one in certificates if one.alpha <= alpha and one.delta <= delta]
    return max(fitting, key=lambda one: (one.alpha, one.delta, one.covers == "all"), default=None)
