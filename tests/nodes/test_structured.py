"""Answers of a given form: what is read, what is not, and how the best way of asking is found out."""

from __future__ import annotations

import asyncio
import json
import math
import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from escalade.nodes.answers import answer_of
from escalade.nodes.call_failed import CallFailed
from escalade.nodes.language_model import LanguageModel
from escalade.nodes.questions import choice
from escalade.nodes.structured import WAYS, Form, Ways, asked

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
        (said(action=["left"]), {"action": "left"}),
        (said(action=["left", "right"]), None),
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


def anything(chance: random.Random, depth: int = 0) -> Any:
    """Some JSON value."""
    kind = chance.randrange(8 if depth < 4 else 6)
    if kind == 6:
        return [anything(chance, depth + 1) for _ in range(chance.randrange(4))]
    if kind == 7:
        names = chance.sample(["action", "evaluation", "ranking", "x"], chance.randrange(5))
        return {name: anything(chance, depth + 1) for name in names}
    text = "".join(chance.choice('left\x00\n{}[]":,\ud800é9 ') for _ in range(chance.randrange(12)))
    return [None, chance.random() < 0.5, chance.randrange(-9, 9) ** chance.randrange(40), math.nan, math.inf, text][
        kind
    ]


@pytest.mark.parametrize("seed", range(10))
def test_whatever_comes_is_an_answer_of_the_form_or_none(seed: int) -> None:
    """FAULTS, row 2: ten thousand answers, whole and cut off."""
    chance = random.Random(seed)
    read = 0
    for _ in range(1000):
        value = anything(chance)
        if chance.random() < 0.2:
            value = {"action": anything(chance), "ranking": anything(chance)}
        whole = chance.choice(["", "", "```json\n", "Sure! ", "\x00"]) + json.dumps(value)
        message = AIMessage(whole[: len(whole) - chance.choice([0, 0, 1, 5, 40])])
        if isinstance(value, dict) and chance.random() < 0.5:
            message = AIMessage("", tool_calls=[{"name": "choose_action", "args": value, "id": "1"}])
        fields = answer_of(message, FORM)
        assert fields is None or (isinstance(fields["action"], str) and -1 <= fields.get("evaluation", 0) <= 1)
        found = answer_of(message, RANKING)
        assert found is None or all(isinstance(name, str) for name in found["ranking"])
        read += fields is not None
    assert 0 < read < 900


class Refuses(Exception):
    """As clients tell of a request that an endpoint does not take."""

    status_code = 400


class RefusesAs500(Exception):
    """llama.cpp's server to a JSON schema."""

    status_code = 500


class Particular(BaseChatModel):
    """A model that can only be asked in some ways, and counts what it is asked."""

    can: tuple[str, ...]
    heard: list[str] = []  # noqa: RUF012 -- pydantic copies it
    refusal: Any = Refuses()

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
                raise self.refusal
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


def test_a_500_that_names_the_form_is_a_refusal_and_any_other_a_failure() -> None:
    chat = Particular(can=("function",), refusal=RefusesAs500("'loc': ('body', 'response_format', 'type')"))
    assert asyncio.run(LanguageModel(chat, "particular").ask(FORM, [HumanMessage("?")])).way == "function"
    down = LanguageModel(Particular(can=("function",), refusal=RefusesAs500("out of memory")), "particular")
    with pytest.raises(CallFailed, match="server_error"):
        asyncio.run(down.ask(FORM, [HumanMessage("?")]))


def test_a_bad_answer_does_not_change_a_way_that_worked() -> None:
    ways = Ways()
    ways.works("json_schema")
    assert ways.failed("json_schema") is None
    assert ways.way == "json_schema"
    assert ways.failed("text") == "json_schema"  # of a call that began before that was known


def test_a_way_is_given_up_after_some_questions_without_a_usable_answer() -> None:
    ways = Ways()
    ways.works("json_schema")
    assert [ways.failed("json_schema") for _ in range(3)] == [None, None, "function"]
    assert ways.way == "function"
    ways.works("function")
    assert ways.way == "function"
    assert ways.failed("function", refused=True) == "text"  # the endpoint says that it knows it no more
    assert ways.way == "function"  # but once is nothing


@given(st.lists(st.tuples(st.sampled_from(WAYS), st.booleans(), st.booleans()), max_size=60))
def test_whatever_answers_come_there_is_a_way_to_ask_and_no_circle(ends: list[tuple[Any, bool, bool]]) -> None:
    ways = Ways()
    for way, usable, refused in ends:
        if usable:
            ways.works(way)
        else:
            asked_for, following = [way], ways.failed(way, refused=refused)
            while following is not None:
                asked_for.append(following)
                following = ways.failed(following, asked_for[:-1], refused=refused)
            assert len(set(asked_for)) == len(asked_for) <= len(WAYS)
        assert ways.way in WAYS


def test_a_bad_first_answer_does_not_either() -> None:
    chat = Particular(can=())
    model = LanguageModel(chat, "particular")
    with pytest.raises(CallFailed):
        asyncio.run(model.ask(FORM, [HumanMessage("?")]))
    chat.can = ("json_schema", "text")
    assert asyncio.run(model.ask(FORM, [HumanMessage("?")])).way == "json_schema"


def test_what_a_terminal_obeys_and_what_no_encoding_has_is_left_out_of_answers() -> None:
    form = Form("f", "", {"action": {"type": "string"}, "more": {"type": "array", "items": {"type": "string"}}})
    said = json.dumps({"action": "a\ud800b\u0000", "more": ["\u001b[31mred", "two\nlines\tof \u00e9\u200d"]})
    found = answer_of(AIMessage(said), form)
    assert found == {"action": "a\ufffdb\ufffd", "more": ["\ufffd[31mred", "two\nlines\tof \u00e9\u200d"]}
    called = AIMessage("", tool_calls=[{"name": "f", "args": {"action": "\udfff", "more": []}, "id": "1"}])
    assert answer_of(called, form) == {"action": "\ufffd", "more": []}
    lone = Form("f", "", {"action": {"type": "string"}}, lone="action")
    assert answer_of(AIMessage("left\x1b"), lone) == {"action": "left\ufffd"}


def test_where_no_way_works_the_call_fails() -> None:
    model = LanguageModel(Particular(can=()), "particular")
    for attempts in (3, 3, 3, 1):
        with pytest.raises(CallFailed, match="malformed_answer") as failed:
            asyncio.run(model.ask(FORM, [HumanMessage("?")]))
        assert failed.value.details.get("attempts", 1) == attempts


def test_a_model_without_tools_is_asked_for_text() -> None:
    model = LanguageModel(FakeListChatModel(responses=['{"action": "right"}']), "fake", ways=Ways("function"))
    assert asyncio.run(model.ask(FORM, [HumanMessage("?")])).way == "text"
    model = LanguageModel(FakeListChatModel(responses=["no,\nno", '{"action": "right"}']), "fake")
    assert asyncio.run(model.ask(FORM, [HumanMessage("?")])).way == "text"


def test_the_text_that_is_asked_for_names_the_form() -> None:
    _, messages = asked(FakeListChatModel(responses=[""]), FORM, [HumanMessage("?")], "text")
    assert json.dumps(FORM.schema) in messages[-1].text
