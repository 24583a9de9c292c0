"""A person as the last rung: every form of answer, and what is asked again instead of failing."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.checkpoint.sqlite import SqliteSaver
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Command
from typing_extensions import TypedDict

from escalade import DecisionContext, DecisionNode, build_decision_graph, load_domain
from escalade.domains.base import Domain
from escalade.domains.errors import ActionError, StateError
from escalade.domains.intents import Intents
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.nodes.human_answers import DECLINED, Asked, read_answer

UNSURE = DecisionContext(ladder=("search", "human"), search_threshold=1.0, simulations=5)
"""A search that proposes and is not accepted, then the person."""
ALONE = DecisionContext(ladder=("human",))
LEGAL = ["2", "3", "4", "6", "7", "8", "9"]

Run = Callable[[Any, DecisionContext], dict[str, Any]]


@pytest.fixture(params=["memory", "sqlite", "sqlite async", "memory async"])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """`run(input, context)` on one thread, under every saver, sync and async; SQLite from its file each time."""
    config: Any = {"configurable": {"thread_id": "1"}}
    graph: Any = build_decision_graph("tic_tac_toe", compiled=False)
    saver, path = InMemorySaver(), str(tmp_path / "threads.db")

    async def from_file(given: Any, context: DecisionContext) -> Any:
        async with AsyncSqliteSaver.from_conn_string(path) as opened:
            return await graph.compile(checkpointer=opened).ainvoke(given, config, context=context)

    def run(given: Any, context: DecisionContext) -> Any:
        if request.param == "memory":
            return graph.compile(checkpointer=saver).invoke(given, config, context=context)
        if request.param == "memory async":
            return asyncio.run(graph.compile(checkpointer=saver).ainvoke(given, config, context=context))
        if request.param == "sqlite async":
            return asyncio.run(from_file(given, context))
        with SqliteSaver.from_conn_string(path) as opened:
            return graph.compile(checkpointer=opened).invoke(given, config, context=context)

    return run


def question(result: dict[str, Any]) -> Any:
    (asked,) = result["__interrupt__"]
    return asked


def test_a_wrong_answer_asks_again_with_the_fault_and_a_right_one_decides(run: Run) -> None:
    asked = question(run({"state": "51"}, UNSURE))
    assert asked.value["legal_actions"] == LEGAL
    assert asked.value["error"] is None
    assert asked.value["rungs"][0]["rung"] == "search"
    assert asked.response_schema["properties"]["action_name"]["enum"] == LEGAL
    for wrong, fault in (
        ({"action_name": "5"}, "'5' is not a legal action"),
        ({"args": {}}, "names no action"),
        ({"action_name": "7", "more": 1}, "no field 'more'"),
        ([{"type": "accept"}, {"type": "accept"}], "2 answers"),
        ({"type": "perhaps"}, "'perhaps' is no type"),
        (False, "False is no answer"),
    ):
        again = question(run(Command(resume=wrong), UNSURE)).value
        assert fault in again["error"]
        assert again["error"] in again["question"]
        assert again["error"] in again["description"]
        assert again["error"] in again["action_requests"][0]["description"]
    decision = run(Command(resume={"action_name": "9"}), UNSURE)["decision"]
    assert (decision["source"], decision["action_name"]) == ("human", "9")
    assert [report["rung"] for report in decision["rungs"]] == ["search", "human"]


def test_none_and_unknown_interrupts_leave_the_question_open(run: Run) -> None:
    asked = question(run({"state": "51"}, ALONE))
    for answer in (None, {asked.id: None}, {"0123456789abcdef0123456789abcdef": "9"}, {}):
        left = question(run(Command(resume=answer), ALONE))
        assert left.value == asked.value
    assert question(run(None, ALONE)).value == asked.value
    assert run(Command(resume={asked.id: "9"}), ALONE)["decision"]["action_name"] == "9"


def test_the_first_id_of_a_question_still_answers_it_after_a_wrong_answer(run: Run) -> None:
    asked = question(run({"state": "51"}, ALONE))
    again = question(run(Command(resume={asked.id: "5"}), ALONE))
    assert "'5'" in again.value["error"]
    assert run(Command(resume={asked.id: "3"}), ALONE)["decision"]["action_name"] == "3"


def decision_of(answer: Any, context: DecisionContext = UNSURE) -> dict[str, Any]:
    graph = build_decision_graph("tic_tac_toe", checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    graph.invoke({"state": "51"}, config, context=context)
    decision: dict[str, Any] = graph.invoke(Command(resume=answer), config, context=context)["decision"]
    return decision


@pytest.mark.parametrize("form", ["accept", {"type": "accept", "args": None}, {"decisions": [{"type": "approve"}]}])
def test_accept_takes_what_was_proposed(form: Any) -> None:
    graph = build_decision_graph("tic_tac_toe", checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    asked = question(graph.invoke({"state": "51"}, config, context=UNSURE)).value
    proposed = asked["rungs"][0]["action_name"]
    assert asked["proposed_action"] == proposed
    decision = graph.invoke(Command(resume=form), config, context=UNSURE)["decision"]
    assert (decision["source"], decision["action_name"]) == ("human", proposed)


def test_who_ignores_the_question_leaves_it_to_the_best_proposal() -> None:
    decision = decision_of([{"type": "ignore", "args": None}])
    assert decision["source"] == "search"
    assert decision["best_effort"]
    assert decision["rungs"][-1]["reason"] == "declined"
    with pytest.raises(KeyError):  # still asked: there is nothing to leave it to
        decision_of({"type": "ignore"}, ALONE)


def test_the_question_has_the_forms_of_agent_inbox_and_of_langchain_s_middleware() -> None:
    for context, known in ((UNSURE, True), (ALONE, False)):
        graph = build_decision_graph("tic_tac_toe", checkpointer=InMemorySaver())
        asked = question(graph.invoke({"state": "51"}, {"configurable": {"thread_id": "1"}}, context=context)).value
        request = asked["action_request"]
        assert request.keys() == {"action", "args"}
        assert asked["config"] == {
            "allow_accept": known,
            "allow_edit": True,
            "allow_respond": True,
            "allow_ignore": known,
        }
        (action,), (review,) = asked["action_requests"], asked["review_configs"]
        assert action == {"name": request["action"], "args": request["args"], "description": asked["description"]}
        assert review["action_name"] == action["name"]
        assert ("approve" in review["allowed_decisions"]) == known
        assert {"edit", "reject", "respond"} <= set(review["allowed_decisions"])
        assert ", ".join(LEGAL) in asked["description"]


TIC_TAC_TOE: Any = load_domain("tic_tac_toe")
ASKED = Asked(TIC_TAC_TOE, "51", "mine", [1, 2, 3, 5, 6, 7, 8], 5)
BARE = Asked(TIC_TAC_TOE, "51", "mine", [1, 2, 3, 5, 6, 7, 8], None)


def forms(name: str) -> list[Any]:
    """One action in every form that people's tools send."""
    arguments = {"action_name": name, "state": "51"}
    return [
        name,
        f"  {name}\n",
        int(name),
        {"action_name": name},
        {"action_name": int(name), "decision_id": "mine"},
        f'{{"action_name": "{name}"}}',
        {"action": "decide", "args": arguments},
        {"name": "decide", "args": {"action_name": name}},
        # Agent Inbox
        [{"type": "edit", "args": {"action": "decide", "args": arguments}}],
        [{"type": "response", "args": name}],
        {"type": "response", "args": {"action_name": name}},
        # LangChain's middleware, and Agent Inbox's mixture of both
        {"decisions": [{"type": "edit", "edited_action": {"name": "decide", "args": arguments}}]},
        {"decisions": [{"type": "respond", "message": name}]},
        {"decisions": [{"type": "reject", "message": name}]},
        {"decisions": [{"type": "edit", "args": {"action": "decide", "args": arguments}}]},
        {"decisions": [{"type": "reject", "args": name}]},
        {"type": "Edit", "edited_action": {"name": "decide", "args": {"action_name": name}}},
    ]


