"""JSON inside the text of a language model: after its thinking, in prose or a code fence, with small slips of syntax.

Nothing here guesses: a text that breaks off in the middle of an object has no object.
"""

from __future__ import annotations

import json
import re
from typing import Any

OBJECT = "\N{OBJECT REPLACEMENT CHARACTER}"
MOST_STARTS = 200
"""Opening braces of one text that are tried."""

_NAMES = (
    r"think(?:ing)?|thoughts?|reason(?:ing)?|reflection|analysis|scratchpad|antthinking|inner_?monologue|plan(?:ning)?"
)
_TAG = re.compile(
    rf"<(?P<angle>/?)\s*(?:[a-z]+:)?(?:{_NAMES})\b[^<>]{{0,80}}>"
    r"|\[(?P<square>/?)think\]|◁(?P<kimi>/?)think▷|<\|(?P<word>begin|end)_of_thought\|>",
    re.IGNORECASE,
)
_OPENS = re.compile(
    r"<\|start_thinking\|>|<\|channel>\s*(?:thought|analysis)\b|\A\s*thinking\s*(?:\.\.\.|…)|"
    r"<details\b[^<>]{0,80}\b(?:reasoning|thinking)\b[^<>]{0,80}>|"
    r"<details>\s*<summary>\s*(?:reasoning|thinking|thoughts?|thought)\b",
    re.IGNORECASE,
)
_CLOSES = re.compile(r"<\|end_thinking\|>|<channel\|>|(?:\.\.\.|…)\s*done thinking\.?|</details>", re.IGNORECASE)
"""Forms of thinking that are brought into the one of a tag: of Cohere, Gemma, Ollama and Open WebUI."""
_ESCAPED = re.compile(rf"&lt;(/?\s*(?:{_NAMES}))\b[^&<>]{{0,80}}&gt;", re.IGNORECASE)
_CHANNEL = re.compile(r"<\|channel\|>\s*+(\w++)[^<]*+(?:<\|constrain\|>\s*+\w*+\s*+)?<\|message\|>")
"""How gpt-oss separates its analysis from the answer, where a server does not."""
_SPECIAL = re.compile(r"<\|[a-z_]{1,30}\|>")
_CALL = re.compile(r"<(function|invoke)(?:=|\s+name=)\"?([\w.-]+)\"?\s*>(.{0,4000}?)</\1>", re.DOTALL)
_PARAMETER = re.compile(r"<parameter(?:=|\s+name=)\"?([\w.-]+)\"?\s*>(.{0,2000}?)</parameter>", re.DOTALL)
_PYTHON = re.compile(r"([:,\[]\s*)(None|True|False)(?=\s*[,}\]])")
_PYTHON_AS_JSON = {"None": "null", "True": "true", "False": "false"}
_PUNCTUATION = str.maketrans({"“": '"', "”": '"', "„": '"', "«": '"', "»": '"', "：": ":", "，": ","})
_BARE_KEY = re.compile(r"([{,]\s*)([A-Za-z_]\w*)(\s*:)")
_TRAILING_COMMA = re.compile(r",(\s*[}\]])")


class Contradiction:
    """In place of a value that an object gives twice, differently."""


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        found[name] = Contradiction() if name in found and found[name] != value else value
    return found


# strict=False: line ends inside texts are let through.
_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_object)
_FAULTS = (ValueError, RecursionError)


