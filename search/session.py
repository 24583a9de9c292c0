"""Searches that go on from move to move: trees that keep what they know of the position reached."""

from __future__ import annotations

import threading
from bisect import bisect
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from escalade.domains.base import Domain
from escalade.domains.errors import ActionError, EscaladeError, SettingsError
from escalade.domains.evaluator import AnyEvaluator
from escalade.search.cohort import Cohort, tree_seeds
from escalade.search.config import SearchConfig, whole
from escalade.search.engine import cohorts_of, run_to_the_end
from escalade.search.results import SearchResult
from escalade.search.searchable import check_config, check_domain_and_evaluator, check_unfinished
from escalade.search.threads import in_threads

_NOTHING: Any = object()
"""Stands where no state was put yet."""


class Searcher:
    """Many games at once, each with a tree of its own that follows the moves played.

    `start` puts a game's state under a tree, `play` moves it on, `search` searches some or all of them. What a PUCT
    search found out about the move that is played is kept, and counts towards `config.simulations`; a Gumbel search
    begins anew each time, since its schedule wants actions not visited yet. cache: as in `search`. It uses threads of
    its own; a second call before the first has returned is refused with EscaladeError.
    """

    def __init__(
        self,
        domain: Domain[Any],
        evaluator: AnyEvaluator,
        config: SearchConfig,
        trees: int,
        *,
        cache: int = 0,
    ) -> None:
        check_domain_and_evaluator(domain, evaluator)
        check_config(config)
        trees = whole("trees", trees, 1)
        self.domain = domain
        self.config = config
        self._nodes = config.simulations + 1
        cuts, self._threads = cohorts_of(trees, domain, evaluator)
        self._cuts = cuts
        self._cohorts = [
            Cohort(domain, evaluator, last - first, (last - first) * self._nodes, cache=cache) for first, last in cuts
        ]
        self._states: list[Any] = [_NOTHING] * trees
        self._kept = np.zeros(trees, np.bool_)
        self._lock = threading.Lock()

    def start(self, trees: Sequence[int], states: Sequence[Any]) -> None:
        """Put new states under trees. Raises StateError for a finished state; then no tree has changed."""
        with self._alone():
            self._check(trees, len(states))
            for state in states:
                check_unfinished(self.domain, state)
            for tree, state in zip(trees, states, strict=True):
                self._states[tree] = state
                self._kept[tree] = False

    def play(self, trees: Sequence[int], actions: Sequence[int]) -> None:
        """Move trees on by legal actions. Raises ActionError for others, StateError where a game is over by it; then no
        tree has changed."""
        with self._alone():
            self._check(trees, len(actions))
            reached = [self._after(self.state(tree), action) for tree, action in zip(trees, actions, strict=True)]
            for tree, action, state in zip(trees, actions, reached, strict=True):
                self._states[tree] = state
                if self._kept[tree]:
                    cohort, place = self._home(tree)
                    self._kept[tree] = cohort.follow(place, action)

    def search(self, trees: Sequence[int] | None = None, *, seed: int | Sequence[int] = 0) -> list[SearchResult]:
        """Search trees, all by default; one result each, in order. seed: as in `escalade.search.engine.search`."""
        with self._alone():
            return self._search(list(range(len(self._states))) if trees is None else list(trees), seed)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._lock.acquire(blocking=False):
            raise EscaladeError("this Searcher is at work already: give each thread a Searcher of its own")
        try:
            yield
        finally:
            self._lock.release()

    def _search(self, chosen: list[int], seed: int | Sequence[int]) -> list[SearchResult]:
        self._check(chosen, len(chosen))
        for tree in chosen:
            self.state(tree)
        seeds = tree_seeds(seed, len(chosen))
        known = self._kept.copy()
        self._kept[chosen] = False  # should anything fail, these begin anew
        results: dict[int, SearchResult] = {}

        def work(number: int, stop: threading.Event) -> None:
            first, last = self._cuts[number]
            places = [m for m, tree in enumerate(chosen) if first <= tree < last]
            if not places:
                return
            cohort = self._cohorts[number]
            cohort.clear()
            for kept in (False, True):
                group = [m for m in places if known[chosen[m]] == kept]
                slots = np.array([chosen[m] - first for m in group], np.int64)
                if kept and group:
                    cohort.go_on(slots, self.config, seeds[group])
                elif group:
                    states = [self._states[chosen[m]] for m in group]
                    cohort.plant(slots, states, slots * self._nodes, self._nodes, self.config, seeds[group])
            slots = np.array([chosen[m] - first for m in places], np.int64)
            run_to_the_end(cohort, slots, stop)
            found = cohort.results(slots, self.config)
            results.update(zip((chosen[m] for m in places), found, strict=True))

        in_threads(work, len(self._cuts), self._threads)
        self._kept[chosen] = self.config.algorithm == "puct"
        return [results[tree] for tree in chosen]

    def forget_estimates(self) -> None:
        """Empty the cache: needed when the evaluator has learned and does not run as a compiled function."""
        for cohort in self._cohorts:
            cohort.forget_estimates()

    @property
    def array_bytes(self) -> int:
        """Memory of all its arrays; room that no tree has grown into yet is counted, though not in use."""
        return sum(array.nbytes for cohort in self._cohorts for array in cohort.arrays)

    def state(self, tree: int) -> Any:
        """The state under a tree. Raises SettingsError if there is none."""
        self._check([tree], 1)
        if self._states[tree] is _NOTHING:
            raise SettingsError(f"tree {tree} has no state yet: start it first")
        return self._states[tree]

    def _check(self, trees: Sequence[int], values: int) -> None:
        if len(trees) != values or len(set(trees)) < len(trees):
            raise SettingsError(f"{len(trees)} trees, each named once, need a value each, not {values}")
        for tree in trees:
            if not 0 <= tree < len(self._states):
                raise SettingsError(f"there is no tree {tree}: they are numbered from 0 to {len(self._states) - 1}")

    def _after(self, state: Any, action: int) -> Any:
        if not isinstance(action, int | np.integer) or action not in self.domain.legal_actions(state):
            raise ActionError(f"action {action!r} is not legal in the state '{self.domain.format(state)}'")
        reached = self.domain.step(state, action)
        check_unfinished(self.domain, reached)
        return reached

    def _home(self, tree: int) -> tuple[Cohort, int]:
        number = bisect([first for first, _ in self._cuts], tree) - 1
        return self._cohorts[number], tree - self._cuts[number][0]
