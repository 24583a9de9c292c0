"""What a call to a language model's endpoint can end in besides an answer.

`reason` is one of: `timeout`, `rate_limited`, `unauthorized`, `server_error`, `unreachable`, `refused` (another 4xx),
`malformed_answer`, `breaker_open`, `overloaded` (too many wait), `token_cap`, `budget`, `error`.
"""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from escalade.domains.errors import EscaladeError

HOUR_S = 3600.0

RETRIED = ("rate_limited", "server_error", "unreachable")
"""What a second attempt may mend. After a time-out there is no time left, and the rest would fail again."""
OUT_OF_ORDER = (*RETRIED, "timeout", "unauthorized")
"""What speaks against the endpoint, not against one question or answer."""
ABOUT_THE_QUESTION = (400, 413, 422)
"""Of refusals: with another question there may be none."""
UNBILLED = (
    "unreachable",
    "unauthorized",
    "rate_limited",
    "refused",
    "breaker_open",
    "overloaded",
    "token_cap",
    "budget",
)
"""What a provider does not bill; what other failures cost, if anything, is not known."""


class CallFailed(EscaladeError):
    """A call without an answer. Providers' messages can quote keys and prompts, so only the kind of error is told."""

    def __init__(self, reason: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.details = details or {}


def failure_of(error: Exception) -> CallFailed:
    """What any client's error means."""
    if isinstance(error, CallFailed):
        return error
    name, status = type(error).__name__, getattr(error, "status_code", None)
    if isinstance(error, TimeoutError) or "Timeout" in name:
        reason = "timeout"
    elif status == 429:
        reason = "rate_limited"
    elif status in (401, 403):
        reason = "unauthorized"
    elif "ContentFilter" in name:
        reason, status = "refused", 400
    elif isinstance(status, int):
        reason = "server_error" if status >= 500 and not _about_the_form(error) else "refused"
    elif "LengthFinish" in name or isinstance(error, ValueError | LookupError | TypeError | AttributeError):
        reason = "malformed_answer"  # it was cut off, or the client could not read what came
    else:
        reason = "unreachable" if "Connect" in name or "Connection" in name else "error"
    details = {"error": name, "status": status}
    return CallFailed(reason, details | ({"retry_after": _retry_after(error)} if reason in RETRIED else {}))


def _about_the_form(error: Exception) -> bool:
    """Whether a server complains of how the answer is to be held to its form. Some say 500 to what they do not know
    (llama.cpp's to a JSON schema), where 400 is meant."""
    return any(field in str(error) for field in ("response_format", "tool_choice"))


def _retry_after(error: Exception | None) -> float:
    """Seconds that a provider asks for, by number or by date; 0 if it asks for none."""
    headers = getattr(getattr(error, "response", None), "headers", None) or {}
    try:
        if (milliseconds := headers.get("retry-after-ms")) is not None:  # OpenAI's and Azure's own
            seconds = float(milliseconds) / 1000
        else:
            seconds = _seconds(str(headers.get("retry-after", 0)))
    except (TypeError, ValueError, OverflowError):
        return 0.0
    return min(seconds, HOUR_S) if seconds >= 0 else 0.0


def _seconds(given: str) -> float:
    """Of a Retry-After header: a number, or an HTTP date. Raises ValueError for anything else."""
    try:
        return float(given)
    except ValueError:
        date = parsedate_to_datetime(given)
    return (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds()
