"""Answers of a given form from any chat model, read strictly.

Endpoints differ in how an answer is held to a form: by JSON schema, by a forced function call, or not at all, and then
text is asked for and read. The best way that works is found out with the first answers, and kept.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

Way = Literal["json_schema", "function", "text"]
WAYS: tuple[Way, ...] = ("json_schema", "function", "text")
_UNFIT = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
TRIALS = 3
MOST_CHARACTERS = 100_000
"""A longer answer is none."""


@dataclass(frozen=True)
class Form:
    """An object with these fields, all of them required. properties: JSON schema of each, of the kinds that `fits`
    knows. lone: the field that a text without any JSON is taken for, None if there is none."""

    name: str
    description: str
    properties: dict[str, dict[str, Any]]
    lone: str | None = None

    @property
    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": self.properties,
            "required": list(self.properties),
            "additionalProperties": False,
        }


class Ways:
    """Which way a model's answers are asked for. Shared by all who ask it; `known` starts it there. The first that an
    answer comes by is kept; until then each question tries one after the other, and after `TRIALS` questions without
    an answer only the last."""

    def __init__(self, known: Way | None = None) -> None:
        self._lock = threading.Lock()
        self._found: Way | None = known
        self._trials = 0

    @property
    def way(self) -> Way:
        """To begin with."""
        return self._found or (WAYS[0] if self._trials < TRIALS else WAYS[-1])

    def works(self, way: Way) -> None:
        """An answer came that way."""
        with self._lock:
            self._found = self._found or way

    def after(self, way: Way) -> Way | None:
        """An answer asked for that way was none. Returns the way to ask in next; None once one has worked, since then
        it was that answer's fault, and after the last."""
        with self._lock:
            if self._found is not None:
                return self._found if self._found != way else None
            if way == WAYS[-1]:
                self._trials += 1
                return None
            return WAYS[WAYS.index(way) + 1]


def asked(chat: BaseChatModel, form: Form, messages: Sequence[BaseMessage], way: Way) -> tuple[Any, list[BaseMessage]]:
    """What to invoke, and with what. Raises NotImplementedError where a model cannot be asked that way."""
    if way == "json_schema":
        schema = {"name": form.name, "schema": form.schema, "strict": True}
        return chat.bind(response_format={"type": "json_schema", "json_schema": schema}), list(messages)
    if way == "function":
        function = {"name": form.name, "description": form.description, "parameters": form.schema}
        tool = {"type": "function", "function": function}
        return chat.bind_tools([tool], tool_choice=form.name), list(messages)
    told = f"Answer with one JSON object and nothing else. Its schema: {json.dumps(form.schema)}"
    return chat, [*messages, HumanMessage(told)]


def answer_of(message: Any, form: Form) -> dict[str, Any] | None:
    """The fields of an answer, whichever way it came: from its function call, or from a text that is one JSON object,
    fenced or not, or the lone field itself. None if it is not of the form."""
    if not isinstance(message, AIMessage):
        return None
    for call in message.tool_calls:
        if call["name"] == form.name:
            return _fields(call["args"], form)
    text = message.text.strip()
    if not text or len(text) > MOST_CHARACTERS:
        return None
    if text.startswith("```") and text.endswith("```"):
        text = text.strip("`").removeprefix("json").strip()
    if text.startswith("{"):
        try:
            return _fields(json.loads(text), form)
        except (ValueError, RecursionError):
            return None
    if form.lone is None or "\n" in text or len(text) > 200 or text.startswith("["):
        return None
    return _fields({form.lone: text}, form, whole=False)


def _fields(given: Any, form: Form, *, whole: bool = True) -> dict[str, Any] | None:
    """The fields that fit; those of another kind, and those the form does not have, are left out. None without the
    first field, by which the form stands; where the text was `whole`, a number may stand for a text."""
    if not isinstance(given, dict):
        return None
    found = {}
    for name, schema in form.properties.items():
        value = _mended(given.get(name), schema) if whole else cleaned(given.get(name))
        if fits(value, schema):
            found[name] = value
    return found if next(iter(form.properties)) in found else None


def _mended(value: Any, schema: dict[str, Any]) -> Any:
    """Whole numbers as texts where texts are wanted, texts cleaned, and lists without what does not belong there."""
    if schema["type"] == "array" and isinstance(value, list):
        items = schema["items"]
        return [item for item in (_mended(item, items) for item in value) if fits(item, items)]
    number = isinstance(value, int) and not isinstance(value, bool)
    # Python refuses to write numbers of thousands of digits.
    value = str(value) if schema["type"] == "string" and number and abs(value) < 2**63 else value
    return cleaned(value)


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
