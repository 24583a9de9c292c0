"""A decision's budget holds over all its calls, whatever these turn out to cost."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from escalade import Decision, build_decision_graph
from escalade.app.settings import Settings
from escalade.app.wiring import open_language_model
from escalade.domains.intents import Intents
from escalade.nodes.call_costs import CallCosts
from escalade.nodes.call_failed import CallFailed
from escalade.nodes.guards import DecisionBudget
from tests.loopback_llm import Call, Reply, loopback

pytestmark = pytest.mark.endpoint_row(25)

PRICES = {"llm_input_usd_per_mtok": 1.0, "llm_output_usd_per_mtok": 2.0, "llm_max_tokens": 100}


def usd(reply: Reply) -> float:
    return (reply.usage[0] * 1.0 + reply.usage[1] * 2.0) / 1e6 if reply.status == 200 else 0.0


class Bill:
    """Answers by a script, and knows what it has billed."""

    def __init__(self, *replies: Reply) -> None:
        self.replies, self.usd, self.dearest = replies, 0.0, 0.0

    def __call__(self, call: Call) -> Reply:
        reply = self.replies[min(call.number, len(self.replies) - 1)]
        self.usd += usd(reply)
        self.dearest = max(self.dearest, usd(reply))
        return reply


def decided(bill: Bill, times: int = 1, **options: Any) -> list[Decision]:
    """Decisions one after another in one process that did not know the endpoint."""
    decisions = []
    with loopback(bill) as served:
        model = open_language_model(Settings(llm_model="m", llm_base_url=served.url, **PRICES))
        assert model is not None
        graph = build_decision_graph("tic_tac_toe", language_model=model)
        for _ in range(times):
            context = {"ladder": ["reason", "search"], "simulations": 10, **options}
            decisions.append(Decision.model_validate(graph.invoke({"state": "51"}, context=context)["decision"]))
        model.close()
    return decisions


def nonsense(thinking: int = 0) -> Reply:
    return Reply(content="well, who knows what would be right here\nor there", usage=(150, 20 + thinking))


@pytest.mark.parametrize("thinking", [0, 200, 2000])
@pytest.mark.parametrize("budget_usd", [0.0006, 0.0015, 0.005])
@pytest.mark.parametrize(
    "options", [{}, {"samples": 5}, {"reasoning": "full", "samples": 3}], ids=["one", "samples", "full"]
)
def test_it_is_exceeded_by_no_more_than_one_call(thinking: int, budget_usd: float, options: Any) -> None:
    """Whatever form the endpoint takes answers in, with and without thinking that no estimate knows."""
    for first in (nonsense(thinking), Reply(usage=(150, 20 + thinking))):
        bill = Bill(first, first, Reply(usage=(150, 20 + thinking)))
        (decision,) = decided(bill, budget_usd=budget_usd, **options)
        assert bill.usd <= budget_usd + bill.dearest
        report = next(one for one in decision.rungs if one.rung == "reason")
        if report.cost_usd:
            assert report.cost_usd == pytest.approx(bill.usd, abs=1e-6)


def test_where_it_runs_out_the_rung_says_so_and_the_ladder_goes_on() -> None:
    bill = Bill(nonsense(600))
    (decision,) = decided(bill, budget_usd=0.0015)
    report = decision.rungs[0]
    assert (report.outcome, report.reason) == ("failed", "budget")
    assert decision.source == "search"
    assert bill.usd == pytest.approx(usd(nonsense(600)))  # one call, after which there was no room for another
    assert decision.cost_usd == pytest.approx(bill.usd)


def test_what_calls_really_cost_is_learnt_for_the_next_decision() -> None:
    bill = Bill(Reply(usage=(150, 3000)))
    first, second = decided(bill, times=2, budget_usd=0.001)
    assert first.source == "reason"
    assert (second.rungs[0].outcome, second.rungs[0].reason) == ("skipped", "budget")
    assert bill.usd == pytest.approx(usd(Reply(usage=(150, 3000))))


def test_failed_attempts_count_as_much_as_they_may_have_cost() -> None:
    budget = DecisionBudget(1.0)
    budget.reserve(0.4)
    budget.reserve(0.6)
    with pytest.raises(CallFailed, match="budget"):
        budget.reserve(0.01)
    budget.settle(0.4, 0.5)
    budget.settle(0.6, 0.0)
    assert budget.left_usd == pytest.approx(0.5)
    budget.reserve(0.5)
    DecisionBudget().reserve(1e9)


def test_estimates_follow_the_dearest_call_of_late() -> None:
    costs = CallCosts()
    assert not costs.are_bounded
    costs.learn(1.0, 0.5)
    assert costs.are_bounded
    assert costs.estimate(2.0) == 2.0
    costs.learn(1.0, 4.0)
    assert not costs.are_bounded
    assert costs.estimate(2.0) == 5.0
    for _ in range(1000):
        costs.learn(1.0, 0.5)
    assert costs.are_bounded


@pytest.mark.parametrize("thinking", [0, 3000])
def test_a_poor_decision_in_a_batch_costs_the_others_nothing(thinking: int) -> None:
    def script(call: Call) -> Reply:
        many = "one JSON object a line" in json.dumps(call.body)
        return Reply(content="nothing of the kind\nat all", usage=(200, 50 + thinking)) if many else Reply()

    async def main(graph: Any) -> list[Any]:
        budgets = [0.0008, 1.0, 1.0, 1.0]
        runs = [
            graph.ainvoke({"state": f"text {number}"}, context={"budget_usd": usd_left, "ladder": ["reason"]})
            for number, usd_left in enumerate(budgets)
        ]
        return await asyncio.gather(*runs, return_exceptions=True)

    with loopback(script) as served:
        model = open_language_model(
            Settings(llm_model="m", llm_base_url=served.url, llm_batch_ms=1000, llm_batch_most=4, **PRICES)
        )
        assert model is not None
        ended = asyncio.run(main(build_decision_graph(Intents(["a", "b"]), language_model=model)))
        model.close()
    assert [isinstance(one, dict) for one in ended[1:]] == [True] * 3
    poor = ended[0] if isinstance(ended[0], dict) else None
    spent = poor["decision"]["cost_usd"] if poor else ended[0].failed.cost_usd
    assert spent <= 0.0008 + (200 + 2 * (50 + thinking)) / 1e6
