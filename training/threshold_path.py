"""From the tune states: the threshold vectors that are tested on the calibration states, and in which order.

Of all vectors of a grid those are kept that no other beats in both loss and cost (B. Laufer-Goldshtein et al.,
"Efficiently controlling multiple risks with Pareto testing", ICLR 2023). The test begins at the vector that is most
likely to pass, by its losses on tune, and goes on to bolder ones. What was seen on tune
decides only what is tested and in which order, so it costs the certificate nothing but power.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import bdtr, bdtrc, bdtrik, betaincinv, ndtri

from escalade.domains.base import BoolArray, IntArray
from escalade.neural.certificate import Covers

STEPS = 60
"""Thresholds of each rung in the grid."""
LENGTH = 50
"""Vectors at most that are tested in each direction from the first."""
HEADROOM = 1.5
"""Vectors whose loss on tune exceeds so many alphas are not tested."""


@dataclass(frozen=True, eq=False)
class Answers:
    """What each rung of a ladder said of N states, the neural rungs first.

    rungs: R names, the last one that of the rung behind the neural ones, which accepts all that reaches it.
    confidence `[N, R - 1]` float64, calibrated. right `[N, R]` bool: whether each rung's action is as good as the
    reference's. barred `[N, R - 1]` bool: states that a neural rung may not decide, as they are novel, or the domain
    leaves them, or the rungs before, to others. cost_s `[R]`: mean seconds of a visit.
    """

    rungs: tuple[str, ...]
    confidence: NDArray[np.float64]
    right: BoolArray
    barred: BoolArray
    cost_s: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.right)

    def take(self, chosen: IntArray | BoolArray) -> Answers:
        """Of some of the states."""
        return Answers(self.rungs, self.confidence[chosen], self.right[chosen], self.barred[chosen], self.cost_s)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What a ladder with certain thresholds does: `source` `[N]` int64, the place of the rung that decides each state,
    `wrong` `[N]` bool, `cost_s` `[N]` of all rungs asked on the way."""

    source: IntArray
    wrong: BoolArray
    cost_s: NDArray[np.float64]


def decide(answers: Answers, thresholds: NDArray[np.float64]) -> Outcome:
    """thresholds: `[R - 1]`, of each neural rung; 1 accepts nothing."""
    count, last = len(answers), len(answers.rungs) - 1
    source = np.full(count, last, np.int64)
    for rung in range(last - 1, -1, -1):
        source[accepts(answers, rung, thresholds[rung])] = rung
    # That a state is novel is known once the first rung was asked; those after it that may not decide are passed by.
    spent = np.tile(answers.cost_s, (count, 1))
    spent[:, 1:last][answers.barred[:, 1:]] = 0
    climbed = np.cumsum(spent, axis=1)[np.arange(count), source]
    return Outcome(source, ~answers.right[np.arange(count), source], climbed)


def accepts(answers: Answers, rung: int, threshold: float) -> BoolArray:
    """`[N]` bool: the states that one neural rung would decide, were it asked."""
    if threshold >= 1:
        return np.zeros(len(answers), np.bool_)
    return (answers.confidence[:, rung] >= threshold) & ~answers.barred[:, rung]


_QUANTILES = (np.arange(20) + 0.5) / 20
_DEVIATIONS = ndtri((np.arange(9) + 0.5) / 9)


