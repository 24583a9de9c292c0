"""The graph behind the decision graph's node `reason`: a plan, tools, a critique, a check, a vote. Studio draws it when
the node is opened; streams have it with `subgraphs=True`. The short form goes straight from `decompose` to `agree`.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Annotated, Any

from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from pydantic import Field
from typing_extensions import TypedDict

from escalade.nodes.agree import agree_node
from escalade.nodes.check import consult_node, verify_node
from escalade.nodes.context import DecisionContext
from escalade.nodes.deliberate import decompose_node, refine_node
from escalade.nodes.events import to_the_outside
from escalade.nodes.reasoning import ReasoningState
from escalade.nodes.resources import Resources
from escalade.nodes.step import Route
from escalade.nodes.tracing import POLICY


class Asked(TypedDict, total=False):
    """What it takes of the decision's state."""

    id: Annotated[str, Field(description="The decision's id.")]
    text: Annotated[str, Field(description="The canonical text of the state.")]
    reports: Annotated[list[dict[str, Any]], Field(description="The rung reports judged so far.")]
    allowance_ms: Annotated[float | None, Field(description="Milliseconds that the rung may take; null: any.")]
    allowance_usd: Annotated[float | None, Field(description="USD that the rung may spend; null: any.")]
    network_value: Annotated[float | None, Field(description="The networks' estimate of the state in [-1, 1], if any.")]
    elapsed_ms: Annotated[float, Field(description="Milliseconds that the decision has taken so far.")]
    marked_at: Annotated[float, Field(description="When the last node ended, by its process' clock, in seconds.")]
    marked_by: Annotated[str, Field(description="Names that process.")]


class Reasoned(TypedDict, total=False):
    """What it returns to the decision graph."""

    proposal: Annotated[dict[str, Any], Field(description="The rung's proposal, for the router to judge.")]
    elapsed_ms: Annotated[float, Field(description="Milliseconds that the decision has taken so far.")]
    marked_at: Annotated[float, Field(description="When the last node ended, by its process' clock, in seconds.")]
    marked_by: Annotated[str, Field(description="Names that process.")]


class ReasoningGraph(CompiledStateGraph[ReasoningState, DecisionContext, Asked, Reasoned]):
    """The compiled graph. Its custom events are streamed as those of the graph that it is a node of."""

    def invoke(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> Any:
        with to_the_outside():
            return super().invoke(input, config, **options)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> Any:
        with to_the_outside():
            return await super().ainvoke(input, config, **options)


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
        path_map: dict[Hashable, str] = {**{place: place for place in places}, "end": END}
        graph.add_conditional_edges(name, Route("goes_to", (*places, "end")), path_map)
    graph.add_edge("agree", END)
    compiled = graph.compile(name="reason")
    # As LangGraph copies a compiled graph (`Pregel.copy`), into our class.
    return ReasoningGraph(**{name: value for name, value in vars(compiled).items() if name != "__orig_class__"})
