"""Answers of a given form: what is read, what is not, and how the best way of asking is found out."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from escalade.nodes.call_failed import CallFailed
from escalade.nodes.language_model import LanguageModel
from escalade.nodes.questions import choice
from escalade.nodes.structured import Form, Ways, answer_of, asked

FORM = choice(["left", "right"], evaluates=True)
RANKING = Form("rank", "Rank.", {"ranking": {"type": "array", "items": {"type": "string"}}})


def said(text: str = "", **arguments: Any) -> AIMessage:
    calls = [{"name": "choose_action", "args": arguments, "id": "1"}] if arguments else []
    return AIMessage(text, tool_calls=calls)


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        (said(action="left", evaluation=0.5), {"action": "left", "evaluation": 0.5}),
        (said(action="left"), {"action": "left"}),
        (said(action=3, evaluation=-1), {"action": "3", "evaluation": -1}),
        (said(action="left", evaluation=2, confidence=1.0), {"action": "left"}),
        (said(action="left", evaluation=True), {"action": "left"}),
        (said('{"action": "left", "evaluation": NaN}'), {"action": "left"}),
        (said('```json\n{"action": "left"}\n```'), {"action": "left"}),
        (said(" left "), {"action": "left"}),
        (said(evaluation=0.5), None),
        (said(action=["left"]), None),
        (said(action=True), None),
        (said("I go left.\nOr right."), None),
        (said("left" * 100), None),
        (said('{"action": '), None),
        (said('{"action": ' + "9" * 5000 + "}"), None),
        (said("[" * 100_000), None),
        (said(""), None),
        ("left", None),
        (AIMessage("", tool_calls=[{"name": "rm", "args": {"action": "left"}, "id": "1"}]), None),
    ],
)
def test_only_what_is_of_the_form_is_read(message: Any, fields: dict[str, Any] | None) -> None:
    assert answer_of(message, FORM) == fields


def test_a_list_is_read_without_what_does_not_belong_there() -> None:
    text = json.dumps({"ranking": ["a", 3, None, {"b": 1}, ["c"], True]})
    assert answer_of(AIMessage(text), RANKING) == {"ranking": ["a", "3"]}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(["action", "evaluation", "ranking", "x"]), inner),
)


@settings(max_examples=10_000)
@given(JSON, st.integers(0, 60), st.sampled_from(["", "```json\n", "Sure! ", "\x00"]), st.booleans())
def test_whatever_comes_is_an_answer_of_the_form_or_none(value: Any, cut: int, before: str, by_call: bool) -> None:
    whole = before + json.dumps(value)
    message = AIMessage(whole[: len(whole) - cut] if cut < 50 else whole)
    if by_call and isinstance(value, dict):
        message = AIMessage("", tool_calls=[{"name": "choose_action", "args": value, "id": "1"}])
    fields = answer_of(message, FORM)
    assert fields is None or (isinstance(fields["action"], str) and -1 <= fields.get("evaluation", 0) <= 1)
    found = answer_of(message, RANKING)
    assert found is None or all(isinstance(name, str) for name in found["ranking"])


class Refuses(Exception):
    """As clients tell of a request that an endpoint does not take."""

    status_code = 400


class Particular(BaseChatModel):
    """A model that can only be asked in some ways, and counts what it is asked."""

    can: tuple[str, ...]
    heard: list[str] = []  # noqa: RUF012 -- pydantic copies it

    @property
    def _llm_type(self) -> str:
        return "particular"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind(tools=tools, **kwargs)

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        way = "json_schema" if "response_format" in kwargs else "function" if "tools" in kwargs else "text"
        self.heard.append(way)
        if way not in self.can:
            if way == "json_schema":
                raise Refuses
            return ChatResult(generations=[ChatGeneration(message=AIMessage("Well,\nit depends."))])
        return ChatResult(generations=[ChatGeneration(message=AIMessage('{"action": "left", "evaluation": 0}'))])


@pytest.mark.parametrize(
    ("can", "heard"),
    [
        (("json_schema",), ["json_schema"] * 3),
        (("function", "text"), ["json_schema", "function", "function", "function"]),
        (("text",), ["json_schema", "function", "text", "text", "text"]),
    ],
)
def test_the_best_way_that_works_is_found_once_and_kept(can: tuple[str, ...], heard: list[str]) -> None:
    chat = Particular(can=can)
    model = LanguageModel(chat, "particular")
    for _ in range(3):
        assert asyncio.run(model.ask(FORM, [HumanMessage("?")])).fields["action"] == "left"
    assert chat.heard == heard


def test_a_bad_answer_does_not_change_a_way_that_worked() -> None:
    ways = Ways()
    ways.works("json_schema")
    assert not ways.fails("json_schema")
    assert ways.way == "json_schema"


def test_where_no_way_works_the_call_fails() -> None:
    model = LanguageModel(Particular(can=()), "particular")
    for attempts in (3, 1):
        with pytest.raises(CallFailed, match="malformed_answer") as failed:
            asyncio.run(model.ask(FORM, [HumanMessage("?")]))
        assert failed.value.details.get("attempts", 1) == attempts


def test_a_model_without_tools_is_asked_for_text() -> None:
    model = LanguageModel(FakeListChatModel(responses=['{"action": "right"}']), "fake", ways=Ways("function"))
    with pytest.raises(CallFailed, match="refused"):
        asyncio.run(model.ask(FORM, [HumanMessage("?")]))
    model = LanguageModel(FakeListChatModel(responses=["no,\nno", '{"action": "right"}']), "fake")
    assert asyncio.run(model.ask(FORM, [HumanMessage("?")])).way == "text"


def test_the_text_that_is_asked_for_names_the_form() -> None:
    _, messages = asked(FakeListChatModel(responses=[""]), FORM, [HumanMessage("?")], "text")
    assert json.dumps(FORM.schema) in messages[-1].text
