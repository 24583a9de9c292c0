"""A decision graph that is run from inside something else: what a node, a tool and an agent have in common.

The graph may be one of this process or a `RemoteGraph` of a LangGraph server. A remote run is told the options and
nothing else of its host: it has a thread of its own, or none, and nobody can answer a question that it asks.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Never, cast

import httpx
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.errors import GraphInterrupt
from langgraph.graph.state import CompiledStateGraph
from langgraph.pregel.remote import RemoteException, RemoteGraph

from escalade.domains.base import Domain
from escalade.domains.errors import NoDecisionError, SettingsError
from escalade.graph.decision import decided
from escalade.graph.decision_graph import DecisionGraph
from escalade.nodes.context import DecisionContext, make_context, read_context
from escalade.nodes.events import runtime_here, to_the_outside
from escalade.nodes.step import Step

AnyDecisionGraph = DecisionGraph | RemoteGraph
Options = DecisionContext | Mapping[str, Any]

_PLACE = ("thread_id", "checkpoint_id", "checkpoint_ns", "checkpoint_map")
"""What of a host's config names a place in the host's own history, which means nothing to a server."""
_DURABILITY = "__pregel_durability"
_READ = "__pregel_read"
"""Where LangGraph puts the function that reads the state of the graph whose node is running."""


class Embedded:
    """A decision graph, ready to be run inside something else.

    graph: compiled, or a `RemoteGraph` of one. options: for every run, under those that the host gives.
    Raises SettingsError for what is no decision graph or no options.
    """

    def __init__(self, graph: AnyDecisionGraph, options: Options | None = None) -> None:
        self.graph = checked_graph(graph)
        self.remote = isinstance(graph, RemoteGraph)
        self.options = DecisionContext() if options is None else checked_options(options, "options")

    def decide(self, state: Any, config: RunnableConfig | None, run: dict[str, Any], **given: Any) -> dict[str, Any]:
        """The decision about a state, as a dict.

        given: as `_request`. run: more arguments of the graph's `invoke`. Raises an EscaladeError where there is none.
        """
        request, config, options = self._request(state, config, **given)
        try:
            with to_the_outside():
                return decided(cast(Any, self.graph).invoke(request, config, context=options, **run))
        except (RemoteException, httpx.HTTPError, GraphInterrupt) as error:
            self._explain(error)

    async def adecide(
        self, state: Any, config: RunnableConfig | None, run: dict[str, Any], **given: Any
    ) -> dict[str, Any]:
        """As `decide`."""
        request, config, options = self._request(state, config, **given)
        try:
            with to_the_outside():
                return decided(await cast(Any, self.graph).ainvoke(request, config, context=options, **run))
        except (RemoteException, httpx.HTTPError, GraphInterrupt) as error:
            self._explain(error)

    def _request(
        self,
        state: Any,
        config: RunnableConfig | None,
        *,
        context: Any = None,
        options: DecisionContext | None = None,
        decision_id: str | None = None,
    ) -> tuple[dict[str, Any], RunnableConfig | None, Any]:
        """What the graph is run with. context: of the run, where the caller gives one; by default that of the run which
        this is part of. options: of this run, over all others."""
        if context is None:
            context = host_context()
        elif "escalade" not in context if isinstance(context, Mapping) else not hasattr(context, "escalade"):
            context = checked_options(context, "context")
        merged = read_context(context, self.options)
        merged = merged if options is None else read_context(options, merged)
        request = {"state": state}
        if decision_id is not None:
            request["decision_id"] = decision_id
        if self.remote:
            return request, _without(config, _PLACE), merged.model_dump(mode="json", exclude_unset=True)
        if getattr(self.graph, "checkpointer", None) is False:
            # LangGraph fails in a graph that keeps no checkpoints where its host was asked for `durability="sync"`.
            config = _without(config, (_DURABILITY,))
        return request, config, merged

    def _explain(self, error: Exception) -> Never:
        """Raise what became of a remote run as an error of ours; others go on as they are."""
        if not self.remote:
            raise error
        if isinstance(error, GraphInterrupt):
            raise NoDecisionError(
                "the remote run asks a person, who cannot be asked from inside another graph: leave 'human' out of its "
                "ladder, or run it on a thread of its own"
            ) from error
        told: Any = error.args[0] if error.args else ""
        if isinstance(told, dict):
            told = told.get("message") or told.get("error")
        name = getattr(self.graph, "name", None)
        raise NoDecisionError(f"the remote graph '{name}' gave none: {told or type(error).__name__}") from error


class EmbeddedRunnable(RunnableLambda[Any, Any]):
    """A node with a decision graph in it. A `RunnableLambda`, so that LangGraph looks for subgraphs in its `deps`:
    `get_subgraphs`, `get_state(subgraphs=True)` and `get_graph(xray=True)` of the host then show the graph. One on a
    server is not among them, or they would fail while that is away."""

    def __init__(self, name: str, embedded: Embedded) -> None:
        super().__init__(self.invoke, self.ainvoke, name=name)
        self.embedded = embedded

    @property
    def graph(self) -> AnyDecisionGraph:
        return self.embedded.graph

    @property
    def deps(self) -> list[Any]:  # there a cached property of the same meaning
        return [] if isinstance(self.graph, RemoteGraph) else [self.graph]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({getattr(self.graph, 'name', None)!r})"


def checked_graph(graph: Any) -> AnyDecisionGraph:
    """The graph. Raises SettingsError for what is no compiled decision graph, with what to do about it."""
    if isinstance(graph, DecisionGraph | RemoteGraph):
        return graph
    if isinstance(graph, CompiledStateGraph):
        raise SettingsError(
            f"graph: '{graph.name}' is no decision graph (no 'state' or no 'decision'): build_decision_graph makes one"
        )
    if hasattr(graph, "compile"):
        raise SettingsError("graph: this one is not compiled yet: give graph.compile()")
    raise SettingsError(
        f"graph: give what build_decision_graph returns, or a RemoteGraph of it, not {type(graph).__name__}"
    )


def checked_options(options: Any, place: str) -> DecisionContext:
    """Options of a decision. place: where they were given. Raises SettingsError for what are none."""
    if isinstance(options, DecisionContext):
        return options
    if isinstance(options, Mapping):
        return make_context(dict(options))
    raise SettingsError(f"{place}: give a DecisionContext or options by name, not {type(options).__name__}")


def host_context() -> Any:
    """The context of the run that this code is part of, None outside of any."""
    runtime = runtime_here()
    return None if runtime is None else runtime.context


def has_key(config: RunnableConfig | None, key: str) -> bool:
    """Whether the state of the graph whose node is running has a key; True where that cannot be known."""
    read = (config or {}).get("configurable", {}).get(_READ)
    if read is None:
        return True
    try:
        read(key)
    except KeyError:
        return False
    return True


def domain_of(graph: AnyDecisionGraph) -> Domain[Any] | None:
    """What a graph of this process decides; None for a remote one."""
    if isinstance(graph, RemoteGraph):
        return None
    spec = graph.builder.nodes.get("parse")
    step = spec.runnable if spec is not None else None
    return step.resources.domain if isinstance(step, Step) else None


def _without(config: RunnableConfig | None, names: tuple[str, ...]) -> RunnableConfig | None:
    """A host's config without some of what the host has for itself; one that a caller made goes on as it is."""
    if config is None or _READ not in config.get("configurable", {}):
        return config
    configurable = {name: value for name, value in config["configurable"].items() if name not in names}
    return cast(RunnableConfig, {**config, "configurable": configurable})