def without_thinking(text: str) -> str:
    """A text without the passages that are marked as the model's thinking. Thinking that is never closed has no answer
    after it; where only its end is marked, all that is before is thinking."""
    text = _ESCAPED.sub(r"<\1>", _final_channel(text))
    if _OPENS.search(text):
        text = _CLOSES.sub("</think>", _OPENS.sub("<think>", text))
    kept: list[str] = []
    depth, place, closed = 0, 0, -1
    for tag in _TAG.finditer(text):
        if tag[0].endswith("/>"):  # no thinking at all
            kept += [text[place : tag.start()]] if depth == 0 else []
            place = tag.end()
            continue
        closes = "/" in (tag["angle"], tag["square"], tag["kimi"]) or (tag["word"] or "").lower() == "end"
        if not closes:
            if depth == 0:
                kept.append(text[place : tag.start()])
            depth += 1
            continue
        closed = tag.end()
        if depth == 0:
            kept.clear()
        depth = max(0, depth - 1)
        place = tag.end()
    if depth == 0:
        kept.append(text[place:])
    elif closed >= 0:  # the word for a tag was part of the thinking
        kept = [text[closed:]]
    return _SPECIAL.sub("", "".join(kept)).strip()


def _final_channel(text: str) -> str:
    parts = _CHANNEL.split(text)
    answers = [said for channel, said in zip(parts[1::2], parts[2::2], strict=True) if channel != "analysis"]
    return answers[-1] if answers else text if len(parts) == 1 else ""


def whole(text: str) -> Any:
    """The JSON value that a text is, None if it is none."""
    try:
        value, end = _DECODER.raw_decode(text.strip("\ufeff \t\r\n"))
        return value if end == len(text.strip("\ufeff \t\r\n")) else None
    except _FAULTS:
        return None


def objects_in(text: str) -> list[dict[str, Any]]:
    """The JSON objects in a text that are in no other one, in order."""
    return parted(text)[0]


def calls_in(text: str) -> tuple[list[dict[str, Any]], str]:
    """The calls that a text writes in tags, as Qwen and Claude do, each with name and arguments, and the text with
    OBJECT in their place."""
    found: list[dict[str, Any]] = []

    def taken(call: re.Match[str]) -> str:
        fields = [(one[1], one[2].strip()) for one in _PARAMETER.finditer(call[3])]
        if not fields:  # JSON inside, which is found as such
            return call[0]
        found.append({"name": call[2], "arguments": _object(fields)})
        return OBJECT

    around = _CALL.sub(taken, text) if "</function>" in text or "</invoke>" in text else text
    return found, around


def parted(text: str) -> tuple[list[dict[str, Any]], str]:
    """The JSON objects in a text that are in no other one, in order, and the text with OBJECT in their place."""
    found: list[dict[str, Any]] = []
    around: list[str] = []
    place, kept = text.find("{"), 0
    for _ in range(MOST_STARTS):
        if place < 0:
            break
        value, end = _decoded(text, place)
        if isinstance(value, dict):
            found.append(value)
            around.append(text[kept:place])
            kept = end
        place = text.find("{", end)
    return found, OBJECT.join([*around, text[kept:]])


def _decoded(text: str, place: int) -> tuple[Any, int]:
    """The object that begins here, None if there is none, and where to look on."""
    try:
        return _DECODER.raw_decode(text, place)
    except _FAULTS:
        end = _balanced(text, place)
        if end is None:
            return None, place + 1
        value = whole(_mended(text[place:end]))
        return (value, end) if isinstance(value, dict) and value else (None, place + 1)


def _balanced(text: str, place: int, most: int = 20_000) -> int | None:
    """Where the brace that opens here is closed; braces inside texts are counted too."""
    depth = 0
    for number in range(place, min(len(text), place + most)):
        depth += (text[number] == "{") - (text[number] == "}")
        if depth == 0:
            return number + 1
    return None


def _mended(span: str) -> str:
    """With the slips of syntax set right that leave no doubt of what is meant: typographic or single quotes, escaped
    quotes, names without quotes, a comma after the last member."""
    span = span.translate(_PUNCTUATION).replace('\\"', '"')
    if '"' not in span:
        span = span.replace("'", '"')
    span = _PYTHON.sub(lambda word: word[1] + _PYTHON_AS_JSON[word[2]], span)
    return _TRAILING_COMMA.sub(r"\1", _BARE_KEY.sub(r'\1"\2"\3', span))
