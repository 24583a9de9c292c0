"""How sure a language model is when so many of its samples agree: asking it, and what is learned from its answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from escalade.app.batch import decide_file
from escalade.app.result_file import ResultFile
from escalade.app.waiting import LeftOver, what_is_left
from escalade.app.wiring import Decider
from escalade.domains.decision import Decision
from escalade.domains.errors import SettingsError
from escalade.neural.confidence import reason_features
from escalade.nodes.context import DecisionContext
from escalade.nodes.patience import Patience
from escalade.training.calibrate import fit_calibrator
from escalade.training.intervals import Calibration, calibration_of
from escalade.training.reference import Labelled

FEWEST = 20
"""Answers that a half must have."""


def some_of(labelled: Labelled, count: int, seed: int) -> Labelled:
    """At most so many of the states, at random. Raises SettingsError where these are too few to learn from."""
    if min(len(labelled), count) < 2 * FEWEST:
        told = f"--count {count}" if count < len(labelled) else f"{len(labelled)} states"
        raise SettingsError(f"{told}: too few to learn from, it takes at least {2 * FEWEST}")
    if len(labelled) <= count:
        return labelled
    return labelled.take(np.sort(np.random.default_rng((seed, 0xCA0)).permutation(len(labelled))[:count]))


async def answers_of(
    decider: Decider,
    context: DecisionContext,
    labelled: Labelled,
    path: Path,
    tell: Callable[[int, int], None],
    patience: Patience | None = None,
    on_wait: Callable[[float], None] | None = None,
) -> list[dict[str, Any]]:
    """The model's decisions, in the states' order; what an earlier run left is not asked again. Raises LeftOver
    where some are left since the endpoint did not come back, or there was no patience with it."""
    model = decider.resources.language_model
    work = [decider.domain.name, None if model is None else model.name, context.model_dump(mode="json")]
    lines: dict[int, dict[str, Any]] = {}

    def on_line(number: int, line: dict[str, Any]) -> None:
        lines[number] = line
        tell(len(lines), len(labelled))

    with closing(ResultFile(path, [*work, list(labelled.states)])) as results:
        left = await decide_file(
            decider.graph,
            labelled.states,
            context,
            results,
            on_line,
            patience=patience,
            on_wait=on_wait,
            trace_share=decider.trace_share,
        )
    if left:
        raise LeftOver(what_is_left(left, len(labelled), "states", decider.resources.language_model))
    return [lines[number] for number in range(len(labelled))]


def learned_from(
    labelled: Labelled, lines: list[dict[str, Any]], samples: int, seed: int
) -> tuple[dict[str, Any], Calibration]:
    """What was fitted to one half of the games, and how it does on the other. Raises SettingsError for too few."""
    rows, right, group = [], [], []
    for line, acceptable, game in zip(lines, labelled.acceptable, labelled.group.tolist(), strict=True):
        if "error" in line:
            continue
        decision = Decision.model_validate(line)
        votes = decision.rungs[-1].details["votes"]
        rows.append(reason_features(votes, decision.action_name, samples))
        right.append(bool(acceptable[decision.action]))
        group.append(game)
    features, hits, games = np.concatenate(rows or [np.zeros((0, 3))]), np.array(right, bool), np.array(group)
    kinds = np.random.default_rng((seed, 0xCA1)).permutation(np.unique(games)) if len(games) else games
    teaches = np.isin(games, kinds[: len(kinds) // 2])
    if min(teaches.sum(), (~teaches).sum()) < FEWEST:
        failing = 2 * len(hits) < len(lines)
        advice = "see by `escalade decide` why it answers so few" if failing else "give a larger --count"
        raise SettingsError(
            f"the model answered {len(hits)} of {len(lines)} states, too few to learn from: each half needs {FEWEST}; "
            f"{advice}"
        )
    calibrator = fit_calibrator("reason", features[teaches], hits[teaches], seed=seed)
    tested = calibration_of(calibrator.confidences(features[~teaches]), hits[~teaches], seed=seed)
    learned = {
        "count": int(teaches.sum()),
        "right": int(hits[teaches].sum()),
        "tested": tested.count,
        "error": tested.error,
        "error_low": tested.low,
        "error_high": tested.high,
        "calibrator": calibrator.to_json(),
    }
    return learned, tested


def is_simulated(lines: list[dict[str, Any]]) -> bool:
    """Whether a simulated model gave any of these decisions."""
    return any(Decision.model_validate(line).simulated for line in lines if "error" not in line)
