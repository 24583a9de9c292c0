"""The frontier: what every choice of thresholds costs, and what it is worth, on states that had no part in choosing.

Half of the states choose the thresholds to sweep (`escalade.training.threshold_path`), the other half measures them:
points that were chosen on the states they are measured on look better than they are.
"""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from escalade.neural.bundle import Bundle
from escalade.neural.files import write_whole
from escalade.training.certify import split
from escalade.training.drawing import COLOURS, marks, new_figure, save_figure, set_title
from escalade.training.intervals import Share, share_of
from escalade.training.recorded import Recorded
from escalade.training.threshold_path import Answers, decide, pareto_front, spaced

BY_HAND = (0.5, 0.7, 0.9)
"""Thresholds people try first, the same for every network."""


@dataclasses.dataclass(frozen=True)
class Point:
    """One way to decide. kind: "sweep", "certified", "hand" or "alone" (a baseline: one rung for everything).
    thresholds: by neural rung; none of a baseline. right: share of decisions as good as the reference's. cost_s: mean
    seconds of work; cost_low, cost_high: its 95 % interval. shares: of decisions, by rung."""

    kind: str
    name: str
    thresholds: dict[str, float]
    right: Share
    cost_s: float
    cost_low: float
    cost_high: float
    shares: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Frontier:
    """Points measured on `states` states (`source`); simulations: of the search behind the networks."""

    reference: str
    source: str
    states: int
    simulations: int
    seed: int
    points: tuple[Point, ...]


def frontier(
    bundle: Bundle, recorded: Recorded, *, reference: str, source: str, simulations: int, seed: int = 0
) -> Frontier:
    """Sweep a bundle's thresholds over recorded states, with its calibrators (or none) and its certificates."""
    choosing, measuring = split(recorded, seed)
    neural = recorded.rungs[:-1]
    calibrators = {rung: bundle.calibrator(rung) for rung in neural}
    chosen, answers = (part.answers(calibrators, bundle.novelty) for part in (choosing, measuring))
    front = pareto_front(chosen)
    path = front.thresholds[spaced(np.arange(len(front)))]
    points = [_measured("sweep", f"sweep {place + 1}", answers, vector) for place, vector in enumerate(path)]
    for one in bundle.certificates:
        vector = np.array([one.setting.thresholds.get(rung, 1.0) for rung in _known(neural)])
        points.append(_measured("certified", f"certified at alpha {one.name}", answers, vector))
    for threshold in BY_HAND:
        vector = np.full(len(neural), threshold)
        points.append(_measured("hand", f"{threshold:g} by hand", answers, vector))
    points += [_alone(rung, answers) for rung in answers.rungs]
    if answers.rungs[-1] != "reference":
        points.append(_reference_alone(reference, len(answers)))
    return Frontier(reference, source, len(answers), simulations, seed, tuple(points))


def _known(rungs: Sequence[str]) -> list[Any]:
    return list(rungs)


def _measured(kind: str, name: str, answers: Answers, vector: NDArray[np.float64]) -> Point:
    found = decide(answers, vector)
    shares = np.bincount(found.source, minlength=len(answers.rungs)) / len(answers)
    cost, low, high = _cost(found.cost_s)
    thresholds = dict(zip(answers.rungs[:-1], vector.tolist(), strict=True))
    told = dict(zip(answers.rungs, shares.tolist(), strict=True))
    return Point(kind, name, thresholds, share_of(~found.wrong), cost, low, high, told)


def _alone(rung: str, answers: Answers) -> Point:
    """Everything decided by one rung."""
    place = answers.rungs.index(rung)
    cost = float(answers.cost_s[place])
    return Point("alone", f"{rung} alone", {}, share_of(answers.right[:, place]), cost, cost, cost, {rung: 1.0})


def _reference_alone(reference: str, count: int) -> Point:
    """Right by definition; what it costs is no rung's cost."""
    nothing = float("nan")
    right = share_of(np.ones(count, np.bool_))
    return Point("alone", f"{reference} alone", {}, right, nothing, nothing, nothing, {})


