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

from escalade.app.auth import CHALLENGE, REFUSED, caller
from escalade.app.hang_up import answered
from escalade.app.http_errors import later, report

READING = ("GET", "HEAD", "OPTIONS")
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
            state.pace.begin()
            state.metrics.under_way.inc()
            try:
                if caller(request.headers, state.api_keys) is None:
                    raise HTTPException(401, REFUSED, CHALLENGE)
                return await answered(request, handle)
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
