"""What an endpoint does not take of a chat completion's request, and how it is then asked: without a parameter, with
messages merged, or with the answer streamed.

Found out by refusals that name what they refuse, and kept for the life of the process; a setting can say it before.
"""

from __future__ import annotations

import functools
import re
import threading
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, HumanMessage

from escalade.nodes.endpoint_errors import EndpointError
from escalade.nodes.structured import Way

SYSTEM = "system"
"""System messages: they become part of the user's first message."""
TURNS = "consecutive_messages"
"""Several messages of one role in a row: they become one."""
UNSTREAMED = "unstreamed"
"""Answers in one piece: they are asked for as a stream."""
SCHEMA_WORDS = ("additionalProperties", "minimum", "maximum", "minItems", "description")
TOOL_CHOICE = ("named_tool_choice", "tool_choice")
"""Left out one after the other: the name of the function that must be called, then that one must be."""
LENGTHS = ("max_completion_tokens", "max_tokens")
"""The cap on an answer by its new name and by its old one, which is tried where the new one is refused."""
OF_CLIENTS = (
    *("temperature", "top_p", "seed", "n", "stop", "logprobs", "top_logprobs", "logit_bias"),
    *("presence_penalty", "frequency_penalty", "service_tier", "store", "metadata", "reasoning_effort", "verbosity"),
    *("parallel_tool_calls", "stream_options", "reasoning", "user", "prompt_cache_options"),
)
"""Parameters that a chat model may be set to send."""
MOST_FITTED = 8
"""Chat models that are kept, one for each event loop that asks."""
_STREAMED = r"(?<![a-z])stream(?:ing|ed|s)?(?![a-z_])"
_STREAM_ONLY = re.compile(
    rf"only (?:support\w*|allow\w*|accept\w*)? ?(?:the )?['\"`]?{_STREAMED}|"
    rf"{_STREAMED}['\"`]? (?:\w+ )?(?:only|is required|must(?! not| be (?:set to )?['\"`]?false))|"
    rf"(?:must|please|required? to|has to) (?:be |set |use |enable )*(?:the )?['\"`]?{_STREAMED}|"
    rf"non[- ]?{_STREAMED.replace('(?<![a-z])', '')}|without {_STREAMED}|"
    rf"['\"`]?{_STREAMED}['\"`]? ?(?:=|:|to|must be|should be|as)+ ?['\"`]?true"
)
_LENGTH = re.compile(r"\bmax_(?:output_|completion_|new_)?tokens\b")
_REFUSING = (
    r"(?:unsupported|(?:not|n't|cannot|no longer) (?:\w+ ){0,2}(?:support|allow|permit|accept|recogni|known|valid|"
    r"available|compatible|implemented|expected|one of|be )|unknown|unrecogni[sz]ed|invalid|illegal|unexpected|"
    r"(?<![a-z])extra(?![a-z])|incompatible|deprecated|disallowed|forbidden|(?<![a-z])only(?![a-z])|"
    r"out of range|validation error|(?<![a-z])(?:remove|omit)|"
    r"不支持|不支援|不允许|不能|未知|无效|非法|必须|错误|サポートされ|対応して|無効|不明|지원|잘못|알 수 없|"
    r"nicht (?:unterst|erlaubt|zul)|unbekannt|ung[uü]ltig|unzul|non (?:pris|support|autoris|valid|permes)|inconnu|"
    r"n[oã]o? (?:soport|suport|admit|compat|permit|v[aá]lid)|desconoc|desconhec|inv[aá]lid|sconosciut|"
    r"не поддерж|неизвестн|недопустим)"
)
"""Words with which a parameter is refused, in a few languages."""
_OF_VALUES = (
    r"(?<![a-z])(?:must|should|has to|too (?:large|high|low|small|long|many)|exceeds?|between|at (?:least|most))"
    r"(?![a-z])"
)
_ASIDES = (
    r"(?:(?:is|are|was|were|the|this|these|a|an|of|for|to|in|use|request|body|json|schema|inputs?|fields?|names?|keys?|"
    r"keywords?|arguments?|param(?:eter)?s?|propert(?:y|ies)|options?|values?|mode|currently|参数|字段)[ :=]+){0,6}"
)
_QUOTE = r"['\"`‘’“”「」]?"
DISTINCT = ("temperature", "logprobs", "seed")
"""Names that are words of English, and yet mean the parameter wherever they stand."""
NEAR = 80
"""Characters between a parameter's name and the word that refuses it."""


