"""What an endpoint's error means, from its status and its body, in whatever form the provider gives it.

A provider's own words can quote keys and prompts. They are read here and kept nowhere: what leaves is a reason, a
status, and a code of letters.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

MOST_WORDS = 4000
"""Characters of an error that are read."""

SHORTEST_QUOTE = 4
"""Characters of a line by which it is known to be quoted."""

VAGUE = (400, 422, 500)
"""Statuses of HTTP that count less than another one that the body names."""

_STATUS_FIELDS = ("status_code", "statuscode", "http_status", "status", "code", "error_code")
_CODE_FIELDS = ("code", "error_code", "type", "error_type", "status", "reason", "state")
_OURS = ("input", "messages", "prompt", "content", "url", "request", "body")
"""Fields in which an error gives back what it was sent."""
_TOKEN = re.compile(r"[A-Za-z]{2,24}(?:[_.][A-Za-z]{2,24}){0,5}")
_SAYS_NOTHING = {"error", "invalid_request_error", "object", "none", "null", "failed", "bad", "status"}

_FILTERED = re.compile(
    r"content[ _-]?(?:filter|policy|moderation|management policy|exists risk|safety)|responsible ?ai|"
    r"data[ _-]?inspection|moderation|prohibited[ _-]?content|usage polic|safety (?:system|filter|setting)|"
    r"(?:input|prompt|content|text|request|output) (?:\w+ ){0,4}flagged|flagged as|guardrail|jailbreak|"
    r"inappropriate content|unsafe content|sensitive content|敏感|违规|安全"
)
_NO_MONEY = re.compile(
    r"insufficient[ _-]?(?:\w+[ _-])?(?:quota|balance|credit|funds)|credit balance|payment[ _-]?required|billing_|"
    r"(?<!thinking )(?<!token )(?<!reasoning )budget[ _-]?(?:has been |was |is )?exceed|"
    r"exceed\w* (?:\w+ ){0,3}max[ _-]?budget|"
    r"(?:not enough|out of|more) credits?|add (?:more )?(?:credits|funds)|arrearage|余额不足|欠费"
)
_MONEY = re.compile(r"billing|balance|credits?\b|hard limit|spend|plan and")
_PASSES = re.compile(r"per (?:minute|second|hour|day)|resource_exhausted|retrydelay|try again (?:in|later)|\b[rt]pm\b")
_UNKNOWN_KEY = re.compile(
    r"(?:invalid|incorrect|missing|no|wrong|bad|expired) (?:\w+ ){0,2}(?:api[ _-]?key|(?:access|auth|bearer) token)|"
    r"api[ _-]?key (?:is |was )?(?:not valid|invalid|expired|missing|not found)|authentication|"
    r"unauthenticated|unauthorized|invalid credential"
)
_TOO_MANY = re.compile(r"rate[ _-]?limit|too many requests|throttl|resource_exhausted|quota exceeded|\b429\b")
_LIMITED = re.compile(r"rate[ _-]?limit|too ?many ?requests|throttl|resource_exhausted")
"""With a status that says something else."""
_FILTERED_500 = re.compile(
    r"content[ _-]?policy[ _-]?violat|responsibleaipolicyviolation|data[ _-]?inspection[ _-]?failed|"
    r"prohibited[ _-]content|violat\w+ (?:\w+ ){0,5}(?:content|usage|safety)\w* polic|"
    r"(?:blocked|flagged|rejected|filtered) by (?:\w+ ){0,4}(?:content|safety|moderation)"
)
_OF_KEYS = re.compile(r"\bkey|token|auth|credential|permission|forbidden for")
_UPSTREAM = re.compile(
    r"overload|unavailable|internal[ _-]?(?:server)?[ _-]?error|server[ _-]?error|bad gateway|gateway|timed? ?out|"
    r"timeout|upstream|provider returned|api_error|try again|temporarily|capacity|connection|loading|"
    r"no healthy|reset before"
)
_WRONG_PLACE = re.compile(
    r"unexpected endpoint|unknown (?:endpoint|route|path|url|request url)|\bno (?:such )?(?:route|endpoint)\b|"
    r"cannot post|invalid url|path not found|method not allowed|not a valid (?:endpoint|url)"
)
_INVALID = re.compile(
    r"invalid|unsupported|not support|unrecognized|unknown|not allowed|not permitted|bad[ _]?request|unprocessable|"
    r"missing|required|does not exist|not found|must "
)
_NO_MODEL = re.compile(
    r"model[ _-]?(?:\S+ ){0,6}(?:not[ _-]?found|not[ _-]?exist|does not exist|is not available|unknown|decommissioned|"
    r"has been (?:deprecated|retired)|is not (?:a )?valid|not loaded|无)|"
    r"(?:unknown|invalid|no such|unsupported|not a valid) (?:\w+ )?model|model_decommissioned|"
    r"deployment\S* (?:\S+ ){0,8}not exist|try pulling it|not a valid model"
)
_TOO_LONG = re.compile(
    r"context[ _-]?(?:length|window|size)|maximum context|prompt (?:is )?too long|too many (?:input )?tokens|"
    r"exceeds? (?:the )?(?:available |maximum |model'?s )?context|input (?:is )?too long|reduce the length"
)
_OF_500 = (
    r"response[ _-]?format|json[ _-]?(?:schema|mode|object)|structured[ _-]?output|\bschema|grammar|guided|"
    r"\btools\b|tool[ _-]?(?:choice|call)|function[ _-]?call|jinja|chat[ _-]?template|outlines|xgrammar|llguidance|"
    r"sampler|constrained"
)
_FORM_OF_500 = re.compile(_OF_500)
"""A fault of a server that says this is one of the form that was asked for: some say 500 to what they do not know."""
_FORM = re.compile(rf"{_OF_500}|\btool\b|tool[ _-]?use|\bfunctions?\b|requested parameters")
_SYSTEM = r"(?<![a-z_])(?:system|developer)(?![a-z_])"
_ROLE = (
    r"(?:(?<![a-z_])(?:roles?|messages?|prompts?|instructions?|rolle|nachricht\w*|r[oô]le|rol|mensajes?|ruolo|papel)(?![a-z_])|"
    r"角色|消息|提示|役割|ロール|メッセージ|역할|메시지|рол[ьи]|сообщени)"
)
_ROLES = re.compile(rf"{_SYSTEM}[\s\S]{{0,60}}?{_ROLE}|{_ROLE}[\s\S]{{0,40}}?{_SYSTEM}|['\"`‘“「]{_SYSTEM}['\"`’”」]")
_ONLY_ROLES = re.compile(
    r"only (?:the )?['\"`]?user['\"`]? and|(?:unsupported|unknown|invalid|unexpected|incorrect) (?:message )?role|"
    r"\bmessages?(?:[.\[\]/\s]*\d+)?(?:[.\[\]/]+\w+){0,2}[.\[\]/\s]+role\b"
)
_IN_A_ROW = re.compile(
    r"alternat|consecutive|successive|in a row|back.to.back|same role|multiple user|more than one user"
)
_TITLE = re.compile(r"<(?:title|h1|h2)[^>]*>(.*?)</(?:title|h1|h2)>", re.IGNORECASE | re.DOTALL)
_NAMED_STATUS = re.compile(r"\b([45]\d\d)\b")


@dataclass(frozen=True)
class EndpointError:
    """An error as an endpoint gives it."""

    status: int | None = None
    """Of HTTP, or the one that the body names where HTTP said 200."""
    code: str | None = None
    """The provider's own word for it, letters alone; None if there is none fit to be shown."""
    parameter: str | None = field(default=None, repr=False)
    """What the body says is at fault, in lower case, such as `messages[0].role`. Not to be shown."""
    words: str = field(default="", repr=False)
    """All its texts, in lower case. Not to be shown."""

    @property
    def reason(self) -> str:
        """One of those of `escalade.nodes.call_failed`."""
        return _reason(self.status, f"{self.code or ''} {self.words}".lower())

    @property
    def of_form(self) -> bool | None:
        """Whether it refuses the way in which an answer was to be held to its form; None if that may be."""
        words = f"{self.parameter or ''} {self.words}"
        if self.status is not None and self.status >= 500:
            return bool(self.status in (500, 501, 503) and _FORM_OF_500.search(words))
        if _TOO_LONG.search(words) or _WRONG_PLACE.search(words):
            return False
        if _FORM.search(words) and ("support" in words or not _NO_MODEL.search(words)):
            return True
        return None if self.status in (400, 422) and not _NO_MODEL.search(words) else False

    @property
    def of_length(self) -> bool:
        """Whether this question is too long for the model."""
        return self.status == 413 or bool(_TOO_LONG.search(self.words))

    @property
    def of_messages(self) -> bool:
        """Whether it refuses a role, or the order of roles, among the messages."""
        said = f"{self.parameter or ''} {self.words}"
        return bool(_ROLES.search(said) or _ONLY_ROLES.search(said) or _IN_A_ROW.search(said))

    @property
    def names_system(self) -> bool:
        """Whether it is system messages that are refused, not the order of roles."""
        said = f"{self.parameter or ''} {self.words}"
        return bool(_ROLES.search(said) or _ONLY_ROLES.search(said)) and not _IN_A_ROW.search(said)

    @property
    def of_arguments(self) -> bool:
        """Whether the server's own code does not know a parameter that was sent."""
        return "unexpected keyword argument" in self.words

    @property
    def is_foreign(self) -> bool:
        """Whether it comes from something before the endpoint, such as a gateway, or from no chat endpoint at all."""
        return self.code in ("html_page", "no_json")

    @property
    def setting(self) -> str:
        """The setting to look at for a request that was refused."""
        if self.of_length:
            return "ESCALADE_LLM_MAX_TOKENS"
        if self.is_foreign or self.status == 405 or 300 <= (self.status or 0) < 400 or _WRONG_PLACE.search(self.words):
            return "OPENAI_BASE_URL"
        if _NO_MODEL.search(self.words) or (self.status == 404 and "model" in self.words):
            return "ESCALADE_LLM_MODEL"
        return "OPENAI_BASE_URL" if self.status == 404 else "ESCALADE_LLM_LEAVE_OUT"


