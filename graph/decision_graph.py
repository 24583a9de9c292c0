"""LangGraph's classes for the decision graph, which watch over what a graph is called with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any, cast

from langchain_core.runnables import RunnableConfig
from langgraph.graph import StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.types import Command
from pydantic import BaseModel

from escalade.domains.base import Domain
from escalade.nodes.context import CheckedContext, DecisionContext, check_input
from escalade.nodes.events import runtime_here, to_the_outside
from escalade.nodes.human import CALLED_ABOUT, check_about
from escalade.nodes.state import DecisionInput, DecisionOutput, DecisionState, InputModel

INTERRUPT = "__interrupt__"
"""Where LangGraph puts the questions that a run waits for."""
_ENDED = object()


class DecisionGraph(CompiledStateGraph[DecisionState, DecisionContext, DecisionInput, DecisionOutput]):
    """The compiled graph.

    LangGraph matches calls made inside one node of another graph with their checkpoints by the order of the calls.
    Where that order changes between a person's question and the answer, a call gets the run on another state; it then
    raises StateError, and uses neither the answer nor, but for `stream` and `astream`, the other's decision.
    """

    def get_input_schema(self, config: RunnableConfig | None = None) -> type[BaseModel]:
        return InputModel

    def invoke(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> Any:
        return self._checked(input, super().invoke(input, config, **options))

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> Any:
        return self._checked(input, await super().ainvoke(input, config, **options))

    def stream(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> Iterator[Any]:
        chunks: Any = super().stream(_resumed(input), config, **options)
        try:
            while True:
                with self._about(input):
                    chunk = next(chunks, _ENDED)
                if chunk is _ENDED:
                    return
                yield chunk
        finally:
            chunks.close()

    async def astream(self, input: Any, config: RunnableConfig | None = None, **options: Any) -> AsyncIterator[Any]:
        chunks: Any = super().astream(_resumed(input), config, **options)
        try:
            while True:
                with self._about(input):
                    chunk = await anext(chunks, _ENDED)
                if chunk is _ENDED:
                    return
                yield chunk
        finally:
            await chunks.aclose()

    @contextmanager
    def _about(self, input: Any) -> Iterator[None]:
        """Meanwhile no question about another state takes an answer, and events go to the host's stream."""
        if runtime_here() is None:  # a host's state may have keys of the same names
            check_input(input)
        before = CALLED_ABOUT.set(_state_in(input))
        try:
            with to_the_outside():
                yield
        finally:
            CALLED_ABOUT.reset(before)

    def _checked(self, input: Any, result: Any) -> Any:
        """The result. Raises StateError if it is the decision on another state than the input's."""
        given = _state_in(input)
        # What waits for a person may still hold the thread's decision before.
        if given is not None and isinstance(result, dict) and "decision" in result and INTERRUPT not in result:
            domain = cast(DecisionStateGraph, self.builder).domain
            check_about(domain, given, result["decision"]["state"])
        return result


def _resumed(input: Any) -> Any:
    """The input; none at all, which asks the open question again, for an answer that is none. LangGraph 1.2 ends such a
    run with an UnboundLocalError."""
    empty = isinstance(input, Command) and input.resume is None and not input.update and not input.goto
    return None if empty else input


def _state_in(input: Any) -> Any:
    return input.get("state") if isinstance(input, dict) else None


class DecisionStateGraph(StateGraph[DecisionState, DecisionContext, DecisionInput, DecisionOutput]):
    """The graph of nodes and edges. domain: what it decides."""

    def __init__(self, domain: Domain[Any]) -> None:
        super().__init__(
            DecisionState,
            context_schema=CheckedContext,
            input_schema=DecisionInput,
            output_schema=DecisionOutput,
        )
        self.domain = domain

    def compile(self, *options: Any, **named: Any) -> DecisionGraph:
        # As LangGraph copies a compiled graph (`Pregel.copy`), into our class.
        compiled = super().compile(*options, **named)
        return DecisionGraph(**{name: value for name, value in vars(compiled).items() if name != "__orig_class__"})
