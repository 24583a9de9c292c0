"""Waiting for an endpoint that is out of order for a while or limits its callers: what a run over a whole file does,
where a single decision goes on with the next rung."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from escalade.domains.errors import EscaladeError

PASSING = ("rate_limited", "server_error", "unreachable", "timeout", "breaker_open", "overloaded", "token_cap")
"""What a failed call may be tried again after; `token_cap` where it is the cap of an hour."""
OF_ONE_CALL = ("server_error", "unreachable", "timeout")
"""What one question may bring about by itself, while others are answered."""
OF_THE_ACCOUNT = (401, 402, 403, 404)
"""Statuses that a setting mends, not the question."""
OF_ANOTHER_SERVER = ("html_page", "no_json")
"""Codes of what a page says that no chat endpoint wrote: that of a wrong address, or of a proxy for a while."""
OWN_FAULTS = 8
"""A call that fails so often while others are answered is itself at fault."""
FIRST_S, MOST_S = 0.25, 5.0
"""Between the attempts of one call."""
TICK_S = 0.2

T = TypeVar("T")


class PatienceOver(EscaladeError):
    """The endpoint did not come back. `reason`: of the calls that waited."""

    def __init__(self, reason: str, seconds: float) -> None:
        super().__init__(f"the language model's endpoint did not come back within {seconds:g} s ({reason})")
        self.reason = reason


class Patience:
    """How long all calls of a run together wait for their endpoint: until it has answered nobody for so long. Shared by
    all of them, from any thread."""

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self._clock = seconds, clock
        self.reason = ""
        self.answers = 0
        self._lock = threading.Lock()
        self._since: float | None = None
        self._until = 0.0

    def answered(self) -> None:
        """The endpoint is there."""
        with self._lock:
            self.answers += 1
            self._since, self._until = None, 0.0

    def rest_s(self, reason: str, asked_s: float, attempt: int) -> float:
        """Seconds to wait after a failed attempt, from 1 on. asked_s: what the endpoint, or the guard, asked for."""
        own = min(MOST_S, FIRST_S * 2 ** min(attempt - 1, 10))
        rest = max(asked_s, own) * random.uniform(1.0, 1.25)  # noqa: S311 -- so that not all come back at once
        if reason != "overloaded":  # that is our own queue
            now = self._clock()
            with self._lock:
                if reason != "breaker_open" or self._since is None:  # rather why it opened
                    self.reason = reason
                self._since = now if self._since is None else self._since
                self._until = max(self._until, now + asked_s)
        return rest

    @property
    def waiting_s(self) -> float:
        """How long nobody was answered, 0 while all is well."""
        since = self._since
        return 0.0 if since is None else self._clock() - since

    @property
    def is_over(self) -> bool:
        """Whether it has been too long, or will be by what the endpoint asks for."""
        with self._lock:
            return self._since is not None and max(self._clock(), self._until) - self._since > self.seconds


async def while_patient(
    patience: Patience | None, work: Coroutine[Any, Any, T], on_wait: Callable[[float], None] | None = None
) -> T:
    """What `work` returns. When the patience with its endpoint is over it is cancelled, and PatienceOver raised.
    on_wait: is called several times a second with the seconds that nobody was answered, 0 while all is well."""
    task = asyncio.ensure_future(work)
    try:
        while not (await asyncio.wait({task}, timeout=TICK_S))[0]:
            if patience is not None and on_wait is not None:
                on_wait(patience.waiting_s)
            if patience is not None and patience.is_over:
                raise PatienceOver(patience.reason, patience.seconds)
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})


def may_pass(report: dict[str, Any]) -> bool:
    """Whether a rung's report says that the same decision may come out otherwise later, or with another setting."""
    if report["outcome"] not in ("failed", "skipped"):
        return False
    details = report.get("details") or {}
    reason = report["reason"]
    if reason == "token_cap":
        return bool(details.get("cap") == "hour")
    if reason in ("refused", "error"):
        return details.get("status") in OF_THE_ACCOUNT or details.get("code") in OF_ANOTHER_SERVER
    return reason in PASSING or reason in ("unauthorized", "quota")
