"""One thread of a search service, with its cohort of trees."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from escalade.domains.errors import CancelledSearch, DeadlineError
from escalade.domains.isolation import passed_on, without_locals
from escalade.search.arrays import CANCELLED, DEADLINE, FAULTS, FULL, MEMORY
from escalade.search.cohort import Cohort, tree_seeds
from escalade.search.config import SearchConfig
from escalade.search.ranges import Ranges
from escalade.search.results import SearchResult

if TYPE_CHECKING:
    from escalade.search.service import SearchService

FIRST_ROOM = 4096
"""Nodes that a request with a deadline begins with."""
IDLE_SECONDS = 5.0
TURN_SECONDS = 1e-3
"""A worker looks for new requests, cancellations and deadlines about so often."""
REPORT_SECONDS = 0.1
"""How often the progress of a search is read out, at most, for tickets on which somebody asked for it."""


class SearchProgress(NamedTuple):
    """How far a search has come."""

    simulations: int
    """Leaves tried so far."""
    action: int
    """The most visited action at the root so far; before any visit, the one with the largest prior."""
    value: float
    """The root's value so far, in [-1, 1], from the view of the player to move there."""


class SearchTicket(Future[SearchResult]):
    """One request: a future that takes its tree out of the waves when it is cancelled."""

    def __init__(
        self,
        state: Any,
        config: SearchConfig,
        seed: int,
        deadline: float | None,
        cancelled: Callable[[SearchTicket], None],
    ) -> None:
        super().__init__()
        self.state, self.config, self.seed, self.deadline = state, config, seed, deadline
        self.start = 0  # its nodes in the arena,
        self.room = config.simulations + 1  # and how many
        if deadline is not None:
            self.room = min(self.room, FIRST_ROOM)
        self.forgotten = False
        self.watched = False
        self.reported: SearchProgress | None = None
        self._cancelled = cancelled

    def progress(self) -> SearchProgress | None:
        """How far the search has come, as of up to `REPORT_SECONDS` ago; None before its first report. From any thread.

        The worker reads it out only after somebody has asked once, so a search that nobody watches pays nothing."""
        self.watched = True
        return self.reported

    def cancel(self) -> bool:
        done = super().cancel()
        if done:
            self._cancelled(self)
        return done

    def succeed(self, result: SearchResult) -> None:
        with suppress(InvalidStateError):  # cancelled a moment ago
            self.set_result(result)

    def fail(self, error: BaseException) -> None:
        with suppress(InvalidStateError):
            self.set_exception(without_locals(passed_on(error)))


