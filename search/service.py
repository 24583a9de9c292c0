"""Searches that share waves: requests join at any wave and leave when they are done.

One worker thread a core, where the evaluator gains from that, each with a cohort of trees. A request joins a worker
that has less than its share, whatever the others there are at, and leaves at its own budget, deadline or proof. All
trees of a worker make one simulation a wave, so nobody waits for a longer search; nobody overtakes in the queue either,
so nobody is left waiting for room. A hundred requests at once cost about as much as one batch of a hundred.

A search without a deadline is given all the room it may need when it begins; if there is too little, it waits. One
with a deadline will hardly use all its simulations: it begins with little room, and gets twice as much when that is
full. Should memory end before its time does, it is answered with what it has found ("memory").

Threads start with the first request and end after some idle seconds. In a forked process a service begins anew.
"""

from __future__ import annotations

import itertools
import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

import numpy as np

from escalade.domains.base import Domain, array_domain
from escalade.domains.errors import (
    CancelledSearch,
    EscaladeError,
    OverloadedError,
    SettingsError,
)
from escalade.domains.evaluator import AnyEvaluator, hints_of
from escalade.search.arrays import MAX_BYTES, nodes_in
from escalade.search.config import SearchConfig, whole
from escalade.search.results import SearchResult
from escalade.search.searchable import (
    check_config,
    check_domain_and_evaluator,
    check_unfinished,
    checked_deadline,
    rows_of,
)
from escalade.search.service_worker import SearchProgress, SearchTicket, Worker

__all__ = ["SearchProgress", "SearchService", "SearchTicket"]


class SearchService:
    """Search for many callers at once. Close it, or use it as a context.

    trees: how many searches may run at once; more wait. queue_limit: how many may wait; more are refused with
    OverloadedError. memory: bytes that all trees together may grow to; none is in use before trees grow into it.
    clock: what deadlines are read on.
    """

    def __init__(
        self,
        domain: Domain[Any],
        evaluator: AnyEvaluator,
        *,
        trees: int = 256,
        queue_limit: int = 1024,
        memory: int = MAX_BYTES,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        check_domain_and_evaluator(domain, evaluator)
        self.domain = domain
        self.evaluator = evaluator
        self.queue_limit = whole("queue_limit", queue_limit, 1)
        self.clock = clock
        self.closed = False
        self._trees = whole("trees", trees, 1)
        self._memory = whole("memory", memory, 1)
        self._begin()
        _services.add(self)

    def _begin(self) -> None:
        self.changed = threading.Condition()
        self.queue: deque[SearchTicket] = deque()
        workers = min(hints_of(self.evaluator).calls, self._trees) if array_domain(self.domain) else 1
        nodes = nodes_in(min(self._memory // workers, MAX_BYTES), self.domain)
        if nodes < 2:
            raise SettingsError(f"memory must allow each of {workers} threads at least 2 nodes, not {self._memory}")
        shares = [self._trees * worker // workers for worker in range(workers + 1)]
        self._workers = [Worker(self, last - first, nodes) for first, last in itertools.pairwise(shares)]

    def submit(
        self,
        state: Any,
        config: SearchConfig,
        *,
        seed: int = 0,
        deadline: float | None = None,
    ) -> SearchTicket:
        """Ask for a search of one state; the answer is the ticket's result.

        deadline: time of the service's clock at which the search stops, with what it has found by then; a request that
        still waits in the queue then fails with DeadlineError.
        Raises StateError for a finished state, SettingsError for more simulations than fit in memory, OverloadedError
        if the queue is full.
        """
        check_config(config)
        check_unfinished(self.domain, state)
        most = self._workers[0].nodes - 1
        if config.simulations > most:
            raise SettingsError(
                f"{config.simulations} simulations need more memory than allowed: lower simulations to {most}, or give "
                "the service more memory"
            )
        # Whatever is wrong with a request is its own affair: it must not reach the workers.
        if fast := array_domain(self.domain):
            rows_of(fast, [state])
        if not isinstance(seed, int | np.integer):
            raise SettingsError(f"seed must be a whole number, not {seed!r}")
        ticket = SearchTicket(state, config, int(seed), checked_deadline(deadline), self._forget)
        with self.changed:
            if self.closed:
                raise EscaladeError("the search service is closed")
            if len(self.queue) >= self.queue_limit:
                raise OverloadedError(f"{len(self.queue)} searches wait already; try again later")
            self.queue.append(ticket)
            for worker in self._workers:
                worker.wake()
            self.changed.notify()  # only idle workers wait; the others look by themselves
        return ticket

    def search(self, state: Any, config: SearchConfig, *, seed: int = 0, deadline: float | None = None) -> SearchResult:
        """`submit`, and wait for the answer."""
        return self.submit(state, config, seed=seed, deadline=deadline).result()

    @property
    def running(self) -> int:
        """Searches in the waves now."""
        return sum(len(worker.tickets) for worker in self._workers)

    @property
    def waiting(self) -> int:
        """Searches in the queue now."""
        return len(self.queue)

    def close(self) -> None:
        """Refuse new requests and fail those that are under way with CancelledSearch."""
        with self.changed:
            self.closed = True
            waiting = list(self.queue)
            self.queue.clear()
            self.changed.notify_all()
        for ticket in waiting:
            ticket.fail(CancelledSearch("the search service was closed"))
        for worker in self._workers:
            worker.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _forget(self, ticket: SearchTicket) -> None:
        with self.changed:
            if ticket.forgotten:
                return
            ticket.forgotten = True
            ticket.set_running_or_notify_cancel()  # tells those who wait for it
            if ticket in self.queue:
                self.queue.remove(ticket)
            for worker in self._workers:
                worker.to_cancel.append(ticket)

    def fair_share(self) -> int:
        """Trees that each worker should have, if all that wait joined now."""
        return -(-(self.running + self.waiting) // len(self._workers))


_services: weakref.WeakSet[SearchService] = weakref.WeakSet()


def _after_fork() -> None:
    for service in _services:
        service._begin()  # its threads did not come along, and its lock may have been held


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
