"""What an error says when no rung could decide: why, and what to do about the rung that failed."""

from __future__ import annotations

from typing import Any

import pytest

from escalade.nodes.conclude import explain


def failed(rung: str, reason: str, **details: Any) -> dict[str, Any]:
    return {"rung": rung, "outcome": "failed", "reason": reason, "details": details}


@pytest.mark.parametrize(
    ("report", "told", "not_told"),
    [
        (failed("search", "overloaded"), "search less at once", "language model"),
        (failed("reason", "overloaded"), "language model's endpoint", "simulations"),
        (failed("policy", "overloaded"), "fewer decisions at once", "language model"),
        (failed("search", "deadline"), "deadline_ms", "language model"),
        (failed("reason", "cut_off"), "ESCALADE_LLM_MAX_TOKENS", None),
        (failed("reason", "content_filter", status=400, code="content_filter"), "word the state otherwise", "MODEL"),
        (failed("reason", "quota", status=429, code="insufficient_quota"), "add credit", None),
        (failed("reason", "illegal_action"), "ESCALADE_LLM_MODEL", None),
        (failed("reason", "malformed_answer"), "ESCALADE_LLM_MODEL", None),
        (failed("reason", "refused", status=404, setting="OPENAI_BASE_URL"), "OPENAI_BASE_URL (", "ESCALADE_LLM_MODEL"),
        (failed("reason", "refused", status=404, setting="ESCALADE_LLM_MODEL"), "ESCALADE_LLM_MODEL (", "BASE_URL"),
        (failed("reason", "refused", status=400, setting="ESCALADE_LLM_LEAVE_OUT"), "ESCALADE_LLM_LEAVE_OUT", None),
    ],
)
def test_advice_belongs_to_the_rung_that_failed(report: dict[str, Any], told: str, not_told: str | None) -> None:
    sentence = explain([report])
    _, _, advice = sentence.partition("To get a decision: ")
    assert told in advice
    assert not_told is None or not_told not in advice
    assert "\n" not in sentence


def test_the_status_and_the_provider_s_code_are_told() -> None:
    sentence = explain([failed("reason", "refused", status=404, code="model_not_found", setting="ESCALADE_LLM_MODEL")])
    assert "reason failed (refused: HTTP 404, model_not_found)" in sentence


@pytest.mark.parametrize("reason", ["unreachable", "server_error", "rate_limited", "timeout", "overloaded"])
def test_the_setting_to_look_at_is_named_and_a_search_advised_where_there_can_be_one(reason: str) -> None:
    report = failed("reason", reason, setting="OPENAI_BASE_URL")
    assert "OPENAI_BASE_URL" in explain([report])
    assert "ladder reason,search" in explain([report])
    assert "search" not in explain([report], has_simulator=False)
    assert "ladder" not in explain([report, failed("search", "deadline")])


def test_a_gateway_that_bars_everybody_is_to_be_looked_at_not_the_key() -> None:
    sentence = explain([failed("reason", "unauthorized", status=403, code="html_page", setting="OPENAI_BASE_URL")])
    assert "OPENAI_BASE_URL" in sentence
    assert "OPENAI_API_KEY" not in sentence


def test_two_rungs_that_failed_have_advice_each() -> None:
    sentence = explain([failed("reason", "timeout", status=None), failed("search", "overloaded")])
    assert "reason failed (timeout), search failed (overloaded)" in sentence
    assert "language model's endpoint" in sentence
    assert "search less at once" in sentence
