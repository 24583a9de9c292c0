"""What a search found, as told to whoever asked."""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from escalade.domains.base import BoolArray, FloatArray, IntArray, KeyArray
from escalade.domains.random_bits import uniforms
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


class Readings(NamedTuple):
    """What M trees found, as arrays: the fields of a `SearchResult` for each. lines `[M, L]` int64, lengths `[M]`: in
    place of `principal_variation`. stopped `[M]` int8: a key of STOPPED."""

    action: IntArray
    policy: FloatArray
    value: FloatArray
    visits: NDArray[np.int32]
    action_values: FloatArray
    prior: FloatArray
    lower: FloatArray
    upper: FloatArray
    proven: BoolArray
    lines: IntArray
    lengths: IntArray
    simulations: IntArray
    stopped: NDArray[np.int8]


def readings_of(forest: Forest, trees: IntArray, config: SearchConfig) -> Readings:
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
        chosen[:] = _drawn(numbers[:, POLICY], config.temperature, a.seed[trees])
        read_out(*given)
    roots = a.start[trees]
    proven = a.lower[roots] == a.upper[roots]
    return Readings(
        action=chosen,
        policy=numbers[:, POLICY],
        value=a.value[roots] + np.float32(0),  # plain zero, never -0.0
        visits=visits,
        action_values=numbers[:, VALUE],
        prior=numbers[:, PRIOR],
        lower=numbers[:, LOWER],
        upper=numbers[:, UPPER],
        proven=proven,
        lines=lines,
        lengths=lengths,
        simulations=a.visits[roots].astype(np.int64) - 1,
        stopped=np.where(proven, np.int8(PROVEN), a.stopped[trees]),
    )


def results_of(forest: Forest, trees: IntArray, config: SearchConfig) -> list[SearchResult]:
    """As `readings_of`, a result a tree."""
    read = readings_of(forest, trees, config)
    lengths = read.lengths.tolist()
    longest = read.lines[:, : max(lengths)].tolist()
    columns = (
        read.action.tolist(),
        read.policy,
        read.value.tolist(),
        read.visits,
        read.action_values,
        read.prior,
        read.lower,
        read.upper,
        read.proven.tolist(),
        [tuple(line[:length]) for line, length in zip(longest, lengths, strict=True)],
        read.simulations.tolist(),
        [STOPPED[why] for why in read.stopped.tolist()],
    )
    return [tuple.__new__(SearchResult, row) for row in zip(*columns, strict=True)]  # in half the time of its own call


def _drawn(policies: FloatArray, temperature: float, seeds: KeyArray) -> IntArray:
    """An action `[M]` of each policy `[M, A]`."""
    with np.errstate(divide="ignore"):
        logs = np.log(policies.astype(np.float64))
    weights = np.exp((logs - logs.max(axis=1, keepdims=True)) / temperature)
    below = np.cumsum(weights, axis=1)
    chance = uniforms(seeds + np.uint64(1), 1) * np.nextafter(below[:, -1:], 0)
    return np.argmax(below > chance, axis=1)
