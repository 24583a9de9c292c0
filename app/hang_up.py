"""Requests whose client hangs up, and requests that the server cannot finish before it stops, end early.

Neither Starlette nor FastAPI does that: a handler whose client has left goes on to its end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from fastapi import Request, Response
from starlette.requests import ClientDisconnect


async def answered(request: Request, handle: Callable[[Request], Awaitable[Response]]) -> Response:
    """What `handle` answers to a request, in a task that is cancelled as soon as the client hangs up, and has ended
    when this returns. Reads the body first. Raises ClientDisconnect for a client that is gone, and what `handle`
    raises."""
    await request.body()
    work = asyncio.ensure_future(handle(request))
    gone = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((work, gone), return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            raise ClientDisconnect
        return work.result()
    finally:
        for task in (work, gone):
            task.cancel()
        await asyncio.gather(work, gone, return_exceptions=True)


async def _gone(request: Request) -> None:
    """Wait until the client has hung up; the body was read before."""
    while (await request.receive())["type"] != "http.disconnect":
        pass
