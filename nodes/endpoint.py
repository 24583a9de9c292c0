"""How an endpoint that fails, hangs or costs money is treated: at most two attempts a call, a circuit breaker, so many
calls at once and no more waiting, and caps on tokens.

One `Endpoint` is shared by all decisions of a process, from any thread and event loop. A call ends in an answer or in
`CallFailed`, whose `reason` is one of: `timeout`, `rate_limited`, `unauthorized`, `server_error`, `unreachable`,
`refused` (another 4xx), `malformed_answer`, `breaker_open`, `overloaded` (too many wait), `token_cap`, `error`.
"""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections import deque
from collections.abc import Awaitable, Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from escalade.domains.errors import EscaladeError

ATTEMPTS = 2
RETRIED = ("rate_limited", "server_error", "unreachable")
"""What a second attempt may mend. After a time-out there is no time left, and the rest would fail again."""
OUT_OF_ORDER = (*RETRIED, "timeout", "unauthorized")
"""What speaks against the endpoint, not against one question or answer."""
UNBILLED = ("unreachable", "unauthorized", "rate_limited", "refused", "breaker_open", "overloaded", "token_cap")
"""What a provider does not bill; what other failures cost, if anything, is not known."""
BACK_OFF_S = 0.2
HOUR_S = 3600.0

T = TypeVar("T")
Clock = Callable[[], float]


class CallFailed(EscaladeError):
    """A call without an answer. Providers' messages can quote keys and prompts, so only the kind of error is told."""

    def __init__(self, reason: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.details = details or {}


def failure_of(error: Exception) -> CallFailed:
    """What any client's error means."""
    if isinstance(error, CallFailed):
        return error
    name, status = type(error).__name__, getattr(error, "status_code", None)
    if isinstance(error, TimeoutError) or "Timeout" in name:
        reason = "timeout"
    elif status == 429:
        reason = "rate_limited"
    elif status in (401, 403):
        reason = "unauthorized"
    elif isinstance(status, int):
        reason = "server_error" if status >= 500 else "refused"
    elif isinstance(error, ValueError | LookupError | TypeError | AttributeError):
        reason = "malformed_answer"  # the client could not read what came
    else:
        reason = "unreachable" if "Connect" in name or "Connection" in name else "error"
    return CallFailed(reason, {"error": name, "status": status})


# The breaker

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


# A call


@dataclass
class Endpoint:
    """What is shared by all who call one endpoint with one key."""

    breaker: Breaker = field(default_factory=Breaker)
    gate: Gate = field(default_factory=lambda: Gate(16, 256))
    tokens: HourlyTokens = field(default_factory=lambda: HourlyTokens(None))
    clock: Clock = time.monotonic

    async def call(
        self,
        send: Callable[[float], Awaitable[T]],
        *,
        timeout_s: float,
        tokens: int,
        used: Callable[[T], int | None],
        decision: DecisionTokens | None = None,
    ) -> tuple[T, int]:
        """What `send(seconds left)` gives, and how many attempts that took.

        timeout_s: for everything, waiting included. tokens: the most that one attempt can take, prompt and answer.
        used: the tokens that an answer did take, None if that is not known, and then the most counts.
        Raises CallFailed; whatever else `send` raises is told by it.
        """
        ends = self.clock() + timeout_s
        decision = decision or DecisionTokens()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._attempt(send, ends, tokens, used, decision), attempt
            except CallFailed as failed:
                failed.details["attempts"] = attempt
                rest = max(BACK_OFF_S * random.uniform(0.5, 1.5), failed.details.pop("retry_after", 0.0))  # noqa: S311
                again = failed.reason in RETRIED and attempt < ATTEMPTS and not self.breaker.refuses()
                if not again or self.clock() + rest >= ends:
                    raise
            await asyncio.sleep(rest)
        raise AssertionError("the last attempt returns or raises")

    async def _attempt(
        self,
        send: Callable[[float], Awaitable[T]],
        ends: float,
        tokens: int,
        used: Callable[[T], int | None],
        decision: DecisionTokens,
    ) -> T:
        if self.breaker.refuses():  # before a turn is waited for
            raise CallFailed("breaker_open")
        try:
            await asyncio.wait_for(self.gate.enter(), max(0.0, ends - self.clock()))
        except TimeoutError:
            raise CallFailed("overloaded") from None
        try:
            decision.reserve(tokens)
            spent, fine = 0, None
            try:
                self.tokens.reserve(tokens)
            except CallFailed:
                decision.settle(tokens, 0)
                raise
            try:
                self.breaker.enter()
                spent = tokens  # until it is known better: a failed call may be billed
                try:
                    left = max(0.0, ends - self.clock())
                    # The client's own time-out starts anew with every byte; this one does not.
                    answer = await asyncio.wait_for(send(left), left)
                    known = used(answer)
                    spent, fine = tokens if known is None else known, True
                except Exception as error:  # any provider's errors; told apart by `failure_of`
                    failed = failure_of(error)
                    fine = failed.reason not in OUT_OF_ORDER
                    spent = 0 if failed.reason in UNBILLED else tokens
                    if failed.reason in RETRIED:
                        failed.details["retry_after"] = _retry_after(error)
                    raise failed from error
                finally:
                    self.breaker.leave(fine)
                return answer
            finally:
                self.tokens.settle(tokens, spent)
                decision.settle(tokens, spent)
        finally:
            self.gate.leave()


def _retry_after(error: Exception) -> float:
    """Seconds that a provider asks for, 0 if it does not say. A date instead of seconds is not read."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        seconds = float(headers.get("retry-after", 0))
    except (TypeError, ValueError):
        return 0.0
    return seconds if 0 <= seconds < HOUR_S else HOUR_S
