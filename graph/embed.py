"""The decision graph inside other people's graphs: as a node, as a tool, as a member of a multi-agent team."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.runnables import Runnable, RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from pydantic import BaseModel, Field

from escalade.domains.decision import Decision
from escalade.domains.errors import EscaladeError
from escalade.graph.decision import DecisionGraph


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
        return {self.decision_key: self.graph.invoke({"state": input[self.state_key]})["decision"]}

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        result = await self.graph.ainvoke({"state": input[self.state_key]})
        return {self.decision_key: result["decision"]}


class DecideArguments(BaseModel):
    state: str = Field(description="The state to decide, as text.")


def decision_tool(graph: DecisionGraph, *, name: str | None = None, description: str | None = None) -> BaseTool:
    """A tool that decides a state, for any tool-calling agent. It answers with the action's name, its source and its
    confidence, or with a sentence on what is wrong with the state."""

    def decide(state: str) -> str:
        return _told(lambda: graph.invoke({"state": state}))

    async def decide_async(state: str) -> str:
        try:
            return _sentence((await graph.ainvoke({"state": state}))["decision"])
        except EscaladeError as error:
            return f"No decision: {error}"

    return StructuredTool.from_function(
        decide,
        decide_async,
        name=name or graph.name,
        description=description or f"Decide one state ({graph.name}); returns the chosen action.",
        args_schema=DecideArguments,
    )


def decision_agent(graph: DecisionGraph, *, name: str) -> CompiledStateGraph[Any, Any, Any, Any]:
    """A graph over messages, as supervisors and swarms want their members: the last message's text is the state, the
    answer an `AIMessage` under this name with the whole decision in `additional_kwargs["decision"]`."""

    async def answer_async(state: MessagesState) -> dict[str, Any]:
        result = await graph.ainvoke({"state": state["messages"][-1].text})
        return {"messages": [_message(result["decision"], name)]}

    class Answer(Runnable[MessagesState, dict[str, Any]]):
        def invoke(self, input: MessagesState, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
            result = graph.invoke({"state": input["messages"][-1].text})
            return {"messages": [_message(result["decision"], name)]}

        async def ainvoke(
            self, input: MessagesState, config: RunnableConfig | None = None, **kwargs: Any
        ) -> dict[str, Any]:
            return await answer_async(input)

    agent = StateGraph(MessagesState)
    agent.add_node("decide", Answer())
    agent.add_edge(START, "decide")
    agent.add_edge("decide", END)
    return agent.compile(name=name)


def _message(decision: dict[str, Any], name: str) -> AIMessage:
    return AIMessage(_sentence(decision), name=name, additional_kwargs={"decision": decision})


def _told(run: Callable[[], dict[str, Any]]) -> str:
    try:
        return _sentence(run()["decision"])
    except EscaladeError as error:
        return f"No decision: {error}"


def _sentence(decision: dict[str, Any]) -> str:
    record = Decision.model_validate(decision)
    sure = "" if record.confidence is None else f", confidence {record.confidence:.2f}"
    effort = ", best effort" if record.best_effort else ""
    return f"{record.action_name} (by {record.source}{sure}{effort})"
