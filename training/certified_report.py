"""What a certificate came to: in a record for JSON, and as reliability diagrams."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from escalade.neural.bundle import Bundle
from escalade.neural.certificate import Certificate
from escalade.training.drawing import COLOURS, marks, new_figure, save_figure, set_title
from escalade.training.intervals import Calibration, Mean, Share, calibration_of, mean_of, share_of
from escalade.training.recorded import Recorded
from escalade.training.threshold_path import decide


@dataclasses.dataclass(frozen=True)
class Measured:
    """What the ladder of a certificate does to states that had no part in it.

    alone: decided by the neural rungs. wrong: of all; wrong_alone: of those. shares: by rung. saved: share of the cost
    of always asking the last rung. behind: what that one gets wrong of all states.
    """

    states: str
    alone: Share
    wrong: Share
    wrong_alone: Share
    shares: Mapping[str, float]
    saved: Mean
    behind: Share


def measured(bundle: Bundle, certificate: Certificate, recorded: Recorded, states: str) -> Measured:
    """Apply a bundle's certificate to recorded states of another set. Costs are those that the certificate states."""
    neural = recorded.rungs[:-1]
    answers = recorded.answers({rung: bundle.calibrator(rung) for rung in neural}, bundle.novelty)
    answers = dataclasses.replace(answers, cost_s=np.array([certificate.cost_s[rung] for rung in recorded.rungs]))
    found = decide(answers, np.array([certificate.setting.thresholds[rung] for rung in _neural(certificate)]))
    alone = found.source < len(neural)
    shares = np.bincount(found.source, minlength=len(recorded.rungs)) / len(recorded)
    always = certificate.cost_s[recorded.rungs[-1]]
    saved = 1 - found.cost_s / always if always > 0 else np.zeros(0)
    return Measured(
        states=states,
        alone=share_of(alone),
        wrong=share_of(found.wrong),
        wrong_alone=share_of(found.wrong[alone]),
        shares=dict(zip(recorded.rungs, shares.tolist(), strict=True)),
        saved=_signed_mean(saved),
        behind=share_of(~recorded.right[:, -1]),
    )


def _neural(certificate: Certificate) -> list[Any]:
    return [rung for rung in certificate.ladder if rung in certificate.setting.thresholds]


def _signed_mean(values: np.ndarray[Any, Any]) -> Mean:
    """As `mean_of`, of numbers that may be negative."""
    if not len(values):
        return mean_of(values)
    shift = float(min(values.min(), 0.0))
    mean = mean_of(values - shift)
    moved = [None if figure is None else figure + shift for figure in (mean.mean, mean.low, mean.high)]
    return Mean(mean.count, moved[0], moved[1], moved[2])


def reliability(bundle: Bundle, recorded: Recorded, seed: int = 0) -> dict[str, Calibration]:
    """How far each rung's confidence is from the share of answers that are right, by rung."""
    return {
        rung: calibration_of(
            bundle.calibrator(rung).confidences(features), recorded.right[:, recorded.rungs.index(rung)], seed=seed
        )
        for rung, features in recorded.features.items()
    }


def draw_reliability(calibrations: Mapping[str, Calibration], path: Path) -> None:
    """Reliability diagrams of all rungs side by side. Raises SettingsError without matplotlib."""
    figure = new_figure((4.5 * len(calibrations), 4.5))
    for axes, (rung, calibration) in zip(
        np.atleast_1d(figure.subplots(1, len(calibrations))), calibrations.items(), strict=True
    ):
        confidence = [one.confidence for one in calibration.bins]
        low = min(*confidence, *(one.optimal.low or 0.0 for one in calibration.bins))
        axes.plot([low, 1], [low, 1], color="grey", linewidth=1)
        marks(axes, confidence, [one.optimal for one in calibration.bins], rung, COLOURS[0], linestyle="")
        told = f"error {calibration.error:.4f} ({calibration.low:.4f} to {calibration.high:.4f})"
        set_title(axes, f"{rung}, {calibration.count} states, bins of equal mass", told)
        axes.set(xlabel="confidence", ylabel="share right")
        axes.grid(alpha=0.3)
    save_figure(figure, path)
