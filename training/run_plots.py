"""A run drawn: losses, and strength against minutes of work. Needs matplotlib, of the extra `train`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from escalade.training.drawing import COLOURS, new_figure, save_figure
from escalade.training.run import Run


def write_run_plots(run: Run, history: Sequence[dict[str, Any]]) -> list[Path]:
    """Draw `losses.png` (a point a pass, training and validation) and `strength.png` (a point an iteration: share of
    optimal moves over minutes of work, a line for each number of simulations) into the run's folder.

    history: as the training graph's state holds it. Raises SettingsError without matplotlib.
    """
    passes = [line for one in history for line in _passes(run, one["iteration"])]
    made = []
    for name, draw, lines in (("losses.png", _losses, passes), ("strength.png", _strength, list(history))):
        if not lines:
            continue
        figure = new_figure((9.0, 4.0))
        draw(figure, lines)
        made.append(save_figure(figure, run.folder / name))
    return made


def _passes(run: Run, iteration: int) -> list[dict[str, Any]]:
    found: dict[str, Any] = run.read(run.iteration(iteration) / "fit.json") or {}
    return list(found.get("lines", []))


def _losses(figure: Any, lines: list[dict[str, Any]]) -> None:
    for axes, kind, unit in zip(
        figure.subplots(1, 2), ("policy", "value"), ("cross-entropy, nats", "loss"), strict=True
    ):
        steps = [line["steps"] for line in lines]
        axes.plot(steps, [line[f"{kind}_loss"] for line in lines], marker=".", label="training", color=COLOURS[0])
        known = [(line["steps"], line[f"validation_{kind}_loss"]) for line in lines]
        known = [(step, loss) for step, loss in known if loss is not None]
        axes.plot(*zip(*known, strict=True), marker=".", label="validation", color=COLOURS[1]) if known else None
        axes.set(xlabel="steps", ylabel=unit, title=f"{kind} loss")
        axes.legend()


def _strength(figure: Any, lines: list[dict[str, Any]]) -> None:
    shares, errors = figure.subplots(1, 2)
    names = {name.removeprefix("optimal_") for line in lines for name in line if name.startswith("optimal_")}
    minutes = [line["seconds"] / 60 for line in lines]
    for colour, size in zip(COLOURS, sorted(int(name) for name in names if name.isdigit()), strict=False):
        label = "network alone" if size == 0 else f"{size} simulations"
        points = [line.get(f"optimal_{size}") for line in lines]
        shares.plot(minutes, points, marker=".", label=label, color=colour)
    shares.set(xlabel="minutes of work", ylabel="share of optimal moves", title="strength")
    if names:
        shares.legend()
    if any("value_error" in line for line in lines):
        errors.plot(minutes, [line.get("value_error") for line in lines], marker=".", color=COLOURS[0])
    errors.set(xlabel="minutes of work", ylabel="mean squared error", title="value against the exact outcome")
