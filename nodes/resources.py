"""What the nodes work with, handed in once when the graph is built."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from escalade.domains.base import Domain, FloatArray
from escalade.domains.decision import Decision, FailedDecision
from escalade.neural.batcher import Batcher
from escalade.neural.calibration import Calibrator, IdentityCalibrator
from escalade.neural.certificate import Certificate
from escalade.neural.novelty import Novelty
from escalade.nodes.context import NO_LIMITS, DecisionContext, Limits
from escalade.nodes.language_model import LanguageModel
from escalade.nodes.question_batches import QuestionBatches
from escalade.nodes.reason_calibration import ReasonCalibration
from escalade.search.service import SearchService


class CertificateWatch(Protocol):
    """Knows which certificates no longer hold. Asked for every decision, so it must answer at once."""

    def problem(self, certificate: Certificate) -> str | None:
        """Why a certificate is not to be used any more, as a clause; None while it is."""
        ...


class SimilarDecisions(Protocol):
    """Knows what was decided before."""

    def similar(self, text: str, count: int) -> list[dict[str, Any]]:
        """The decisions made in the states most like this one, the nearest first."""
        ...


Sink = Callable[[Decision], None]
"""Is told of every finished decision. Must be quick and must not block: it runs on the event loop."""

FailureSink = Callable[[FailedDecision], None]
"""Receives the record of every run that ended without a decision. As quick as a `Sink`."""

_FARTHEST = 1e6
"""As far as a decision tells: JSON knows no infinity."""


@dataclass(frozen=True)
class Resources:
    """network: in front of the policy-value network; value_network: of the value network, or of the former again.
    Both None without a bundle. search: looks ahead for all runs; None where the domain has no simulator.
    language_model: None where no endpoint is configured. batches: of questions to it, None where each goes alone.
    reason_calibration: how sure it is; None where nobody measured that.
    calibrators: by rung, identity where absent. novelty: tells states that the networks leave to others; None: there
    are none such. certificates: by what thresholds the networks may accept; watch: whether these still hold. similar:
    what was decided before, None where nobody keeps that. compute_usd_per_hour: price of this machine's time."""

    domain: Domain[Any]
    defaults: DecisionContext
    calibrators: dict[str, Calibrator]
    network: Batcher | None = None
    value_network: Batcher | None = None
    search: SearchService | None = None
    language_model: LanguageModel | None = None
    bundle_version: str | None = None
    novelty: Novelty | None = None
    certificates: tuple[Certificate, ...] = ()
    batches: QuestionBatches | None = None
    reason_calibration: ReasonCalibration | None = None
    watch: CertificateWatch | None = None
    similar: SimilarDecisions | None = None
    sinks: tuple[Sink, ...] = ()
    failure_sinks: tuple[FailureSink, ...] = ()
    compute_usd_per_hour: float = 0.0
    clock: Callable[[], float] = time.monotonic
    """Seconds, for deadlines and durations: it must never step back, as the wall clock does."""
    limits: Limits = NO_LIMITS
    """What a run may ask for."""

    def calibrator(self, rung: str) -> Calibrator:
        return self.calibrators.get(rung, IdentityCalibrator())

    def novelty_of(self, observations: FloatArray, text: str) -> dict[str, float]:
        """`{"novelty": x}` of one state, with observation `[1, *O]`: novel over 1; nothing where that is not known."""
        if self.novelty is None:
            return {}
        far = float(self.novelty.distances(observations, (text,))[0]) / self.novelty.spec.limit
        return {"novelty": min(far, _FARTHEST)}

    def compute_cost(self, milliseconds: float) -> float:
        """USD for so much of this machine's time."""
        return milliseconds / 3_600_000 * self.compute_usd_per_hour
