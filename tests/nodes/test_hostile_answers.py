"""Answers that are long, or made to be slow to read, are read in no time, or are none. Each of these took seconds to
hours once: a test that does not end has failed."""

from __future__ import annotations

import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage

from escalade.nodes.answers import MOST_CHARACTERS, answer_of
from escalade.nodes.deliberate import plan_form, revision_form
from escalade.nodes.questions import choice

NAMES = [f"label {number}" for number in range(77)]
FORM = choice(NAMES)
SEEDS = {
    "a channel without a message": ("<|channel|>", "a"),
    "a constraint without a message": ("<|channel|>a<|constrain|>", " "),
    "channels without messages": ("", "<|channel|>a"),
    "a fence that is never closed": ("```", " "),
    "a fence and white space": ("```", " \n"),
    "a heading of spaces": ("#", " "),
    "headings": ("", "# a\n"),
    "functions that are never closed": ("", "<function=a>"),
    "parameters that are never closed": ("<function=a>", "<parameter=b>"),
    "thinking that is never closed": ("", "<think>"),
    "braces": ("", "{"),
    "brackets": ("", '{"a":['),
    "quotes": ("", '{"'),
    "names": ("", "label 1 "),
    "bullets": ("", "- "),
    "emphasis": ("", "**"),
}


def called(*arguments: Any, name: str = FORM.name, text: str = "") -> AIMessage:
    calls = [{"name": name, "args": one, "id": str(place)} for place, one in enumerate(arguments)]
    return AIMessage(text, tool_calls=calls)


@pytest.mark.parametrize("kind", SEEDS)
def test_what_is_repeated_without_end_holds_nobody_up(kind: str) -> None:
    begins, repeated = SEEDS[kind]
    text = begins + repeated * ((MOST_CHARACTERS - len(begins) - 1) // len(repeated)) + "x"
    assert answer_of(AIMessage(text), FORM) is None
    broken = {"name": FORM.name, "args": text, "id": "1", "error": None}
    assert answer_of(AIMessage("", invalid_tool_calls=[broken]), FORM) is None


def test_what_is_too_long_altogether_is_no_answer() -> None:
    right = {"action": "label 7"}
    assert answer_of(called(right), FORM) == right
    assert answer_of(called({**right, "answer": ["label 9 - is"] * 200_000}), FORM) is None
    other = {"content": "x" * (MOST_CHARACTERS // 5), "calls": []}
    many = called(right)
    many.additional_kwargs["other_choices"] = [other] * 20
    assert answer_of(many, FORM) is None
    assert answer_of(AIMessage(json.dumps(right) + " " * MOST_CHARACTERS), FORM) is None


def test_more_beside_the_answer_than_can_be_compared_is_no_answer() -> None:
    assert answer_of(called({"action": "label 7", "answer": ["label 9 - is"] * 5000}), FORM) is None
    assert answer_of(called({"action": "label 7", "notes": ["fine"] * 100}), FORM) == {"action": "label 7"}


def revised(action: str, critique: str = "ok", **more: Any) -> dict[str, Any]:
    return {"critique": critique, "action": action, "checks": [], **more}


def test_two_choices_in_the_forms_of_a_whole_reasoning_are_none() -> None:
    form = revision_form(["8", "9"], ["search"], evaluates=True)
    first, second = revised("8", evaluation=0.1), revised("9", evaluation=0.1)
    assert answer_of(called(first, second, name=form.name), form) is None
    assert answer_of(AIMessage(f"{json.dumps(first)}\n{json.dumps(second)}"), form) is None
    both = called(first, name=form.name)
    both.additional_kwargs["other_choices"] = [{"content": json.dumps(second), "calls": []}]
    assert answer_of(both, form) is None
    same = answer_of(called(first, revised("8", "otherwise said", evaluation=0.1), name=form.name), form)
    assert same is not None
    assert same["action"] == "8"


def test_a_choice_without_the_words_before_it_is_one() -> None:
    form = revision_form(["8", "9"], ["search"], evaluates=True)
    assert answer_of(AIMessage('{"action": "8", "checks": [], "evaluation": 0.1}'), form) is not None
    form = plan_form(["8", "9"], ["search"])
    candidates = [{"action": "8", "reason": "a corner"}]
    assert answer_of(AIMessage(json.dumps({"candidates": candidates, "checks": []})), form) is not None