class Worker:
    """One thread and its cohort. What is marked * is touched only with the service's lock held."""

    def __init__(self, service: SearchService, trees: int, nodes: int) -> None:
        self.service = service
        self.trees = trees
        self.nodes = nodes
        self.tickets: dict[int, SearchTicket] = {}  # * by tree
        self.to_cancel: deque[SearchTicket] = deque()
        self._thread: threading.Thread | None = None  # *
        self._cohort: Cohort | None = None
        self._ranges = Ranges(0)
        self._places = list(range(trees))
        self._deadlines: list[tuple[float, int, SearchTicket, int]] = []
        self._order = itertools.count()
        self._waves = 1
        self._next_report = 0.0  # by time.perf_counter

    def wake(self) -> None:
        """* Make sure there is a thread."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="escalade-search", daemon=True)
            self._thread.start()

    def join(self) -> None:
        thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _work(self) -> None:
        while True:
            try:
                if not self._step():
                    return
            except BaseException as error:  # whatever it is, those who wait must hear of it
                self._fail_all(error)
                if not isinstance(error, Exception):
                    raise

    def _step(self) -> bool:
        """Take, search, answer; or wait for work. False once the thread may end."""
        service = self.service
        refused: list[tuple[SearchTicket, Exception]] = []
        with service.changed:
            taken = self._take(refused)
            idle = not taken and not self.tickets
            if idle and not refused:
                self.to_cancel.clear()
                rested = not service.closed and service.changed.wait(self._patience())
                if service.closed or not (rested or service.queue):
                    self._thread, self._cohort, self._ranges = None, None, Ranges(0)
                    return False
                return True
            if service.closed and not idle:
                raise CancelledSearch("the search service was closed")
        for ticket, error in refused:  # without the lock: whoever waits may run code of his own
            ticket.fail(error)
        if idle:
            return True
        if taken:
            self._waves = 1  # more may be on their way, and should not wait
            self._plant(taken)
        self._stop_some()
        self._turn()
        return True

    def _patience(self) -> float:
        """* How long to wait for work: not beyond the deadline of a request that another worker may not get to."""
        deadlines = [ticket.deadline for ticket in self.service.queue if ticket.deadline is not None]
        if not deadlines:
            return IDLE_SECONDS
        return min(IDLE_SECONDS, max(0.001, min(deadlines) - self.service.clock()))

    def _take(self, refused: list[tuple[SearchTicket, Exception]]) -> list[SearchTicket]:
        """* The requests that join now: in order, while this worker has less than its share, and room. Those that never
        will, and why, are added to `refused`."""
        service, taken = self.service, []
        if service.queue and any(ticket.deadline is not None for ticket in service.queue):
            now = service.clock()
            for ticket in [t for t in service.queue if t.deadline is not None and t.deadline <= now]:
                service.queue.remove(ticket)
                refused.append((ticket, DeadlineError("the time allowed passed while the search waited for its turn")))
        share = service.fair_share()
        while service.queue and self._places and len(self.tickets) < share:
            ticket = service.queue[0]
            if self._cohort is None:
                try:
                    self._make_cohort()
                except Exception as error:  # noqa: BLE001 - of the domain, or the memory; it goes to whoever asked
                    service.queue.popleft()
                    refused.append((ticket, error))
                    continue
            start = self._ranges.take(ticket.room)
            if start is None:
                break  # until others have left
            service.queue.popleft()
            ticket.start = start
            tree = self._places.pop()
            self.tickets[tree] = ticket
            taken.append(ticket)
            if ticket.deadline is not None:
                heapq.heappush(self._deadlines, (ticket.deadline, next(self._order), ticket, tree))
        return taken

    def _make_cohort(self) -> None:
        self._cohort = Cohort(self.service.domain, self.service.evaluator, self.trees, self.nodes, isolate=True)
        self._ranges = Ranges(self.nodes)

    def _plant(self, taken: list[SearchTicket]) -> None:
        assert self._cohort is not None
        trees = {id(ticket): tree for tree, ticket in self.tickets.items()}
        for config, group in itertools.groupby(taken, key=lambda ticket: ticket.config):
            tickets = list(group)
            places = np.array([trees[id(ticket)] for ticket in tickets])
            starts = np.array([ticket.start for ticket in tickets])
            seeds = tree_seeds([ticket.seed for ticket in tickets], len(tickets))
            rooms = np.array([ticket.room for ticket in tickets])
            self._cohort.plant(places, [ticket.state for ticket in tickets], starts, rooms, config, seeds)

    def _stop_some(self) -> None:
        """Stop the trees whose time is up, and those nobody waits for any more."""
        assert self._cohort is not None
        if self._deadlines:
            now = self.service.clock()
            while self._deadlines and self._deadlines[0][0] <= now:
                _, _, ticket, tree = heapq.heappop(self._deadlines)
                if self.tickets.get(tree) is ticket:
                    self._cohort.stop(np.array([tree]), DEADLINE)
        while self.to_cancel:
            ticket = self.to_cancel.popleft()
            for tree in [tree for tree, held in self.tickets.items() if held is ticket]:
                self._cohort.stop(np.array([tree]), CANCELLED)

    def _turn(self) -> None:
        """Some waves, and the answers of the trees that stopped. An error keeps this frame, so it holds no arrays."""
        finished = self._go()
        if finished:
            self._answer(finished)
        now = time.perf_counter()
        if now >= self._next_report:
            self._next_report = now + REPORT_SECONDS
            self._report()

    def _go(self) -> list[int]:
        """Some waves. Returns the trees that stopped, but for those that go on in more room."""
        cohort = self._cohort
        assert cohort is not None
        started = time.perf_counter()
        finished = cohort.go(self._waves).tolist()
        taken = time.perf_counter() - started
        if taken < TURN_SECONDS / 2:
            self._waves = min(2 * self._waves, 256)
        elif taken > 2 * TURN_SECONDS:
            self._waves = max(1, self._waves // 2)
        stopped = cohort.arrays.stopped
        return [tree for tree in finished if stopped[tree] != FULL or not self._gets_room(tree)]

    def _report(self) -> None:
        """Read out how far the watched searches have come: between waves, when no kernel writes to their trees."""
        cohort = self._cohort
        assert cohort is not None
        for tree, ticket in self.tickets.items():
            if ticket.watched:
                simulations, action, value = cohort.progress(tree)
                if simulations > 0:
                    ticket.reported = SearchProgress(simulations, action, value)

    def _gets_room(self, tree: int) -> bool:
        """Twice the room for a tree that is full, if there is so much; otherwise this is its end."""
        cohort, ticket = self._cohort, self.tickets[tree]
        assert cohort is not None
        room = min(2 * ticket.room, ticket.config.simulations + 1)
        start = self._ranges.take(room)
        if start is None:
            cohort.arrays.stopped[tree] = MEMORY
            return False
        cohort.move(tree, start, room)
        self._ranges.give_back(ticket.start, ticket.room)
        ticket.start, ticket.room = start, room
        return True

    def _answer(self, finished: list[int]) -> None:
        cohort, service = self._cohort, self.service
        assert cohort is not None
        stopped = cohort.arrays.stopped
        answered = [tree for tree in finished if stopped[tree] not in (*FAULTS, CANCELLED)]
        outcomes: list[tuple[SearchTicket, SearchResult | Exception]] = []
        for config, group in itertools.groupby(answered, key=lambda tree: self.tickets[tree].config):
            trees = list(group)
            results = cohort.results(np.array(trees), config)
            outcomes += [(self.tickets[tree], result) for tree, result in zip(trees, results, strict=True)]
        for tree in finished:
            if stopped[tree] in FAULTS:
                outcomes.append((self.tickets[tree], cohort.fault(tree)))
        with service.changed:
            for tree in finished:
                ticket = self.tickets.pop(tree)
                self._ranges.give_back(ticket.start, ticket.room)
                self._places.append(tree)
        for ticket, outcome in outcomes:
            if isinstance(outcome, Exception):
                ticket.fail(outcome)
            else:
                ticket.succeed(outcome)

    def _fail_all(self, error: BaseException) -> None:
        """Everyone here gets the error, and the cohort is made anew."""
        with self.service.changed:
            failed, self.tickets = list(self.tickets.values()), {}
            self._places, self._ranges, self._cohort = list(range(self.trees)), Ranges(0), None
            self._deadlines.clear()
            if not isinstance(error, Exception):
                self._thread = None
        for ticket in failed:
            ticket.fail(error)
