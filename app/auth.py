"""Who may ask: keys for `escalade serve` and for the LangGraph API server, from one setting, `ESCALADE_API_KEYS`.

A key comes in `Authorization: Bearer KEY` or `X-Api-Key: KEY`. Without keys in the settings everybody may.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic import SecretStr
from starlette.exceptions import HTTPException

REFUSED = "give one of this server's keys in the header 'Authorization: Bearer KEY' or 'X-Api-Key: KEY'"
CHALLENGE = {"WWW-Authenticate": "Bearer"}
READING = ("GET", "HEAD", "OPTIONS")


def caller(headers: Mapping[str, str], keys: Sequence[SecretStr]) -> str | None:
    """A name for who holds the key in the headers (small letters); None for nobody we know. How
    long it takes tells nothing of the keys."""
    if not keys:
        return "anyone"
    scheme, _, token = headers.get("authorization", "").partition(" ")
    bearer = token.strip() if scheme.lower() == "bearer" else ""
    given = [_hash(text) for text in (bearer, headers.get("x-api-key", ""))]
    known = [any(hmac.compare_digest(one, _hash(key.get_secret_value())) for one in given) for key in keys]
    return f"key {known.index(True) + 1}" if any(known) else None


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


class GuardedRoute(APIRoute):
    """A route whose requests are looked at before their bodies are read: whoever changes or decides something must have
    a key. What is only read, health and metrics, stays open for probes. The keys: `app.state.api_keys`."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def guarded(request: Request) -> Response:
            if request.method not in READING and caller(request.headers, request.app.state.api_keys) is None:
                raise HTTPException(401, REFUSED, CHALLENGE)
            return await handle(request)

        return guarded
