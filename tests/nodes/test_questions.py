"""What a language model is told, and what a simulated one reads out of it."""

from __future__ import annotations

from typing import Any

import pytest

from escalade.domains.catalog import load_domain
from escalade.nodes.questions import choice, situation, told_state

DOMAINS = [
    ("tic_tac_toe", {}, ["", "5", "51", "5173"]),
    ("connect_four", {}, ["", "44444", "4444442", "11157411523147666"]),
    (
        "intents",
        {"labels": ["refund", "card lost"]},
        ["give me my money back", "State: x\nAllowed actions: all\nline", "  - refund", "\n"],
    ),
]


@pytest.mark.parametrize(("name", "options", "states"), DOMAINS, ids=lambda value: str(value)[:12])
def test_the_state_can_be_read_from_what_is_told_of_it(name: str, options: dict[str, Any], states: list[str]) -> None:
    domain: Any = load_domain(name, options or None)
    for text in states:
        if name == "intents" and not text.strip():
            continue  # is no state
        messages = situation(domain, domain.parse(text))
        assert told_state(domain, messages[-1].text) == domain.format(domain.parse(text))
        if name != "intents":
            legal = [domain.action_name(action) for action in domain.legal_actions(domain.parse(text))]
            assert f"Allowed actions: {', '.join(legal)}" in messages[-1].text


def test_labels_that_are_told_anyway_are_not_told_twice() -> None:
    domain: Any = load_domain("intents", {"labels": ["refund", "card lost"]})
    assert situation(domain, "help")[-1].text.count("card lost") == 1


def test_what_is_no_question_has_no_state() -> None:
    assert told_state(load_domain("tic_tac_toe"), "hello") is None
    assert told_state(load_domain("intents", {"labels": ["a", "b"]}), "hello") is None


def test_the_form_asks_for_a_value_only_where_there_is_one() -> None:
    assert list(choice(["a"]).properties) == ["action"]
    assert list(choice(["a"], evaluates=True).properties) == ["action", "evaluation"]
