"""How often a network, alone or with search, chooses what an exact solver would; and how true its estimates are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from escalade.domains.base import BoolArray, Domain, FloatArray, IntArray, legal_mask
from escalade.domains.errors import SettingsError
from escalade.domains.evaluator import AnyEvaluator, Evaluator
from escalade.neural.actions import action_probabilities
from escalade.neural.calibration import Calibrator
from escalade.neural.confidence import policy_features
from escalade.search.config import SearchConfig
from escalade.search.engine import search
from escalade.training.exact import ExactPositions
from escalade.training.intervals import Calibration, Mean, Share, calibration_of, mean_of, share_of

BATCH = 256
"""States a search is given at once: enough to keep cores and network busy, few enough to tell of progress."""

OnDone = Callable[[int, int], None]
"""Hears how many positions are done, and of how many."""


@dataclass(frozen=True)
class Agreement:
    """The share of sign-optimal moves in one phase of the game: over all its positions, and over those where legal
    moves differ in outcome. simulations: 0 is the network alone."""

    simulations: int
    phase: str
    all: Share
    differing: Share


@dataclass(frozen=True)
class ValueGap:
    """The squared error of the value against the exact sign, in one phase of the game."""

    phase: str
    squared_error: Mean


@dataclass(frozen=True)
class Estimates:
    """What a network says of the positions, before any search.

    legal: positions in which the greatest of all logits, illegal ones included, is that of a legal action. optimal:
    positions in which the greatest legal one is sign-optimal. calibration: of that move's probability;
    calibrated: of the confidence that a bundle's calibrator makes of it, None without one. values: empty for labels,
    which say nothing of the value.
    """

    legal: Share
    optimal: Share
    values: tuple[ValueGap, ...]
    calibration: Calibration
    calibrated: Calibration | None


def agreement(
    domain: Domain[Any],
    network: AnyEvaluator,
    positions: ExactPositions,
    simulations: Sequence[int] = (0, 16, 64, 256, 600),
    *,
    seed: int = 0,
    on_progress: OnDone | None = None,
) -> tuple[Agreement, ...]:
    """A row for each number of simulations (0: the greatest legal logit) and phase.

    Searches are PUCT with proofs, as a decision uses. Raises NoSimulatorError where search is asked of a domain
    that cannot look ahead.
    """
    states, phases = positions.parsed(domain), positions.phases(domain)
    rows = []
    for place, number in enumerate(simulations):

        def tell(done: int, total: int, place: int = place) -> None:
            if on_progress is not None:
                on_progress(place * total + done, len(simulations) * total)

        chosen = chosen_actions(domain, network, states, number, seed=seed, on_progress=tell)
        right = positions.optimal[np.arange(len(positions)), chosen]
        for phase, inside in phases.items():
            rows.append(
                Agreement(number, phase, share_of(right[inside]), share_of(right[inside & positions.differing]))
            )
    return tuple(rows)


def chosen_actions(
    domain: Domain[Any],
    evaluator: AnyEvaluator,
    states: Sequence[Any],
    simulations: int,
    *,
    seed: int = 0,
    on_progress: OnDone | None = None,
) -> IntArray:
    """`[N]` int64: the move for each unfinished state, by search or, with 0 simulations, by the greatest legal logit.
    A state's move depends on its place and the seed alone (with a network up to float rounding)."""
    chosen = np.empty(len(states), np.int64)
    config = SearchConfig(simulations=simulations) if simulations else None
    seeds: list[int] = np.random.SeedSequence((seed, simulations)).generate_state(len(states), np.uint64).tolist()
    for first in range(0, len(states), BATCH):
        part = slice(first, min(first + BATCH, len(states)))
        if config is None:
            chosen[part] = _greatest(domain, evaluator, states[part])
        else:
            found = search(domain, states[part], evaluator, config, seed=seeds[part])
            chosen[part] = [result.action for result in found]
        if on_progress is not None:
            on_progress(part.stop, len(states))
    return chosen


def estimates(
    domain: Domain[Any],
    network: Evaluator,
    positions: ExactPositions,
    *,
    seed: int = 0,
    calibrator: Calibrator | None = None,
) -> Estimates:
    """What the network's own policy and value are worth, position by position. seed: of the bootstrap."""
    states, legal = positions.parsed(domain), positions.legal
    logits, values = answers(domain, network, states, legal)
    each = np.arange(len(positions))
    probabilities = action_probabilities(logits, legal)
    optimal = positions.optimal[each, np.where(legal, logits, -np.inf).argmax(axis=1)]
    errors = (values - positions.value) ** 2
    calibrated = None
    if calibrator is not None:
        features = policy_features(probabilities, legal, values)
        calibrated = calibration_of(calibrator.confidences(features), optimal, seed=seed)
    return Estimates(
        legal=share_of(legal[each, logits.argmax(axis=1)]),
        optimal=share_of(optimal),
        values=tuple(
            ValueGap(phase, mean_of(errors[inside]))
            for phase, inside in positions.phases(domain).items()
            if positions.valued
        ),
        calibration=calibration_of(probabilities.max(axis=1), optimal, seed=seed),
        calibrated=calibrated,
    )


def answers(
    domain: Domain[Any], network: AnyEvaluator, states: Sequence[Any], legal: BoolArray
) -> tuple[FloatArray, FloatArray]:
    """Logits `[N, A]` and values `[N]` of unfinished states. Raises SettingsError for what only states can be shown."""
    if not isinstance(network, Evaluator):
        raise SettingsError(f"{type(network).__name__} has no policy of its own: it needs at least one simulation")
    logits, values = np.empty(legal.shape, np.float32), np.empty(len(states), np.float32)
    for first in range(0, len(states), BATCH):
        part = slice(first, first + BATCH)
        logits[part], values[part] = network.evaluate(domain.encode(states[part]), legal[part])
    return logits, values


def _greatest(domain: Domain[Any], evaluator: AnyEvaluator, states: Sequence[Any]) -> IntArray:
    legal = legal_mask(domain, states)
    logits, _ = answers(domain, evaluator, states, legal)
    return np.where(legal, logits, -np.inf).argmax(axis=1)
