"""Turns for the calls to one endpoint. How many it does well with at once is learnt, as TCP learns how much a network
takes (V. Jacobson, "Congestion avoidance and control", SIGCOMM 1988): halved when a call is late or is refused as one
too many, one more for each round of answers in time, up to the configured ceiling. A call that is late while others are
answered in no time hangs by itself, and teaches nothing.

A call that is late may be waiting in the endpoint's own queue, among others of ours. As long as these come back, and
not twice as many as there were, its turn at the endpoint is yet to come, and it speaks against nobody.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future
from contextlib import asynccontextmanager
from dataclasses import dataclass

from escalade.nodes.call_failed import CallFailed

CONGESTED = 0.5
"""Where calls are late because there are too many, the last answers took at least this share of the same time."""


@dataclass(eq=False)
class Turn:
    """One call under way."""

    began: float
    """When its turn came, by the gate's clock."""
    others: int
    """The most other calls that were under way at once since then."""
    answers: int
    """Answers that the endpoint had given when it began."""
    checked: float
    """When it was last found to be late, or began."""
    late: bool = False
    """Whether it took longer than a call may."""


class Gate:
    """At most `at_once` calls under way, fewer where the endpoint does not take so many, and `waiting` more that wait
    for their turn, first come first served. Shared by all threads and event loops."""

    def __init__(self, at_once: int, waiting: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.at_once, self._most_waiting, self._clock = at_once, waiting, clock
        self._lock = threading.Lock()
        self._limit = float(at_once)
        self._shrunk_at = self._answered_at = -1.0
        self._answers = self._under_way = 0
        self._took = 0.0  # seconds, of the last call that was answered
        self._waiting: deque[Future[None]] = deque()
        self._turns: set[Turn] = set()

    @property
    def under_way(self) -> int:
        return self._under_way

    @property
    def limit(self) -> int:
        """Calls that may be under way now."""
        return max(1, int(self._limit))

    @asynccontextmanager
    async def turn(self, most_s: float) -> AsyncIterator[Turn]:
        """A turn, once there is one. Raises CallFailed if too many wait, or it takes longer than this."""
        try:
            async with asyncio.timeout(max(0.0, most_s) if most_s < float("inf") else None):
                await self.enter()
        except TimeoutError:
            raise CallFailed("overloaded") from None
        try:
            turn = self._begun()
            try:
                yield turn
            finally:
                with self._lock:
                    self._turns.discard(turn)
        finally:
            self.leave()

    def _begun(self) -> Turn:
        with self._lock:
            now = self._clock()
            turn = Turn(now, 0, self._answers, now)
            self._turns.add(turn)
            for one in self._turns:
                one.others = max(one.others, self._under_way - 1)
            return turn

    async def enter(self) -> None:
        """Wait for a turn, which `leave` must end. Raises CallFailed if too many wait."""
        with self._lock:
            if self._under_way < self.limit and not self._waiting:
                self._under_way += 1
                return
            if len(self._waiting) >= self._most_waiting:
                raise CallFailed("overloaded")
            turn: Future[None] = Future()
            self._waiting.append(turn)
        try:
            await asyncio.wrap_future(turn)
        except BaseException:
            with self._lock:
                given = turn not in self._waiting
                if not given:
                    self._waiting.remove(turn)
            if given:  # between the turn and the waking
                self.leave()
            raise

    def leave(self) -> None:
        """End a turn."""
        with self._lock:
            self._under_way -= 1
            turns = self._admitted()
        self._begin(turns)

    def answered(self, turn: Turn) -> None:
        """The endpoint answered this call."""
        with self._lock:
            self._answers += 1
            self._answered_at = self._clock()
            self._took = self._answered_at - turn.began
            # What is not used up is no evidence that more would do.
            if not turn.late and self._under_way >= self.limit:
                self._limit = min(float(self.at_once), self._limit + 1 / self._limit)
            turns = self._admitted()
        self._begin(turns)

    def too_many(self, turn: Turn, late_s: float = 0.0) -> None:
        """The endpoint refused this call as one too many, or has not answered it for so many seconds. Of all that were
        under way together one counts."""
        with self._lock:
            turn.late = True
            if late_s and self._answers > turn.answers and self._took < CONGESTED * late_s:
                return
            if turn.began > self._shrunk_at:
                # A limit on calls a minute is kept by waiting: fewer at once than these would not keep it better.
                least = 1.0 if late_s else max(1.0, self.at_once / 4)
                self._limit, self._shrunk_at = min(self._limit, max(least, self._limit / 2)), self._clock()

    def is_queued(self, turn: Turn) -> bool:
        """Whether a call that is late is likely to wait at the endpoint for others of ours: some were answered since it
        began, or since this was last asked, but not twice as many as were under way with it, in whatever order they are
        served."""
        with self._lock:
            moving = self._answered_at > turn.checked
            turn.checked = self._clock()
            return moving and self._answers - turn.answers < 2 * turn.others

    def _admitted(self) -> list[Future[None]]:
        """Who may begin now. Hold the lock."""
        turns = []
        while self._waiting and self._under_way < self.limit:
            self._under_way += 1
            turns.append(self._waiting.popleft())
        return turns

    def _begin(self, turns: list[Future[None]]) -> None:
        for turn in turns:
            # Who gave up meanwhile finds it no longer among the waiting, and leaves in turn.
            if turn.set_running_or_notify_cancel():
                turn.set_result(None)
