"""The decision graph as a node of other people's graphs."""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.pregel.remote import RemoteGraph
from langgraph.types import Command, Send
from langgraph_sdk import get_sync_client
from pydantic import BaseModel
from typing_extensions import TypedDict

from escalade import Decision, DecisionContext, DecisionNode, StateError, build_decision_graph
from escalade.domains.errors import NoDecisionError, SettingsError


class Typed(TypedDict, total=False):
    board: str
    move: dict[str, Any]
    wanted: dict[str, Any] | None
    ticket: str


@dataclass
class Data:
    board: str | None = None
    move: dict[str, Any] | None = None
    wanted: dict[str, Any] | None = None
    ticket: str | None = None


class Model(BaseModel):
    board: str | None = None
    move: Decision | None = None
    wanted: dict[str, Any] | None = None
    ticket: str | None = None


STATES = [Typed, Data, Model]


@pytest.fixture(scope="module")
def graph() -> Any:
    return build_decision_graph("tic_tac_toe", defaults=DecisionContext(simulations=20))


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Callable[..., dict[str, Any]]:
    if request.param == "sync":
        return lambda host, *given, **more: host.invoke(*given, **more)
    return lambda host, *given, **more: asyncio.run(host.ainvoke(*given, **more))


def host(state: Any, node: Any, context_schema: Any = None, **options: Any) -> Any:
    parent = StateGraph(state, context_schema=context_schema)
    parent.add_node("decide", node)
    parent.add_edge(START, "decide")
    parent.add_edge("decide", END)
    return parent.compile(**options)


def thread() -> Any:
    return {"configurable": {"thread_id": "1"}}


def searched(decision: dict[str, Any]) -> int:
    return Decision.model_validate(decision).rungs[-1].details["rootInfo"]["visits"]