@pytest.mark.parametrize("name", LEGAL)
def test_every_form_of_answer_means_its_action(name: str) -> None:
    for asked in (ASKED, BARE):
        assert [read_answer(form, asked) for form in forms(name)] == [int(name) - 1] * len(forms(name))
    same = {"type": "accept", "args": {"action": "decide", "args": {"action_name": "6", "state": "51"}}}
    for accept in ("accept", "Approve", same, {"type": "approve"}, [{"type": "accept", "args": None}]):
        assert read_answer(accept, ASKED) == 5


@pytest.mark.parametrize("name", ["1", "5", "0", "10", "x", "", "2,3"])
def test_every_form_of_an_illegal_action_is_refused(name: str) -> None:
    for form in (name, {"action_name": name}, *([] if not name.isdigit() else forms(name))):
        with pytest.raises(ActionError, match="not a legal action"):
            read_answer(form, ASKED)


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        ({"action_name": "9", "state": "5"}, "for the state '5'"),
        ({"action_name": "9", "decision_id": "yours"}, "for decision 'yours'"),
        ({"type": "edit", "args": {"action": "decide", "args": {"action_name": "9", "state": "52"}}}, "state '52'"),
        ({"type": "accept", "args": {"action": "decide", "args": {"action_name": "9"}}}, "another action than the one"),
        ({"state": "no state", "decisions": [{"type": "approve"}]}, "for the state"),
        ({"decisions": [{"type": "reject"}]}, "name the action to take instead"),
    ],
)
def test_an_answer_to_another_question_is_refused(answer: Any, fault: str) -> None:
    with pytest.raises(ActionError, match=fault):
        read_answer(answer, ASKED)


