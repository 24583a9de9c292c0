"""The decision graph as an agent among others: it reads messages, and answers with one."""

from __future__ import annotations

import re
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from langchain_core.messages import AIMessage, BaseMessage, HumanMessage, ToolCall, ToolMessage
from langchain_core.runnables import RunnableConfig
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Checkpointer, Command

from escalade.domains.decision import Decision
from escalade.domains.errors import EscaladeError, SettingsError, StateError
from escalade.graph.embed.embedded import AnyDecisionGraph, Embedded, EmbeddedRunnable, Options

StateFrom = Callable[[Any], Any]
"""From the agent's whole state (`state["messages"]` are the messages) to the state to decide."""


class DecisionAgent(CompiledStateGraph[Any, Any, Any, Any]):
    """A compiled graph over messages, under the agent's name: what `create_supervisor` and `create_swarm` take as a
    member, and what can be run by itself. `compile` makes it anew with a checkpointer and a store of its own."""

    def compile(
        self, checkpointer: Checkpointer = None, *, name: str | None = None, **options: Any
    ) -> CompiledStateGraph[Any, Any, Any, Any]:
        """As `StateGraph.compile`; under the agent's name unless another is given."""
        return self.builder.compile(checkpointer, name=name or self.name, **options)


def decision_agent(
    graph: AnyDecisionGraph,
    *,
    name: str,
    state_from: StateFrom | None = None,
    hand_to: str | None = None,
    options: Options | None = None,
    state_schema: type[Any] = MessagesState,
) -> DecisionAgent:
    """A member of a team of agents. It decides the last message of a person, whatever agents said after it, and answers
    with an `AIMessage` under its name that has the whole decision (a `Decision` as a dict) in
    `response_metadata["decision"]`; or with a sentence on why there is none.

    graph: compiled, or a `RemoteGraph` of one.
    name: the agent's, in the team.
    state_from: what to decide instead, from the agent's whole state.
    hand_to: the member of a swarm that has the next word, for control to go back to; None: it stays here.
    options: for every run. Those that the team's context holds under `escalade` come first.
    state_schema: of a team whose state has more keys than messages, for `state_from` to see them.
    Raises SettingsError for what is no graph, no name or no option.
    """
    for field, value in (("name", name), ("hand_to", hand_to)):
        if not (field == "hand_to" and value is None) and (not isinstance(value, str) or not value.strip()):
            raise SettingsError(f"{field}: give the name of an agent, not {value!r}")
    if state_from is not None and not callable(state_from):
        raise SettingsError(f"state_from: give a function from the agent's state, not {type(state_from).__name__}")
    agent = StateGraph(state_schema)
    agent.add_node("decide", Reply(Embedded(graph, options), name, state_from or last_human_text, hand_to))
    agent.add_edge(START, "decide")
    agent.add_edge("decide", END)
    compiled = agent.compile(name=name)
    return DecisionAgent(**{key: value for key, value in vars(compiled).items() if key != "__orig_class__"})


class Reply(EmbeddedRunnable):
    """The node of a `decision_agent`."""

    def __init__(self, embedded: Embedded, agent: str, state_from: StateFrom, hand_to: str | None) -> None:
        super().__init__("decide", embedded)
        self.agent, self.state_from, self.hand_to = agent, state_from, hand_to

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        try:
            decision = self.embedded.decide(self.state_from(input), config, kwargs)
        except EscaladeError as error:
            return self._answer(f"No decision: {error}", {})
        return self._answer(sentence(decision), {"decision": decision})

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> Any:
        try:
            decision = await self.embedded.adecide(self.state_from(input), config, kwargs)
        except EscaladeError as error:
            return self._answer(f"No decision: {error}", {})
        return self._answer(sentence(decision), {"decision": decision})

    def _answer(self, text: str, metadata: dict[str, Any]) -> Any:
        if self.hand_to is None:
            return {"messages": [AIMessage(text, name=self.agent, response_metadata=metadata)]}
        # As `create_handoff_tool` of langgraph-swarm leaves it: a call and its answer, which every provider takes.
        tool = "transfer_to_" + re.sub(r"\s+", "_", self.hand_to.strip()).lower()
        call = ToolCall(name=tool, args={}, id=str(uuid.uuid4()))
        said = AIMessage(text, name=self.agent, response_metadata=metadata, tool_calls=[call])
        done = ToolMessage(f"Successfully transferred to {self.hand_to}", name=tool, tool_call_id=call["id"])
        update = {"messages": [said, done], "active_agent": self.hand_to}
        return Command(graph=Command.PARENT, goto=self.hand_to, update=update)


def last_human_text(state: Any) -> str:
    """The text of the last message that a person wrote. Raises StateError if there is none."""
    messages: Sequence[BaseMessage] = state["messages"] if isinstance(state, Mapping) else state.messages
    for message in reversed(messages):
        if isinstance(message, HumanMessage):
            if not message.text and message.content:
                raise StateError("the last message of a person has no text, such as a state to decide")
            return message.text
    raise StateError("no message of a person holds a state to decide")


def sentence(decision: dict[str, Any]) -> str:
    """A decision in a few words, for a language model."""
    record = Decision.model_validate(decision)
    sure = "" if record.confidence is None else f", confidence {record.confidence:.2f}"
    effort = ", best effort" if record.best_effort else ""
    return f"{record.action_name} (by {record.source}{sure}{effort})"
