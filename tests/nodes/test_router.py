"""What the router decides, on its own."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.language_models import FakeListChatModel
from support import uniform_resources

from escalade.domains.base import RUNGS
from escalade.domains.errors import DeadlineError, SettingsError
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.nodes.context import DecisionContext, make_context, read_context
from escalade.nodes.language_model import LanguageModel
from escalade.nodes.resources import Resources
from escalade.nodes.router import END_OF_LADDER, GRACE_MS, allowance, judge, next_rung, router_node
from escalade.nodes.search import search_node
from escalade.search.evaluators import UniformEvaluator
from escalade.search.service import SearchService

PRICED = LanguageModel(FakeListChatModel(responses=["1"]), "fake", input_usd_per_mtok=1.0, output_usd_per_mtok=2.0)
FULL = uniform_resources(
    language_model=PRICED,
)


def proposal(rung: str, confidence: float | None = 0.8, **more: Any) -> dict[str, Any]:
    return {"rung": rung, "action": 1, "confidence": confidence, "cost_usd": 0.0, "latency_ms": 1.0, **more}


def walk(context: DecisionContext, resources: Resources = FULL) -> list[str]:
    """The rungs visited if each of them escalates."""
    reports: list[dict[str, Any]] = []
    visited = []
    while True:
        reports, rung = next_rung(reports, "51", 0.0, context, resources)
        if rung is None:
            return visited
        visited.append(rung)
        reports = [*reports, {**proposal(rung), "outcome": "escalated"}]


def test_the_ladder_is_climbed_in_order_and_each_rung_asked_once() -> None:
    assert walk(DecisionContext(human=True)) == list(RUNGS)
    assert walk(DecisionContext()) == ["policy", "value", "reason", "search"]
    assert walk(DecisionContext(ladder=("human", "search"))) == ["human", "search"]
    assert walk(DecisionContext(mode="neural_only")) == ["policy", "value"]
    assert walk(DecisionContext(mode="llm_only", ladder=("search", "reason"))) == ["reason"]
    assert walk(DecisionContext(mode="search_only", ladder=("reason",))) == []


@pytest.mark.parametrize(
    ("rung", "confidence", "context", "verdict"),
    [
        ("policy", 0.99, {}, ("escalated", "no_certificate")),
        ("value", 0.99, {}, ("escalated", "no_certificate")),
        ("reason", None, {}, ("accepted", "trusted")),
        ("search", 0.1, {}, ("accepted", "trusted")),
        ("human", None, {}, ("accepted", "trusted")),
        ("policy", 0.8, {"policy_threshold": 0.8}, ("accepted", "over_threshold")),
        ("policy", 0.79, {"policy_threshold": 0.8}, ("escalated", "under_threshold")),
        ("reason", None, {"reason_threshold": 0.1}, ("escalated", "no_confidence")),
        ("search", 0.1, {"search_threshold": 0.5}, ("escalated", "under_threshold")),
        ("policy", 0.0, {"mode": "neural_only", "policy_threshold": 1.0}, ("accepted", "mode")),
    ],
)
def test_verdicts(rung: str, confidence: float | None, context: dict[str, Any], verdict: tuple[str, str]) -> None:
    report = judge(proposal(rung, confidence), [], DecisionContext(**context), FULL)
    assert (report["outcome"], report["reason"]) == verdict


def test_a_failed_proposal_stays_failed_in_any_mode() -> None:
    failed = {"rung": "reason", "outcome": "failed", "reason": "timeout", "cost_usd": 0.0}
    assert judge(failed, [], DecisionContext(mode="llm_only"), FULL) == failed


@given(st.floats(0, 1), st.floats(0, 1))
def test_accepts_exactly_at_or_above_the_threshold(confidence: float, threshold: float) -> None:
    report = judge(proposal("policy", confidence), [], DecisionContext(policy_threshold=threshold), FULL)
    assert (report["outcome"] == "accepted") == (confidence >= threshold)


def test_a_model_that_does_not_fit_the_time_or_the_money_is_skipped() -> None:
    def reason_for(elapsed: float = 0.0, resources: Resources = FULL, **context: Any) -> str | None:
        reports, _ = next_rung([], "51", elapsed, DecisionContext(ladder=("reason", "search"), **context), resources)
        return reports[0]["reason"] if reports else None

    assert reason_for() is None
    assert reason_for(deadline_ms=10_000) is None
    assert reason_for(deadline_ms=180) == "deadline"  # half of it is search's, and calls take 100 ms as far as is known
    assert reason_for(elapsed=20, deadline_ms=10) == "deadline"
    cost = PRICED.most_it_can_cost(FULL.domain, "51")
    assert cost is not None
    assert reason_for(budget_usd=cost) is None
    assert reason_for(budget_usd=cost * 0.99) == "budget"
    unpriced = replace(FULL, language_model=LanguageModel(PRICED.chat, "fake"))
    assert reason_for(resources=unpriced) is None
    assert reason_for(resources=unpriced, budget_usd=100.0) == "unpriced"


def test_money_already_spent_counts_against_the_budget() -> None:
    spent = [{**proposal("reason"), "outcome": "escalated", "cost_usd": 0.5}]
    tight, ample = (DecisionContext(ladder=("reason", "search"), budget_usd=usd) for usd in (0.4, 0.6))
    assert next_rung(spent, "51", 0.0, tight, FULL)[1] == "search"  # this machine's time is free by default
    paid = replace(FULL, compute_usd_per_hour=1.0)
    assert next_rung(spent, "51", 0.0, tight, paid)[1] is None
    assert next_rung(spent, "51", 0.0, ample, paid)[1] == "search"


def test_an_unknown_bill_bars_what_costs_money_and_nothing_else() -> None:
    failed = [{"rung": "policy", "outcome": "failed", "reason": "error", "cost_usd": None}]
    context = DecisionContext(ladder=("policy", "reason", "search"), budget_usd=1.0)
    reports, rung = next_rung(failed, "51", 0.0, context, FULL)
    assert reports[-1]["reason"] == "unpriced"
    assert rung == "search"


def test_a_model_leaves_half_of_the_time_to_search() -> None:
    context = DecisionContext(deadline_ms=1000)
    assert allowance("reason", 200, context, FULL) == 400
    assert allowance("search", 200, context, FULL) == 800
    assert allowance("reason", 200, DecisionContext(deadline_ms=1000, ladder=("search", "reason")), FULL) == 800
    assert allowance("reason", 200, DecisionContext(), FULL) is None


def test_a_search_without_which_nothing_is_decided_has_a_moment_after_a_failure() -> None:
    failed = {"rung": "reason", "outcome": "failed", "reason": "timeout", "cost_usd": 0.0}
    context = DecisionContext(ladder=("policy", "reason", "search"), deadline_ms=1000)
    router = router_node(FULL)

    def after(*reports: dict[str, Any], elapsed_ms: float = 1500.0) -> tuple[str, float | None]:
        state: Any = {"text": "51", "reports": list(reports), "proposal": None, "elapsed_ms": elapsed_ms}
        update = router.run(state, context)
        return update["next_rung"], update.get("allowance_ms")

    policy = {**proposal("policy", 0.1), "outcome": "escalated"}
    skipped = {"rung": "policy", "outcome": "skipped", "reason": "novel", "cost_usd": 0.0}
    assert after(skipped, failed) == ("search", GRACE_MS)
    assert after(skipped, failed, elapsed_ms=400) == ("search", 600)
    assert after(policy, failed) == (END_OF_LADDER, None)  # the policy's proposal is there
    assert after() == (END_OF_LADDER, None)  # too late before anyone was asked


def test_a_last_resort_that_could_not_begin_in_time_is_a_small_search() -> None:
    service = SearchService(TicTacToe(), UniformEvaluator(), clock=FULL.clock)
    search, context = search_node(replace(FULL, search=service)), DecisionContext()
    assert search.async_run is not None
    failed = {"rung": "reason", "outcome": "failed", "reason": "timeout", "cost_usd": 0.0}
    state: Any = {"text": "51", "reports": [failed], "elapsed_ms": 1000.0, "allowance_ms": -1.0}
    for found in (search.run(state, context), asyncio.run(search.async_run(state, context))):
        assert found["action"] not in (4, 0)
        assert found["details"]["rootInfo"]["visits"] <= 16
    state["reports"] = [{**proposal("policy", 0.1), "outcome": "escalated"}, failed]  # there is something to decide by
    with pytest.raises(DeadlineError):
        search.run(state, context)
    with pytest.raises(DeadlineError):
        asyncio.run(search.async_run(state, context))
    service.close()


def test_the_router_writes_where_to_go_and_why() -> None:
    router = router_node(FULL)
    state: Any = {"text": "51", "reports": [], "proposal": None, "elapsed_ms": 1.0}
    update = router.run(state, DecisionContext())
    assert update["next_rung"] == "policy"
    assert update["why"]
    state = {**state, "proposal": proposal("policy")}
    update = router.run(state, DecisionContext(policy_threshold=0.5))
    assert update["next_rung"] == "conclude"
    assert update["proposal"] is None
    assert state["reports"] == []  # the state it was given is not touched


def test_options_are_checked_with_the_field_named() -> None:
    for bad in ({"policy_threshold": 1.1}, {"simulations": 0}, {"deadline_ms": float("nan")}, {"ladder": []}):
        with pytest.raises(SettingsError, match=next(iter(bad))):
            make_context(bad)
    with pytest.raises(SettingsError, match="ladder"):
        make_context({"ladder": ["policy", "policy"]})
    with pytest.raises(SettingsError, match="unknown"):
        make_context({"unknown": 1})


def test_whatever_the_runtime_holds_becomes_our_options() -> None:
    defaults = DecisionContext(simulations=7, mode="search_only")

    class Theirs:
        escalade = DecisionContext(mode="auto")

    assert read_context(None, defaults) == defaults
    assert read_context({"their": 1}, defaults) == defaults
    assert read_context(object(), defaults) == defaults
    assert read_context(DecisionContext(), defaults) == defaults
    assert read_context(DecisionContext(mode="auto"), defaults) == DecisionContext(simulations=7, mode="auto")
    assert read_context({"escalade": {"simulations": 9}}, defaults).simulations == 9
    assert read_context(Theirs(), defaults).mode == "auto"


def test_with_nothing_to_choose_from_the_first_rung_decides() -> None:
    report = judge(proposal("policy", 0.01), [], DecisionContext(), FULL, forced=True)
    assert (report["outcome"], report["reason"]) == ("accepted", "only_action")


def test_a_domain_s_rule_leaves_a_state_to_some_rungs() -> None:
    reports, rung = next_rung([], "51", 0.0, DecisionContext(), FULL, allowed=["search", "human"])
    assert rung == "search"
    assert [(report["rung"], report["reason"]) for report in reports] == [
        ("policy", "rule"),
        ("value", "rule"),
        ("reason", "rule"),
    ]
