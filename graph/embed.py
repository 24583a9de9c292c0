"""The decision graph inside other people's graphs: as a node, as a tool, as a member of a multi-agent team; and what it
is made of as tools for other agents."""

from __future__ import annotations

from typing import Any, Unpack

from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from pydantic import BaseModel, Field

from escalade.domains.base import Domain
from escalade.domains.decision import Decision
from escalade.domains.errors import EscaladeError
from escalade.graph.decision import DecisionGraph, GraphOptions, decided, make_resources
from escalade.nodes.tools import NeuralTools


class DecisionNode(Runnable[Any, dict[str, Any]]):
    """A node for a graph with a state of its own.

    state_key: where the parent keeps the state to decide. decision_key: where the decision goes, as a dict.
    Options come from the parent's context: what it holds under `escalade`. Interrupts and streams pass through.
    """

    def __init__(self, graph: DecisionGraph, state_key: str = "state", decision_key: str = "decision") -> None:
        self.name = "decide"
        self.graph = graph
        self.state_key = state_key
        self.decision_key = decision_key

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        return {self.decision_key: decided(self.graph.invoke({"state": input[self.state_key]}))}

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        return {self.decision_key: decided(await self.graph.ainvoke({"state": input[self.state_key]}))}


class DecideArguments(BaseModel):
    state: str = Field(description="The state to decide, as text.")


def decision_tool(graph: DecisionGraph, *, name: str | None = None, description: str | None = None) -> BaseTool:
    """A tool that decides a state, for any tool-calling agent. It answers with the action's name, its source and its
    confidence, or with a sentence on why there is no decision."""

    def decide(state: str) -> str:
        try:
            return _sentence(decided(graph.invoke({"state": state})))
        except EscaladeError as error:
            return f"No decision: {error}"

    async def decide_async(state: str) -> str:
        try:
            return _sentence(decided(await graph.ainvoke({"state": state})))
        except EscaladeError as error:
            return f"No decision: {error}"

    return StructuredTool.from_function(
        decide,
        decide_async,
        name=name or graph.name,
        description=description or f"Decide one state ({graph.name}); returns the chosen action.",
        args_schema=DecideArguments,
    )


def neural_tools(domain: Domain[Any] | str, **options: Unpack[GraphOptions]) -> list[BaseTool]:
    """What Escalade's own reasoning agents ask, for any tool-calling agent: `legal_actions`, `policy_prior`,
    `position_value`, `search` and `similar_decisions`, as far as the domain has a network, a simulator and past
    decisions. options: as `make_resources`; a domain of ours has the network that came with it only if told so, by
    `bundle="builtin:connect_four"`. Calls share batches with each other.
    """
    return NeuralTools(make_resources(domain, **options)).tools()


class Reply(Runnable[MessagesState, dict[str, Any]]):
    """The node of `decision_agent`: answers the last message."""

    def __init__(self, graph: DecisionGraph, name: str) -> None:
        self.name: str = name
        self.graph = graph

    def invoke(self, input: MessagesState, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        try:
            return self._message(decided(self.graph.invoke({"state": _last_text(input)})))
        except EscaladeError as error:
            return {"messages": [AIMessage(f"No decision: {error}", name=self.name)]}

    async def ainvoke(
        self, input: MessagesState, config: RunnableConfig | None = None, **kwargs: Any
    ) -> dict[str, Any]:
        try:
            return self._message(decided(await self.graph.ainvoke({"state": _last_text(input)})))
        except EscaladeError as error:
            return {"messages": [AIMessage(f"No decision: {error}", name=self.name)]}

    def _message(self, decision: dict[str, Any]) -> dict[str, Any]:
        message = AIMessage(_sentence(decision), name=self.name, additional_kwargs={"decision": decision})
        return {"messages": [message]}


def decision_agent(graph: DecisionGraph, *, name: str) -> CompiledStateGraph[Any, Any, Any, Any]:
    """A graph over messages, as supervisors and swarms want their members: the last message's text is the state, the
    answer an `AIMessage` under this name with the whole decision in `additional_kwargs["decision"]`."""
    agent = StateGraph(MessagesState)
    agent.add_node("decide", Reply(graph, name))
    agent.add_edge(START, "decide")
    agent.add_edge("decide", END)
    return agent.compile(name=name)


def _last_text(state: MessagesState) -> str | None:
    return state["messages"][-1].text if state["messages"] else None


def _sentence(decision: dict[str, Any]) -> str:
    record = Decision.model_validate(decision)
    sure = "" if record.confidence is None else f", confidence {record.confidence:.2f}"
    effort = ", best effort" if record.best_effort else ""
    return f"{record.action_name} (by {record.source}{sure}{effort})"
