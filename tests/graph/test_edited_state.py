"""What a person edits in a checkpoint (Studio, `update_state`) never makes an illegal decision: it is a legal one, or
one sentence of ours."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from escalade import Decision, DecisionContext, EscaladeError, NoDecisionError, StateError, build_decision_graph
from escalade.domains.tic_tac_toe import TicTacToe

GAME = TicTacToe()
CONTEXT = DecisionContext(ladder=("policy", "search", "human"), search_threshold=1.0, simulations=5)
CONFIG: Any = {"configurable": {"thread_id": "1"}}
NODES = ("parse", "router", "policy", "value", "reason", "search", "human", "conclude")
GRAPH: Any = build_decision_graph("tic_tac_toe", bundle="builtin:tic_tac_toe", compiled=False)


def asked() -> Any:
    """A graph that waits for a person, with proposals of a network and a search."""
    graph = GRAPH.compile(checkpointer=InMemorySaver())
    assert "__interrupt__" in graph.invoke({"state": "51"}, CONFIG, context=CONTEXT)
    return graph


def legal(decision: dict[str, Any]) -> bool:
    record = Decision.model_validate(json.loads(json.dumps(decision, allow_nan=False)))
    state = GAME.parse(record.state)
    assert record.action_name == GAME.action_name(record.action)
    return GAME.format(state) == record.state and record.action in GAME.legal_actions(state)


def human(action: Any, **more: Any) -> dict[str, Any]:
    return {"proposal": {"rung": "human", "action": action, "cost_usd": 0.0, "latency_ms": 0.0, "details": {}, **more}}


@pytest.mark.parametrize("taken", [0, 4, 9, -1, 1000])
def test_an_illegal_action_put_in_by_hand_is_left_out_and_the_best_proposal_decides(taken: int) -> None:
    graph = asked()
    graph.update_state(CONFIG, human(taken), as_node="human")
    decision = graph.invoke(None, CONFIG, context=CONTEXT)["decision"]
    assert legal(decision)
    assert decision["best_effort"]
    assert decision["source"] == "search"
    report = decision["rungs"][-1]
    assert (report["rung"], report["outcome"], report["reason"]) == ("human", "failed", "illegal_action")
    assert report["action"] is None
    assert f"action {taken} " in report["details"]["message"]


def test_a_legal_action_put_in_by_hand_decides() -> None:
    graph = asked()
    graph.update_state(CONFIG, human(8), as_node="human")
    decision = graph.invoke(None, CONFIG, context=CONTEXT)["decision"]
    assert (decision["source"], decision["action"]) == ("human", 8)


def test_without_another_proposal_an_illegal_action_is_a_clear_error() -> None:
    graph = GRAPH.compile(checkpointer=InMemorySaver())
    context = DecisionContext(ladder=("human",))
    graph.invoke({"state": "51"}, CONFIG, context=context)
    graph.update_state(CONFIG, human(4), as_node="human")
    with pytest.raises(NoDecisionError, match=r"human failed \(illegal_action: .*not legal in this state"):
        graph.invoke(None, CONFIG, context=context)


def test_a_forged_accepted_report_of_an_illegal_action_does_not_decide() -> None:
    graph = asked()
    forged = {"rung": "human", "outcome": "accepted", "reason": "trusted", "action": 4, "cost_usd": 0.0}
    reports = graph.get_state(CONFIG).values["reports"]
    for order in ([*reports, forged], [forged, *reports]):
        graph.update_state(CONFIG, {"reports": order, "next_rung": "conclude"}, as_node="router")
        decision = graph.invoke(None, CONFIG, context=CONTEXT)["decision"]
        assert legal(decision)
        assert decision["source"] == "search"
    graph.update_state(CONFIG, {"reports": [forged], "next_rung": "conclude"}, as_node="router")
    with pytest.raises(NoDecisionError, match="illegal_action"):
        graph.invoke(None, CONFIG, context=CONTEXT)


def test_another_state_is_decided_by_its_own_legal_actions() -> None:
    """The network's and the search's actions were for 51; in 5196 some of them are taken."""
    graph = asked()
    reports = graph.get_state(CONFIG).values["reports"]
    taken = GAME.action_name(reports[-1]["action"])
    text = "51" + taken + next(cell for cell in "23467" if cell != taken)
    graph.update_state(CONFIG, {"text": text, "next_rung": "conclude"}, as_node="router")
    try:
        decision = graph.invoke(None, CONFIG, context=CONTEXT)["decision"]
    except NoDecisionError as error:
        assert "illegal_action" in str(error)  # noqa: PT017 -- either is right: it depends on the network's action
    else:
        assert legal(decision)
        assert decision["source"] == "policy"


@pytest.mark.parametrize(
    ("edit", "named"),
    [
        ({"text": "5x"}, "move 2"),
        ({"text": "14253"}, "finished"),
        ({"text": 5}, "text"),
        (human("9"), "proposal.action"),
        (human(8, confidence=2.0), "proposal.confidence"),
        ({"proposal": "9"}, "proposal"),
        ({"reports": "none"}, "reports"),
        ({"reports": [{"rung": "oracle", "outcome": "accepted", "reason": ""}]}, "reports.0.rung"),
        ({"elapsed_ms": "long ago"}, "elapsed_ms"),
        ({"id": ""}, "id"),
    ],
)
def test_what_no_node_can_read_is_named(edit: dict[str, Any], named: str) -> None:
    graph = asked()
    graph.update_state(CONFIG, edit, as_node="human")
    with pytest.raises(StateError, match=named):
        graph.invoke(None, CONFIG, context=CONTEXT)
    # The thread is not lost: it decides the next state.
    assert "__interrupt__" in graph.invoke({"state": "5"}, CONFIG, context=CONTEXT)


def test_an_unknown_place_is_named() -> None:
    with pytest.raises(StateError, match="next_rung: one of policy, value"):
        asked().update_state(CONFIG, {"next_rung": "oracle"}, as_node="router")


JUNK = st.none() | st.booleans() | st.integers(-3, 12) | st.floats() | st.sampled_from(["", "51", "5", "x", "human"])
DEEP = JUNK | st.lists(JUNK, max_size=2) | st.dictionaries(st.sampled_from(["rung", "action", "x"]), JUNK, max_size=2)
REPORT = st.fixed_dictionaries(
    {
        "rung": st.sampled_from(["policy", "value", "reason", "search", "human"]),
        "outcome": st.sampled_from(["accepted", "escalated", "failed", "skipped"]),
        "reason": st.sampled_from(["trusted", "under_threshold", "novel", "timeout"]),
    },
    optional={
        "action": st.integers(-2, 10) | JUNK,
        "confidence": st.floats(0, 1) | JUNK,
        "value": st.floats(-1, 1) | JUNK,
        "cost_usd": st.floats(0, 1) | JUNK,
        "latency_ms": JUNK,
        "policy": st.lists(st.floats(0, 1), min_size=8, max_size=9) | JUNK,
        "details": st.dictionaries(st.sampled_from(["novelty", "certificate", "message"]), DEEP, max_size=2),
        "threshold": JUNK,
    },
)
EDITS = st.fixed_dictionaries(
    {},
    optional={
        "text": st.sampled_from(["51", "5", "", "5196", "1", "14253", "12375486", "55", "x"]) | DEEP,
        "proposal": REPORT | DEEP,
        "reports": st.lists(REPORT, max_size=4) | DEEP,
        "next_rung": st.sampled_from([*NODES, "nowhere"]) | JUNK,
        "id": JUNK,
        "rungs": st.lists(st.sampled_from(["policy", "search", "human"]), max_size=2) | DEEP,
        "allowance_ms": JUNK,
        "network_value": JUNK,
        "elapsed_ms": JUNK,
        "marked_at": JUNK,
        "why": JUNK,
        "decision": DEEP,
    },
)


@settings(max_examples=100)
@given(EDITS, st.sampled_from(NODES), JUNK | st.sampled_from(["accept", "9", "3"]))
def test_whatever_is_edited_the_decision_is_legal_or_an_error_of_ours(
    edit: dict[str, Any], node: str, answer: Any
) -> None:
    graph = asked()
    try:
        graph.update_state(CONFIG, edit, as_node=node)
        result = graph.invoke(None, CONFIG, context=CONTEXT)
        if "__interrupt__" in result and answer is not None:
            result = graph.invoke(Command(resume=answer), CONFIG, context=CONTEXT)
    except EscaladeError as error:
        assert str(error)  # noqa: PT017 -- most edits end here, and some do not
        return
    if node == "conclude" and "__interrupt__" not in result:
        return  # the edit is the end itself: nothing runs after it
    assert "__interrupt__" in result or legal(result["decision"])


def test_whether_there_is_a_choice_is_read_from_the_state_alone() -> None:
    """An edit must not make the router take a rung's only action for the state's only one."""
    graph = build_decision_graph("tic_tac_toe", bundle="builtin:tic_tac_toe", checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    context: Any = {"policy_threshold": 1.0, "ladder": ["policy", "search"], "simulations": 5}
    graph.invoke({"state": "5"}, config, context=context, interrupt_after=["parse"])
    state: Any = graph.get_state(config).values
    assert "forced" not in state
    decision = graph.invoke(None, config, context=context)["decision"]
    assert "only_action" not in {report["reason"] for report in decision["rungs"]}
