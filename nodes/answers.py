"""Reading what a model answers: the fields of a form, out of function calls, JSON in a text, or a name alone.

A model may wrap, decorate and reformat its answer; it is read where exactly one answer can be meant. Two different
answers are none.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any

from langchain_core.messages import AIMessage

from escalade.nodes.json_in_text import Contradiction, calls_in, objects_in, parted, whole, without_thinking
from escalade.nodes.named_choice import announced, names_meant
from escalade.nodes.objections import objected
from escalade.nodes.structured import Form
from escalade.nodes.surroundings import INNER, SYNONYMS, contradicts, key_of, other_function, wraps

MOST_CHARACTERS = 100_000
"""A longer answer, with all calls and choices in it, is none."""
LONGEST_LONE = 200
"""Characters of a text that is taken for the lone field."""
DEPTH = 6
"""Of what is looked into for the fields."""

_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
_FENCE = re.compile(r"```\w*(.*)```", re.DOTALL)
_HEADING = re.compile(r"^#{1,6}+ *+([^\n]{1,40}?):? *+\n+(?=.)", re.MULTILINE)


def answer_of(message: Any, form: Form, *, listed: Collection[str] = (), cut: bool = False) -> dict[str, Any] | None:
    """The fields of an answer, whichever way it came; None if it is not of the form, or contradicts itself. Names that
    the form allows are written as the form writes them; others are left as they came.

    listed: lines of the prompt that give a name with a description. cut: the answer broke off, so that only a complete
    JSON object counts.
    """
    if not isinstance(message, AIMessage):
        return None
    choices = [message, *_other_choices(message)]
    if sum(map(_length, choices)) > MOST_CHARACTERS:
        return None
    found, *others = (_of_one(one, form, listed, cut) for one in choices)
    if found is None or any(one is not None and one[form.key] != found[form.key] for one in others):
        return None
    return found


def _length(message: AIMessage) -> int:
    """Characters of what is read of a message."""
    arguments = [call.get("args") for call in _all_calls(message)]
    return len(message.text) + sum(len(one if isinstance(one, str) else json.dumps(one)) for one in arguments)


def _of_one(message: AIMessage, form: Form, listed: Collection[str], cut: bool) -> dict[str, Any] | None:
    calls = list(_calls(message, form))
    text = message.text
    values, around = _read(text)
    given = _in_values(values, form)
    for arguments in calls:
        inner, beside = _read(arguments) if isinstance(arguments, str) else ([arguments], "")
        found = _in_values(inner, form)
        given += found or _called(arguments, form, cut)
        if cut and isinstance(arguments, dict) and arguments.keys() == {"arguments"}:  # may be the half of a name
            return None
        values, around = values + inner, f"{around}\n{beside if found else ''}"
    if not given and not text.strip():
        values = [whole(_hidden(message))]
        given = list(_candidates(values[0], form))
    if not given:
        return None if cut or calls else _lone(text, form, listed)
    answer = _one([_fields(one, form, listed) for one in given], form)
    return None if answer is None or contradicts(answer, values, around, form) else answer


def _other_choices(message: AIMessage) -> Iterator[AIMessage]:
    """Of a completion with several (`escalade.app.completions`)."""
    for one in message.additional_kwargs.get("other_choices") or ():
        calls = [{"name": name, "args": said, "id": None, "error": None} for name, said in one["calls"]]
        yield AIMessage(one["content"], invalid_tool_calls=calls)


def is_usable(fields: dict[str, Any], form: Form) -> bool:
    """Whether the field that holds the choice names one that is allowed, or, being a list, some."""
    for name, schema in form.properties.items():
        if _has_names(schema):
            return name in fields and _allowed(fields[name], schema)
    return True


def _has_names(schema: dict[str, Any]) -> bool:
    inner = schema.get("items", schema).get("properties", {}).values()
    return "enum" in schema.get("items", schema) or any("enum" in one for one in inner)


def _allowed(value: Any, schema: dict[str, Any]) -> bool:
    if schema["type"] == "array":
        return any(_allowed(item, schema["items"]) for item in value)
    if schema["type"] == "object":
        return all(_allowed(value.get(name), one) for name, one in schema["properties"].items() if "enum" in one)
    return value in schema["enum"]


# Where the fields may be


def _calls(message: AIMessage, form: Form) -> Iterator[Any]:
    """The arguments of the calls of the form's function, however they are written."""
    for call in _all_calls(message):
        if key_of(str(call.get("name")).split(":")[0].split(".")[-1]) == key_of(form.name):
            yield call.get("args")


