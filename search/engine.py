"""Search: many trees in lock-step waves, cut into cohorts that keep caches warm and all cores busy."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from escalade.domains.base import Domain, IntArray, array_domain
from escalade.domains.errors import CancelledSearch
from escalade.domains.evaluator import AnyEvaluator, BatchHints, hints_of
from escalade.search.arrays import DEADLINE
from escalade.search.cohort import Cohort, tree_seeds
from escalade.search.config import SearchConfig
from escalade.search.forest import spare_forest
from escalade.search.results import SearchResult
from escalade.search.searchable import (
    check_config,
    check_domain_and_evaluator,
    check_states,
    checked_deadline,
    finished,
)
from escalade.search.threads import in_threads

__all__ = ["SearchResult", "search"]

FEWEST_ROWS = 4
"""A second thread is not worth while for fewer trees."""
BETWEEN_CHECKS = 0.5e-3
"""Seconds: while so many waves take less than this, twice as many are made before the next look at the clock."""
FIRST_WAVES, MOST_WAVES = 16, 256


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
    cache: int = 0,
) -> list[SearchResult]:
    """Search each state in a tree of its own; one result a state, in order.

    seed: of the whole batch, or one a state, which makes a result independent of what else is searched beside it
        (with a network up to float rounding, which depends on the size of a batch).
    deadline: time of `clock` after which no new wave begins; what was found by then is the answer.
    cancelled: asked between waves, about every millisecond; once true, CancelledSearch is raised.
    cache: estimates of so many states are kept, so that a state met again is not asked about again.
    Raises StateError for a finished state, NoSimulatorError for a domain that cannot look ahead, SettingsError where
    the trees would not fit in memory, DomainFault if the evaluator's answer is not one.
    """
    check_domain_and_evaluator(domain, evaluator)
    check_config(config)
    deadline = checked_deadline(deadline)
    states = check_states(domain, states)
    seeds = tree_seeds(seed, len(states))
    cuts, threads = cohorts_of(len(states), domain, evaluator)
    results: list[SearchResult] = [None] * len(states)  # type: ignore[list-item]
    used = threading.local()  # a thread's cohort serves one block after another
    made: list[Cohort] = []
    nodes = config.simulations + 1

    def check(cohort: Cohort, trees: IntArray) -> None:
        if cancelled is not None and cancelled():
            raise CancelledSearch("the search was cancelled")
        if deadline is not None and clock() >= deadline:
            cohort.stop(trees, DEADLINE)

    def work(number: int, stop: threading.Event) -> None:
        first, last = cuts[number]
        cohort: Cohort | None = getattr(used, "cohort", None)
        if cohort is None or len(cohort.arrays.start) < last - first:
            cohort = used.cohort = Cohort(domain, evaluator, last - first, (last - first) * nodes, cache=cache)
            made.append(cohort)
        trees = np.arange(last - first)
        cohort.plant(trees, states[first:last], trees * nodes, nodes, config, seeds[first:last])
        run_to_the_end(cohort, trees, stop, None if deadline is None and cancelled is None else check)
        for tree in cohort.finished_from_the_start(trees).tolist():
            raise finished(domain, states[first + tree])
        results[first:last] = cohort.results(trees, config)

    in_threads(work, len(cuts), threads)
    for cohort in made:
        spare_forest(cohort.forest)
    return results


def run_to_the_end(
    cohort: Cohort,
    trees: IntArray,
    stop: threading.Event,
    check: Callable[[Cohort, IntArray], None] | None = None,
) -> None:
    """Search until all trees `[M]` of a cohort have stopped. check: called about every millisecond.

    Raises what a plain domain raised, DomainFault for what no domain and no evaluator may say, and CancelledSearch
    soon after `stop` is set.
    """
    waves = FIRST_WAVES if check is None else 1
    while cohort.busy:
        if stop.is_set():
            raise CancelledSearch("another part of the search failed")
        started = time.perf_counter()
        cohort.go(waves, to_the_end=True)
        taken = time.perf_counter() - started
        if taken < BETWEEN_CHECKS:
            waves = min(2 * waves, MOST_WAVES)
        elif taken > 4 * BETWEEN_CHECKS:
            waves = max(1, waves // 2)
        if cohort.errors:
            raise cohort.errors.popitem()[1]
        if check is not None:
            check(cohort, trees)
    cohort.raise_for_failed(trees)


def cohorts_of(trees: int, domain: Domain[Any], evaluator: AnyEvaluator) -> tuple[list[tuple[int, int]], int]:
    """How to cut the trees into cohorts, as (first, last), and how many threads work them off.

    Cohorts of the evaluator's favourite size keep a tree's nodes in the cache from wave to wave; a multiple of the
    threads keeps all of them busy to the end. Python rules hold the interpreter's lock: there threads would only take
    it from each other.
    """
    hints = hints_of(evaluator) if array_domain(domain) else BatchHints()
    threads = max(1, min(hints.calls, trees // FEWEST_ROWS))
    cohorts = max(threads, -(-trees // hints.rows) if hints.rows else 1)
    cohorts = min(-(-cohorts // threads) * threads, trees)
    cuts = [trees * cut // cohorts for cut in range(cohorts + 1)] if trees else []
    return list(itertools.pairwise(cuts)), threads
