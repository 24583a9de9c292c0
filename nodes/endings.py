"""How an answer ended, by what the provider says of it, and which setting to look at where a call had no answer."""

from __future__ import annotations

import re
from typing import Any

from escalade.nodes.call_failed import CallFailed

_CUT = ("length", "maxtokens", "maxoutputtokens", "maxcompletiontokens", "tokenlimit", "incomplete")
_FILTERED = (
    *("contentfilter", "contentpolicy", "safety", "prohibitedcontent", "blocklist", "recitation", "spii", "sensitive"),
    *("refus", "guardrail", "moderation", "modelarmor"),
)
"""Letters by which an ending is known, whatever stands before or after them (`content_filter: SAFETY`)."""
SETTINGS = {
    "timeout": "ESCALADE_LLM_TIMEOUT_S",
    "rate_limited": "ESCALADE_LLM_AT_ONCE",
    "unauthorized": "OPENAI_API_KEY",
    "quota": "OPENAI_API_KEY",
    "server_error": "OPENAI_BASE_URL",
    "unreachable": "OPENAI_BASE_URL",
    "cut_off": "ESCALADE_LLM_MAX_TOKENS",
    "malformed_answer": "ESCALADE_LLM_MODEL",
    "overloaded": "ESCALADE_LLM_WAITING",
}
"""By reason."""


def ending_of(message: Any) -> str | None:
    """Why an answer ended before its time: `cut_off`, `content_filter`; None if it did not."""
    metadata = getattr(message, "response_metadata", None) or {}
    given = metadata.get("finish_reason") or metadata.get("stop_reason") or metadata.get("done_reason")
    letters = re.sub(r"[^a-z]", "", str(given or "").lower()).removeprefix("finishreason")
    declined = (getattr(message, "additional_kwargs", None) or {}).get("refusal")
    if declined or letters == "language" or any(word in letters for word in _FILTERED):
        return "content_filter"
    return "cut_off" if any(word in letters for word in _CUT) else None


def setting_for(failed: CallFailed) -> str | None:
    """The name of the setting to look at after a failure; None where no setting would mend it."""
    if failed.reason == "unauthorized" and failed.said is not None and failed.said.is_foreign:
        return "OPENAI_BASE_URL"  # a gateway that lets nobody through: no key would mend it
    if failed.reason == "refused" and failed.said is not None:
        return failed.said.setting
    if failed.reason == "token_cap":
        cap = failed.details.get("cap")
        return "ESCALADE_LLM_TOKENS_PER_HOUR" if cap == "hour" else "ESCALADE_LLM_TOKENS_PER_DECISION"
    return SETTINGS.get(failed.reason)
