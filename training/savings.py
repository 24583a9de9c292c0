"""What a value network saves: the simulations that a search needs without it to play as well."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import isotonic_regression

from escalade.domains.base import Domain
from escalade.domains.errors import SettingsError
from escalade.domains.evaluator import AnyEvaluator, Evaluator
from escalade.search.config import whole
from escalade.search.evaluators import MixedEvaluator, RolloutEvaluator
from escalade.training.agreement import OnDone, chosen_actions
from escalade.training.exact import ExactPositions
from escalade.training.intervals import LEVEL, RESAMPLES, Share, share_of

VALUE, POLICY_ROLLOUTS, ROLLOUTS = "value network", "policy and rollouts", "rollouts alone"
"""Leaves valued by the network; by one random game, the prior being the network's; by one random game, all moves being
alike beforehand."""

Reached = Literal["between", "more than", "at most"]


@dataclass(frozen=True)
class Curve:
    """Shares of sign-optimal moves by simulations, over positions where legal moves differ in outcome."""

    name: str
    simulations: tuple[int, ...]
    strength: tuple[Share, ...]


@dataclass(frozen=True)
class Saving:
    """What equal strength costs without the value network.

    against: name of the other curve. simulations: the fewest tried with the value network that reach this strength, by
    the rising curve nearest to the measured one. needed: simulations with which the other curve is as strong. reached:
    "between" if that is interpolated, else `needed` is only a bound: the most or the fewest that were tried.
    saved: 1 - simulations / needed. saved_low, saved_high: percentile interval of 1000 bootstrap resamples of the
    positions, a curve that does not get there being taken as needing no more than the most tried for the one, and
    no end of them for the other.
    """

    against: str
    simulations: int
    strength: float
    needed: float
    reached: Reached
    saved: float
    saved_low: float
    saved_high: float


@dataclass(frozen=True)
class Savings:
    """positions: how many there were, all with moves that differ. seed: of rollouts and bootstrap."""

    positions: int
    seed: int
    curves: tuple[Curve, ...]
    savings: tuple[Saving, ...]


def value_savings(
    domain: Domain[Any],
    network: Evaluator,
    positions: ExactPositions,
    *,
    simulations: Sequence[int] = (4, 8, 16, 32, 64, 128, 256),
    most: int = 2048,
    seed: int = 0,
    on_progress: OnDone | None = None,
) -> Savings:
    """Three searches, PUCT with proofs, on those positions where moves differ in outcome.

    simulations: tried with the value network. most: the others are tried with 1, 2, 4, … up to so many.
    Strength rises with simulations but for chance, so each curve is first replaced by the nearest rising one (isotonic
    regression); between two numbers of simulations it is interpolated in their logarithm.
    Raises SettingsError where no position has moves that differ.
    """
    positions = positions.take(positions.differing)
    if not len(positions):
        raise SettingsError("in none of the positions do legal moves differ in outcome, so they show no strength")
    tried = sorted({whole("simulations", number, 1) for number in simulations})
    doubled = [2**power for power in range(int(math.log2(whole("most", most, 2))) + 1)]
    rollouts = RolloutEvaluator(domain, rollouts=1)
    searches: list[tuple[str, AnyEvaluator, list[int]]] = [
        (VALUE, network, tried),
        (POLICY_ROLLOUTS, MixedEvaluator(domain, network, rollouts, weight=1.0), doubled),
        (ROLLOUTS, rollouts, doubled),
    ]
    states, optimal = positions.parsed(domain), positions.optimal
    total, before = sum(sum(numbers) for _, _, numbers in searches), 0
    right: dict[str, NDArray[np.bool_]] = {}
    for name, evaluator, numbers in searches:
        columns = []
        for number in numbers:

            def tell(done: int, count: int, number: int = number, before: int = before) -> None:
                if on_progress is not None:  # in simulations, as these searches differ much in size
                    on_progress(before + number * done // count, total)

            chosen = chosen_actions(domain, evaluator, states, number, seed=seed, on_progress=tell)
            columns.append(optimal[np.arange(len(states)), chosen])
            before += number
        right[name] = np.stack(columns, axis=1)
    curves = tuple(
        Curve(name, tuple(numbers), tuple(share_of(column) for column in right[name].T))
        for name, _, numbers in searches
    )
    found = [
        saving
        for curve in curves[1:]
        for saving in _savings(curve.name, tried, right[VALUE], doubled, right[curve.name], seed)
    ]
    return Savings(len(positions), seed, curves, tuple(found))


def needed_for(strength: float, simulations: Sequence[int], rising: Sequence[float]) -> tuple[float, Reached]:
    """The fewest simulations with which a rising curve reaches a strength, interpolated in their logarithm; where it
    does not, the most tried ("more than"), where its first point does, that one ("at most")."""
    if rising[0] >= strength:
        return float(simulations[0]), "at most"
    if rising[-1] < strength:
        return float(simulations[-1]), "more than"
    after = next(place for place, share in enumerate(rising) if share >= strength)
    part = (strength - rising[after - 1]) / (rising[after] - rising[after - 1])
    low, high = math.log(simulations[after - 1]), math.log(simulations[after])
    return round(math.exp(low + part * (high - low)), 6), "between"


def _savings(
    against: str,
    tried: Sequence[int],
    ours: NDArray[np.bool_],
    others: Sequence[int],
    theirs: NDArray[np.bool_],
    seed: int,
) -> list[Saving]:
    """ours `[N, K]`, theirs `[N, L]` bool: whether each position's move was optimal, by number of simulations."""
    count = len(ours)
    mine, other = rising_curve(ours.mean(axis=0)), rising_curve(theirs.mean(axis=0))
    random = np.random.default_rng(seed)
    weights = random.multinomial(count, np.full(count, 1 / count), size=RESAMPLES) / count
    pairs = [(rising_curve(one), rising_curve(two)) for one, two in zip(weights @ ours, weights @ theirs, strict=True)]
    found = []
    for place, number in enumerate(tried):
        if place and mine[place] <= mine[place - 1]:
            continue  # fewer simulations are as strong
        needed, reached = needed_for(mine[place], others, other)
        drawn = [needed_for(one[place], others, two) for one, two in pairs]
        # Where a resample only bounds the need, the interval takes the side that claims less.
        least = [1 - number / (1.0 if how == "at most" else need) for need, how in drawn]
        greatest = [1.0 if how == "more than" else 1 - number / need for need, how in drawn]
        found.append(
            Saving(
                against=against,
                simulations=number,
                strength=mine[place],
                needed=needed,
                reached=reached,
                saved=1 - number / needed,
                saved_low=float(np.quantile(least, (1 - LEVEL) / 2)),
                saved_high=float(np.quantile(greatest, (1 + LEVEL) / 2)),
            )
        )
    return found


def rising_curve(shares: NDArray[Any]) -> list[float]:
    """The curve nearest to `[K]` shares that never falls (R. Barlow et al., "Statistical inference under order
    restrictions", 1972)."""
    # Rounded, so that what averaging leaves in the last digits does not make two equal strengths differ.
    return np.round(isotonic_regression(shares).x, 12).tolist()
