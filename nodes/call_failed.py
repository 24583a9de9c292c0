"""What a call to a language model's endpoint can end in besides an answer.

`reason` is one of: `timeout`, `rate_limited`, `unauthorized`, `server_error`, `unreachable`, `refused` (another 4xx),
`quota` (no credit is left), `content_filter` (this one question or its answer is declined), `cut_off` (the answer broke
off at its cap), `malformed_answer`, `breaker_open`, `overloaded` (too many wait), `token_cap`, `budget`, `error`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from escalade.domains.errors import EscaladeError
from escalade.nodes.endpoint_errors import EndpointError, error_of_body
from escalade.nodes.usage import usage_of_record

HOUR_S = 3600.0

RETRIED = ("rate_limited", "server_error", "unreachable")
"""What a second attempt may mend. After a time-out there is no time left, and the rest would fail again."""
OUT_OF_ORDER = (*RETRIED, "timeout", "unauthorized", "quota")
"""What speaks against the endpoint, not against one question or answer."""
ABOUT_THE_QUESTION = (400, 413, 422)
"""Of refusals: with another question there may be none."""
OF_ONE_QUESTION = ("malformed_answer", "content_filter", "cut_off")
"""What one question, of many in a prompt, may have brought about for all."""
UNBILLED = (
    *("unreachable", "unauthorized", "rate_limited", "refused", "quota", "content_filter"),
    *("breaker_open", "overloaded", "token_cap", "budget"),
)
"""What a provider does not bill, unless it reports tokens; what other failures cost, if anything, is not known."""


BROKEN_OFF = "broken_off"
"""Code of an answer that began and did not come to its end."""
_BREAKS_OFF = re.compile(r"incomplete (?:chunked )?read|complete message body|payload is not completed|IncompleteRead")


class CallFailed(EscaladeError):
    """A call without an answer. Providers' messages can quote keys and prompts, so only the kind of error is reported.

    details: of JSON's kinds. said: the endpoint's error, by which to ask again differently; it is never shown.
    """

    def __init__(self, reason: str, details: dict[str, Any] | None = None, said: EndpointError | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.details = details or {}
        self.said = said
        self.may_be_billed = reason not in UNBILLED
        """Whether an attempt of the call, this or an earlier one, may be billed though no tokens were reported."""


def failure_of(error: Exception, *, formed: bool = False, sent: Sequence[str] = ()) -> CallFailed:
    """What any client's error means. formed: whether the answer was to be held to a form by the endpoint: some servers
    say 500 to a form they do not know, where 400 is meant. sent: texts that the error may quote, which mean nothing."""
    if isinstance(error, CallFailed):
        failed = error
    elif (status := getattr(error, "status_code", None)) is not None and isinstance(status, int):
        failed = failure_of_body(_body(error), status, error, sent=sent)
    else:
        failed = _without_status(error, sent)
    said = failed.said
    if (
        failed.reason == "server_error"
        and said is not None
        and said.status in (500, 501, 503)
        and ((formed and said.of_form) or said.of_messages or said.of_arguments)
    ):
        failed.reason = "refused"
        failed.details.pop("retry_after", None)
    return failed


def failure_of_body(
    body: Any, status: int | None, error: Exception | None = None, *, sent: Sequence[str] = ()
) -> CallFailed:
    """What an error in a body means. status: of HTTP, which may be one of success."""
    said = error_of_body(body, status, sent)
    details: dict[str, Any] = {"error": type(error).__name__} if error is not None else {}
    details["status"] = said.status
    if said.code is not None:
        details["code"] = said.code
    usage = usage_of_record(body.get("usage")) if isinstance(body, dict) else None
    details |= {} if usage is None else {"usage": usage}
    details |= {"retry_after": _retry_after(error)} if said.reason in RETRIED else {}
    return CallFailed(said.reason, details, said)


def _without_status(error: Exception, sent: Sequence[str]) -> CallFailed:
    name = type(error).__name__
    details: dict[str, Any] = {"error": name, "status": None}
    given = error.args[0] if error.args else None
    if isinstance(error, TimeoutError) or "Timeout" in name:
        return CallFailed("timeout", details)
    if "ContentFilter" in name:
        return CallFailed("content_filter", details)
    if "LengthFinish" in name:
        usage = usage_of_record(getattr(getattr(error, "completion", None), "usage", None))
        return CallFailed("cut_off", details if usage is None else {**details, "usage": usage})
    if isinstance(error, ValueError | LookupError | TypeError | AttributeError | AssertionError):
        # The client could not read what came. LangChain's own raises so for an error in the body of a success.
        if isinstance(given, dict) and given:
            return failure_of_body({"error": given}, 200, error, sent=sent)
        if isinstance(given, str) and "got str: " in given:
            return failure_of_body(given.partition("got str: ")[2].strip("'\""), 200, error)
        # Its schema way, and the others, read `choices: null` so.
        nothing = ("'choices'", "'NoneType' object is not iterable")
        if isinstance(error, TypeError) and isinstance(given, str) and any(one in given for one in nothing):
            return CallFailed("server_error", {**details, "retry_after": 0.0})
        return CallFailed("malformed_answer", details)
    if _broke_off(error):
        return broken_off(error)
    reason = "unreachable" if "Connect" in name or "Connection" in name else "error"
    return CallFailed(reason, {**details, "retry_after": 0.0} if reason in RETRIED else details)


def broken_off(error: Exception, status: int = 200) -> CallFailed:
    """An answer that began and did not come to its end. Its provider may bill it, so it is not `unreachable`."""
    details = {"error": type(error).__name__, "status": status, "code": BROKEN_OFF, "retry_after": 0.0}
    return CallFailed("server_error", details)


def _broke_off(error: BaseException | None) -> bool:
    """Whether a client says that the body of a response did not come to its end."""
    for _ in range(4):
        if error is None:
            return False
        if _BREAKS_OFF.search(str(error)):
            return True
        error = error.__cause__ or error.__context__
    return False


def _body(error: Exception) -> Any:
    """The body of an error with a status, as JSON if it is that."""
    response = getattr(error, "response", None)
    try:
        text = response.text if response is not None else None
    except Exception:  # noqa: BLE001 -- any client's; a stream that was not read, say
        text = None
    if not isinstance(text, str):
        return getattr(error, "body", None) or str(error)
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


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
