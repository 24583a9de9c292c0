"""What a run measured of its own iterations, as lines of a model card."""

from __future__ import annotations

from typing import Any

from escalade.training.run import Run
from escalade.training.strength_figures import strengths


def held_out_lines(run: Run) -> list[str]:
    """What held-out rows said of each iteration, where they choose the champion."""
    judged = {number: found["lines"][0] for number, found in _found(run, "evaluation").items()}
    judged = {number: line for number, line in judged.items() if line["by"] == "validation"}
    if not judged:
        return []
    promotions = _found(run, "promotion")
    return [
        "Rows held out from learning chose the champion: the smallest loss (cross-entropy, nats) on the same rows. In "
        "brackets 95 % intervals; the change is by pairs of rows. The champion's own figures are the best of several "
        "on these rows, so a little too good.",
        "",
        "| iteration | held-out rows | loss | accuracy | change of the loss, against iteration | champion |",
        "|---|---|---|---|---|---|",
        *(
            f"| {number} | {line['count']} | {_between(line, 'validation_loss', '.3f')} "
            f"| {_between(line, 'validation_accuracy', '.1%')} "
            f"| {_between(line, 'loss_change', '+.3f')}{', ' if 'against' in line else ''}{line.get('against', '')} "
            f"| {'yes' if promotions.get(number, {}).get('promoted') else 'no'} |"
            for number, line in judged.items()
        ),
        "",
    ]


def strength_lines(run: Run) -> list[str]:
    """How strong the iterations were while it was trained, where there were games."""
    measured = {number: figures for number, figures in strengths(run).items() if figures["players"]}
    if not measured:
        return []
    last = measured[max(measured)]
    of_games = last["unit"] == "elo"
    rows = [
        (f"iteration {number}, {one['name']}", one)
        for number, figures in measured.items()
        for one in figures["players"]
    ]
    unit = "Elo points by games against fixed opponents, random moves being 0" if of_games else "mean return, -1 to 1"
    return [
        f"While it was trained ({unit}; in brackets 95 % intervals):",
        "",
        f"| player | {'games' if of_games else 'episodes'} | {'Elo' if of_games else 'mean return'} |",
        "|---|---|---|",
        *(
            f"| {name} | {one['games']} | {_between(one, 'value', '+.0f' if of_games else '+.3f')} |"
            for name, one in [*rows, *((one["name"], one) for one in last["anchors"])]
        ),
        "",
    ]


def _found(run: Run, name: str) -> dict[int, dict[str, Any]]:
    """What each iteration's file of this name says."""
    paths = sorted((run.folder / "iterations").glob(f"[0-9]*/{name}.json"))
    return {int(path.parent.name): run.read(path) for path in paths}


def _between(figures: dict[str, Any], name: str, form: str) -> str:
    """A figure with its interval; nothing where there is none."""
    if name not in figures:
        return ""
    ends = ("low", "high") if name == "value" else (f"{name}_low", f"{name}_high")
    low, high = (figures[end] for end in ends)
    return f"{figures[name]:{form}} ({low:{form}} to {high:{form}})"
