"""Answers of a given form from any chat model: how they are asked for.

Endpoints differ in how an answer is held to a form: by JSON schema, by a forced function call, or not at all, and then
text is asked for and read (`escalade.nodes.answers`). The best way that works is found out with the first answers, and
left again when it works no more.
"""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage, HumanMessage

Way = Literal["json_schema", "function", "text"]
WAYS: tuple[Way, ...] = ("json_schema", "function", "text")
FORMED_BY: dict[Way, str] = {"json_schema": "response_format", "function": "tools"}
"""The parameter without which a way is none."""
TRIALS = 3
"""Answers in a row without a usable one after which a way is given up."""


@dataclass(frozen=True)
class Form:
    """An object with these fields, all of them required."""

    name: str
    description: str
    properties: dict[str, dict[str, Any]]
    """JSON schema of each field, of the kinds that `escalade.nodes.answers.fits` knows, in the order in which a model
    is to write them."""
    lone: str | None = None
    """The field that a text without any JSON is taken for, None if there is none."""
    choice: str | None = None
    """The field that must be there, and in which all that is answered must agree; None for the first."""

    @property
    def key(self) -> str:
        return self.choice or next(iter(self.properties))

    @property
    def schema(self) -> dict[str, Any]:
        return {
            "type": "object",
            "properties": self.properties,
            "required": list(self.properties),
            "additionalProperties": False,
        }


class Ways:
    """Which way a model's answers are asked for. Shared by all who ask it.

    A way counts as working once a usable answer (one that names an allowed action) came by it. Until one does, each
    question tries one way after the other. A way is given up after `TRIALS` questions in a row without a usable answer;
    then the others come first. Where all are given up, each question is asked once, in text, and all are tried anew
    after `TRIALS` more.
    """

    def __init__(self, known: Way | None = None, *, never: Collection[Way] = ()) -> None:
        """known: a way that works. never: ways that are not tried."""
        self._lock = threading.Lock()
        self._order: tuple[Way, ...] = tuple(way for way in WAYS if way not in never) or WAYS[-1:]
        self._found: Way | None = known
        self._failures = Counter[Way]()

    @property
    def way(self) -> Way:
        """To begin with."""
        return self._found or (self._open() or self._order[-1:])[0]

    def _open(self) -> list[Way]:
        return [way for way in self._order if self._failures[way] < TRIALS]

    def works(self, way: Way) -> None:
        """A usable answer came that way."""
        with self._lock:
            self._failures[way] = 0
            self._found = self._found or way

    def failed(
        self, way: Way, tried: Collection[Way] = (), *, refused: bool = False, alone: bool = False
    ) -> Way | None:
        """A question asked that way had no usable answer.

        tried: ways in which it was asked before. refused: the endpoint says that it does not know that way, so that
        another one is tried although this one worked before. alone: it says nothing of other ways, so that none is
        tried for this question. Returns the way to ask in next, None if the question is to be given up.
        """
        with self._lock:
            exhausted = not self._open()
            self._failures[way] += 1
            given_up = self._failures[way] >= TRIALS
            if given_up and self._found == way:
                self._found = None
            if exhausted:
                if self._failures[way] >= 2 * TRIALS:
                    self._failures.clear()
                return None
            if alone or (self._found == way and not refused):
                return None
            others = [one for one in self._open() if one != way and one not in tried]
            if self._found in others:
                return self._found
            later = self._order[self._order.index(way) + 1 :] if way in self._order else ()
            return next((one for one in others if one in later or given_up), None)


def asked(
    chat: BaseChatModel, form: Form, messages: Sequence[BaseMessage], way: Way, left_out: Collection[str] = ()
) -> tuple[Any, list[BaseMessage]]:
    """What to invoke, and with what. left_out: parameters and keywords of schemas that the endpoint does not take
    (`escalade.nodes.dialect`). Raises NotImplementedError where a model cannot be asked that way."""
    schema = _without(form.schema, left_out)
    if way == "json_schema":
        strict = {} if "strict" in left_out else {"strict": True}
        described = {"name": form.name, "schema": schema, **strict}
        return chat.bind(response_format={"type": "json_schema", "json_schema": described}), list(messages)
    if way == "function":
        function = {"name": form.name, "description": form.description, "parameters": schema}
        tool = {"type": "function", "function": function}
        if "tool_choice" in left_out:
            return chat.bind_tools([tool]), list(messages)
        named = "named_tool_choice" not in left_out
        return chat.bind_tools([tool], tool_choice=form.name if named else "any"), list(messages)
    told = f"Answer with one JSON object and nothing else. Its schema: {json.dumps(form.schema)}"
    return chat, [*messages, HumanMessage(told)]


def _without(schema: Any, left_out: Collection[str]) -> Any:
    """A schema without some keywords; fields that are named like one stay."""
    if not isinstance(schema, dict):
        return schema
    kept = {}
    for word, value in schema.items():
        if word == "properties":
            kept[word] = {name: _without(inner, left_out) for name, inner in value.items()}
        elif word not in left_out:
            kept[word] = _without(value, left_out)
    return kept
