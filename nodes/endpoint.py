"""How an endpoint that fails, hangs or costs money is treated: at most two attempts a call, behind its guards.

One `Endpoint` is shared by all decisions of a process, from any thread and event loop. A call ends in an answer or in
`CallFailed`.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from escalade.nodes.call_failed import OUT_OF_ORDER, RETRIED, UNBILLED, CallFailed, failure_of
from escalade.nodes.guards import Breaker, Clock, DecisionTokens, Gate, HourlyTokens, reserved

ATTEMPTS = 2
BACK_OFF_S = 0.2

T = TypeVar("T")


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
        fair_s: float = 0.0,
    ) -> tuple[T, int]:
        """What `send(seconds left)` gives, and how many attempts that took.

        timeout_s: for everything, waiting included. tokens: the most that one attempt can take, prompt and answer.
        used: the tokens that an answer did take, None if that is not known, and then the most counts. fair_s: a
        time-out after less says nothing about the endpoint: it was its caller who had little time.
        Raises CallFailed; whatever else `send` raises is told by it.
        """
        ends = self.clock() + timeout_s
        decision = decision or DecisionTokens()
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._attempt(send, ends, tokens, used, decision, fair_s), attempt
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
        fair_s: float,
    ) -> T:
        if self.breaker.refuses():  # before a turn is waited for
            raise CallFailed("breaker_open")
        async with self.gate.turn(ends - self.clock()):
            with reserved(tokens, decision, self.tokens) as bill:
                self.breaker.enter()
                bill.spent, fine = tokens, None  # until it is known better: a failed call may be billed
                left = max(0.0, ends - self.clock())
                try:
                    # The client's own time-out starts anew with every byte; this one does not.
                    answer = await asyncio.wait_for(send(left), left)
                    known = used(answer)
                    bill.spent, fine = tokens if known is None else known, True
                except Exception as error:  # noqa: BLE001 -- any provider's; told apart by `failure_of`
                    failed = failure_of(error)
                    hurried = failed.reason == "timeout" and left < fair_s
                    fine = None if hurried else failed.reason not in OUT_OF_ORDER
                    bill.spent = 0 if failed.reason in UNBILLED else tokens
                    raise failed from None
                finally:
                    self.breaker.leave(fine)
                return answer