def _reason(status: int | None, words: str) -> str:
    in_answer = status is None or status < 400
    status = status or 200
    if 300 <= status < 400:  # that way leads elsewhere, and always will
        return "refused"
    if _FILTERED.search(words) and (in_answer or status in (400, 403, 422, 451)) and not _TOO_MANY.search(words):
        return "content_filter"
    if status == 500 and _FILTERED_500.search(words):
        return "content_filter"
    if status == 402 or (not _PASSES.search(words) and (in_answer or status < 500) and _is_about_money(status, words)):
        return "quota"
    if status in (400, 403, 413, 422) and _LIMITED.search(words):
        return "rate_limited"
    if status in (401, 403) or (_UNKNOWN_KEY.search(words) and (in_answer or status == 400)):
        return "unauthorized"
    if status in (420, 429) or (in_answer and _TOO_MANY.search(words)):
        return "rate_limited"
    if not in_answer:
        passes = status >= 500 or status in (408, 409, 425, 498, 499)
        return "server_error" if passes else "refused"
    if _WRONG_PLACE.search(words) or _NO_MODEL.search(words) or _TOO_LONG.search(words):
        return "refused"
    if _UPSTREAM.search(words):
        return "server_error"
    return "refused" if _INVALID.search(words) or "html_page" in words or "no_json" in words else "server_error"