class Dialect:
    """What is left out of requests to one model. Shared by all who ask it, from any thread."""

    def __init__(self, left_out: Collection[str] = ()) -> None:
        self._lock = threading.Lock()
        self.left_out = frozenset(left_out)
        self._confirmed = self.left_out
        self._fitted: list[tuple[BaseChatModel, frozenset[str], BaseChatModel]] = []

    def learn(self, before: frozenset[str], names: Iterable[str]) -> bool:
        """Leave out what a refusal names. before: what was left out of the request that was refused. Returns whether a
        request would now be another one."""
        with self._lock:
            self.left_out |= frozenset(names)
            return self.left_out != before

    def confirm(self, left_out: frozenset[str]) -> None:
        """A request without all this was answered."""
        if not left_out <= self._confirmed:
            with self._lock:
                self._confirmed |= left_out

    def forget(self, names: Iterable[str]) -> None:
        """A request without these was refused all the same: what was learnt was none of it, unless an answer came."""
        with self._lock:
            self.left_out -= frozenset(names) - self._confirmed

    def fitted(self, chat: BaseChatModel, left_out: frozenset[str]) -> BaseChatModel:
        """The chat model that leaves this out; the same one each time."""
        for known, without, made in self._fitted:
            if known is chat and without == left_out:
                return made
        made = fitted(chat, left_out)
        with self._lock:
            self._fitted = [(chat, left_out, made), *self._fitted[: MOST_FITTED - 1]]
        return made


def refused_parts(
    said: EndpointError, chat: BaseChatModel, way: Way, left_out: frozenset[str], messages: int
) -> list[str]:
    """What is to be left out of the next request, by what a refusal names. Only what was sent can be; empty if nothing
    is named. messages: how many were sent."""
    parameter, words = said.parameter or "", said.words
    if said.of_length:  # of this question, whatever it names
        return []
    if _STREAM_ONLY.search(words) and UNSTREAMED not in left_out and "stream_options" not in parameter:
        return [UNSTREAMED]
    if said.of_messages and messages > 1 and SYSTEM not in left_out:
        return [SYSTEM] if said.names_system or TURNS in left_out else [TURNS]
    sent = _sent(chat, way, left_out)
    for place, find in ((parameter, _named), (words, _refused)):
        named = sorted((start, name) for name in sent if (start := find(name, place)) is not None)
        if named:
            return [_next_choice(left_out) if named[0][1] == "tool_choice" else named[0][1]]
    lengths = [name for name in LENGTHS if name in sent]
    if _LENGTH.search(f"{parameter} {words}"):
        return lengths
    # Whatever language it is in: what is left out in vain is sent again (`Dialect.forget`).
    clear = [name for name in sent if (name in DISTINCT or "_" in name) and _named(name, words) is not None]
    return clear if len(clear) == 1 and said.status in (400, 422) else []


def _next_choice(left_out: frozenset[str]) -> str:
    return next(name for name in TOOL_CHOICE if name not in left_out)


def _named(name: str, text: str) -> int | None:
    """Where a text names a parameter, None if nowhere."""
    found = re.search(_spelt(name), text)
    return None if found is None else found.start()


def _refused(name: str, text: str) -> int | None:
    """Where a text names a parameter that it refuses, None if nowhere."""
    starts = [found.start("name") for one in _refusal(name) if (found := one.search(text))]
    return min(starts, default=None)


def _spelt(name: str) -> str:
    """A name as it may be written: `max_tokens`, `maxTokens`, `max tokens`."""
    letters = re.escape(name.lower()).replace("_", "[_ -]?")
    return rf"(?<![a-z0-9_])(?P<name>{letters})(?![a-z0-9_])"