@dataclass(frozen=True, eq=False)
class Front:
    """L threshold vectors that no other beats in both loss and cost on `count` tune states, ordered from the dearest
    and most accurate to the cheapest."""

    thresholds: NDArray[np.float64]
    """`[L, R - 1]`: of each neural rung; 1 accepts nothing."""
    accepted: IntArray
    """`[L]`: decisions of the neural rungs."""
    wrong: IntArray
    """`[L]`: how many of those are wrong."""
    wrong_all: IntArray
    """`[L]`: how many of all `count` decisions are."""
    cost_s: NDArray[np.float64]
    """`[L]`: mean seconds of work per decision."""
    count: int
    covers: Covers
    """What counts as loss, see `Certificate`."""

    def __len__(self) -> int:
        return len(self.thresholds)

    @property
    def loss(self) -> NDArray[np.float64]:
        """`[L]`: share of wrong decisions; the larger of both shares where all decisions are covered."""
        own: NDArray[np.float64] = self.wrong / np.maximum(self.accepted, 1)
        return own if self.covers == "own" else np.maximum(own, self.wrong_all / self.count)

    def p_values(self, alpha: float) -> NDArray[np.float64]:
        """`[L]`: of the hypothesis that the loss exceeds alpha."""
        own = bdtr(self.wrong, self.accepted, alpha)
        of_all = own if self.covers == "own" else bdtr(self.wrong_all, self.count, alpha)
        return np.maximum(own, of_all).astype(np.float64)

    def pass_probabilities(self, alpha: float, delta: float, proving: float = 1.0) -> NDArray[np.float64]:
        """`[L]`: the probability with which each vector would pass at level delta on another sample, `proving` times as
        large as the tune states: the posterior predictive under Jeffreys priors of its loss, with the number of states
        it would accept as uncertain as it is. Unlike the p-value here, it is not misled by a vector that accepts few
        states, none of them wrong by chance."""
        spread = np.sqrt(self.accepted * (1 - self.accepted / self.count) * (1 + 1 / max(proving, 1e-9)))
        found = np.mean(
            [
                _passes(
                    self.wrong, self.accepted, np.maximum(self.accepted + shift * spread, 0) * proving, alpha, delta
                )
                for shift in _DEVIATIONS
            ],
            axis=0,
        )
        if self.covers == "own":
            return found
        whole = np.full(len(self), self.count)
        return np.minimum(found, _passes(self.wrong_all, whole, whole * proving, alpha, delta))

    def surely_above(self, alpha: float, level: float) -> bool:
        """Whether each vector by itself has a loss above alpha, at the given significance level."""
        above = bdtrc(self.wrong - 1.0, self.accepted, alpha)
        if self.covers == "all":  # one of both is enough, so twice the smaller counts
            above = 2 * np.minimum(above, bdtrc(self.wrong_all - 1.0, self.count, alpha))
        return bool((above <= level).all())


def pareto_front(tune: Answers, *, at_least: int = 1, covers: Covers = "all") -> Front:
    """Empty where no vector accepts `at_least` tune states.

    at_least: the fewest that a vector must accept: with fewer even a faultless one proves nothing. covers: what counts
    as loss, see `Certificate`.
    """
    grids = [threshold_grid(tune, rung) for rung in range(len(tune.rungs) - 1)]
    vectors = np.stack([axis.ravel() for axis in np.meshgrid(*grids, indexing="ij")], axis=1)
    accepted, wrong, wrong_share, cost = (each.ravel() for each in swept(tune, grids))
    wrong_all = np.rint(wrong_share * len(tune))
    loss = wrong / np.maximum(accepted, 1)
    if covers == "all":
        loss = np.maximum(loss, wrong_all / len(tune))
    enough = np.flatnonzero(accepted >= max(at_least, 1))
    # From the cheap end each must be better than all cheaper ones.
    order = enough[np.lexsort((loss[enough], cost[enough]))]
    least_before = np.minimum.accumulate(np.concatenate(([np.inf], loss[order])))[:-1]
    kept = order[loss[order] < least_before][::-1]
    counts = [each[kept].astype(np.int64) for each in (accepted, wrong, wrong_all)]
    return Front(vectors[kept], counts[0], counts[1], counts[2], cost[kept], len(tune), covers)


def path_order(
    front: Front, alpha: float, delta: float, *, proving: float = 1.0, max_cost_s: float | None = None
) -> IntArray:
    """Places on the front `[P]`, in the order of the test: first the vector that is most likely to pass, then bolder
    ones up to a loss of HEADROOM alphas.

    proving: states of the calibration set for each tune state. max_cost_s: wanted is the most accurate vector within
    this cost. Where the first one is, more accurate ones within the cost follow it before bolder ones do.
    """
    if not len(front):
        return np.zeros(0, np.int64)
    likely = front.pass_probabilities(alpha, delta, proving)
    start = len(front) - 1 - int(likely[::-1].argmax())  # the boldest, where several round to 1
    within = np.flatnonzero(front.loss <= HEADROOM * alpha)
    bolder = spaced(np.arange(start + 1, within[-1] + 1 if len(within) else start + 1))
    if max_cost_s is None:
        return np.concatenate(([start], bolder))
    affordable = np.flatnonzero(front.cost_s <= max_cost_s)
    dearer = spaced(affordable[affordable < start][::-1])
    return np.concatenate(([start], dearer, bolder))