def _is_about_money(status: int | None, words: str) -> bool:
    return bool(_NO_MONEY.search(words) or (status in (403, 429) and _MONEY.search(words)))


def error_of_body(body: Any, status: int | None = None, sent: Sequence[str] = ()) -> EndpointError:
    """The error that a body tells of, be it JSON or a page. status: of HTTP; with one of success, that which the body
    names counts. sent: texts that it may quote; what is a line of them is not read."""
    found = _error_of(body, status)
    lines = {line.strip().lower() for text in sent for line in text.splitlines() if len(line.strip()) >= SHORTEST_QUOTE}
    quoted = [line for line in lines if line in found.words]
    return replace(found, words=functools.reduce(lambda words, line: words.replace(line, " "), quoted, found.words))


def _error_of(body: Any, status: int | None) -> EndpointError:
    if isinstance(body, str):
        return _of_text(body, status)
    pairs = list(_pairs(body))
    words = " ".join(str(value) for _, value in pairs)[:MOST_WORDS].lower()
    named = next((number for name, value in pairs if name in _STATUS_FIELDS and (number := _status(value))), None)
    located = " ".join(".".join(map(str, value)) for name, value in _lists(body) if name in ("loc", "path"))
    parameter = next((str(value) for name, value in pairs if name in ("param", "loc") and value), None)
    parameter = located or parameter  # a place written as a list is in `pairs` too, in pieces
    code = next(
        (found for key in _CODE_FIELDS for name, value in pairs if name == key and (found := _safe(value))), None
    )
    vague = status is None or status < 400 or status in VAGUE  # a gateway's, for what its provider said
    shown = named if named is not None and vague else status
    return EndpointError(shown, code, parameter and parameter[:200].lower(), words)