def _cost(seconds: NDArray[np.float64]) -> tuple[float, float, float]:
    mean = float(seconds.mean())
    margin = 1.96 * float(seconds.std(ddof=1)) / len(seconds) ** 0.5 if len(seconds) > 1 else 0.0
    return mean, max(0.0, mean - margin), mean + margin


# Files


def plain(found: Frontier) -> dict[str, Any]:
    """For JSON, which knows no NaN."""
    told = dataclasses.asdict(found)
    for point in told["points"]:
        for name in ("cost_s", "cost_low", "cost_high"):
            point[name] = None if np.isnan(point[name]) else point[name]
    return told


def write_csv(found: Frontier, path: Path) -> None:
    """A line a point, whole or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    rungs = sorted({rung for point in found.points for rung in (*point.thresholds, *point.shares)})
    writer.writerow(
        ["kind", "name", "right", "right_low", "right_high", "count", "cost_s", "cost_low", "cost_high"]
        + [f"threshold_{rung}" for rung in rungs]
        + [f"share_{rung}" for rung in rungs]
    )
    for point, told in zip(found.points, plain(found)["points"], strict=True):
        right = point.right
        writer.writerow(
            [point.kind, point.name, right.share, right.low, right.high, right.count]
            + [told[name] for name in ("cost_s", "cost_low", "cost_high")]
            + [point.thresholds.get(rung) for rung in rungs]
            + [point.shares.get(rung) for rung in rungs]
        )
    write_whole(path, lambda file: file.write(text.getvalue().encode()))


def draw(found: Frontier, path: Path) -> None:
    """Cost against quality, with 95 % intervals. Raises SettingsError without matplotlib."""
    figure = new_figure((8.0, 5.0))
    axes = figure.subplots()
    sweep = [point for point in found.points if point.kind == "sweep"]
    costs = [1000 * point.cost_s for point in sweep]
    axes.plot(costs, [point.right.share for point in sweep], ".-", color=COLOURS[0], linewidth=1, label="swept")
    low, high = ([getattr(point.right, end) for point in sweep] for end in ("low", "high"))
    axes.fill_between(costs, low, high, color=COLOURS[0], alpha=0.12, linewidth=0)
    kinds = {"certified": ("*", 14, COLOURS[1]), "hand": ("s", 5, COLOURS[2]), "alone": ("D", 5, COLOURS[3])}
    told: list[tuple[float, float, list[str]]] = []
    for kind, (marker, size, colour) in kinds.items():
        points = [point for point in found.points if point.kind == kind and not np.isnan(point.cost_s)]
        places, shares = [1000 * point.cost_s for point in points], [point.right for point in points]
        label = {"certified": "certified", "hand": "by hand", "alone": "one rung alone"}[kind]
        marks(axes, places, shares, label, colour, marker=marker, markersize=size, linestyle="", zorder=5)
        for place, point in zip(places, points, strict=True):
            told.append((place, float(point.right.share or 0), [point.name]))
    axes.set_xscale("log")
    middle = float(np.log10(axes.get_xlim()).mean())
    for place, share, names in _together(told, near=0.08, close=0.015 * float(np.ptp(axes.get_ylim()))):
        left = float(np.log10(place)) > middle  # what lies to the right is told to its left, within the frame
        offset, side = ((-10, 0), "right") if left else ((10, 0), "left")
        style = {"textcoords": "offset points", "ha": side, "va": "center", "fontsize": 8}
        axes.annotate("\n".join(names), (place, share), offset, **style)
    axes.set(xlabel="mean work a decision, ms of one core", ylabel=f"as good as {found.reference}")
    set_title(axes, f"cost against quality: {found.states} states", found.source, 9)
    axes.grid(alpha=0.3)
    axes.legend(loc="lower right")
    save_figure(figure, path)


def _together(
    told: list[tuple[float, float, list[str]]], *, near: float, close: float
) -> list[tuple[float, float, list[str]]]:
    """Names of points that would be written over each other, as one text at the dearest of them. near: in powers of ten
    of cost; close: in quality."""
    found: list[tuple[float, float, list[str]]] = []
    for place, share, names in sorted(told, reverse=True):
        for other, level, known in found:
            if abs(np.log10(place / other)) < near and abs(share - level) < close:
                known.extend(names)
                break
        else:
            found.append((place, share, list(names)))
    return found