def _passes(
    wrong: IntArray, accepted: IntArray, proving: NDArray[np.float64], alpha: float, delta: float
) -> NDArray[np.float64]:
    """`[L]`: the probability that of `proving` `[L]` decisions so few are wrong that a loss above alpha is refuted at
    level delta, where `wrong` of `accepted` were."""
    count = np.floor(proving).astype(np.int64)
    most = np.floor(
        bdtrik(delta, np.maximum(count, 1).astype(np.float64), alpha) + 1e-9
    )  # wrong ones, of which the p-value is delta
    most = np.where(bdtr(0, count, alpha) > delta, -1.0, np.maximum(most, 0.0))
    rates = betaincinv(wrong[:, None] + 0.5, (accepted - wrong)[:, None] + 0.5, _QUANTILES[None])
    found = bdtr(np.maximum(most, 0)[:, None], count[:, None], rates).mean(axis=1)
    return np.where(most < 0, 0.0, found)


def spaced(places: IntArray) -> IntArray:
    """LENGTH of them at most, evenly spaced, the ends included."""
    if len(places) <= LENGTH:
        return places
    return places[np.unique(np.linspace(0, len(places) - 1, LENGTH).round().astype(int))]


def swept(answers: Answers, grids: Sequence[NDArray[np.float64]]) -> tuple[NDArray[np.float64], ...]:
    """What `decide` comes to for all vectors of a grid at once, each `[G]` or `[G, H]` float64: decisions that neural
    rungs make, how many of those are wrong, and of all decisions the share that is wrong and the mean cost.

    grids: the thresholds of each neural rung, of which there are one or two, ascending. States that stand in the same
    places between the thresholds fare alike under every vector, so sums over them are all that is needed.
    """
    count, neural = len(answers), len(grids)
    places = [_accepting(answers, rung, grid) for rung, grid in enumerate(grids)]
    if neural == 1:
        grids, places = [*grids, np.ones(1)], [*places, np.zeros(count, np.int64)]
    shape = tuple(len(grid) + 1 for grid in grids)

    def summed(weight: NDArray[Any]) -> NDArray[np.float64]:
        flat = np.ravel_multi_index((places[0], places[1]), shape)
        return np.bincount(flat, weight, minlength=shape[0] * shape[1]).astype(np.float64).reshape(shape)

    def by_first(weight: NDArray[Any]) -> NDArray[np.float64]:
        """Over states that the first rung accepts."""
        after = summed(weight).sum(axis=1)[::-1].cumsum()[::-1]
        return np.repeat(after[1:, None], len(grids[1]), axis=1)

    def past_first(weight: NDArray[Any], accepts: bool) -> NDArray[np.float64]:
        """Over states that it does not accept, and the second one does, or does not either."""
        below = summed(weight).cumsum(axis=0)[:-1]
        if accepts:
            return below[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
        return below.cumsum(axis=1)[:, :-1]

    every = np.ones(count)
    seconds = answers.cost_s[1] * ~answers.barred[:, 1] if neural == 2 else np.zeros(count)
    second_wrong = ~answers.right[:, 1] if neural == 2 else np.zeros(count)
    accepted = by_first(every) + past_first(every, True)
    wrong = by_first(~answers.right[:, 0]) + past_first(second_wrong, True)
    wrong_all = (wrong + past_first(~answers.right[:, -1], False)) / count
    cost = answers.cost_s[0] + (past_first(seconds, True) + past_first(seconds + answers.cost_s[-1], False)) / count
    return accepted, wrong, wrong_all, cost


def _accepting(answers: Answers, rung: int, grid: NDArray[np.float64]) -> IntArray:
    """`[N]`: by how many of a rung's thresholds, ascending, each state would be accepted."""
    known = np.searchsorted(grid[grid < 1], answers.confidence[:, rung], side="right")
    return np.where(answers.barred[:, rung], 0, known)


def threshold_grid(tune: Answers, rung: int) -> NDArray[np.float64]:
    """Thresholds of a rung: confidences it gave, denser where it is sure, none of the states at first."""
    known = np.sort(tune.confidence[~tune.barred[:, rung], rung])
    if not len(known):
        return np.ones(1)
    # Equal steps of the states that would be accepted, and of those that would not: both ends matter.
    shares = np.unique(np.concatenate((np.linspace(0, 1, STEPS // 2), np.geomspace(0.002, 1, STEPS // 2))))
    places = np.clip(np.ceil((1 - shares) * len(known)).astype(int), 0, len(known) - 1)
    chosen = known[places]
    grid: NDArray[np.float64] = np.unique(np.concatenate((chosen[chosen < 1], [1.0])))
    return grid
