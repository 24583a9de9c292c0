"""What all routes of the HTTP app have in common."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Message

from escalade.app.auth import CHALLENGE, REFUSED, caller
from escalade.app.hang_up import answered
from escalade.app.http_errors import later, report

READING = ("GET", "HEAD", "OPTIONS")
MOST_BYTES = 1_000_000
"""Of a request's body. A larger one is refused before it is parsed: parsing holds up everybody else."""
CLIENT_LEFT = 499
"""No client sees this status; nginx names it so."""

log = logging.getLogger("escalade")


class GuardedRoute(APIRoute):
    """A route whose requests are looked at before their bodies are read: whoever changes or decides something must have
    a key. What is only read, health and metrics, stays open for probes. Work for a client that hangs up is cancelled;
    requests without an answer are counted and logged. Of `app.state`: api_keys, metrics, pace, deciders."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            if request.method in READING:
                return await handle(request)
            state = request.app.state

            async def timed(request: Request) -> Response:
                if self.path == "/outcomes":  # takes no time worth telling
                    return await handle(request)
                with state.pace.deciding():
                    return await handle(request)

            state.pace.begin()
            state.metrics.under_way.inc()
            try:
                if caller(request.headers, state.api_keys) is None:
                    raise HTTPException(401, REFUSED, CHALLENGE)
                return await answered(_limited(request), timed)
            except ClientDisconnect:
                state.metrics.record_failed("client_left")
                log.info("failed %s %s: client_left", request.method, self.path)
                return Response(status_code=CLIENT_LEFT)
            except asyncio.CancelledError:  # the server's own, at its end
                state.metrics.record_failed("stopping")
                log.warning("failed %s %s: stopping", request.method, self.path)
                return later(request, {"detail": "this server is stopping: ask again"})
            except Exception as error:
                report(request, self.path, error)
                raise
            finally:
                state.pace.end()
                state.metrics.under_way.dec()

        return guarded


def _limited(request: Request) -> Request:
    """A request whose body is no larger than `MOST_BYTES`, or HTTPException is raised: here, or when it is read."""
    told = request.headers.get("content-length", "0")
    if told.isdecimal() and int(told) > MOST_BYTES:
        raise _too_large()
    read = 0

    async def receive() -> Message:
        nonlocal read
        message = await request.receive()
        read += len(message.get("body", b""))
        if read > MOST_BYTES:
            raise _too_large()
        return message

    return Request(request.scope, receive)


def _too_large() -> HTTPException:
    return HTTPException(413, f"the body is larger than {MOST_BYTES} bytes")
