"""How strength grows over a run, drawn by what measures it. Every mark has its 95 % interval."""

from __future__ import annotations

from typing import Any

import numpy as np

from escalade.training.drawing import COLOURS, marks, set_title
from escalade.training.intervals import Share, share_of
from escalade.training.strength_figures import FIRST

MINUTES = "minutes of work"
INTERVALS = "bars and bands: 95 % intervals"
WIDE = 400.0
"""Elo points beyond the marks that an axis shows: the interval of who won every game has no upper end worth showing."""


def draw_shares(figure: Any, lines: list[dict[str, Any]], domain: str) -> None:
    """The share of optimal moves on solved positions, beside the same searches without a network, and the error of the
    value."""
    shares, errors = figure.subplots(1, 2)
    names = {name.removeprefix("optimal_") for line in lines for name in line if name.startswith("optimal_")}
    minutes = [line["seconds"] / 60 for line in lines]
    alone: list[dict[str, Any]] = next(
        (line["strength"]["anchors"] for line in reversed(lines) if line.get("strength")), []
    )
    for colour, size in zip(COLOURS, sorted(int(name) for name in names if name.isdigit()), strict=False):
        label = "network alone" if size == 0 else f"network with {size} simulations"
        known = [(minute, line) for minute, line in zip(minutes, lines, strict=True) if f"optimal_{size}" in line]
        points = [_share(line[f"optimal_{size}"], line["count"]) for _, line in known]
        marks(shares, [minute for minute, _ in known], points, label, colour, marker=".")
        for one in (one for one in alone if one["simulations"] == size):
            _level(shares, one, colour, one["name"])
    count = next((line["count"] for line in reversed(lines) if "count" in line), 0)
    shares.set(xlabel=MINUTES, ylabel="share of optimal moves")
    set_title(shares, f"{domain}: moves in {count} solved positions", INTERVALS)
    shares.legend(fontsize=8)
    if any("value_error" in line for line in lines):
        errors.plot(minutes, [line.get("value_error") for line in lines], marker=".", color=COLOURS[0])
    errors.set(xlabel=MINUTES, ylabel="mean squared error")
    set_title(errors, f"{domain}: value of the network", "against the exact outcome")


def draw_games(figure: Any, lines: list[dict[str, Any]], domain: str) -> None:
    """Elo against opponents that stay the same, or mean returns; the opponents as levels."""
    axes = figure.subplots()
    known = [line for line in lines if (line.get("strength") or {}).get("players")]
    measured = known[-1]["strength"]
    of_games = measured["unit"] == "elo"
    sizes = sorted({one["simulations"] for line in known for one in line["strength"]["players"]})
    drawn = []
    for colour, size in zip(COLOURS, sizes, strict=False):
        points = [
            (line["seconds"] / 60, one)
            for line in known
            for one in line["strength"]["players"]
            if one["simulations"] == size
        ]
        values = [one["value"] for _, one in points]
        reach = (
            [max(one["value"] - one["low"], 0) for _, one in points],
            [max(one["high"] - one["value"], 0) for _, one in points],
        )
        style: dict[str, Any] = {"marker": "o", "capsize": 3, "color": colour}
        axes.errorbar([minute for minute, _ in points], values, yerr=reach, label=points[0][1]["name"], **style)
        drawn += values
    colours = dict(zip(sizes, COLOURS, strict=False))
    for number, one in enumerate(measured["anchors"]):
        first = one["name"] == FIRST
        colour = "grey" if first or one["simulations"] is None else colours.get(one["simulations"], "grey")
        _level(axes, one, colour, one["name"], style=("--", ":", "-.", (0, (1, 3)))[number % 4])
        drawn.append(one["value"])
    if of_games:
        axes.set_ylim(min(drawn) - WIDE / 4, max(drawn) + WIDE)
    unit = "Elo points, random moves being 0" if of_games else "mean return, from -1 to 1"
    against = "games against fixed opponents" if of_games else "mean return of its episodes"
    axes.set(xlabel=MINUTES, ylabel=unit, title=f"{domain}: {against} ({INTERVALS})")
    axes.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    axes.grid(alpha=0.3)


def draw_held_out(figure: Any, lines: list[dict[str, Any]], domain: str) -> None:
    """Loss and accuracy on held-out rows, and which iterations became champion."""
    known = [line for line in lines if "validation_loss" in line]
    minutes = [line["seconds"] / 60 for line in known]
    names = (("validation_loss", "loss: cross-entropy, nats"), ("validation_accuracy", "accuracy"))
    for axes, (name, label), colour in zip(figure.subplots(1, 2), names, COLOURS, strict=False):
        drawn = [(minute, line) for minute, line in zip(minutes, known, strict=True) if name in line]
        if drawn:
            values = [line[name] for _, line in drawn]
            low, high = ([line[f"{name}_{end}"] for _, line in drawn] for end in ("low", "high"))
            axes.plot([minute for minute, _ in drawn], values, marker=".", color=colour, label="iterations")
            axes.fill_between(
                [minute for minute, _ in drawn], low, high, color=colour, alpha=0.15, label="95 % interval"
            )
            best = [(minute, line[name]) for minute, line in drawn if line.get("promoted")]
            if best:
                places, heights = zip(*best, strict=True)
                axes.scatter(places, heights, marker="*", s=120, color="black", zorder=3, label="became champion")
            axes.legend(fontsize=8)
        axes.set(xlabel=MINUTES, ylabel=label, title=f"{domain}: {known[-1]['count']} held-out rows")
        axes.grid(alpha=0.3)


def _share(share: float, count: int) -> Share:
    """Of so many positions."""
    return share_of(np.arange(count) < round(share * count))


def _level(axes: Any, one: dict[str, Any], colour: str, label: str, style: Any = "--") -> None:
    """A line and a band that stay the same over the run."""
    axes.axhline(one["value"], color=colour, linestyle=style, linewidth=1, label=label)
    axes.axhspan(one["low"], one["high"], color=colour, alpha=0.07)
