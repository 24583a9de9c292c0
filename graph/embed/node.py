"""The decision graph as a node of a graph with a state of its own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig

from escalade.domains.errors import SettingsError, StateError
from escalade.graph.embed.embedded import (
    AnyDecisionGraph,
    Embedded,
    EmbeddedRunnable,
    Options,
    checked_options,
    has_key,
)

_ABSENT = object()


class DecisionNode(EmbeddedRunnable):
    """A node for a graph with a state of its own: a TypedDict, a dataclass or a Pydantic model.

    graph: compiled, or a `RemoteGraph` of one.
    state_key: where the host keeps the state to decide.
    decision_key: where the decision goes, a `Decision` as a dict.
    options_key: where the host keeps options of this node (a dict of fields of `DecisionContext`), if anywhere.
    id_key: where the host keeps the decision's id, if anywhere.
    append: the decision goes there in a list of one, for a key that is reduced by `operator.add`, as under `Send`.
    options: for every run of this node.

    Options come from `options`, over those from what the host's context holds under `escalade`, over those from
    `options_key`. Interrupts, streams and callbacks pass through. Called by itself, it takes `config` and `context`
    as the graph does.
    Raises SettingsError for what is no graph, no key or no option, StateError where the host has no state to decide.
    """

    def __init__(
        self,
        graph: AnyDecisionGraph,
        state_key: str = "state",
        decision_key: str = "decision",
        *,
        options_key: str | None = None,
        id_key: str | None = None,
        append: bool = False,
        options: Options | None = None,
    ) -> None:
        for name, key in (("state_key", state_key), ("decision_key", decision_key)):
            if not isinstance(key, str) or not key:
                raise SettingsError(f"{name}: give the name of a key of the host's state, not {key!r}")
        for name, optional in (("options_key", options_key), ("id_key", id_key)):
            if optional is not None and (not isinstance(optional, str) or not optional):
                raise SettingsError(f"{name}: give the name of a key of the host's state or None, not {optional!r}")
        super().__init__("decide", Embedded(graph, options))
        self.state_key, self.decision_key = state_key, decision_key
        self.options_key, self.id_key, self.append = options_key, id_key, append

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        state, given = self._read(input, config, kwargs)
        return self._update(self.embedded.decide(state, config, kwargs, **given))

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> dict[str, Any]:
        state, given = self._read(input, config, kwargs)
        return self._update(await self.embedded.adecide(state, config, kwargs, **given))

    def _read(self, input: Any, config: RunnableConfig | None, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        """The state to decide, and what `Embedded.decide` is given besides. Takes `context` out of kwargs."""
        if not has_key(config, self.decision_key):
            raise SettingsError(
                f"decision_key: the host's state has no '{self.decision_key}' to put the decision in; declare it "
                "there, or name another key"
            )
        state = _value(input, self.state_key)
        if state is _ABSENT or state is None:
            where = f"the host's state has nothing under '{self.state_key}'"
            if state is _ABSENT and not has_key(config, self.state_key):
                raise SettingsError(f"state_key: {where}, which is no key of it; name the one that holds the state")
            raise StateError(f"no state was given: {where}")
        given: dict[str, Any] = {"context": kwargs.pop("context", None)}
        options = self._optional(input, config, "options_key", self.options_key)
        if options is not None:
            given["options"] = checked_options(options, str(self.options_key))
        given["decision_id"] = self._optional(input, config, "id_key", self.id_key)
        return state, given

    def _optional(self, input: Any, config: RunnableConfig | None, name: str, key: str | None) -> Any:
        """What the host keeps under a key, None if nothing. Raises SettingsError if there can be no such key."""
        value = None if key is None else _value(input, key)
        if value is not _ABSENT:
            return value
        if not isinstance(input, Mapping) or not has_key(config, str(key)):
            raise SettingsError(f"{name}: the host's state has no '{key}'; declare it there, or name another key")
        return None

    def _update(self, decision: dict[str, Any]) -> dict[str, Any]:
        return {self.decision_key: [decision] if self.append else decision}


def _value(state: Any, key: str) -> Any:
    """What a host's state, or what was sent to the node, holds under a key; _ABSENT if it has no such key."""
    return state.get(key, _ABSENT) if isinstance(state, Mapping) else getattr(state, key, _ABSENT)
