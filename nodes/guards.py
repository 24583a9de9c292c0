"""What stands in front of an endpoint besides its gate: a circuit breaker, and caps on tokens and money."""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any, Literal

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

    def enter(self) -> bool:
        """Begin a call, which `leave` must end. Returns whether it is the one that tries. Raises CallFailed if the
        breaker is open."""
        with self._lock:
            if self._refuses():
                raise CallFailed("breaker_open")
            trial = self._state == "open"
            self._state = "half_open" if trial else self._state
        if trial:
            self._tell("half_open")
        return trial

    def leave(self, fine: bool | None, *, trial: bool = True) -> None:
        """How a call ended; None: it says nothing about the endpoint, as one that was cancelled. trial: whether it was
        the one that tries."""
        with self._lock:
            before = self._state
            if fine:
                self._state, self._in_a_row, self._rest = "closed", 0, self._first_rest
            elif fine is None:
                self._state = "open" if before == "half_open" and trial else before  # the next call tries at once
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
        """Raises CallFailed if a call of so many might go over the cap, with `retry_after` in its details where it
        need not later; else `settle` must be given what became of it."""
        if self.most is None:
            return
        with self._lock:
            now = self._clock()
            while self._spent and self._spent[0][0] <= now - HOUR_S:
                self._total -= self._spent.popleft()[1]
            if self._total + self._reserved + tokens > self.most:
                details: dict[str, Any] = {"cap": "hour", "most": self.most}
                if tokens <= self.most:
                    under_way = self._reserved and self._total + tokens <= self.most
                    details["retry_after"] = 0.0 if under_way or not self._spent else self._room_s(now, tokens)
                raise CallFailed("token_cap", details)
            self._reserved += tokens

    def _room_s(self, now: float, tokens: int) -> float:
        """Seconds until so much of what was spent is an hour old that there is room. Hold the lock."""
        total = self._total
        for spent_at, spent in self._spent:
            total -= spent
            if total + tokens <= self.most:  # type: ignore[operator]
                return max(0.0, spent_at + HOUR_S - now)
        return HOUR_S

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
class DecisionBudget:
    """What the calls of one decision may cost together, all on one event loop. A call is begun only if there is room
    for what it may cost, so it is exceeded at most by what one call costs beyond that."""

    most_usd: float | None = None
    """None: no limit."""
    spent_usd: float = 0.0
    """By calls that have ended; those whose cost is not known count as much as was estimated."""
    reserved_usd: float = 0.0
    """By calls under way."""

    @property
    def left_usd(self) -> float:
        """What is left of it; infinite without a limit."""
        return math.inf if self.most_usd is None else max(0.0, self.most_usd - self.spent_usd - self.reserved_usd)

    def reserve(self, usd: float) -> None:
        """Raises CallFailed if there is no room for a call of so much."""
        if self.most_usd is not None and self.spent_usd + self.reserved_usd + usd > self.most_usd * (1 + 1e-9):
            raise CallFailed("budget", {"budget_usd": self.most_usd, "a_call_usd": usd})
        self.reserved_usd += usd

    def settle(self, reserved: float, spent: float) -> None:
        self.reserved_usd -= reserved
        self.spent_usd += spent


@dataclass
class Bill:
    """What a call takes of its caps."""

    tokens: int = 0
    usd: float = 0.0


@contextmanager
def reserved(most: Bill, decision: DecisionTokens, hour: HourlyTokens, budget: DecisionBudget) -> Iterator[Bill]:
    """So much of each cap, until it is known what was spent. Raises CallFailed where a cap has no room."""
    bill = Bill()
    with ExitStack() as stack:
        decision.reserve(most.tokens)
        stack.callback(lambda: decision.settle(most.tokens, bill.tokens))
        hour.reserve(most.tokens)
        stack.callback(lambda: hour.settle(most.tokens, bill.tokens))
        budget.reserve(most.usd)
        stack.callback(lambda: budget.settle(most.usd, bill.usd))
        yield bill