@pytest.mark.parametrize("state", STATES)
def test_hosts_of_every_kind_of_state(graph: Any, run: Any, state: Any) -> None:
    node = DecisionNode(graph, "board", "move", options_key="wanted", id_key="ticket")
    parent = host(state, node, checkpointer=InMemorySaver())
    given = {"board": "5", "wanted": {"simulations": 7}, "ticket": "T-1"}
    decision = run(parent, given, thread())["move"]
    assert (decision["state"], decision["decision_id"], searched(decision)) == ("5", "T-1", 7)
    kept = parent.get_state(thread()).values["move"]
    assert kept["decision_id"] == "T-1"
    plain = run(host(state, node), {"board": "51"})["move"]
    assert searched(plain) == 20
    assert plain["decision_id"] != "T-1"


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"state_key": "bord", "decision_key": "move"}, "state_key: .*'bord'"),
        ({"state_key": "board", "decision_key": "moove"}, "decision_key: .*'moove'"),
        ({"state_key": "board", "decision_key": "move", "options_key": "want"}, "options_key: .*'want'"),
        ({"state_key": "board", "decision_key": "move", "id_key": "tick"}, "id_key: .*'tick'"),
    ],
)
def test_a_key_that_the_host_lacks_is_named(graph: Any, run: Any, state: Any, keys: Any, said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        run(host(state, DecisionNode(graph, **keys)), {"board": "51"})


@pytest.mark.parametrize("state", STATES)
def test_a_host_without_a_state_to_decide_is_told_which_key(graph: Any, run: Any, state: Any) -> None:
    with pytest.raises(StateError, match="'board'"):
        run(host(state, DecisionNode(graph, "board", "move")), {"ticket": "T-1"})


def test_what_makes_no_node_is_refused_when_it_is_made(graph: Any) -> None:
    other = host(Typed, lambda state: state)
    for thing, said in (
        ("tic_tac_toe", "not str"),
        (build_decision_graph, "not function"),
        (None, "not NoneType"),
        (build_decision_graph("tic_tac_toe", compiled=False), "not compiled yet"),
        (other, "no decision graph"),
    ):
        with pytest.raises(SettingsError, match=said):
            DecisionNode(thing)  # type: ignore[arg-type]
    for options, said in (
        ({"state_key": ""}, "state_key"),
        ({"decision_key": 5}, "decision_key"),
        ({"options_key": 5}, "options_key"),
        ({"id_key": ""}, "id_key"),
        ({"options": {"simulatoins": 5}}, "option simulatoins"),
        ({"options": {"simulations": 0}}, "option simulations"),
        ({"options": 5}, "options: give a DecisionContext"),
    ):
        with pytest.raises(SettingsError, match=said):
            DecisionNode(graph, **options)  # type: ignore[arg-type]


class Context(TypedDict, total=False):
    escalade: dict[str, Any]
    theirs: int


def test_options_come_from_the_node_then_the_context_then_the_state(graph: Any, run: Any) -> None:
    node = DecisionNode(graph, "board", "move", options_key="wanted", options={"simulations": 3, "seed": 1})
    parent = host(Typed, node, Context)
    assert searched(run(parent, {"board": "5"})["move"]) == 3
    assert searched(run(parent, {"board": "5"}, context={"escalade": {"simulations": 4}})["move"]) == 4
    given = {"board": "5", "wanted": {"simulations": 5}}
    assert searched(run(parent, given, context={"escalade": {"simulations": 4}})["move"]) == 5
    assert searched(run(host(Typed, node), {"board": "5"}, context=DecisionContext(simulations=6))["move"]) == 6


@dataclass
class Kept:
    escalade: DecisionContext | None = None
    seed: int = 0


def test_contexts_of_a_class_hold_options_too(graph: Any, run: Any) -> None:
    parent = host(Typed, DecisionNode(graph, "board", "move"), Kept)
    context = Kept(DecisionContext(simulations=4))
    assert searched(run(parent, {"board": "5"}, context=context)["move"]) == 4
    assert searched(run(parent, {"board": "5"}, context={"seed": 9})["move"]) == 20  # theirs, not ours


def test_a_host_is_drawn_and_read_while_the_server_of_a_remote_graph_is_away() -> None:
    with get_sync_client(url="http://127.0.0.1:9") as nobody:
        remote = RemoteGraph("decision", sync_client=nobody)
        parent = host(Typed, DecisionNode(remote, "board", "move"), checkpointer=InMemorySaver())
        assert "decide" in parent.get_graph(xray=True).nodes
        with pytest.raises(NoDecisionError, match="remote graph"):
            parent.invoke({"board": "51"}, {"configurable": {"thread_id": "1"}})
        assert parent.get_state({"configurable": {"thread_id": "1"}}, subgraphs=True).next == ("decide",)


@pytest.mark.parametrize("schema", [None, Context])
@pytest.mark.parametrize("embed", [lambda graph: DecisionNode(graph, "state", "decision"), lambda graph: graph])
def test_options_where_nobody_reads_them_are_refused(graph: Any, run: Any, schema: Any, embed: Any) -> None:
    class Shared(TypedDict, total=False):
        state: str
        decision: dict[str, Any]

    parent = host(Shared, embed(graph), schema)
    for context, said in (
        ({"simulations": 5}, "belong under 'escalade'"),
        ({"mode": "search_only", "seed": 3}, "belong under 'escalade'"),
        ({"escalade": {"simulatoins": 5}}, "option simulatoins"),
        ({"escalade": {"simulations": "many"}}, "option simulations"),
        ({"escalade": 5}, "must hold options by name, not int"),
    ):
        with pytest.raises(SettingsError, match=said):
            run(parent, {"state": "51"}, context=context)
    for context in ({"theirs": 1}, {"theirs": 1, "escalade": {}}, {"mode": "dark"}, {}, None):
        assert run(parent, {"state": "51"}, context=context)["decision"]["state"] == "51"


def test_options_in_the_hosts_state_are_checked(graph: Any, run: Any) -> None:
    parent = host(Typed, DecisionNode(graph, "board", "move", options_key="wanted"))
    for wanted, said in (({"simulatoins": 1}, "option simulatoins"), ([5], "wanted: give")):
        with pytest.raises(SettingsError, match=said):
            run(parent, {"board": "51", "wanted": wanted})


def test_called_by_itself_it_takes_config_and_context(run: Any) -> None:
    asking = build_decision_graph("tic_tac_toe", checkpointer=InMemorySaver())
    node = DecisionNode(asking, "board", "move")
    for context in (DecisionContext(simulations=7), {"simulations": 7}, {"escalade": {"simulations": 7}}):
        assert searched(run(node, {"board": "5"}, thread(), context=context)["move"]) == 7
    assert asking.get_state(thread()).values["decision"]["state"] == "5"
    for context in ({"simulatoins": 7}, 5, "search_only"):
        with pytest.raises(SettingsError):
            run(node, {"board": "5"}, thread(), context=context)


class Many(TypedDict, total=False):
    boards: list[str]
    moves: Annotated[list[dict[str, Any]], operator.add]


def fan_out(node: DecisionNode, **options: Any) -> Any:
    parent = StateGraph(Many)
    parent.add_node("decide", node)
    parent.add_conditional_edges(
        START,
        lambda state: [Send("decide", {"board": board, "wanted": {"simulations": 9}}) for board in state["boards"]],
    )
    parent.add_edge("decide", END)
    return parent.compile(**options)


def test_many_states_are_decided_under_send(graph: Any, run: Any) -> None:
    parent = fan_out(DecisionNode(graph, "board", "moves", append=True, options_key="wanted"))
    boards = [str(cell) for cell in range(1, 10)]
    moves = run(parent, {"boards": boards})["moves"]
    assert [move["state"] for move in moves] == boards
    assert {searched(move) for move in moves} == {9}


def test_people_are_asked_under_send_and_each_answer_goes_to_its_question(run: Any) -> None:
    asking = build_decision_graph("tic_tac_toe", defaults=DecisionContext(ladder=("human",)))
    parent = fan_out(DecisionNode(asking, "board", "moves", append=True), checkpointer=InMemorySaver())
    asked = run(parent, {"boards": ["5", "1"]}, thread())["__interrupt__"]
    answers = {question.id: {"action_name": {"5": "1", "1": "5"}[question.value["state"]]} for question in asked}
    moves = run(parent, Command(resume=dict(reversed(answers.items()))), thread())["moves"]
    assert [(move["state"], move["action_name"]) for move in moves] == [("5", "1"), ("1", "5")]


def test_the_graph_inside_is_seen(graph: Any) -> None:
    parent = host(Typed, DecisionNode(graph, "board", "move"))
    assert dict(parent.get_subgraphs())["decide"] is graph
    assert [name for name, _ in parent.get_subgraphs(recurse=True)] == ["decide", "decide|reason"]
    drawn = set(parent.get_graph(xray=True).nodes)
    assert {"decide:parse", "decide:router", "decide:search", "decide:human"} <= drawn
    assert "decide" in parent.get_graph().nodes


def test_a_paused_host_shows_the_state_inside() -> None:
    asking = build_decision_graph("tic_tac_toe", defaults=DecisionContext(ladder=("human",)))
    parent = host(Typed, DecisionNode(asking, "board", "move"), checkpointer=InMemorySaver())
    parent.invoke({"board": "51"}, thread())
    (task,) = parent.get_state(thread(), subgraphs=True).tasks
    assert task.state.next == ("human",)
    assert task.state.values["text"] == "51"


@pytest.mark.parametrize("durability", ["sync", "async", "exit"])
@pytest.mark.parametrize("own", [None, False])
def test_hosts_may_keep_as_few_checkpoints_as_they_like(run: Any, own: Any, durability: Any) -> None:
    inner = build_decision_graph("tic_tac_toe", defaults=DecisionContext(simulations=5), checkpointer=own)
    parent = host(Typed, DecisionNode(inner, "board", "move"), checkpointer=InMemorySaver())
    for board in ("5", "51"):
        assert run(parent, {"board": board}, thread(), durability=durability)["move"]["state"] == board
    assert parent.get_state(thread()).values["move"]["state"] == "51"


def test_options_in_the_config_are_refused_where_nobody_reads_them(graph: Any, run: Any) -> None:
    with pytest.raises(SettingsError, match=r"'simulations' under 'configurable'; give context"):
        run(graph, {"state": "51"}, {"configurable": {"simulations": 5}})
    parent = host(Typed, DecisionNode(graph, "board", "move"))
    theirs: Any = {"configurable": {"seed": 5, "mode": "theirs"}}
    assert run(parent, {"board": "51"}, theirs)["move"]["state"] == "51"
    assert run(graph, {"state": "51"}, theirs, context={"simulations": 5})["decision"]["state"] == "51"


@pytest.mark.parametrize("how", ["invoke", "ainvoke", "stream", "astream"])
def test_options_beside_the_state_are_refused_and_not_dropped(how: str) -> None:
    graph = build_decision_graph("tic_tac_toe")
    given: Any = {"state": "51", "simulations": 5}

    async def decide() -> Any:
        if how == "astream":
            return [chunk async for chunk in graph.astream(given)]
        made = {"invoke": graph.invoke, "ainvoke": graph.ainvoke, "stream": lambda it: list(graph.stream(it))}[how](
            given
        )
        return await made if how == "ainvoke" else made

    with pytest.raises(SettingsError, match="input: nobody reads the option 'simulations'"):
        asyncio.run(decide())


def test_a_host_may_have_keys_named_like_options() -> None:
    class Host(TypedDict, total=False):
        state: str
        mode: str
        decision: dict[str, Any]

    parent = host(Host, build_decision_graph("tic_tac_toe"))
    assert parent.invoke({"state": "51", "mode": "dark"})["decision"]["domain"] == "tic_tac_toe"


def test_events_of_a_graph_that_is_a_node_by_itself_reach_the_host_s_stream() -> None:
    class Host(TypedDict, total=False):
        state: str
        decision: dict[str, Any]

    parent = host(Host, build_decision_graph("tic_tac_toe"))
    events = list(parent.stream({"state": "51"}, stream_mode="custom"))
    assert [event["rung"] for event in events if event["event"] == "rung"][-1] == "search"


@pytest.mark.parametrize(
    ("context", "sentence"),
    [
        ({"simulaions": 5}, "option simulaions: there is none of this name; did you mean 'simulations'"),
        ({"zzz": 5}, "option zzz: there is none of this name; there are alpha, budget_usd"),
        ({"simulations": "many"}, "option simulations: "),
        ("fast", "context: give options by name"),
    ],
)
def test_wrong_options_are_one_sentence(context: Any, sentence: str) -> None:
    graph = build_decision_graph("tic_tac_toe")
    with pytest.raises(SettingsError, match=sentence) as refused:
        graph.invoke({"state": "51"}, context=context)
    assert "\n" not in str(refused.value)


def test_defaults_may_be_options_by_name() -> None:
    graph = build_decision_graph("tic_tac_toe", defaults={"simulations": 4})
    (report,) = [one for one in graph.invoke({"state": "51"})["decision"]["rungs"] if one["rung"] == "search"]
    assert report["details"]["rootInfo"]["visits"] <= 4
    with pytest.raises(SettingsError, match="option simulation: there is none"):
        build_decision_graph("tic_tac_toe", defaults={"simulation": 4})