def _all_calls(message: AIMessage) -> list[Any]:
    legacy = message.additional_kwargs.get("function_call")
    calls: list[Any] = [*message.tool_calls, *message.invalid_tool_calls]
    if isinstance(legacy, dict):
        calls.append({"name": legacy.get("name"), "args": legacy.get("arguments")})
    return calls


def _called(arguments: Any, form: Form, cut: bool) -> list[dict[str, Any]]:
    """Arguments of a call that are a text and no object, taken for the lone field."""
    if form.lone is None or cut or not isinstance(arguments, str):
        return []
    return [{form.lone: arguments}] if 0 < len(arguments) <= LONGEST_LONE and "{" not in arguments else []


def _read(text: str) -> tuple[list[Any], str]:
    """The JSON in a text, and what stands around it."""
    for plain in (text, without_thinking(text)):
        said = whole(plain)
        if isinstance(said, str) and said != plain and "{" in said:
            return _read(said)
        if isinstance(said, dict | list | str):
            return [said], ""
    found, around = calls_in(plain)
    objects, around = parted(around)
    return [*found, *objects], around


def _in_values(values: list[Any], form: Form) -> list[dict[str, Any]]:
    return [one for value in values for one in _candidates(value, form)] or list(_candidates(values, form))


def _hidden(message: AIMessage) -> str:
    """What some servers, holding an answer to its form, take for thinking and give apart."""
    for name in ("reasoning_content", "reasoning"):
        if isinstance(said := message.additional_kwargs.get(name), str) and len(said) <= MOST_CHARACTERS:
            return said
    return ""


def _candidates(value: Any, form: Form) -> Iterator[dict[str, Any]]:
    """The objects in a value that have the form's key field, by whatever names they are wrapped in. Without any, what
    can stand for one: the items of a list field alone, or the lone field under another usual name."""
    first, schema = form.key, form.properties[form.key]
    found = list(_holders(value, key_of(first), key_of(form.name)))
    if found:
        yield from found
    elif schema["type"] == "array":
        if isinstance(value, list) and value and _as_list(value, schema):
            yield {first: value}
        elif isinstance(value, dict) and len(value) == 1 and isinstance(inner := next(iter(value.values())), list):
            yield {first: inner}
        elif isinstance(value, dict) and value and all(isinstance(one, str) for one in value.values()):
            yield {first: value}
    elif form.lone == first and isinstance(value, dict):
        inner = value.get(form.name, value)
        named = [one for name, one in inner.items() if key_of(name) in SYNONYMS] if isinstance(inner, dict) else []
        if len(named) == 1 and isinstance(named[0], str | int | float):
            yield {first: named[0]}


def _holders(value: Any, key: str, form: str, depth: int = 0) -> Iterator[dict[str, Any]]:
    """The objects that have a key, in wrappers that say nothing against it. form: the key of the form's name."""
    if depth > DEPTH:
        return
    if isinstance(value, str) and value.lstrip().startswith(("{", "[")) and len(value) <= MOST_CHARACTERS:
        value = whole(value) or objects_in(value)
    if isinstance(value, dict):
        held = [one for name, one in value.items() if key_of(name) == key]
        if held:
            if not all(isinstance(one, dict) and {"type", "enum", "$ref"} & one.keys() for one in held):  # a schema
                yield value
            return
        if other_function(value, form):
            return
        value = [one for name, one in value.items() if wraps(name, form, alone=len(value) == 1)]
    if isinstance(value, list):
        for one in value:
            yield from _holders(one, key, form, depth + 1)


# What the fields are


def _fields(given: dict[str, Any], form: Form, listed: Collection[str]) -> dict[str, Any] | None:
    """The fields that fit; those of another kind, and those the form does not have, are left out. None without the
    key field."""
    found = _object(given, form.properties, listed)
    return found if form.key in found else None


def _object(given: dict[str, Any], properties: dict[str, Any], listed: Collection[str]) -> dict[str, Any]:
    found = {}
    for name, schema in properties.items():
        values = [value for key, value in given.items() if key_of(key) == key_of(name)]
        if values and all(value == values[0] for value in values):
            value = _mended(given.get(name, values[0]), schema, listed)
            if fits(value, schema):
                found[name] = value
    return found


def _mended(value: Any, schema: dict[str, Any], listed: Collection[str]) -> Any:
    """A value in the form's own writing: texts cleaned, names as they are given, lists without what does not belong
    there. Left as it is where it does not fit."""
    if schema["type"] == "array":
        items = [_mended(item, schema["items"], listed) for item in _as_list(value, schema)]
        return [item for item in items if fits(item, schema["items"])]
    if schema["type"] == "object":
        return _object(value, schema["properties"], listed) if isinstance(value, dict) else value
    if schema["type"] == "string":
        return _text(value, schema, listed)
    return cleaned(value)


