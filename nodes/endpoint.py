"""How an endpoint that fails, hangs or costs money is treated: at most two attempts a call, behind its guards.

One `Endpoint` is shared by all decisions of a process, from any thread and event loop. A call ends in an answer or in
`CallFailed`. Where there is `patience`, it waits instead for what passes: a rate limit, an outage, an open breaker, a
full queue of our own.
"""

from __future__ import annotations

import asyncio
import math
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from escalade.nodes.call_failed import OUT_OF_ORDER, RETRIED, UNBILLED, CallFailed, failure_of
from escalade.nodes.endings import setting_for
from escalade.nodes.gate import Gate, Turn
from escalade.nodes.guards import Bill, Breaker, Clock, DecisionBudget, DecisionTokens, HourlyTokens, reserved
from escalade.nodes.patience import OF_ONE_CALL, OWN_FAULTS, PASSING, Patience

ATTEMPTS = 2
BACK_OFF_S = 0.2
STALLED_S = 0.1
"""A timer that fires so much too late shows that its event loop was held up."""
LOOKS = 8
"""Timers in the time that a call may take: a loop that is held up between two of them is seen to be."""
UNSENT = ("breaker_open", "overloaded", "token_cap", "budget")
"""What ends a call before it is sent."""

T = TypeVar("T")


@dataclass(frozen=True)
class _Request(Generic[T]):
    """One call, as `Endpoint.call` takes it."""

    send: Callable[[float], Awaitable[T]]
    timeout_s: float
    ends: float
    most: Bill
    """What one attempt can take."""
    left_behind: Bill
    """What counts where the caller leaves."""
    used: Callable[[T | CallFailed], int | None]
    billed: Callable[[T | CallFailed], float | None]
    on_failed: Callable[[CallFailed], None]
    decision: DecisionTokens
    budget: DecisionBudget
    fair_s: float


