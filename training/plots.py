"""Drawings of an evaluation, as PNG files. Needs matplotlib, of the extra `train`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from escalade.training import drawing
from escalade.training.drawing import marks, new_figure, save_figure, set_title
from escalade.training.evaluate import Evaluation
from escalade.training.exact import PHASES

COLOURS = {"all": "black", **dict(zip(PHASES, drawing.COLOURS, strict=False))}


def write_plots(evaluation: Evaluation, folder: Path) -> list[Path]:
    """Draw what was measured; the files made, each whole or not at all.

    agreement.png: sign-optimal share by simulations and phase, and that of the same searches without the network.
    reliability.png: the confidence of the policy against its share of optimal moves. savings.png: strength with and
    without the value network. elo.png: the matches. returns.png: the episodes of one player.
    Every mark has its 95 % interval. Raises SettingsError without matplotlib.
    """
    drawings: dict[str, tuple[bool, Callable[[Any, Evaluation], None]]] = {
        "agreement.png": (bool(evaluation.agreement), _agreement),
        "reliability.png": (evaluation.estimates is not None, _reliability),
        "savings.png": (evaluation.savings is not None, _savings),
        "elo.png": (bool(evaluation.matches), _elo),
        "returns.png": (bool(evaluation.returns), _returns),
    }
    made = []
    for name, (measured, draw) in drawings.items():
        if not measured:
            (folder / name).unlink(missing_ok=True)  # an earlier evaluation's would be taken for this one's
            continue
        figure = new_figure()
        draw(figure.subplots(), evaluation)
        made.append(save_figure(figure, folder / name))
    return made


def _agreement(axes: Any, evaluation: Evaluation) -> None:
    numbers = sorted({row.simulations for row in evaluation.agreement})
    for phase in ("all", *PHASES):
        rows = [row for row in evaluation.agreement if row.phase == phase and row.differing.count]
        if rows:
            places = [numbers.index(row.simulations) for row in rows]
            label = f"{phase} ({rows[0].differing.count} positions)"
            marks(axes, places, [row.differing for row in rows], label, COLOURS[phase])
    alone = [row for row in evaluation.without_network if row.phase == "all" and row.differing.count]
    if alone:
        places, shares = [numbers.index(row.simulations) for row in alone], [row.differing for row in alone]
        marks(axes, places, shares, "all, the same search without a network", "grey", linestyle="--", marker="s")
    axes.set_xticks(range(len(numbers)), ["network\nalone" if number == 0 else str(number) for number in numbers])
    axes.set_xlabel("simulations")
    axes.set_ylabel("sign-optimal moves, where moves differ")
    set_title(axes, f"{evaluation.domain}: agreement with the exact solver", _of(evaluation))
    axes.legend()
    axes.grid(alpha=0.3)


def _reliability(axes: Any, evaluation: Evaluation) -> None:
    axes.plot([0, 1], [0, 1], color="grey", linewidth=1, label="perfect")
    estimates = evaluation.estimates
    assert estimates is not None  # asked before
    for label, colour, measured in (
        ("raw", COLOURS["begin"], estimates.calibration),
        ("calibrated", COLOURS["middle"], estimates.calibrated),
    ):
        if measured is not None:
            told = f"{label}: error {measured.error:.3f} ({measured.low:.3f} to {measured.high:.3f})"
            confidences = [part.confidence for part in measured.bins]
            marks(axes, confidences, [part.optimal for part in measured.bins], told, colour)
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("confidence of the policy's first choice")
    axes.set_ylabel("share of optimal moves")
    set_title(axes, f"{evaluation.domain}: reliability, bins of equal mass", _of(evaluation))
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)


def _savings(axes: Any, evaluation: Evaluation) -> None:
    savings = evaluation.savings
    assert savings is not None  # asked before
    for curve, colour in zip(savings.curves, list(COLOURS.values()), strict=False):
        marks(axes, list(curve.simulations), list(curve.strength), curve.name, colour)
    axes.set_xscale("log", base=2)
    tried = sorted({number for curve in savings.curves for number in curve.simulations})
    axes.set_xticks(tried, list(map(str, tried)))
    axes.minorticks_off()
    axes.set_xlabel("simulations")
    axes.set_ylabel("sign-optimal moves, where moves differ")
    told = f"{savings.positions} positions, seed {savings.seed}"
    set_title(axes, f"{evaluation.domain}: search with and without the value network", told)
    axes.legend()
    axes.grid(alpha=0.3)


def _elo(axes: Any, evaluation: Evaluation) -> None:
    matches = evaluation.matches[::-1]  # the first on top
    elos = [match.elo for match in matches]
    reach = (
        [max(match.elo - match.elo_low, 0) for match in matches],
        [max(match.elo_high - match.elo, 0) for match in matches],
    )
    axes.barh(range(len(matches)), elos, xerr=reach, color=COLOURS["begin"], alpha=0.7, capsize=3)
    axes.set_yticks(range(len(matches)), [f"{match.first}\n: {match.second}" for match in matches], fontsize=7)
    axes.axvline(0, color="black", linewidth=1)
    axes.set_xlabel("Elo points of the first over the second, 95 % interval by pairs of games")
    told = f"{matches[0].games} games each, seed {evaluation.seed}"
    set_title(axes, f"{evaluation.domain}: matches", told)
    axes.grid(alpha=0.3, axis="x")


def _returns(axes: Any, evaluation: Evaluation) -> None:
    returns = evaluation.returns[::-1]  # the first on top
    means = [one.mean for one in returns]
    reach = [one.mean - one.low for one in returns], [one.high - one.mean for one in returns]
    axes.errorbar(means, range(len(returns)), xerr=reach, fmt="o", color=COLOURS["begin"], capsize=3)
    axes.set_yticks(range(len(returns)), [one.player for one in returns], fontsize=8)
    axes.set_xlabel("mean return, from -1 to 1, 95 % interval")
    told = f"{returns[0].episodes} episodes each, seed {evaluation.seed}"
    set_title(axes, f"{evaluation.domain}: episodes", told)
    axes.grid(alpha=0.3, axis="x")


def _of(evaluation: Evaluation) -> str:
    source = evaluation.positions_source
    short = source if len(source) <= 60 else f"…{source[-59:]}"
    return f"{evaluation.positions} positions: {short}; seed {evaluation.seed}"
