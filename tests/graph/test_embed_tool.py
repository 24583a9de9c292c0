"""Decisions, and what they are made of, as tools for tool-calling agents."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from langchain_core.messages import ToolCall, ToolMessage
from langchain_core.utils.function_calling import convert_to_openai_tool
from langgraph.checkpoint.serde.jsonplus import JsonPlusSerializer

from escalade import Decision, DecisionContext, build_decision_graph, decision_tool
from escalade.domains.catalog import load_domain
from escalade.domains.errors import CatalogError, SettingsError, StateError
from escalade.domains.intents import Intents
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.graph.embed import neural_tools


@pytest.fixture(scope="module")
def tool() -> Any:
    return decision_tool(build_decision_graph("tic_tac_toe", defaults=DecisionContext(simulations=20)))


def asked(tool: Any, **arguments: Any) -> ToolMessage:
    """The message of a call, which is the same under `invoke` and `ainvoke`."""
    call = ToolCall(name=tool.name, args=arguments, id="1", type="tool_call")
    message, other = tool.invoke(call), asyncio.run(tool.ainvoke(call))
    assert (message.content, message.status) == (other.content, other.status)
    assert type(message.artifact) is type(other.artifact)
    return message


@pytest.mark.parametrize("state", ["51", 51, " 51 "])
def test_the_artifact_is_the_decision_and_a_number_is_a_text(tool: Any, state: Any) -> None:
    message = asked(tool, state=state)
    decision = Decision.model_validate(message.artifact)
    assert message.status == "success"
    assert decision.state == "51"
    assert message.content.startswith(f"{decision.action_name} (by search")
    kept = JsonPlusSerializer()
    assert kept.loads_typed(kept.dumps_typed(message)).artifact == json.loads(json.dumps(message.artifact))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"state": "5x"}, "move 2"),
        ({"state": 55}, "move 2"),
        ({"state": 5.1}, "move 2"),
        ({"state": "14253"}, "finished"),
        ({"state": {"board": "51"}}, "is a text"),
        ({"state": [5, 1]}, "is a text"),
        ({"state": True}, "is a text"),
        ({"state": None}, "no state was given"),
        ({}, "state: Field required"),
        ({"board": "51"}, "state: Field required"),
    ],
)
def test_what_cannot_be_decided_is_an_error_in_a_sentence(tool: Any, arguments: Any, said: str) -> None:
    message = asked(tool, **arguments)
    assert message.status == "error"
    assert said in message.content
    assert message.artifact is None
    assert "\n" not in message.content


def test_no_decision_is_an_error_too() -> None:
    tool = decision_tool(build_decision_graph("tic_tac_toe"), options={"mode": "neural_only"})
    message = asked(tool, state="51")
    assert message.status == "error"
    assert message.content.startswith("No decision: no rung could decide: policy skipped (no_model)")


@pytest.mark.parametrize("name", ["tic_tac_toe", "connect_four"])
def test_the_notation_is_told_with_an_example(name: str) -> None:
    domain = load_domain(name)
    tool = decision_tool(build_decision_graph(name))
    sent = convert_to_openai_tool(tool)["function"]
    for text in (sent["description"], sent["parameters"]["properties"]["state"]["description"]):
        assert domain.notation() in text
        assert json.dumps(domain.examples()[0]) in text
    for example in domain.examples():
        assert asked(decision_tool(build_decision_graph(name), options={"simulations": 5}), state=example).artifact
    schema = tool.args_schema.model_json_schema()["properties"]["state"]
    assert schema["examples"] == list(domain.examples())
    assert {"type": "string"} in schema["anyOf"]


def test_labels_need_no_example_to_be_told() -> None:
    tool = decision_tool(build_decision_graph(Intents(["card", "loan"])))
    assert "such as 'Where is my card?'" in tool.description
    assert "examples" not in tool.args_schema.model_json_schema()["properties"]["state"]  # type: ignore[union-attr]


class Counted(TicTacToe):
    """Reads how many cells were taken in order, as a JSON number."""

    name = "counted"

    def parse(self, source: Any) -> Any:
        if isinstance(source, int) and not isinstance(source, bool):
            return super().parse("5193"[:source])
        return super().parse(source)


class Boards(TicTacToe):
    """Reads a list of cells too."""

    name = "boards"

    def parse(self, source: Any) -> Any:
        if isinstance(source, list):
            return super().parse("".join(map(str, source)))
        if isinstance(source, dict):
            return super().parse(source.get("cells"))
        if not isinstance(source, str):
            raise StateError("a text, or a list of cells")
        return super().parse(source)


def test_a_domain_gets_what_it_reads() -> None:
    options = {"simulations": 5}
    counted = decision_tool(build_decision_graph(Counted()), options=options)
    assert asked(counted, state=2).artifact["state"] == "51"
    boards = decision_tool(build_decision_graph(Boards()), options=options)
    for state in ([5, 1], {"cells": "51"}, "51", 51):
        assert asked(boards, state=state).artifact["state"] == "51"


def test_name_description_and_options_are_the_users(tool: Any) -> None:
    graph = build_decision_graph("tic_tac_toe")
    mine = decision_tool(graph, name="move", description="My own.", options=DecisionContext(simulations=7))
    assert (mine.name, mine.description) == ("move", "My own.")
    assert asked(mine, state="5").artifact["rungs"][-1]["details"]["rootInfo"]["visits"] == 7
    assert tool.name == "decide_tic_tac_toe"
    with pytest.raises(SettingsError, match="option simulatoins"):
        decision_tool(graph, options={"simulatoins": 7})
    with pytest.raises(SettingsError, match="not str"):
        decision_tool("tic_tac_toe")  # type: ignore[arg-type]
    with pytest.raises(CatalogError, match="nonsense"):
        decision_tool(graph, domain="nonsense")


def test_the_neural_tools_read_and_answer_alike() -> None:
    tools = {tool.name: tool for tool in neural_tools("tic_tac_toe", bundle="builtin:tic_tac_toe")}
    for name, tool in tools.items():
        more = {"action": 9} if name == "position_value" else {}
        message = asked(tool, state=51, **more)
        assert message.status == "success"
        assert json.loads(message.content) == message.artifact
        refused = asked(tool, state="5x", **more)
        assert (refused.status, refused.artifact) == ("error", None)
        assert "move 2" in refused.content
        told = tool.args_schema.model_json_schema()["properties"]["state"]["description"]
        assert "'51' means" in told
    assert asked(tools["search"], state="51", simulations=0).status == "error"
    assert tools["legal_actions"].invoke({"state": 51}) == {"legal_actions": ["2", "3", "4", "6", "7", "8", "9"]}
