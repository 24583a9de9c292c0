"""What a request that gets no answer is told, and what is counted and logged of it.

Refused is what the sender must change (status 4xx). Failed is what this server could not do: 409 where it is not set up
for what was asked, 503 with `Retry-After` where the same request may work later, 500 for a fault of ours.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
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

LOCATION_DEPTH, MOST_FAULTS = 8, 20
"""How much an answer quotes of a bad body: it must not be larger than the question."""
FIELDS: dict[type[EscaladeError], str] = {
    StateError: "state",
    ActionError: "action",
    CatalogError: "domain",
    SettingsError: "options",
}
REFUSED = {400: "unreadable", 401: "unauthorized", 404: "not_kept", 422: "invalid"}
"""Reasons of refused requests by status, besides the fields above."""
PASSING = {
    "breaker_open",
    "cancelled",
    "deadline",
    "error",
    "illegal_action",
    "malformed_answer",
    "overloaded",
    "rate_limited",
    "server_error",
    "timeout",
    "token_cap",
    "unreachable",
}
"""Reasons of rungs that may be no more when the same is asked again."""
LONGEST_S = 120
"""The longest that a client is asked to wait."""

log = logging.getLogger("escalade")


class Pace:
    """How fast requests are answered. For one event loop. clock: in seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic, kept: int = 64) -> None:
        self.under_way = 0
        self._clock = clock
        self._ended: deque[float] = deque(maxlen=kept)
        self._idle = asyncio.Event()
        self._idle.set()

    def begin(self) -> None:
        self.under_way += 1
        self._idle.clear()

    def end(self) -> None:
        self.under_way -= 1
        self._ended.append(self._clock())
        if not self.under_way:
            self._idle.set()

    async def all_ended(self, seconds: float) -> bool:
        """Wait until no request is under way, at most so many seconds. Whether none is."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._idle.wait(), seconds)
        return not self.under_way

    def seconds(self) -> float:
        """About how long those under way will take, if they are answered as fast as the last ones were."""
        if len(self._ended) < 2:
            return 1.0
        return self.under_way * (self._clock() - self._ended[0]) / len(self._ended)


def reason_of(error: Exception) -> tuple[str, bool]:
    """A short code for what a request came to, one of a fixed set, and whether it was refused."""
    if isinstance(error, RequestValidationError):
        return "invalid", True
    if isinstance(error, HTTPException):
        return REFUSED.get(error.status_code, "invalid"), True
    for kind, field in FIELDS.items():
        if isinstance(error, kind):
            return field, True
    if isinstance(error, NoDecisionError) and _is_over_budget(error):
        return "budget", True
    if isinstance(error, NoDecisionError):
        return ("no_decision" if _may_pass(error) else "not_set_up"), False
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
    if isinstance(error, NoDecisionError) and _is_over_budget(error):
        over = {"loc": ["body", "budget_usd"], "msg": str(error), "type": "budget"}
        return answer({"detail": [over], "rungs": error.reports}, 422)
    if isinstance(error, NoDecisionError):
        content = {"detail": str(error), "rungs": error.reports}
        return later(request, content, error.reports) if _may_pass(error) else answer(content, 409)
    if isinstance(error, OverloadedError | DeadlineError):
        return later(request, {"detail": str(error)})
    kind_name = "bundle" if isinstance(error, BundleError) else "internal"
    return answer({"detail": f"{kind_name} error: {error}"}, 500)


def later(request: Request, content: Any, reports: Sequence[Mapping[str, Any]] = ()) -> JSONResponse:
    """503, with the seconds after which the same request may work: when what is under way will be done, and a language
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


def _may_pass(error: NoDecisionError) -> bool:
    """Whether another try may end in a decision, with nothing changed on either side."""
    return any(rung["reason"] in PASSING for rung in error.reports)


def _is_over_budget(error: NoDecisionError) -> bool:
    """Whether it would take more money than the request allows: its sender can change that."""
    return not _may_pass(error) and any(rung["reason"] == "budget" for rung in error.reports)


def _sendable(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, list):
        return [_sendable(part) for part in value]
    return {key: _sendable(part) for key, part in value.items()} if isinstance(value, dict) else value
