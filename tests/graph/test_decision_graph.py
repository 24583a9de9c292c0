"""Decisions end to end through the compiled graph."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command
from typing_extensions import TypedDict

from escalade import (
    Decision,
    DecisionContext,
    DecisionNode,
    EscaladeError,
    NoDecisionError,
    StateError,
    build_decision_graph,
    decision_agent,
    decision_tool,
    exact_solver,
    load_domain,
)
from escalade.domains.intents import Intents
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.neural.bundle import Bundle
from escalade.search.solvers import optimal_actions


def decide(graph: Any, state: Any, **context: Any) -> Decision:
    result = asyncio.run(graph.ainvoke({"state": state}, context=DecisionContext(**context)))
    json.dumps(result, allow_nan=False)  # plain JSON, all of it
    return Decision.model_validate(result["decision"])


def outcomes(decision: Decision) -> list[tuple[str, str, str]]:
    return [(report.rung, report.outcome, report.reason) for report in decision.rungs]


@pytest.fixture(scope="module")
def without_model() -> Any:
    return build_decision_graph("tic_tac_toe")


@pytest.fixture(scope="module")
def with_model(tic_tac_toe_bundle: Bundle) -> Any:
    return build_decision_graph("tic_tac_toe", bundle=tic_tac_toe_bundle)


def test_without_anything_configured_search_decides(without_model: Any) -> None:
    decision = decide(without_model, "51", simulations=200)
    assert outcomes(decision) == [
        ("policy", "skipped", "no_model"),
        ("value", "skipped", "no_model"),
        ("reason", "skipped", "no_llm"),
        ("search", "accepted", "trusted"),
    ]
    assert decision.source == "search"
    assert not decision.best_effort
    assert not decision.certified
    assert decision.state == "51"
    assert decision.action_name == str(decision.action + 1)
    assert decision.policy is not None
    assert sum(decision.policy) == pytest.approx(1, abs=1e-5)
    moves = decision.rungs[-1].details["moveInfos"]
    assert [move["order"] for move in moves] == list(range(7))
    assert moves[0]["move"] == decision.action_name
    assert moves[0]["pv"][0] == decision.action_name
    assert {"visits", "prior", "utility", "winrate", "pv"} <= moves[0].keys()


def test_a_network_alone_does_not_accept_without_a_certificate(with_model: Any) -> None:
    decision = decide(with_model, "51")
    assert outcomes(decision)[:2] == [
        ("policy", "escalated", "no_certificate"),
        ("value", "escalated", "no_certificate"),
    ]
    assert decision.source == "search"
    assert all(report.action is not None for report in decision.rungs[:2])


def test_a_threshold_given_by_hand_is_used_and_called_uncertified(with_model: Any) -> None:
    low = decide(with_model, "51", policy_threshold=0.0)
    assert outcomes(low) == [("policy", "accepted", "over_threshold")]
    assert low.rungs[0].threshold == 0.0
    assert not low.certified
    assert low.confidence == low.rungs[0].confidence
    high = decide(with_model, "51", policy_threshold=1.0, value_threshold=0.0)
    assert outcomes(high) == [("policy", "escalated", "under_threshold"), ("value", "accepted", "over_threshold")]


def test_the_trained_network_decides_nearly_all_positions_well(with_model: Any) -> None:
    domain: Any = load_domain("tic_tac_toe")
    solver: Any = exact_solver(domain)
    states = [state for state in solver.reachable_positions() if not domain.is_terminal(state)][::15]
    good = dict.fromkeys(("policy", "value"), 0)
    for state in states:
        for rung in good:
            decision = decide(with_model, state.moves, mode="neural_only", ladder=(rung,))
            assert decision.source == rung
            good[rung] += decision.action in optimal_actions(solver.scores(state))
    # Measured 0.99 and 0.97 when written; far above the 0.6 or so of a random mover.
    assert good["policy"] / len(states) > 0.9
    assert good["value"] / len(states) > 0.9


@pytest.mark.parametrize(("mode", "source"), [("neural_only", "policy"), ("search_only", "search")])
def test_only_modes_take_their_rung_whatever_its_confidence(with_model: Any, mode: str, source: str) -> None:
    decision = decide(with_model, "519", mode=mode, policy_threshold=1.0, search_threshold=1.0, simulations=3)
    assert outcomes(decision) == [(source, "accepted", "mode")]


def test_value_sees_a_win_at_once_exactly(with_model: Any) -> None:
    decision = decide(with_model, "14257", mode="neural_only", ladder=("value",))  # O completes 456 at 6
    assert decision.action_name == "6"
    assert decision.value == 1.0
    assert decision.confidence == 1.0


def test_the_ladder_can_be_reordered_and_cut(with_model: Any) -> None:
    decision = decide(with_model, "51", ladder=("search", "policy"), search_threshold=1.0, simulations=5)
    assert [report.rung for report in decision.rungs] == ["search", "policy"]
    assert decision.best_effort
    assert decision.source == "search"  # the dearer proposal is the better guess


def test_nothing_that_can_decide_is_a_clear_error(without_model: Any) -> None:
    with pytest.raises(NoDecisionError, match=r"policy skipped \(no_model\).*--bundle") as caught:
        decide(without_model, "51", mode="neural_only")
    assert [report["reason"] for report in caught.value.reports] == ["no_model", "no_model"]
    with pytest.raises(NoDecisionError, match="ESCALADE_LLM_MODEL"):
        decide(build_decision_graph(Intents(["card", "loan"])), "where is my card?")


@pytest.mark.parametrize(
    ("state", "position"),
    [
        ("5x", 2),
        ("55", 2),
        ("142539", 6),
        ("14253", 5),
        (None, None),
        (55, 2),
        (5.5, 2),
        (True, None),
        ({"a": 1}, None),
        ([], None),
    ],
)
def test_impossible_states_are_refused_with_the_place(without_model: Any, state: Any, position: int | None) -> None:
    with pytest.raises(StateError) as caught:
        decide(without_model, state)
    assert caught.value.position == position


def test_a_deadline_cuts_the_search_short_and_one_that_is_past_skips_it(without_model: Any) -> None:
    decision = decide(without_model, "", simulations=1_000_000, deadline_ms=300)
    assert decision.rungs[-1].details["rootInfo"]["stopped"] in ("deadline", "proven")
    with pytest.raises(NoDecisionError, match=r"search skipped \(deadline\)"):
        decide(without_model, "", deadline_ms=1e-9)


def test_equal_runs_decide_equally(with_model: Any) -> None:
    first, second = (decide(with_model, "5", seed=5, simulations=50) for _ in range(2))
    unequal = {"decision_id", "latency_ms", "rungs"}
    assert first.model_dump(exclude=unequal) == second.model_dump(exclude=unequal)
    assert first.rungs[-1].details == second.rungs[-1].details


def test_it_runs_synchronously_too_and_a_hundred_at_once(with_model: Any) -> None:
    assert with_model.invoke({"state": "51"}, context={"policy_threshold": 0})["decision"]["source"] == "policy"

    async def many() -> list[Any]:
        context = DecisionContext(policy_threshold=0.9, simulations=30)
        return await asyncio.gather(*[with_model.ainvoke({"state": s}, context=context) for s in "123456789" * 11])

    decided = [result["decision"] for result in asyncio.run(many())]
    assert len({decision["decision_id"] for decision in decided}) == 99
    assert all(decision["state"] != str(decision["action"] + 1) for decision in decided)


def test_the_caller_may_name_the_decision(without_model: Any) -> None:
    result = without_model.invoke({"state": "51", "decision_id": "mine"}, context={"simulations": 1})
    assert result["decision"]["decision_id"] == "mine"
    with pytest.raises(StateError, match="decision_id"):
        without_model.invoke({"state": "51", "decision_id": ""})


# A person


def test_without_leave_no_person_is_asked(without_model: Any) -> None:
    decision = decide(without_model, "51", search_threshold=1.0, simulations=3)
    assert outcomes(decision)[-1] == ("human", "skipped", "no_person")
    assert decision.best_effort


# Checkpoints


def test_every_step_can_be_forked_and_decides_again() -> None:
    graph = build_decision_graph("tic_tac_toe", checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    context = DecisionContext(simulations=20, deadline_ms=60_000)
    first = graph.invoke({"state": "51"}, config, context=context)["decision"]
    history = list(graph.get_state_history(config))
    assert [snapshot.next for snapshot in reversed(history)] == [
        ("__start__",),
        ("parse",),
        ("router",),
        ("search",),
        ("router",),
        ("conclude",),
        (),
    ]
    for snapshot in history[1:-1]:
        again = graph.invoke(None, snapshot.config, context=context)["decision"]
        assert again["action"] == first["action"]
    at_router = next(snapshot for snapshot in history if snapshot.next == ("search",))
    forked = graph.update_state(at_router.config, {"next_rung": "conclude"}, as_node="router")
    with pytest.raises(NoDecisionError):
        graph.invoke(None, forked, context=context)


def test_a_thread_may_decide_many_times() -> None:
    graph = build_decision_graph("tic_tac_toe", checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    for state in ("5", "51", "519"):
        decision = graph.invoke({"state": state}, config, context=DecisionContext(simulations=5))["decision"]
        assert decision["state"] == state
        assert len(decision["rungs"]) == 4


def test_decisions_on_one_thread_do_not_inherit_from_each_other() -> None:
    graph = build_decision_graph("tic_tac_toe", checkpointer=InMemorySaver(), clock=Ticking(step=0.01))
    config: Any = {"configurable": {"thread_id": "1"}}
    given: list[dict[str, Any]] = [{"state": "51"}, {"state": "51", "decision_id": "mine"}, {"state": "51"}]
    context = DecisionContext(simulations=5, deadline_ms=1000)
    decisions = [graph.invoke(one, config, context=context)["decision"] for one in given]  # type: ignore[arg-type]
    assert decisions[1]["decision_id"] == "mine"
    assert len({decision["decision_id"] for decision in decisions}) == 3
    assert decisions[2]["latency_ms"] == pytest.approx(decisions[0]["latency_ms"], rel=0.5)


class Ticking:
    """A clock that goes on by a step whenever it is read, and by `skip` when told."""

    def __init__(self, step: float) -> None:
        self.now, self.step = 1e9, step

    def __call__(self) -> float:
        self.now += self.step
        return self.now


def test_the_time_a_person_takes_is_not_the_decisions() -> None:
    clock = Ticking(step=0.001)
    graph = build_decision_graph("tic_tac_toe", checkpointer=InMemorySaver(), clock=clock)
    config: Any = {"configurable": {"thread_id": "1"}}
    graph.invoke({"state": "51"}, config, context=DecisionContext(ladder=("human",)))
    clock.now += 3.0
    decision = graph.invoke(Command(resume={"action_name": "9"}), config, context=DecisionContext(ladder=("human",)))
    assert decision["decision"]["latency_ms"] < 100


def test_the_clocks_of_two_processes_are_not_compared(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Ticking(step=0.001)
    graph = build_decision_graph("tic_tac_toe", checkpointer=InMemorySaver(), clock=clock)
    config: Any = {"configurable": {"thread_id": "1"}}
    context = DecisionContext(ladder=("search",), simulations=5, deadline_ms=1500)
    graph.invoke({"state": "51"}, config, context=context, interrupt_before=["search"])
    monkeypatch.setattr("escalade.nodes.step.PROCESS", "another")  # whose clock began later
    clock.now -= 1e6
    decision = graph.invoke(None, config, context=context)["decision"]
    assert decision["source"] == "search"
    assert 0 < decision["latency_ms"] < 100
    graph.invoke({"state": "51"}, config, context=context, interrupt_before=["search"])
    monkeypatch.setattr("escalade.nodes.step.PROCESS", "a third")
    clock.now += 4.0  # looks like a gap of a step in one process
    assert graph.invoke(None, config, context=context)["decision"]["latency_ms"] < 100


# Embedding


class Parent(TypedDict, total=False):
    board: str
    verdict: dict[str, Any]


class TheirContext(TypedDict, total=False):
    escalade: dict[str, Any]
    theirs: int


def test_embedded_in_a_graph_of_another_state_and_context(with_model: Any) -> None:
    parent = StateGraph(Parent, context_schema=TheirContext)
    parent.add_node("decide", DecisionNode(with_model, "board", "verdict"))
    parent.add_edge(START, "decide")
    parent.add_edge("decide", END)
    graph = parent.compile()
    theirs: Any = {"theirs": 1, "escalade": {"mode": "neural_only"}}
    assert graph.invoke({"board": "51"}, context=theirs)["verdict"]["source"] == "policy"
    assert asyncio.run(graph.ainvoke({"board": "51"}, context=theirs))["verdict"]["source"] == "policy"
    assert graph.invoke({"board": "51"}, context={"theirs": 1})["verdict"]["source"] == "search"
    wrong: Any = {"escalade": {"mood": "x"}}
    with pytest.raises(EscaladeError, match="mood"):
        graph.invoke({"board": "51"}, context=wrong)


def test_embedded_as_a_subgraph_on_shared_keys(with_model: Any) -> None:
    class Shared(TypedDict, total=False):
        state: str
        decision: dict[str, Any]

    parent = StateGraph(Shared)
    parent.add_node("decide", with_model)
    parent.add_edge(START, "decide")
    parent.add_edge("decide", END)
    assert parent.compile().invoke({"state": "51"})["decision"]["source"] == "search"


def test_a_persons_question_passes_through_an_embedding_node() -> None:
    inner = build_decision_graph("tic_tac_toe", defaults=DecisionContext(ladder=("human",)))
    parent = StateGraph(Parent)
    parent.add_node("decide", DecisionNode(inner, "board", "verdict"))
    parent.add_edge(START, "decide")
    parent.add_edge("decide", END)
    graph = parent.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    assert "__interrupt__" in graph.invoke({"board": "51"}, config)
    assert graph.invoke(Command(resume={"action_name": "9"}), config)["verdict"]["source"] == "human"


def test_as_a_tool_and_as_a_member_of_a_team(with_model: Any) -> None:
    tool = decision_tool(with_model)
    assert "search" in tool.invoke({"state": "51"})
    assert "No decision" in tool.invoke({"state": "99"})
    assert "No decision" in asyncio.run(tool.ainvoke({"state": "99"}))
    agent = decision_agent(with_model, name="player")
    message = asyncio.run(agent.ainvoke({"messages": [("user", "51")]}))["messages"][-1]
    assert message.name == "player"
    assert message.response_metadata["decision"]["domain"] == "tic_tac_toe"
    assert agent.invoke({"messages": [("user", "51")]})["messages"][-1].content


def test_an_uncompiled_graph_can_be_extended() -> None:
    graph = build_decision_graph("tic_tac_toe", compiled=False)
    assert isinstance(graph, StateGraph)
    assert graph.compile().invoke({"state": "51"})["decision"]["source"] == "search"


def test_the_drawing_is_the_architecture(without_model: Any) -> None:
    edges = {(edge.source, edge.target, edge.conditional) for edge in without_model.get_graph().edges}
    rungs = ("policy", "value", "reason", "search", "human")
    assert edges == {
        ("__start__", "parse", False),
        ("parse", "router", False),
        *((rung, "router", False) for rung in rungs),
        *(("router", target, True) for target in (*rungs, "conclude")),
        ("conclude", "__end__", False),
    }


def test_sinks_hear_of_every_decision_and_their_trouble_is_theirs() -> None:
    heard: list[Decision] = []

    def broken(decision: Decision) -> None:
        raise OSError("disk full")

    graph = build_decision_graph("tic_tac_toe", sinks=[broken, heard.append])
    decision = decide(graph, "51", simulations=2)
    assert heard == [decision]


def test_a_failing_rung_is_reported_and_the_ladder_goes_on(tic_tac_toe_bundle: Bundle) -> None:
    class Broken:
        def evaluate(self, observations: Any, legal: Any) -> Any:
            raise RuntimeError("no such device")

    graph = build_decision_graph("tic_tac_toe", bundle=tic_tac_toe_bundle, evaluator=Broken())
    decision = decide(graph, "51")
    assert outcomes(decision)[-2:] == [("search", "failed", "error"), ("human", "skipped", "no_person")]
    assert decision.rungs[-2].details["error"] == "RuntimeError"
    assert decision.best_effort
    assert decision.source == "value"


def test_where_nobody_can_answer_a_person_is_not_waited_for() -> None:
    graph = build_decision_graph("tic_tac_toe", defaults=DecisionContext(ladder=("human",)))
    assert "asks a person" in decision_tool(graph).invoke({"state": "51"})
    parent = StateGraph(Parent)
    parent.add_node("decide", DecisionNode(graph, "board", "verdict"))
    parent.add_edge(START, "decide")
    assert "__interrupt__" in parent.compile().invoke({"board": "51"})  # the question is the parent's caller's


def test_what_is_no_domain_or_a_broken_one_is_refused_when_built() -> None:
    from escalade.domains.errors import CatalogError, DomainFault, SettingsError
    from escalade.domains.tic_tac_toe import TicTacToe

    class Misshapen(TicTacToe):
        observation_shape = (2, 3, 3)

    for wrong in (5, TicTacToe, None):
        with pytest.raises(CatalogError, match="a domain is"):
            build_decision_graph(wrong)  # type: ignore[call-overload]
    with pytest.raises(DomainFault, match="encode"):
        build_decision_graph(Misshapen())
    with pytest.raises(SettingsError, match="checkpointer"):
        build_decision_graph("tic_tac_toe", compiled=False, checkpointer=InMemorySaver())


def test_a_team_is_told_why_there_is_no_decision(without_model: Any) -> None:
    agent = decision_agent(without_model, name="player")
    for messages in ([("user", "hello")], []):
        assert "No decision" in agent.invoke({"messages": messages})["messages"][-1].content


def test_a_domain_s_own_rules_and_forced_moves_are_followed() -> None:
    class Careful(TicTacToe):
        """Leaves whatever begins in the centre to search."""

        def rungs_for(self, state: Any) -> Sequence[str] | None:
            return ("search",) if state.moves.startswith("5") else None

    graph = build_decision_graph(Careful(), bundle="builtin:tic_tac_toe")
    context = {"policy_threshold": 0.0, "simulations": 10}
    assert graph.invoke({"state": "12"}, context=context)["decision"]["source"] == "policy"
    ruled = graph.invoke({"state": "51"}, context=context)["decision"]
    assert ruled["source"] == "search"
    assert ruled["rungs"][0]["reason"] == "rule"
    forced = graph.invoke({"state": "12375486"}, context={})["decision"]
    assert (forced["source"], forced["rungs"][0]["reason"], forced["action_name"]) == ("policy", "only_action", "9")