def _as_list(value: Any, schema: dict[str, Any]) -> list[Any]:
    """The items of a list; those of an object whose names are the first field of each item and whose values the second;
    or the one item that is given without a list."""
    items = schema["items"]
    if isinstance(value, dict) and items["type"] == "object":
        fields = list(items["properties"])
        named = {key_of(name) for name in value} & {key_of(name) for name in fields}
        if len(fields) == 2 and not named:
            return [dict(zip(fields, one, strict=True)) for one in value.items()]
    if isinstance(value, list):
        kind = dict if items["type"] == "object" else str | int
        return [item for item in value if isinstance(item, kind)]
    return [] if value is None or isinstance(value, Contradiction) else [value]


def _text(value: Any, schema: dict[str, Any], listed: Collection[str]) -> Any:
    """A text, also out of a list or object that holds nothing else. None where two names can be meant."""
    for _ in range(DEPTH):
        named = isinstance(value, dict) and all(key_of(name) in INNER for name in value)
        inner = list(value.values()) if named else value
        if not isinstance(inner, list) or len(inner) != 1:
            break
        value = inner[0]
    # Python refuses to write numbers of thousands of digits.
    if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**63:
        value = str(value)
    if not isinstance(value, str):
        return value
    if "enum" not in schema:
        return cleaned(value)
    meant = names_meant(value, schema["enum"], listed)
    return cleaned(value) if not meant else meant[0] if len(meant) == 1 else None


def _lone(text: str, form: Form, listed: Collection[str]) -> dict[str, Any] | None:
    """A text without JSON for the lone field: where it names one of those allowed, or is no more than a name itself."""
    if form.lone is None:
        return None
    text = without_thinking(text).strip("\ufeff \t\r\n")
    if fenced := _FENCE.fullmatch(text):
        text = fenced[1].strip()
    text = _HEADING.sub(r"\1: ", text)
    schema = form.properties[form.lone]
    if "\n" in text and (said := announced(text, schema.get("enum", ()))):
        others = {name for name in form.properties if name != form.lone}
        lines = [line for line in text.splitlines() if line.partition(":")[0].strip(' "*').casefold() not in others]
        clear = len(said) == 1 and not objected("\n".join(lines), said[0], schema.get("enum", ()))
        return {form.lone: said[0]} if clear else None
    if not text or len(text) > LONGEST_LONE or text.startswith(("{", "[{")) or "<parameter" in text:
        return None
    found = _text(text, schema, listed)
    allowed = schema.get("enum")
    if allowed and found not in allowed:
        words = max(len(name.split()) for name in allowed)
        if len(text.split()) > words + 1 or "\n" in text:  # a sentence, which names nothing clearly
            return None
    elif "\n" in text and not allowed:
        return None
    return {form.lone: found} if isinstance(found, str) else None


def _one(fields: list[dict[str, Any] | None], form: Form) -> dict[str, Any] | None:
    """The one answer that all say; None where one of them is no answer that can be understood, or two differ."""
    if None in fields:
        return None
    found = [one for one in fields if one is not None]
    return max(found, key=len) if all(one[form.key] == found[0][form.key] for one in found) else None


def cleaned(value: Any) -> Any:
    """A value whose texts can be sent and shown whatever a model said: without halves of surrogate pairs, which no
    encoding has, and control characters, which a terminal obeys."""
    if isinstance(value, str):
        return _UNFIT.sub("\N{REPLACEMENT CHARACTER}", value)
    if isinstance(value, list):
        return [cleaned(one) for one in value]
    return {name: cleaned(one) for name, one in value.items()} if isinstance(value, dict) else value


def fits(value: Any, schema: dict[str, Any]) -> bool:
    """Whether a value is of a schema's kind: string, number (within bounds), array (of items), object. An `enum` is not
    looked at: what is none of the allowed actions is told apart from what is no answer."""
    kind = schema["type"]
    if kind == "string":
        return isinstance(value, str)
    if kind == "number":
        number = isinstance(value, int | float) and not isinstance(value, bool)
        return number and schema.get("minimum", -1e300) <= value <= schema.get("maximum", 1e300)
    if kind == "array":
        return isinstance(value, list) and all(fits(item, schema["items"]) for item in value)
    return isinstance(value, dict) and all(
        fits(value.get(name), inner) for name, inner in schema["properties"].items() if name in schema["required"]
    )