def _of_text(text: str, status: int | None) -> EndpointError:
    """A page, or a line of text, of a proxy or of a server that is no chat endpoint."""
    if text.lstrip("\ufeff \t\r\n").startswith(("data:", "event:", ": ")):  # a client that did not expect one
        return EndpointError(status, None, None, "unsupported: only stream")
    is_page = text.lstrip("\ufeff \t\r\n").startswith("<")
    titles = " ".join(_TITLE.findall(text[:MOST_WORDS]))
    plain = re.sub(r"<[^>]*>", " ", titles or text[:MOST_WORDS]).lower()
    if status is not None and status >= 400:
        barred = status in (401, 403) and not is_page and not _OF_KEYS.search(plain)
        return EndpointError(status, "html_page" if is_page else "no_json" if barred else None, None, plain)
    named = _NAMED_STATUS.search(titles if is_page else text[:60])
    if named:
        return EndpointError(int(named[1]), "html_page" if is_page else None, None, plain)
    if not text.strip():
        return EndpointError(status, "empty_answer", None, "upstream")
    passes = not is_page and _UPSTREAM.search(plain)
    return EndpointError(
        status, None if passes else "html_page" if is_page else "no_json", None, "" if is_page else plain
    )


def _pairs(value: Any, name: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """All texts and numbers in a body with the names they have there, outermost first."""
    if isinstance(value, str | int | float) and not isinstance(value, bool):
        yield name, value
    elif depth < 6 and isinstance(value, dict):
        inner = sorted(value.items(), key=lambda one: isinstance(one[1], dict | list))
        for key, one in inner[:40]:
            if str(key).lower() in _OURS:
                continue
            yield from _pairs(one, str(key).lower(), depth + 1)
    elif depth < 6 and isinstance(value, list):
        for one in value[:40]:
            yield from _pairs(one, name, depth + 1)


def _lists(value: Any, depth: int = 0) -> Iterator[tuple[str, list[Any]]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, one in inner:
        if isinstance(one, list):
            yield str(key), one
        if depth < 4:
            yield from _lists(one, depth + 1)


def _status(value: Any) -> int | None:
    text = str(value)
    return int(text) if re.fullmatch(r"[45]\d\d", text) else None


def _safe(value: Any) -> str | None:
    """A code that can be shown: words of letters, as no key and no sentence is."""
    fit = isinstance(value, str) and len(value) <= 60 and _TOKEN.fullmatch(value)
    return value if fit and value.lower() not in _SAYS_NOTHING else None