def test_numbers_are_names_with_and_without_a_fraction_of_nothing() -> None:
    for answer in (9, 9.0, {"action_name": 9}, {"action_name": 9.0}, {"type": "response", "args": 9.0}):
        assert read_answer(answer, ASKED) == 8
    for answer in (9.5, float("nan"), float("inf"), True):
        with pytest.raises(ActionError):
            read_answer(answer, ASKED)


def test_accept_and_ignore_need_a_proposal() -> None:
    assert read_answer({"type": "ignore"}, ASKED) == DECLINED
    for answer in ("accept", {"type": "approve"}, {"type": "ignore"}):
        with pytest.raises(ActionError, match="no other rung has proposed"):
            read_answer(answer, BARE)


def test_case_and_white_space_do_not_matter_where_they_tell_no_two_apart() -> None:
    labels = Intents(["card lost", "loan", "accept"])
    asked = Asked(labels, "my card", "mine", [0, 1, 2], 0)
    assert read_answer(" Card   LOST ", asked) == 0
    assert read_answer("accept", asked) == 2  # an action's name comes first

    class Shouting(TicTacToe):
        def action_name(self, action: int) -> str:
            return "aAbBcCdDe"[action]

        def parse_action(self, text: str) -> int:
            return Domain.parse_action(self, text)

    asked = Asked(Shouting(), "51", "mine", [1, 2, 3, 5, 6, 7, 8], None)
    assert [read_answer(name, asked) for name in ("A", "b", "E")] == [1, 2, 8]
    assert read_answer("a", Asked(Shouting(), "5", "mine", [0, 1, 2], None)) == 0
    with pytest.raises(ActionError, match="'a' is not a legal action"):
        read_answer("a", asked)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["accept", "edit", "5", "9"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.text()
            | st.sampled_from(["type", "args", "decisions", "action_name", "edited_action", "message", "state"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=1000)
@given(JSON)
def test_whatever_is_answered_is_a_legal_action_or_one_sentence(answer: Any) -> None:
    action, fault = None, "one sentence"
    try:
        action = read_answer(answer, ASKED)
    except ActionError as error:
        fault = str(error)
    assert action is None or action == DECLINED or action in ASKED.legal
    assert 0 < len(fault) < 600


# Several questions at once


class Parent(TypedDict, total=False):
    first: str
    second: str
    verdicts: Any
    left: dict[str, Any]
    right: dict[str, Any]


def two_questions() -> tuple[Any, Any, Any]:
    """A graph of two nodes side by side, a thread of it, and what both ask there."""
    inner = build_decision_graph("tic_tac_toe", defaults=ALONE)
    parent = StateGraph(Parent)
    for node, key, result in (("a", "first", "left"), ("b", "second", "right")):
        parent.add_node(node, DecisionNode(inner, key, result))
        parent.add_edge(START, node)
        parent.add_edge(node, END)
    graph: Any = parent.compile(checkpointer=InMemorySaver())
    config: Any = {"configurable": {"thread_id": "1"}}
    return graph, config, graph.invoke({"first": "51", "second": "14"}, config)["__interrupt__"]


def test_parallel_nodes_get_the_answers_to_their_own_questions() -> None:
    graph, config, asked = two_questions()
    wanted = {"51": "9", "14": "3"}
    answers = {one.id: {"action_name": wanted[one.value["state"]]} for one in reversed(asked)}
    result = graph.invoke(Command(resume=answers), config)
    assert (result["left"]["state"], result["left"]["action_name"]) == ("51", "9")
    assert (result["right"]["state"], result["right"]["action_name"]) == ("14", "3")


def test_an_answer_that_names_another_state_asks_again_in_a_parallel_node() -> None:
    graph, config, asked = two_questions()
    swapped = {
        one.id: {"action_name": "9", "state": other.value["state"]}
        for one, other in zip(asked, reversed(asked), strict=True)
    }
    again = graph.invoke(Command(resume=swapped), config)["__interrupt__"]
    assert len(again) == 2
    assert all("the answer is for the state" in one.value["error"] for one in again)


def of_one_node(node: Any) -> tuple[Any, Any]:
    """A graph of one node, and a thread of it."""
    parent = StateGraph(Parent)
    parent.add_node("node", node)
    parent.add_edge(START, "node")
    return parent.compile(checkpointer=InMemorySaver()), {"configurable": {"thread_id": "1"}}


async def test_a_call_that_is_resumed_with_another_call_s_checkpoint_raises() -> None:
    """Two calls in one node, which come in another order when the node runs again."""
    inner = build_decision_graph("tic_tac_toe", defaults=ALONE)
    order: list[str] = []

    async def both(state: Parent) -> Parent:
        return {"verdicts": [await inner.ainvoke({"state": text}) for text in order]}

    graph, config = of_one_node(both)
    order[:] = ["51", "14"]
    asked = question(await graph.ainvoke({}, config))
    assert asked.value["state"] == "51"
    order.reverse()
    with pytest.raises(StateError, match=r"about the state '14' .* about '51'"):
        await graph.ainvoke(Command(resume="9"), config)
    order.reverse()  # in the order of the first time, nothing is lost
    asked = question(await graph.ainvoke(None, config))  # the answer was not used, and is now
    assert asked.value["state"] == "14"
    verdicts = (await graph.ainvoke(Command(resume="3"), config))["verdicts"]
    assert [one["decision"]["state"] for one in verdicts] == ["51", "14"]
    assert [one["decision"]["action_name"] for one in verdicts] == ["9", "3"]


@pytest.mark.parametrize("how", ["stream", "astream"])
async def test_a_streamed_call_does_not_take_another_call_s_answer(how: str) -> None:
    inner = build_decision_graph("tic_tac_toe", defaults=ALONE)
    order: list[str] = []

    async def both(state: Parent) -> Parent:
        verdicts = []
        for text in order:
            given: Any = {"state": text}
            if how == "stream":
                chunks = list(inner.stream(given, stream_mode="values"))
            else:
                chunks = [chunk async for chunk in inner.astream(given, stream_mode="values")]
            verdicts.append(chunks[-1])
        return {"verdicts": verdicts}

    graph, config = of_one_node(both)
    order[:] = ["51", "14"]
    assert question(await graph.ainvoke({}, config)).value["state"] == "51"
    order.reverse()
    with pytest.raises(StateError, match=r"about the state '14' .* about '51'"):
        await graph.ainvoke(Command(resume="9"), config)
