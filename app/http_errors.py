"""What a request that gets no answer is told, and what is counted and logged of it.

Refused is what the sender must change (401, 404, 413, 422). Failed is what this server could not do: 409 where it is
not set up for what was asked, 503 with `Retry-After` where the same request may work later, 500 for a fault of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from escalade.domains.errors import (
    ActionError,
    BundleError,
    CatalogError,
    DeadlineError,
    EscaladeError,
    NoDecisionError,
    OverloadedError,
    SettingsError,
    StateError,
)
from escalade.nodes.patience import PASSING, may_pass

LOCATION_DEPTH, MOST_FAULTS = 8, 20
"""How much an answer quotes of a bad body: it must not be larger than the question."""
FIELDS: dict[type[EscaladeError], str] = {
    StateError: "state",
    ActionError: "action",
    CatalogError: "domain",
    SettingsError: "options",
}
REFUSED = {400: "unreadable", 401: "unauthorized", 404: "not_kept", 413: "too_large", 422: "invalid"}
"""Reasons of refused requests by status, besides the fields above."""
BY_CHANCE = ("cancelled", "deadline", "illegal_action", "malformed_answer")
"""Reasons of rungs, besides those that pass, that may be no more when the same is asked again."""
LONGEST_S = 120
"""The longest that a client is asked to wait."""

log = logging.getLogger("escalade")


class Pace:
    """How many requests are under way, and how long decisions take. For one event loop. clock: in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, kept: int = 64) -> None:
        self.under_way = 0
        self._clock = clock
        self._took: deque[float] = deque(maxlen=kept)
        self._began: dict[object, float] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    def begin(self) -> None:
        self.under_way += 1
        self._idle.clear()

    def end(self) -> None:
        self.under_way -= 1
        if not self.under_way:
            self._idle.set()

    @contextlib.contextmanager
    def deciding(self) -> Iterator[None]:
        """Around a decision. One that ends in an error does not count: it may have been refused at once."""
        key = object()
        self._began[key] = self._clock()
        try:
            yield
            self._took.append(self._clock() - self._began[key])
        finally:
            del self._began[key]

    async def all_ended(self, seconds: float) -> bool:
        """Wait until no request is under way, at most so many seconds. Whether none is."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)
        return not self.under_way

    def seconds(self) -> float:
        """About how long a decision takes now: the mean of the last ones, or of those under way if these have taken
        longer already; 1 where nothing is known."""
        now = self._clock()
        so_far = [now - began for began in self._began.values()]
        return max((sum(some) / len(some) for some in (self._took, so_far) if some), default=1.0)


def reason_of(error: Exception) -> tuple[str, bool]:
    """A short code for what a request came to, one of a fixed set, and whether it was refused."""
    if isinstance(error, RequestValidationError):
        return "invalid", True
    if isinstance(error, HTTPException):
        return REFUSED.get(error.status_code, "invalid"), True
    for kind, field in FIELDS.items():
        if isinstance(error, kind):
            return field, True
    if isinstance(error, NoDecisionError):
        return _undecided(error)
    if isinstance(error, OverloadedError):
        return "overloaded", False
    if isinstance(error, DeadlineError):
        return "deadline", False
    return "bundle" if isinstance(error, BundleError) else "internal", False


def report(request: Request, path: str, error: Exception) -> None:
    """Count and log a request that ends in this error. Nothing that its client wrote is logged: it may be secret."""
    reason, refused = reason_of(error)
    metrics = request.app.state.metrics
    if refused:
        metrics.record_refused(reason)
        log.info("refused %s %s: %s", request.method, path, reason)
        return
    metrics.record_failed(reason)
    rungs = error.reports if isinstance(error, NoDecisionError) else ()
    why = ", ".join(f"{rung['rung']} {rung['outcome']} ({rung['reason']})" for rung in rungs) or type(error).__name__
    log.warning("failed %s %s: %s: %s", request.method, path, reason, why)


async def invalid(request: Request, error: Exception) -> JSONResponse:
    """422 without the input itself, which may hold what JSON cannot say, or somebody's secret."""
    assert isinstance(error, RequestValidationError)
    faults = [
        {"loc": list(fault["loc"])[:LOCATION_DEPTH], "msg": _message(request, fault), "type": fault["type"]}
        for fault in error.errors()[:MOST_FAULTS]
    ]
    return answer({"detail": faults}, 422)


