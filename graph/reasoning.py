"""The graph behind the decision graph's node `reason`: a plan, tools, a critique, a check, a vote. Studio draws it when
the node is opened; streams have it with `subgraphs=True`. The short form goes straight from `decompose` to `agree`.
"""

from __future__ import annotations

from typing import Any, TypedDict

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from escalade.nodes.agree import agree_node
from escalade.nodes.check import consult_node, verify_node
from escalade.nodes.context import DecisionContext
from escalade.nodes.deliberate import decompose_node, refine_node
from escalade.nodes.reasoning import ReasoningState
from escalade.nodes.resources import Resources
from escalade.nodes.step import Route
from escalade.nodes.tracing import POLICY


class Asked(TypedDict, total=False):
    """What it takes of the decision's state."""

    id: str
    text: str
    reports: list[dict[str, Any]]
    allowance_ms: float | None
    allowance_usd: float | None
    network_value: float | None
    elapsed_ms: float
    marked_at: float


class Reasoned(TypedDict, total=False):
    """What the decision graph hears of it."""

    proposal: dict[str, Any]
    elapsed_ms: float
    marked_at: float


ReasoningGraph = CompiledStateGraph[ReasoningState, DecisionContext, Asked, Reasoned]


def reasoning_graph(resources: Resources) -> ReasoningGraph:
    """The language model's rung, compiled."""
    graph = StateGraph(ReasoningState, context_schema=DecisionContext, input_schema=Asked, output_schema=Reasoned)
    for node in (decompose_node, consult_node, refine_node, verify_node, agree_node):
        step = node(resources)
        graph.add_node(step.name, step, trace_policy=POLICY)
    graph.add_edge(START, "decompose")
    for name, places in (
        ("decompose", ("consult", "agree")),
        ("consult", ("refine",)),
        ("refine", ("consult", "verify")),
        ("verify", ("verify", "refine", "agree")),
    ):
        graph.add_conditional_edges(name, Route("goes_to"), {**{place: place for place in places}, "end": END})
    graph.add_edge("agree", END)
    return graph.compile(name="reason")