@dataclass
class Endpoint:
    """What is shared by all who call one endpoint with one key."""

    breaker: Breaker = field(default_factory=Breaker)
    gate: Gate = field(default_factory=lambda: Gate(16, 256))
    tokens: HourlyTokens = field(default_factory=lambda: HourlyTokens(None))
    clock: Clock = time.monotonic
    patience: Patience | None = None
    """How long calls wait for what passes; None: not at all."""
    _fails: str = field(default="", init=False, repr=False)
    """For what it last failed, or "" since it answered."""
    last_status: int | None = field(default=None, init=False, repr=False)
    """HTTP status of its last failure; None if there was none, or no answer at all."""

    last_setting: str | None = field(default=None, init=False, repr=False)
    """Name of the setting to look at after its last failure; None if there was none that a setting mends."""

    def refuses(self) -> bool:
        """Whether a call would be refused now, since the endpoint is out of order."""
        return self.breaker.refuses() and not self._is_waited_for("breaker_open")

    async def call(
        self,
        send: Callable[[float], Awaitable[T]],
        *,
        timeout_s: float,
        tokens: int,
        used: Callable[[T | CallFailed], int | None],
        within_s: float = math.inf,
        prompt_tokens: int | None = None,
        decision: DecisionTokens | None = None,
        usd: float = 0.0,
        billed: Callable[[T | CallFailed], float | None] = lambda _: None,
        on_failed: Callable[[CallFailed], None] = lambda _: None,
        budget: DecisionBudget | None = None,
        fair_s: float = 0.0,
    ) -> tuple[T, int]:
        """What `send(seconds that it may take)` gives, and how many attempts that took.

        timeout_s: for one attempt, from its turn on; more where it waits at the endpoint for others of ours. within_s:
        for everything, waiting included. tokens: the most that one attempt can take, prompt and answer; prompt_tokens:
        of these the prompt's, which count where the caller leaves. used: the tokens that an answer did take, or a
        failure with `usage` in its details; None if that is not known, and then the most counts. usd, billed: the same
        in money. on_failed: is given each attempt that failed. fair_s: a time-out after less says nothing about the
        endpoint: it was its caller who had little time.
        Raises CallFailed, for whatever `send` raises.
        """
        request = _Request(
            send,
            timeout_s,
            self.clock() + within_s,
            Bill(tokens, usd),
            Bill(tokens if prompt_tokens is None else prompt_tokens, usd),
            used,
            billed,
            on_failed,
            decision or DecisionTokens(),
            budget or DecisionBudget(),
            fair_s,
        )
        attempts = waits = own_faults = 0
        may_be_billed = False
        others = self.patience.answers if self.patience is not None else 0
        while True:
            try:
                answer = await self._attempt(request)
            except CallFailed as failed:
                attempts += failed.reason not in UNSENT
                failed.details["attempts"] = max(1, attempts)
                may_be_billed |= failed.reason not in UNBILLED
                failed.may_be_billed = may_be_billed
                asked = failed.details.pop("retry_after", None)
                if failed.reason in (*OUT_OF_ORDER, "refused"):
                    self.last_status = failed.details.get("status")
                if failed.reason in OUT_OF_ORDER:
                    self._fails = failed.reason
                self.last_setting = setting_for(failed) or self.last_setting
                if self.patience is not None and self._is_waited_for(failed.reason, asked):
                    if failed.reason in OF_ONE_CALL and self.patience.answers > others:
                        own_faults += 1
                    others = self.patience.answers
                    if own_faults >= OWN_FAULTS:
                        raise
                    waits += failed.reason not in UNSENT
                    least = self.breaker.left_s if failed.reason == "breaker_open" else asked or 0.0
                    rest = self.patience.rest_s(failed.reason, least, 1 if failed.reason in UNSENT else waits)
                else:
                    rest = max(BACK_OFF_S * random.uniform(0.5, 1.5), asked or 0.0)  # noqa: S311
                    again = failed.reason in RETRIED and attempts < ATTEMPTS and rest < timeout_s
                    if not again or self.breaker.refuses():
                        raise
                if self.clock() + rest >= request.ends:
                    raise
            else:
                self._fails = ""
                if self.patience is not None:
                    self.patience.answered()
                return answer, attempts + 1
            await asyncio.sleep(rest)

    def _is_waited_for(self, reason: str, asked: float | None = None) -> bool:
        """Whether a call that failed for this is tried again until it is answered."""
        if self.patience is None or reason not in PASSING:
            return False
        if reason == "breaker_open":  # for what it opened
            return self._fails in (*PASSING, "")
        return reason != "token_cap" or asked is not None

    async def _attempt(self, request: _Request[T]) -> T:
        if self.breaker.refuses():  # before a turn is waited for
            raise CallFailed("breaker_open")
        most, ends = request.most, request.ends
        async with self.gate.turn(ends - self.clock()) as turn:
            with reserved(most, request.decision, self.tokens, request.budget) as bill:
                trial = self.breaker.enter()
                # Until it is known better: who leaves may be billed for what was sent.
                bill.tokens, bill.usd, fine = request.left_behind.tokens, request.left_behind.usd, None
                left = max(0.0, ends - self.clock())
                try:
                    answer = await self._answered(request, turn, left)
                    self._settle(bill, request, answer)
                    fine = True
                    self.gate.answered(turn)
                except Exception as error:  # noqa: BLE001 -- any provider's; told apart by `failure_of`
                    failed = failure_of(error)
                    hurried = failed.reason == "timeout" and left < min(request.timeout_s, request.fair_s)
                    fine = None if hurried else self._speaks_for_it(failed.reason, turn, min(left, request.timeout_s))
                    if "usage" in failed.details:
                        self._settle(bill, request, failed)
                    else:
                        unbilled = failed.reason in UNBILLED
                        bill.tokens, bill.usd = (0, 0.0) if unbilled else (most.tokens, most.usd)
                    request.on_failed(failed)
                    raise failed from None
                finally:
                    self.breaker.leave(fine, trial=trial)
                return answer

    def _settle(self, bill: Bill, request: _Request[T], end: T | CallFailed) -> None:
        """What an answer, or a failure that reports its usage, has taken; as far as that is not known, the most."""
        tokens, usd = request.used(end), request.billed(end)
        bill.tokens = request.most.tokens if tokens is None else tokens
        bill.usd = request.most.usd if usd is None else usd

    def _speaks_for_it(self, reason: str, turn: Turn, left: float) -> bool | None:
        """What a failed call says of the endpoint: that it is in order, or out of it; None: neither."""
        if reason == "rate_limited":
            self.gate.too_many(turn)
        if reason == "timeout":
            self.gate.too_many(turn, left)
        if reason == "timeout" and self.gate.is_queued(turn):
            return None
        return reason not in OUT_OF_ORDER

    async def _answered(self, request: _Request[T], turn: Turn, left: float) -> T:
        """What `send` gives in time. A call that is late is not given up while it is likely to wait at the endpoint for
        others of ours."""
        loop, timeout_s = asyncio.get_running_loop(), request.timeout_s
        most = min(left, timeout_s * (self.gate.at_once + 1))
        check: asyncio.TimerHandle | None = None
        looked = loop.time()
        due = looked + timeout_s
        # The client's own time-out starts anew with every byte; this one does not.
        async with asyncio.timeout(most) as limit:

            def look() -> None:
                nonlocal due
                if limit.expired():
                    return
                # This loop was held up, not the endpoint: time to catch up, whenever in the call that was.
                lag = loop.time() - looked
                if lag > STALLED_S:
                    due += lag
                if loop.time() >= due:
                    self.gate.too_many(turn, timeout_s)
                    if not self.gate.is_queued(turn):
                        limit.reschedule(loop.time())
                        return
                    due = loop.time() + timeout_s
                again()

            def again() -> None:
                nonlocal check, looked
                looked = min(due, loop.time() + timeout_s / LOOKS)
                check = loop.call_at(looked, look)

            again()
            try:
                return await request.send(most)
            finally:
                if check is not None:
                    check.cancel()
