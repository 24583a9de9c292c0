"""Who may ask: keys for `escalade serve` and for the LangGraph API server, from one setting, `ESCALADE_API_KEYS`.

A key comes in `Authorization: Bearer KEY` or `X-Api-Key: KEY`. Without keys in the settings everybody may.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping, Sequence

from pydantic import SecretStr

REFUSED = "give one of this server's keys in the header 'Authorization: Bearer KEY' or 'X-Api-Key: KEY'"
CHALLENGE = {"WWW-Authenticate": "Bearer"}


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