def _message(request: Request, fault: Mapping[str, Any]) -> str:
    """What is wrong with a body, or with a field of it: its limit is that of this server, if that is lower."""
    if len(fault["loc"]) == 1 or fault["type"] == "json_invalid":
        return _wanted(request)
    option = fault["loc"][1]
    for decider in request.app.state.deciders.values():
        most = getattr(decider.resources.limits, str(option), None)
        if most is not None and fault["type"] in ("less_than_equal", "less_than"):
            return f"option {option}: at most {most:.10g} on this server"
    return str(fault["msg"])


def _wanted(request: Request) -> str:
    """What the body must be."""
    field = "decision_id" if request.url.path.endswith("/outcomes") else "state"
    return f"the body must be a JSON object with `{field}`, sent as application/json"


async def unreadable(request: Request, error: Exception) -> JSONResponse:
    """A body that the JSON reader gives up on (too deep, numbers too long) is bad input like any other."""
    assert isinstance(error, HTTPException)
    if error.status_code == 413:
        return answer({"detail": [{"loc": ["body"], "msg": error.detail, "type": "too_large"}]}, 413)
    if error.status_code == 400 and request.method == "POST":
        return answer({"detail": [{"loc": ["body"], "msg": _wanted(request), "type": "json"}]}, 422)
    return answer({"detail": error.detail}, error.status_code, error.headers)


async def failed(request: Request, error: Exception) -> JSONResponse:
    """The answer to an error of ours."""
    for kind, field in FIELDS.items():
        if isinstance(error, kind):
            named = error.option if isinstance(error, SettingsError) and error.option else field
            fault: dict[str, Any] = {"loc": ["body", named], "msg": str(error), "type": kind.__name__}
            if isinstance(error, StateError) and error.position is not None:
                fault["position"] = error.position
            return answer({"detail": [fault]}, 422)
    if isinstance(error, NoDecisionError):
        reason, refused = _undecided(error)
        if refused:
            field = "budget_usd" if reason == "budget" else reason
            fault = {"loc": ["body", field], "msg": str(error), "type": reason}
            return answer({"detail": [fault], "rungs": error.reports}, 422)
        content = {"detail": str(error), "rungs": error.reports}
        status = {"not_set_up": 409, "internal": 500}
        return answer(content, status[reason]) if reason in status else later(request, content, error.reports)
    if isinstance(error, OverloadedError | DeadlineError):
        return later(request, {"detail": str(error)})
    kind_name = "bundle" if isinstance(error, BundleError) else "internal"
    return answer({"detail": f"{kind_name} error: {error}"}, 500)


def later(request: Request, content: Any, reports: Sequence[Mapping[str, Any]] = ()) -> JSONResponse:
    """503, with the seconds after which the same request may work: as long as a decision takes, and until a language
    model's endpoint that was left alone is tried again."""
    seconds = [request.app.state.pace.seconds()]
    if any(rung["reason"] == "breaker_open" for rung in reports):
        for decider in request.app.state.deciders.values():
            model = decider.resources.language_model
            if model is not None:
                seconds.append(model.endpoint.breaker.left_s)
    return answer(content, 503, {"Retry-After": str(min(max(1, math.ceil(max(seconds))), LONGEST_S))})


def answer(content: Any, status: int, headers: Mapping[str, str] | None = None) -> JSONResponse:
    """JSON that can be sent whatever a message quotes: half of a surrogate pair becomes a question mark."""
    return JSONResponse(_sendable(content), status, headers)


def _undecided(error: NoDecisionError) -> tuple[str, bool]:
    """As `reason_of`: whether another try may end in a decision with nothing changed on either side, or what must be
    changed, and by whom."""
    reports = error.reports
    reasons = {rung["reason"] for rung in reports}
    if reasons.intersection(BY_CHANCE) or any(rung["reason"] in PASSING and may_pass(rung) for rung in reports):
        return "no_decision", False
    if "budget" in reasons:
        return "budget", True
    if "content_filter" in reasons:  # the endpoint will not answer about this state
        return "state", True
    broken = any(rung["reason"] == "error" and not (rung.get("details") or {}).get("status") for rung in reports)
    return ("internal" if broken else "not_set_up"), False


def _sendable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_sendable(part) for part in value]
    return {key: _sendable(part) for key, part in value.items()} if isinstance(value, dict) else value
