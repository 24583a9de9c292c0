"""The record of a run that ends without a decision."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from escalade import FailedDecision, NoDecisionError, StateError, build_decision_graph
from escalade.app.metrics import Metrics
from escalade.app.settings import Settings
from escalade.app.wiring import open_language_model
from tests.loopback_llm import Reply, loopback

pytestmark = pytest.mark.endpoint_row(24)

PRICES = {"llm_input_usd_per_mtok": 1.0, "llm_output_usd_per_mtok": 10.0}
A_CALL = (100 * 1.0 + 10 * 10.0) / 1e6


def model_at(url: str) -> Any:
    return open_language_model(Settings(llm_model="m", llm_base_url=url, llm_batch_ms=0, **PRICES))


def test_what_an_undecided_run_has_cost_is_recorded_and_counted() -> None:
    heard: list[FailedDecision] = []
    metrics = Metrics()

    def broken(failed: FailedDecision) -> None:
        raise OSError("disk full")

    with loopback(lambda _: Reply(content='{"action": "nonsense", "evaluation": 0}')) as served:
        model = model_at(served.url)
        sinks = (broken, heard.append, metrics.record_failure)
        graph = build_decision_graph("tic_tac_toe", language_model=model, failure_sinks=sinks)
        with pytest.raises(NoDecisionError) as caught:
            graph.invoke({"state": "51", "decision_id": "mine"}, context={"mode": "llm_only"})
        model.close()
    (failed,) = heard
    assert (failed.decision_id, failed.state, failed.outcome, failed.error) == (
        "mine",
        "51",
        "failed",
        "NoDecisionError",
    )
    assert failed.cost_usd == pytest.approx(served.answered * A_CALL)
    assert failed.rungs[-1].rung == "reason"
    assert caught.value.failed == failed
    counted = metrics.registry.get_sample_value
    assert counted("inference_cost_dollars_total", {"source": "reason"}) == pytest.approx(failed.cost_usd)
    assert counted("failed_decisions_total", {"domain": "tic_tac_toe", "outcome": "failed"}) == 1
    assert counted("llm_tokens_total", {"kind": "output"}) == 10 * served.answered


@pytest.mark.parametrize("state", ["x", None, 55, "\ud800", ["a"]])
def test_what_is_refused_has_cost_nothing(state: Any) -> None:
    heard: list[FailedDecision] = []
    graph: Any = build_decision_graph("tic_tac_toe", failure_sinks=[heard.append])
    with pytest.raises(StateError):
        graph.invoke({"state": state})
    (failed,) = heard
    assert (failed.outcome, failed.cost_usd, failed.rungs) == ("refused", 0.0, [])
    assert failed.model_dump_json()


def test_a_run_whose_caller_leaves_is_recorded_with_a_cost_that_is_not_known() -> None:
    heard: list[FailedDecision] = []

    async def main(url: str) -> None:
        model = model_at(url)
        graph: Any = build_decision_graph("tic_tac_toe", language_model=model, failure_sinks=[heard.append])
        run = asyncio.create_task(graph.ainvoke({"state": "51"}))
        await asyncio.to_thread(served.came.wait, 10)
        run.cancel()
        with pytest.raises(asyncio.CancelledError):
            await run
        await asyncio.to_thread(model.close)

    with loopback(lambda _: Reply(after_s=0.5)) as served:
        asyncio.run(main(served.url))
    (failed,) = heard
    assert (failed.outcome, failed.cost_usd) == ("cancelled", None)
    assert [report.reason for report in failed.rungs][-1] == "cancelled"


def test_a_thread_does_not_carry_costs_over_to_what_is_refused_later() -> None:
    from langgraph.checkpoint.memory import InMemorySaver

    heard: list[FailedDecision] = []
    graph: Any = build_decision_graph("tic_tac_toe", failure_sinks=[heard.append], checkpointer=InMemorySaver())
    thread: Any = {"configurable": {"thread_id": "1"}}
    graph.invoke({"state": "51", "decision_id": "first"}, thread, context={"simulations": 5})
    with pytest.raises(StateError):
        graph.invoke({"state": "x"}, thread)
    (failed,) = heard
    assert failed.decision_id != "first"
    assert failed.rungs == []
    assert failed.state == "x"
