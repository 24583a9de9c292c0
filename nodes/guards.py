"""What stands in front of an endpoint: a circuit breaker, turns for so many calls at once, and caps on tokens."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Literal

from escalade.nodes.call_failed import HOUR_S, CallFailed

Clock = Callable[[], float]

BreakerState = Literal["closed", "open", "half_open"]


class Breaker:
    """Opens after `failures` calls in a row that failed for the endpoint's sake, and lets nobody through for `rest_s`;
    then one call tries. If it fails too, the rest doubles, up to `most_s` (M. Nygard, "Release It!", 2007, chapter 5).

    on_change: hears of each new state, from whatever thread.
    """

    def __init__(
        self,
        failures: int = 5,
        rest_s: float = 5.0,
        most_s: float = 120.0,
        *,
        clock: Clock = time.monotonic,
        on_change: Callable[[BreakerState], None] | None = None,
    ) -> None:
        self._allowed, self._first_rest, self._most, self._clock = failures, rest_s, most_s, clock
        self.on_change = on_change
        self._lock = threading.Lock()
        self._state: BreakerState = "closed"
        self._in_a_row, self._rest, self._until = 0, rest_s, 0.0

    @property
    def state(self) -> BreakerState:
        return self._state

    @property
    def rest_s(self) -> float:
        """How long it rests when it opens."""
        return self._rest

    def refuses(self) -> bool:
        """Whether a call would be refused now."""
        with self._lock:
            return self._refuses()

    def _refuses(self) -> bool:
        return self._state == "half_open" or (self._state == "open" and self._clock() < self._until)

    @property
    def left_s(self) -> float:
        """Seconds until the next call may try, 0 if one may now or is trying."""
        with self._lock:
            return max(0.0, self._until - self._clock()) if self._state == "open" else 0.0

    def enter(self) -> None:
        """Begin a call, of which `leave` must hear. Raises CallFailed if the breaker is open."""
        with self._lock:
            if self._refuses():
                raise CallFailed("breaker_open")
            trial = self._state == "open"
            self._state = "half_open" if trial else self._state
        if trial:
            self._tell("half_open")

    def leave(self, fine: bool | None) -> None:
        """How a call ended; None: it says nothing about the endpoint, as one that was cancelled."""
        with self._lock:
            before = self._state
            if fine:
                self._state, self._in_a_row, self._rest = "closed", 0, self._first_rest
            elif fine is None:
                self._state = "open" if before == "half_open" else before  # the next call tries at once
            else:
                self._in_a_row += 1
                if before == "half_open":
                    self._rest = min(2 * self._rest, self._most)
                if before == "half_open" or (before == "closed" and self._in_a_row >= self._allowed):
                    self._state, self._until = "open", self._clock() + self._rest
            changed = self._state if self._state != before else None
        if changed is not None:
            self._tell(changed)

    def _tell(self, state: BreakerState) -> None:
        if self.on_change is not None:
            self.on_change(state)


# So many at once


class Gate:
    """At most `at_once` calls under way, and `waiting` more that wait their turn, first come first served."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self._at_once, self._most_waiting = at_once, waiting
        self._lock = threading.Lock()
        self._under_way = 0
        self._waiting: deque[Future[None]] = deque()

    @property
    def under_way(self) -> int:
        return self._under_way

    @asynccontextmanager
    async def turn(self, most_s: float) -> AsyncIterator[None]:
        """A turn, once there is one. Raises CallFailed if too many wait, or it takes longer than this."""
        try:
            await asyncio.wait_for(self.enter(), max(0.0, most_s))
        except TimeoutError:
            raise CallFailed("overloaded") from None
        try:
            yield
        finally:
            self.leave()

    async def enter(self) -> None:
        """Wait for a turn, which `leave` must end. Raises CallFailed if too many wait."""
        with self._lock:
            if self._under_way < self._at_once:
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
        with self._lock:
            if not self._waiting:
                self._under_way -= 1
                return
            turn = self._waiting.popleft()
        # Who gave up meanwhile finds it no longer among the waiting, and leaves in turn.
        turn.set_running_or_notify_cancel()
        if not turn.cancelled():
            turn.set_result(None)


# Tokens


class HourlyTokens:
    """At most so many tokens in any hour, prompts and answers together; None: no cap. Calls under way count as much as
    they may become."""

    def __init__(self, most: int | None, *, clock: Clock = time.monotonic) -> None:
        self.most, self._clock = most, clock
        self._lock = threading.Lock()
        self._spent: deque[tuple[float, int]] = deque()
        self._total = self._reserved = 0

    def reserve(self, tokens: int) -> None:
        """Raises CallFailed if a call of so many might go over the cap; else `settle` must hear what became of it."""
        if self.most is None:
            return
        with self._lock:
            while self._spent and self._spent[0][0] <= self._clock() - HOUR_S:
                self._total -= self._spent.popleft()[1]
            if self._total + self._reserved + tokens > self.most:
                raise CallFailed("token_cap", {"cap": "hour", "most": self.most})
            self._reserved += tokens

    def settle(self, reserved: int, spent: int) -> None:
        if self.most is None:
            return
        with self._lock:
            self._reserved -= reserved
            self._total += spent
            self._spent.append((self._clock(), spent))


@dataclass
class DecisionTokens:
    """What the calls of one decision may take together, all on one event loop; None: no cap. As `HourlyTokens`."""

    most: int | None = None
    spent: int = 0
    reserved: int = 0

    def reserve(self, tokens: int) -> None:
        if self.most is not None and self.spent + self.reserved + tokens > self.most:
            raise CallFailed("token_cap", {"cap": "decision", "most": self.most})
        self.reserved += tokens

    def settle(self, reserved: int, spent: int) -> None:
        self.reserved -= reserved
        self.spent += spent


@dataclass
class Bill:
    """What a call took of its caps."""

    spent: int = 0


@contextmanager
def reserved(tokens: int, *caps: HourlyTokens | DecisionTokens) -> Iterator[Bill]:
    """So many tokens of each cap, until it is known how many were spent. Raises CallFailed where a cap has no room."""
    bill = Bill()
    with ExitStack() as stack:
        for cap in caps:
            cap.reserve(tokens)
            stack.callback(_settled, cap, tokens, bill)
        yield bill


def _settled(cap: HourlyTokens | DecisionTokens, tokens: int, bill: Bill) -> None:
    cap.settle(tokens, bill.spent)