@functools.cache
def _refusal(name: str) -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Texts that refuse a parameter, after its name and before it. One whose name is a word of English (`strict`) must
    stand next to the refusal, since the text may be about anything; else both are near each other."""
    between, refusing = rf"[\s\S]{{0,{NEAR}}}?", rf"(?:{_REFUSING}|{_OF_VALUES})"
    if re.fullmatch("[a-z]+", name) and name not in DISTINCT:
        between, refusing = rf"\w*[ :,(.]*{_ASIDES}{_QUOTE}(?:[\w\[\]]+\.)*", _REFUSING
        after = rf"{_QUOTE}[ :,(]*{_ASIDES}"
    else:
        after = between
    return re.compile(_spelt(name) + after + refusing), re.compile(refusing + between + _spelt(name))


def _sent(chat: BaseChatModel, way: Way, left_out: frozenset[str]) -> list[str]:
    """Names of what was sent and can be left out."""
    found = [name for name in OF_CLIENTS if getattr(chat, name, None) is not None]
    found += ["temperature", *_keys(getattr(chat, "model_kwargs", None)), *_keys(getattr(chat, "extra_body", None))]
    found += ["stream_options"] if UNSTREAMED in left_out else []
    if way == "json_schema":
        found += ["strict", *SCHEMA_WORDS]
    elif way == "function":
        found += ["tool_choice", *SCHEMA_WORDS]
    if getattr(chat, "max_tokens", None) is not None:
        found.append(LENGTHS[0] if LENGTHS[0] not in left_out else LENGTHS[1])
    return [name for name in dict.fromkeys(found) if name not in left_out]


def _keys(given: Any) -> list[str]:
    return list(given) if isinstance(given, Mapping) else []


def fitted(chat: BaseChatModel, left_out: frozenset[str]) -> BaseChatModel:
    """A chat model that leaves this out, and that does not stream: what is streamed loses its record of tokens with
    many endpoints, and its pieces would be shown as a chat."""
    change: dict[str, Any] = {name: None for name in left_out if getattr(chat, name, None) is not None}
    for field in ("model_kwargs", "extra_body"):
        given = getattr(chat, field, None)
        if isinstance(given, Mapping) and left_out & given.keys():
            change[field] = {name: value for name, value in given.items() if name not in left_out}
    if LENGTHS[0] in left_out and getattr(chat, "max_tokens", None) is not None:
        change["max_tokens"] = None
        if LENGTHS[1] not in left_out:
            change["extra_body"] = {**(change.get("extra_body") or {}), LENGTHS[1]: getattr(chat, "max_tokens")}  # noqa: B009
    if UNSTREAMED in left_out and hasattr(chat, "streaming"):
        change["streaming"] = True  # a model that never streams to its caller asks for a stream all the same
        change |= {"stream_usage": "stream_options" not in left_out} if hasattr(chat, "stream_usage") else {}
    elif can_stream(chat):
        change |= {"disable_streaming": True, **({"streaming": False} if getattr(chat, "streaming", None) else {})}
    return chat.model_copy(update=change) if change else chat


def can_stream(chat: BaseChatModel) -> bool:
    """Whether a streamed run would have it stream."""
    kind = type(chat)
    streams = kind._stream is not BaseChatModel._stream or kind._astream is not BaseChatModel._astream
    return streams and chat.disable_streaming is not True


def merged(messages: Sequence[BaseMessage], left_out: frozenset[str]) -> list[BaseMessage]:
    """The messages as the endpoint takes them."""
    if SYSTEM in left_out:
        return [HumanMessage("\n\n".join(one.text for one in messages))]
    if TURNS not in left_out:
        return list(messages)
    found: list[BaseMessage] = []
    for one in messages:
        if found and found[-1].type == one.type:
            found[-1] = type(one)(f"{found[-1].text}\n\n{one.text}")
        else:
            found.append(one)
    return found
