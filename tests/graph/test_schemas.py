"""The graphs' JSON schemas, which Studio's forms, MCP and `as_tool` are made of. Plain tests without fixtures of ours:
`tests/test_interpreters.py` runs them on every Python that there is."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import pytest

from escalade import Decision, DecisionContext, build_decision_graph, load_domain
from escalade.graph.decision import make_resources
from escalade.graph.reasoning import reasoning_graph
from escalade.graph.training import build_training_graph

TEXTS = load_domain("intents", {"labels": ["card", "loan"]})
"""Schemas are the same for every domain; this one has no search, whose kernels take half a minute to compile."""
GRAPHS = {
    "decision": lambda: build_decision_graph(TEXTS),
    "reason": lambda: reasoning_graph(make_resources(TEXTS)),
    "training": build_training_graph,
}


def schemas(graph: Any) -> dict[str, dict[str, Any]]:
    made = {"input": graph.get_input_jsonschema(), "output": graph.get_output_jsonschema()}
    context = graph.get_context_jsonschema()
    return made if context is None else {**made, "context": context}


@pytest.mark.parametrize("name", GRAPHS)
def test_every_field_of_every_schema_is_typed_and_described(name: str) -> None:
    made = schemas(GRAPHS[name]())
    assert set(made) >= {"input", "output"}
    assert ("context" in made) == (name != "training")
    for kind, schema in made.items():
        assert schema["type"] == "object"
        assert schema["description"]
        assert schema["properties"]
        for field, described in schema["properties"].items():
            assert described.get("description"), (kind, field)
            assert described.keys() & {"type", "anyOf", "$ref", "enum"}, (kind, field)


def test_the_form_asks_for_a_state_that_is_a_text_or_json_and_for_nothing_else() -> None:
    schema = build_decision_graph(TEXTS).get_input_jsonschema()
    assert schema["required"] == ["state"]
    assert list(schema["properties"]) == ["state", "decision_id"]
    kinds = [kind["type"] for kind in schema["properties"]["state"]["anyOf"]]
    assert kinds[0] == "string"  # what a form offers first
    assert {"string", "object", "array"} <= set(kinds)
    training = build_training_graph().get_input_jsonschema()
    assert {"domain", "recipe", "minutes"} <= set(training["properties"])
    assert "required" not in training


@pytest.mark.parametrize("name", GRAPHS)
def test_the_types_of_the_graph_s_own_state_make_schemas_too(name: str) -> None:
    """As the LangGraph server makes the schema of a thread's state: channel by channel."""
    from pydantic import create_model

    graph = GRAPHS[name]()
    for key in graph.stream_channels_list:
        kind = graph.channels[key].UpdateType
        described = create_model(key, value=(kind, None)).model_json_schema()["properties"]["value"]
        assert described.get("description"), key


def test_as_a_tool_it_needs_the_state_alone() -> None:
    graph = build_decision_graph("tic_tac_toe", defaults=DecisionContext(simulations=5))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # LangChain calls as_tool beta
        tool = graph.as_tool(name="decide", description="Decide a state.")
    assert tool.args["state"]["description"]
    assert Decision.model_validate(tool.invoke({"state": "51"})["decision"]).source == "search"
    again = asyncio.run(tool.ainvoke({"state": "51", "decision_id": "mine"}))["decision"]
    assert again["decision_id"] == "mine"


def test_it_decides_with_the_networks_that_came_with_it_sync_and_async() -> None:
    graph = build_decision_graph("tic_tac_toe", bundle="builtin:tic_tac_toe")
    context = DecisionContext(policy_threshold=0.0)
    for result in (
        graph.invoke({"state": "51"}, context=context),
        asyncio.run(graph.ainvoke({"state": "51"}, context=context)),
    ):
        decision = Decision.model_validate(result["decision"])
        assert decision.source == "policy"
        domain = load_domain("tic_tac_toe")
        assert decision.action in domain.legal_actions(domain.parse("51"))
