"""Searches of whole batches of positions by one thread, told as arrays: for who plays many games and wants nothing a
game but numbers."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from escalade.domains.base import BoolArray, Domain, FloatArray, IntArray, KeyArray, array_domain
from escalade.domains.errors import StateError
from escalade.domains.evaluator import AnyEvaluator, BatchHints, hints_of
from escalade.search.cohort import Cohort
from escalade.search.config import SearchConfig
from escalade.search.engine import run_to_the_end
from escalade.search.searchable import check_domain_and_evaluator


class Found(NamedTuple):
    """What M searches found; of each the fields of a `SearchResult`.

    action `[M]` int64. policy `[M, A]` float32. legal `[M, A]` bool. value `[M]` float32. proven `[M]` bool.
    simulations `[M]` int64.
    """

    action: IntArray
    policy: FloatArray
    legal: BoolArray
    value: FloatArray
    proven: BoolArray
    simulations: IntArray


class BatchSearch:
    """One cohort of trees, planted anew for one block of a batch after another. Not for two threads at once.

    trees: positions that will be searched at once; simulations: the most that a search will have.
    """

    def __init__(self, domain: Domain[Any], evaluator: AnyEvaluator, trees: int, simulations: int) -> None:
        check_domain_and_evaluator(domain, evaluator)
        hints = hints_of(evaluator) if array_domain(domain) else BatchHints()
        self.domain = domain
        self._trees = min(hints.rows or trees, trees)
        self._nodes = simulations + 1
        self._cohort = Cohort(domain, evaluator, self._trees, self._trees * self._nodes)

    def search(
        self, states: Sequence[Any] | IntArray, config: SearchConfig, seeds: KeyArray, stop: threading.Event
    ) -> Found:
        """Search M positions, at least one: states, or rows `[M, W]` of an `ArrayDomain`.

        seeds: one a position, on which (with a network: up to rounding) its result depends, and on nothing beside it.
        stop: once it is set, CancelledSearch is raised. Raises StateError for a finished position.
        """
        count = len(states)
        blocks = -(-count // self._trees)
        cuts = [count * cut // blocks for cut in range(blocks + 1)]
        parts = [
            self._block(states[first:last], config, seeds[first:last], stop) for first, last in itertools.pairwise(cuts)
        ]
        return parts[0] if blocks == 1 else Found(*map(np.concatenate, zip(*parts, strict=True)))

    def _block(
        self, states: Sequence[Any] | IntArray, config: SearchConfig, seeds: KeyArray, stop: threading.Event
    ) -> Found:
        cohort, trees = self._cohort, np.arange(len(states))
        cohort.clear()
        cohort.plant(trees, states, trees * self._nodes, self._nodes, config, seeds)
        run_to_the_end(cohort, trees, stop)
        for tree in cohort.finished_from_the_start(trees).tolist():
            raise StateError(f"{states[tree]!r:.80} is finished: there is nothing to search")
        read = cohort.read(trees, config)
        return Found(read.action, read.policy, ~np.isnan(read.lower), read.value, read.proven, read.simulations)
