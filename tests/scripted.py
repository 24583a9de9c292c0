"""Language models of agents in tests: they say what a script says, and show what they were sent."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, ToolCall
from langchain_core.outputs import ChatGeneration, ChatResult
from pydantic import PrivateAttr

Reply = AIMessage | Callable[[list[BaseMessage]], AIMessage]


class PlainModel(BaseChatModel):
    """Answers with one line of its script after another, and fails when the script is over. Knows no tools."""

    script: list[Any]
    _seen: list[list[BaseMessage]] = PrivateAttr(default_factory=list)

    @property
    def _llm_type(self) -> str:
        return "scripted"

    @property
    def seen(self) -> list[list[BaseMessage]]:
        """The messages of each call."""
        return self._seen

    def _generate(self, messages: list[BaseMessage], *arguments: Any, **options: Any) -> ChatResult:
        line = self.script[len(self._seen)]
        self._seen.append(list(messages))
        message = line.model_copy() if isinstance(line, AIMessage) else line(messages)
        return ChatResult(generations=[ChatGeneration(message=message)])


class ScriptedModel(PlainModel):
    """The same, and calls tools."""

    _tools: list[Any] = PrivateAttr(default_factory=list)

    @property
    def tools(self) -> dict[str, Any]:
        """What was bound to it, by name."""
        return {tool.name: tool for tool in self._tools}

    def bind_tools(self, tools: Any, **options: Any) -> Any:
        self._tools = list(tools)
        return self


def calls(name: str, **arguments: Any) -> AIMessage:
    """A message that calls one tool."""
    return AIMessage("", tool_calls=[ToolCall(name=name, args=arguments, id=str(uuid.uuid4()))])
