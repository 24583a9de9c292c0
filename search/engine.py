"""Search: many trees in lock-step waves, cut into cohorts that keep caches warm and all cores busy."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any

import numpy as np

from escalade.domains.base import Domain, array_domain
from escalade.domains.errors import CancelledSearch, DomainFault, NoSimulatorError, SettingsError, StateError
from escalade.domains.evaluator import AnyEvaluator, BatchHints, hints_of
from escalade.search.cohort import Cohort, SearchResult, tree_seeds
from escalade.search.config import SearchConfig
from escalade.search.forest import DEADLINE, FAILED

__all__ = ["SearchResult", "search"]

FEWEST_ROWS = 4
"""A second thread is not worth while for fewer trees."""
BETWEEN_CHECKS = 0.5e-3
"""Seconds: while so many waves take less than this, twice as many are made before the next look at the clock."""
MOST_WAVES = 256


def search(
    domain: Domain[Any],
    states: Sequence[Any],
    evaluator: AnyEvaluator,
    config: SearchConfig,
    *,
    seed: int | Sequence[int] = 0,
    deadline: float | None = None,
    cancelled: Callable[[], bool] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> list[SearchResult]:
    """Search each state in a tree of its own; one result a state, in order.

    seed: of the whole batch, or one a state, which makes a result independent of what else is searched beside it.
    deadline: time of `clock` after which no new wave begins; what was found by then is the answer.
    cancelled: asked between waves, about every millisecond; once true, CancelledSearch is raised.
    Raises StateError for a finished state, NoSimulatorError for a domain that cannot look ahead, SettingsError where
    the trees would not fit in memory, DomainFault if the evaluator's answer is not one.
    """
    if not domain.has_simulator:
        raise NoSimulatorError(f"domain '{domain.name}' has no simulator, so it cannot be searched")
    for state in states:
        if domain.is_terminal(state):
            raise StateError(f"the state '{domain.format(state)}' is finished: there is nothing to search")
    if not isinstance(seed, int) and len(seed) != len(states):
        raise SettingsError(f"{len(states)} states need {len(states)} seeds, not {len(seed)}")
    seeds = tree_seeds(seed, len(states))
    # Python rules hold the interpreter's lock: threads would only take it from each other.
    blocks, threads = _blocks(len(states), hints_of(evaluator) if array_domain(domain) else BatchHints())
    results: list[SearchResult] = [None] * len(states)  # type: ignore[list-item]
    queue = SimpleQueue[tuple[int, int]]()
    for block in blocks:
        queue.put(block)
    failure: list[BaseException] = []

    def checks(cohort: Cohort, trees: Any) -> None:
        if cohort.errors:
            raise next(iter(cohort.errors.values()))
        if failure or (cancelled is not None and cancelled()):
            raise CancelledSearch("the search was cancelled")
        if deadline is not None and clock() >= deadline:
            cohort.stop(trees, DEADLINE)

    def work() -> None:
        cohort: Cohort | None = None
        try:
            while not failure:
                try:
                    first, last = queue.get_nowait()
                except Empty:
                    return
                if cohort is None or len(cohort.arrays.start) < last - first:
                    cohort = Cohort(domain, evaluator, last - first, (last - first) * (config.simulations + 1))
                trees = np.arange(last - first)
                cohort.plant(trees, states[first:last], trees * (config.simulations + 1), config, seeds[first:last])
                waves = MOST_WAVES if deadline is None and cancelled is None else 1
                while cohort.busy:
                    started = time.perf_counter()
                    cohort.go(waves, to_the_end=True)
                    if time.perf_counter() - started < BETWEEN_CHECKS:
                        waves = min(2 * waves, MOST_WAVES)
                    checks(cohort, trees)
                for tree in np.flatnonzero(cohort.arrays.stopped[trees] == FAILED).tolist():
                    where = domain.format(states[first + tree])
                    raise DomainFault(f"the evaluator gave a number that is not finite, under '{where}'")
                results[first:last] = cohort.results(trees, config)
        except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
            failure.append(error)

    threads = min(threads, len(blocks))
    helpers = [threading.Thread(target=work, daemon=True) for _ in range(1, threads)]
    for helper in helpers:
        helper.start()
    work()
    for helper in helpers:
        helper.join()
    if failure:
        raise failure[0]
    return results


def _blocks(trees: int, hints: BatchHints) -> tuple[list[tuple[int, int]], int]:
    """How to cut the trees into cohorts, as (first, last), and how many threads work them off.

    Cohorts of the evaluator's favourite size keep a tree's nodes in the cache from wave to wave; a multiple of the
    threads keeps all of them busy to the end.
    """
    threads = max(1, min(hints.calls, trees // FEWEST_ROWS))
    cohorts = max(threads, -(-trees // hints.rows) if hints.rows else 1)
    cohorts = min(-(-cohorts // threads) * threads, trees)
    cuts = [trees * cut // cohorts for cut in range(cohorts + 1)] if trees else []
    return list(itertools.pairwise(cuts)), threads
