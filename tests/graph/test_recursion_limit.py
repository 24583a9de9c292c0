"""LangGraph's `recursion_limit`: a rung that it leaves no steps for fails or is skipped, the decision does not."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from langchain_openai import ChatOpenAI
from langgraph.errors import GraphRecursionError
from pydantic import SecretStr
from simulated import exact, served

from escalade import Decision, DecisionContext, NoDecisionError, build_decision_graph
from escalade.app.simulated_llm import SimulatedModel, Simulation
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.nodes.language_model import LanguageModel

LOST_UNLESS_3 = "5192"
"""X to move; O wins with 3 if X does not take it. A model that is always wrong is refuted, and revises."""
FULL = DecisionContext(ladder=("reason", "search"), reasoning="full", samples=3, simulations=10)


@pytest.fixture(scope="module")
def graph() -> Iterator[Any]:
    """With a language model on loopback, whose calls have a price."""
    with served(SimulatedModel(TicTacToe(), exact, Simulation(latency_ms=1, accuracy=0.0))) as url:

        def chat() -> ChatOpenAI:  # each event loop has its own, and leaves no connection when it ends
            client = httpx.AsyncClient(limits=httpx.Limits(max_keepalive_connections=0))
            return ChatOpenAI(
                model="simulated", base_url=url, api_key=SecretStr("none"), max_retries=0, http_async_client=client
            )

        model = LanguageModel(chat, "simulated", input_usd_per_mtok=1.0, output_usd_per_mtok=1.0)
        yield build_decision_graph("tic_tac_toe", language_model=model)


def decide(graph: Any, limit: int, context: DecisionContext, state: str = LOST_UNLESS_3) -> list[Decision]:
    """Sync and async."""
    config, given = {"recursion_limit": limit}, {"state": state}
    results = (
        graph.invoke(given, config, context=context),
        asyncio.run(graph.ainvoke(given, config, context=context)),
    )
    return [Decision.model_validate(result["decision"]) for result in results]


def test_a_limit_reached_inside_the_reasoning_graph_fails_the_rung_and_counts_its_cost(graph: Any) -> None:
    """Eight steps let the decision graph ask both rungs, but the reasoning graph needs more than eight of its own."""
    for decision in decide(graph, 8, FULL):
        reason, search = decision.rungs
        assert (reason.outcome, reason.reason) == ("failed", "recursion_limit")
        assert "recursion_limit" in reason.details["message"]
        assert reason.cost_usd is not None
        assert reason.cost_usd > 0
        assert (decision.source, search.reason) == ("search", "trusted")
    for decision in decide(graph, 30, FULL):
        assert decision.rungs[0].reason != "recursion_limit"
        assert decision.rungs[0].details["refuted"]


def test_rungs_that_the_limit_leaves_no_steps_for_are_skipped(graph: Any) -> None:
    context = DecisionContext(ladder=("search", "reason"), search_threshold=1.0, simulations=2)
    for decision in decide(graph, 6, context, "51"):
        assert [(one.rung, one.reason) for one in decision.rungs] == [
            ("search", "under_threshold"),
            ("reason", "recursion_limit"),
        ]
        assert decision.best_effort
    for limit in (3, 4, 5):
        with pytest.raises(NoDecisionError, match=r"search skipped \(recursion_limit\).*recursion_limit in the run"):
            decide(graph, limit, context)
    for limit in (1, 2):  # too few for any node to say so: LangGraph's own error, which names the setting
        with pytest.raises(GraphRecursionError, match="recursion_limit"):
            decide(graph, limit, context)


def test_no_limit_ends_a_run_in_another_way(graph: Any) -> None:
    for context in (FULL, DecisionContext(ladder=("reason", "search"), simulations=10)):
        for limit in range(6, 16):
            try:
                decisions = decide(graph, limit, context)
            except NoDecisionError as error:
                assert "recursion_limit" in str(error)  # noqa: PT017 -- either is right
            else:
                assert {one.source for one in decisions} <= {"reason", "search"}


def test_the_reasoning_graph_is_still_drawn_found_and_streamed(graph: Any) -> None:
    assert [name for name, _ in graph.get_subgraphs()] == ["reason"]
    assert "reason:decompose" in graph.get_graph(xray=True).nodes
    stream = graph.stream({"state": "51"}, context=FULL, stream_mode="updates", subgraphs=True)
    inside = [name for space, update in stream if space for name in update]
    assert inside[0] == "decompose"
