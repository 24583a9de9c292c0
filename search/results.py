"""What a search found, as told to whoever asked."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from escalade.domains.base import FloatArray, IntArray
from escalade.search.arrays import DEADLINE, MEMORY, NONE, PROVEN, SIMULATIONS
from escalade.search.choice import BY_GUMBEL, BY_LOWER_BOUND, BY_VISITS, LOWER, POLICY, PRIOR, UPPER, VALUE, read_out
from escalade.search.config import SearchConfig
from escalade.search.forest import Forest

Ending = Literal["simulations", "proven", "deadline", "memory"]
STOPPED: dict[int, Ending] = {SIMULATIONS: "simulations", PROVEN: "proven", DEADLINE: "deadline", MEMORY: "memory"}
LONGEST_LINE = 128


class SearchResult(NamedTuple):
    """What one tree found; every value from the view of the player to move at the root, in [-1, 1].

    action: the chosen one. policy: `[A]` float32, the visits as a distribution, or a Gumbel search's improved policy;
    without what is proven worse. value: of the root. visits `[A]` int32, action_values `[A]` float32 (NaN where
    unvisited), prior `[A]` float32. lower, upper `[A]` float32: proven bounds of each action's exact value (NaN where
    illegal). proven: whether `value` is exact. principal_variation: the line of best play found, as actions.
    simulations: leaves tried, those of a subtree kept from before included. stopped: what ended the search; "memory"
    is a request with a deadline to a search service that had no more room for it.
    """

    action: int
    policy: FloatArray
    value: float
    visits: NDArray[np.int32]
    action_values: FloatArray
    prior: FloatArray
    lower: FloatArray
    upper: FloatArray
    proven: bool
    principal_variation: tuple[int, ...]
    simulations: int
    stopped: Ending


def results_of(forest: Forest, trees: IntArray, config: SearchConfig) -> list[SearchResult]:
    """What trees `[M]` that stopped have found, all of one configuration."""
    a, count, actions = forest.arrays, len(trees), forest.arrays.prior.shape[1]
    numbers, visits = np.empty((count, 5, actions), np.float32), np.empty((count, actions), np.int32)
    lines, lengths = np.empty((count, LONGEST_LINE), np.int64), np.empty(count, np.int64)
    chosen = np.full(count, NONE, np.int64)
    rule = BY_LOWER_BOUND if config.final_move == "lower_bound" else BY_VISITS
    if config.algorithm == "gumbel":
        rule = BY_GUMBEL
    given = (forest.handle, trees, rule, config.deviations, numbers, visits, lines, chosen, lengths)
    read_out(*given)
    if config.temperature > 0 and rule != BY_GUMBEL:
        for m, tree in enumerate(trees.tolist()):
            chosen[m] = _drawn(numbers[m, POLICY], config.temperature, int(a.seed[tree]))
        read_out(*given)
    roots = a.start[trees]
    proven = a.lower[roots] == a.upper[roots]
    stopped = np.where(proven, PROVEN, a.stopped[trees]).tolist()
    longest = lines[:, : lengths.max()].tolist()
    columns = (
        chosen.tolist(),
        numbers[:, POLICY],
        (a.value[roots] + np.float32(0)).tolist(),  # plain zero, never -0.0
        visits,
        numbers[:, VALUE],
        numbers[:, PRIOR],
        numbers[:, LOWER],
        numbers[:, UPPER],
        proven.tolist(),
        [tuple(line[:length]) for line, length in zip(longest, lengths.tolist(), strict=True)],
        (a.visits[roots] - 1).tolist(),
        [STOPPED[why] for why in stopped],
    )
    return [tuple.__new__(SearchResult, row) for row in zip(*columns, strict=True)]  # in half the time of its own call


def _drawn(policy: FloatArray, temperature: float, seed: int) -> int:
    with np.errstate(divide="ignore"):
        logs = np.log(policy.astype(np.float64))
    weights = np.exp((logs - logs.max()) / temperature)
    return int(np.random.default_rng(seed + 1).choice(len(policy), p=weights / weights.sum()))
