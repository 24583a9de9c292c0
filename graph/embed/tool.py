"""The decision graph as a tool for any tool-calling agent, and what it is made of as tools."""

from __future__ import annotations

from typing import Any, Unpack

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from langgraph.pregel.remote import RemoteGraph

from escalade.domains.base import Domain
from escalade.domains.catalog import load_domain
from escalade.domains.errors import EscaladeError, SettingsError
from escalade.graph.decision import GraphOptions, make_resources
from escalade.graph.embed.agent import sentence
from escalade.graph.embed.embedded import AnyDecisionGraph, Embedded, Options, domain_of
from escalade.graph.embed.remote_tools import RemoteNeuralTools
from escalade.nodes.tool_arguments import as_state, notation_of, state_arguments, unfit
from escalade.nodes.tools import NeuralTools


def decision_tool(
    graph: AnyDecisionGraph,
    *,
    name: str | None = None,
    description: str | None = None,
    domain: Domain[Any] | str | None = None,
    options: Options | None = None,
) -> BaseTool:
    """A tool that decides a state, for any tool-calling agent.

    Its message holds the action's name, its source and its confidence, and as `artifact` the whole decision (a
    `Decision` as a dict). Where there is no decision, the message says why, and its status is `error`.

    graph: compiled, or a `RemoteGraph` of one.
    name, description: of the tool; by default the graph's name, and what it decides, with the notation of states.
    domain: of a `RemoteGraph`, or its name, for that notation; a graph of this process knows its own.
    options: for every call. Those that the agent's context holds under `escalade` come first.
    Raises SettingsError for what is no graph or no option, CatalogError for an unknown domain.
    """
    embedded = Embedded(graph, options)
    known = load_domain(domain) if isinstance(domain, str) else domain or domain_of(graph)
    tool_name = name or str(graph.name)

    def answer(decision: dict[str, Any]) -> tuple[str, dict[str, Any]]:
        if known is not None and decision["domain"] != known.name:
            raise ToolException(
                f"No decision: the graph '{graph.name}' decides {decision['domain']}, not {known.name} (domain= of "
                "decision_tool; ESCALADE_DOMAINS of its server)"
            )
        return sentence(decision), decision

    def decide(state: Any, config: RunnableConfig) -> tuple[str, dict[str, Any]]:
        try:
            return answer(embedded.decide(as_state(known, state), config, {}))
        except EscaladeError as error:
            raise ToolException(f"No decision: {error}") from error

    async def decide_async(state: Any, config: RunnableConfig) -> tuple[str, dict[str, Any]]:
        try:
            return answer(await embedded.adecide(as_state(known, state), config, {}))
        except EscaladeError as error:
            raise ToolException(f"No decision: {error}") from error

    what = f"Decide one state of {known.name if known else tool_name}: which action to take, and how sure that is."
    return StructuredTool.from_function(
        decide,
        decide_async,
        name=tool_name,
        description=description or " ".join(filter(None, (what, notation_of(known)))),
        args_schema=state_arguments(known),
        response_format="content_and_artifact",
        handle_tool_error=True,
        handle_validation_error=unfit,
    )


def neural_tools(
    domain: Domain[Any] | str, *, remote: RemoteGraph | None = None, **options: Unpack[GraphOptions]
) -> list[BaseTool]:
    """What Escalade's own reasoning agents ask, for any tool-calling agent: `legal_actions`, `policy_prior`,
    `position_value`, `search` and `similar_decisions`, as far as the domain has a network, a simulator and past
    decisions. options: as `make_resources`; a domain of ours has the network that came with it only if told so, by
    `bundle="builtin:connect_four"`. Calls share batches with each other.

    A message holds the findings as JSON, and as `artifact` the same as a dict. What cannot be answered is said in a
    message whose status is `error`.

    remote: a `RemoteGraph` that decides this domain; its networks and searches are then asked, one run a call, and
    there are no other options. Raises SettingsError for both.
    """
    if remote is not None:
        if options:
            raise SettingsError(f"remote: the server has its own {', '.join(options)}; leave that out here")
        return RemoteNeuralTools(load_domain(domain) if isinstance(domain, str) else domain, remote).tools()
    return NeuralTools(make_resources(domain, **options)).tools()
