"""The decision graph as a member of teams: langgraph-supervisor, langgraph-swarm and LangChain's `create_agent`."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import MessagesState
from langgraph.store.memory import InMemoryStore
from langgraph.types import Command
from langgraph_swarm import create_handoff_tool, create_swarm
from scripted import ScriptedModel, calls

from escalade import Decision, DecisionContext, build_decision_graph, decision_agent, decision_tool
from escalade.domains.errors import SettingsError

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of LangGraph, about the agents it is made of
    from langgraph_supervisor import create_supervisor

Run = Callable[[Any, Any, Any], dict[str, Any]]


@pytest.fixture(scope="module")
def graph() -> Any:
    return build_decision_graph("tic_tac_toe", defaults=DecisionContext(simulations=20))


@pytest.fixture(params=["sync", "async"])
def run(request: pytest.FixtureRequest) -> Run:
    if request.param == "sync":
        return lambda team, given, config: team.invoke(given, config)
    return lambda team, given, config: asyncio.run(team.ainvoke(given, config))


@pytest.fixture
def no_supervisor_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield


def thread() -> dict[str, Any]:
    return {"configurable": {"thread_id": "1"}}


def said_by(messages: list[BaseMessage], name: str) -> list[AIMessage]:
    return [message for message in messages if isinstance(message, AIMessage) and message.name == name]


def decisions(messages: list[BaseMessage], name: str) -> list[Decision]:
    held = [message.response_metadata.get("decision") for message in said_by(messages, name)]
    return [Decision.model_validate(one) for one in held if one is not None]


@pytest.mark.usefixtures("no_supervisor_warnings")
@pytest.mark.parametrize("output_mode", ["last_message", "full_history"])
@pytest.mark.parametrize("own", [False, True], ids=["as it is", "compiled"])
def test_under_a_supervisor_it_decides_what_the_person_wrote(graph: Any, run: Run, output_mode: Any, own: bool) -> None:
    agent: Any = decision_agent(graph, name="player")
    model = ScriptedModel(
        script=[calls("transfer_to_player"), AIMessage("one"), calls("transfer_to_player"), AIMessage("two")]
    )
    member = agent.compile() if own else agent
    team = create_supervisor([member], model=model, output_mode=output_mode).compile(checkpointer=InMemorySaver())
    first = run(team, {"messages": [("user", "51")]}, thread())["messages"]
    assert [one.state for one in decisions(first, "player")] == ["51"]
    assert first[-1].content == "one"
    second = run(team, {"messages": [("user", "5193")]}, thread())["messages"]
    assert [one.state for one in decisions(second, "player")] == ["51", "5193"]
    # What the supervisor's model was given after the second decision has it as the player's word.
    assert [message.name for message in model.seen[-1] if "(by search" in str(message.content)] == ["player"] * 2


def swarm(graph: Any, script: list[AIMessage], **options: Any) -> tuple[Any, ScriptedModel]:
    model = ScriptedModel(script=script)
    alice: Any = create_agent(model, tools=[create_handoff_tool(agent_name="player")], name="Alice")
    team = create_swarm([alice, decision_agent(graph, name="player", **options)], default_active_agent="Alice")
    return team.compile(checkpointer=InMemorySaver(), store=InMemoryStore()), model


def test_in_a_swarm_it_decides_what_the_person_wrote_and_keeps_the_next_turn(graph: Any, run: Run) -> None:
    team, model = swarm(graph, [calls("transfer_to_player")])
    first = run(team, {"messages": [("user", "51")]}, thread())
    assert first["active_agent"] == "player"
    assert [one.state for one in decisions(first["messages"], "player")] == ["51"]
    second = run(team, {"messages": [("user", "5193")]}, thread())
    assert [one.state for one in decisions(second["messages"], "player")] == ["51", "5193"]
    assert len(model.seen) == 1


def test_in_a_swarm_it_hands_control_back(graph: Any, run: Run) -> None:
    script = [calls("transfer_to_player"), AIMessage("thanks"), calls("transfer_to_player"), AIMessage("again")]
    team, model = swarm(graph, script, hand_to="Alice")
    for turn, state in enumerate(("51", "nonsense"), start=1):
        after = run(team, {"messages": [("user", state)]}, thread())
        assert after["active_agent"] == "Alice"
        assert after["messages"][-1].content == script[2 * turn - 1].content
        # The history that Alice's model sees is one that providers take: each call has its answer, right after it.
        seen = model.seen[-1]
        asked = [call["id"] for message in seen if isinstance(message, AIMessage) for call in message.tool_calls]
        assert asked == [message.tool_call_id for message in seen if isinstance(message, ToolMessage)]
        assert isinstance(seen[-1], ToolMessage)
        assert len({message.id for message in after["messages"]}) == len(after["messages"])
    held = said_by(after["messages"], "player")
    assert Decision.model_validate(held[0].response_metadata["decision"]).state == "51"
    assert held[1].content.startswith("No decision: ")
    assert "decision" not in held[1].response_metadata


def test_a_team_may_say_what_is_to_be_decided(graph: Any, run: Run) -> None:
    class Match(MessagesState):
        board: str

    agent = decision_agent(graph, name="p", state_schema=Match, state_from=lambda state: state["board"])
    given = {"messages": [("user", "what now?")], "board": "519"}
    assert decisions(run(agent, given, None)["messages"], "p")[0].state == "519"
    first = decision_agent(graph, name="p", state_from=lambda state: state["messages"][0].text)
    given = {"messages": [("user", "51"), ("ai", "hm"), ("user", "go on")]}
    assert decisions(run(first, given, None)["messages"], "p")[0].state == "51"


def test_content_in_blocks_is_read_and_what_agents_say_is_not(graph: Any, run: Run) -> None:
    agent = decision_agent(graph, name="p")
    blocks: Any = [{"type": "text", "text": "51"}]
    messages = [HumanMessage(blocks), AIMessage("53"), ToolMessage("54", tool_call_id="1")]
    assert decisions(run(agent, {"messages": messages}, None)["messages"], "p")[0].state == "51"
    for none in ([], [AIMessage("51")]):
        last = run(agent, {"messages": none}, None)["messages"][-1]
        assert last.content == "No decision: no message of a person holds a state to decide"


def test_the_decision_is_plain_and_survives_a_checkpoint(graph: Any) -> None:
    saver = InMemorySaver()
    agent = decision_agent(graph, name="player").compile(checkpointer=saver, store=InMemoryStore())
    assert agent.name == "player"
    agent.invoke({"messages": [("user", "51")]}, thread())
    kept = agent.get_state(thread()).values["messages"][-1].response_metadata["decision"]
    assert type(kept) is dict
    assert Decision.model_validate(kept).state == "51"
    assert list(dict(agent.get_subgraphs())) == ["decide"]


def test_a_person_is_asked_through_the_team(run: Run) -> None:
    asking = build_decision_graph("tic_tac_toe", defaults=DecisionContext(ladder=("human",)))
    team, _ = swarm(asking, [calls("transfer_to_player"), AIMessage("thanks")], hand_to="Alice")
    asked = run(team, {"messages": [("user", "51")]}, thread())
    assert "9" in asked["__interrupt__"][0].value["legal_actions"]
    answered = run(team, Command(resume={"action_name": "9"}), thread())["messages"]
    assert decisions(answered, "player")[0].source == "human"


def test_what_makes_no_agent_is_refused(graph: Any) -> None:
    for options, said in (
        ({"name": ""}, "name: give the name"),
        ({"name": "p", "hand_to": 7}, "hand_to: give the name"),
        ({"name": "p", "state_from": "messages"}, "state_from: give a function"),
        ({"name": "p", "options": {"simulation": 5}}, "option simulation"),
    ):
        with pytest.raises(SettingsError, match=said):
            decision_agent(graph, **options)  # type: ignore[arg-type]
    with pytest.raises(SettingsError, match="not compiled"):
        decision_agent(build_decision_graph("tic_tac_toe", compiled=False), name="p")  # type: ignore[arg-type]


def test_an_agent_uses_the_tool_and_reads_what_came_of_it(graph: Any, run: Run) -> None:
    def told(messages: list[BaseMessage]) -> AIMessage:
        return AIMessage(f"I heard: {messages[-1].content}")

    name = graph.name
    model = ScriptedModel(script=[calls(name, state=51), calls(name, state="5x"), told])
    agent: Any = create_agent(model, tools=[decision_tool(graph)], checkpointer=InMemorySaver())
    messages = run(agent, {"messages": [("user", "what now?")]}, thread())["messages"]
    good, bad = [message for message in messages if isinstance(message, ToolMessage)]
    assert (good.status, Decision.model_validate(good.artifact).state) == ("success", "51")
    assert bad.status == "error"
    assert "move 2" in str(bad.content)
    assert messages[-1].content == f"I heard: {bad.content}"
    assert "'51' means" in model.tools[name].description
