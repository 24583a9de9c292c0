"""A run drawn: losses, and strength against minutes of work. Needs matplotlib, of the extra `train`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from escalade.training.drawing import COLOURS, new_figure, save_figure
from escalade.training.run import Run
from escalade.training.strength_figures import strengths
from escalade.training.strength_plots import draw_games, draw_held_out, draw_shares


def write_run_plots(run: Run, history: Sequence[dict[str, Any]]) -> list[Path]:
    """Draw `losses.png` (a point a pass, training and validation) and `strength.png` (a point an iteration, over
    minutes of work) into the run's folder. Strength is the share of optimal moves where a solver judges, Elo against
    fixed opponents or the mean return where games are played, loss and accuracy on held-out rows where there is no
    simulator; nothing is drawn where nothing was measured.

    history: as the training graph's state holds it. Raises SettingsError without matplotlib.
    """
    passes = [line for one in history for line in _passes(run, one["iteration"])]
    measured = strengths(run)
    lines = [{**line, "strength": measured.get(line["iteration"], {})} for line in history]
    drawings: tuple[tuple[str, Callable[[Any, list[dict[str, Any]]], None] | None, list[dict[str, Any]]], ...] = (
        ("losses.png", _losses, passes),
        ("strength.png", _strength(run.domain.name, lines), lines),
    )
    made = []
    for name, draw, drawn in drawings:
        if not drawn or draw is None:
            continue
        figure = new_figure((9.0, 4.0))
        draw(figure, drawn)
        made.append(save_figure(figure, run.folder / name))
    return made


def _strength(domain: str, lines: list[dict[str, Any]]) -> Callable[[Any, list[dict[str, Any]]], None] | None:
    """How to draw what judges the iterations of a run; None where nothing does."""
    if any(name.startswith("optimal_") for line in lines for name in line):
        return lambda figure, lines: draw_shares(figure, lines, domain)
    if any((line.get("strength") or {}).get("players") for line in lines):
        return lambda figure, lines: draw_games(figure, lines, domain)
    if any("validation_loss" in line for line in lines):
        return lambda figure, lines: draw_held_out(figure, lines, domain)
    return None


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
