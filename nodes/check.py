"""The two nodes in which the language model's words are checked: `consult` asks the tools, `verify` looks ahead from
what was chosen and refutes blunders."""

from __future__ import annotations

import asyncio
import json
from typing import Any, cast

from langchain_core.messages import ToolCall
from langchain_core.tools import BaseTool

from escalade.domains.errors import EscaladeError
from escalade.nodes.context import DecisionContext
from escalade.nodes.daemon import wait_for
from escalade.nodes.questions import names_of
from escalade.nodes.reasoning import ROUNDS, ReasoningState, ReasoningStep, action_of, deadline_of
from escalade.nodes.resources import Resources
from escalade.nodes.state import DecisionState
from escalade.nodes.step import Update, failed
from escalade.nodes.tools import NeuralTools, ToolLimits
from escalade.nodes.tracing import noted, traced
from escalade.search.config import SearchConfig
from escalade.search.results import SearchResult

MOST_CALLS = 12
"""Of tools, in one decision."""
MOST_SIMULATIONS = 1000
"""Of all tool calls of one decision."""
A_SEARCH = 100
"""Simulations of a search that the model asks for."""
LOOKAHEAD = 64
"""Simulations of each of the two searches that try to refute a choice."""
BLUNDER = 0.5
"""A choice worth this much less than the best that the look ahead found, in [-1, 1], is refuted."""
FINDING_CHARACTERS = 500


class CheckingStep(ReasoningStep):
    works = True


def consult_node(resources: Resources) -> ReasoningStep:
    async def consult(given: DecisionState, context: DecisionContext) -> Update:
        state = cast(ReasoningState, given)
        done, taken = state.get("asked", []), state.get("simulations", 0)
        limits = ToolLimits(MOST_CALLS - len(done), MOST_SIMULATIONS - taken)
        bench = NeuralTools(resources, limits, seed=context.seed, deadline=deadline_of(state, resources))
        tools = {tool.name: tool for tool in bench.tools()}
        calls = [call for call in wanted(state, tools) if key_of(call) not in done][: limits.calls]
        said = await asyncio.gather(*(_said(tools[call["name"]], call) for call in calls))
        found = [f"{key_of(call)}: {answer}" for call, answer in zip(calls, said, strict=True)]
        return {
            "goes_to": "refine",
            "checks": [],
            "asked": [*done, *map(key_of, calls)],
            "findings": [*state.get("findings", []), *found],
            "simulations": MOST_SIMULATIONS - limits.simulations,
        }

    def run(state: DecisionState, context: DecisionContext) -> Update:
        return wait_for(consult(state, context))

    return CheckingStep("consult", resources, run, consult)


def wanted(state: ReasoningState, tools: dict[str, BaseTool]) -> list[ToolCall]:
    """What the model asks for, and what it should know in any case: the policy network's view of the state, the value
    network's of its candidates, and what was decided before. Calls of tools that there are not are left out."""
    here = state["text"]
    asked = [(check["tool"], check["state"] or here, check["action"]) for check in state.get("checks", [])]
    asked += [("policy_prior", here, ""), ("similar_decisions", here, "")]
    asked += [("position_value", here, name) for name in state["candidates"]]
    calls: dict[str, ToolCall] = {}
    for name, about, action in asked:
        if name in tools:
            arguments: dict[str, Any] = {"state": about}
            arguments |= {"action": action} if name == "position_value" else {}
            arguments |= {"simulations": A_SEARCH} if name == "search" else {}
            call = ToolCall(name=name, args=arguments, id=str(len(calls)), type="tool_call")
            calls.setdefault(key_of(call), call)
    return list(calls.values())


def key_of(call: ToolCall) -> str:
    """A tool call as a text, short however long its arguments are."""
    arguments = ", ".join(str(value)[:120] for value in call["args"].values())
    return f"{call['name']}({arguments})"


async def _said(tool: BaseTool, call: ToolCall) -> str:
    message = await tool.ainvoke(call)
    text = message.content if isinstance(message.content, str) else json.dumps(message.content)
    return text if len(text) <= FINDING_CHARACTERS else f"{text[:FINDING_CHARACTERS]} …"


def verify_node(resources: Resources) -> ReasoningStep:
    domain = resources.domain

    async def verify(given: DecisionState, context: DecisionContext) -> Update:
        state = cast(ReasoningState, given)
        best = state["best"]
        try:
            why = await refutation(resources, state, context, best)
        except (EscaladeError, TimeoutError) as error:  # overloaded or too late; the choice is as good as it was
            trouble = f"verify: {type(error).__name__}"
            return {"goes_to": "agree", "troubles": [*state.get("troubles", []), trouble]}
        if why is None:
            return {"goes_to": "agree"}
        refuted = {**state.get("refuted", {}), best: why}
        others = {name: reason for name, reason in state["candidates"].items() if name not in refuted}
        update = {"refuted": refuted, "candidates": others, "findings": [*state.get("findings", []), f"{best}: {why}"]}
        legal = names_of(domain, domain.legal_actions(domain.parse(state["text"])))
        if state.get("rounds", 0) < ROUNDS and not refuted.keys() >= set(legal):
            return {**update, "goes_to": "refine", "best": next(iter(others), "")}
        if others:
            return {**update, "goes_to": "verify", "best": next(iter(others))}
        details = {"refuted": refuted, "plan": state.get("plan"), "rounds": state.get("rounds", 0)}
        model = resources.language_model
        assert model is not None
        return failed("refuted", {"model": model.name, **details})

    def run(state: DecisionState, context: DecisionContext) -> Update:
        return wait_for(verify(state, context))

    return CheckingStep("verify", resources, run, verify)


async def refutation(resources: Resources, state: ReasoningState, context: DecisionContext, name: str) -> str | None:
    """Why a choice is a blunder, None if a quick look ahead from the state and from what it leads to finds nothing
    against it, or there is no simulator to look ahead with."""
    domain, service = resources.domain, resources.search
    if service is None:
        return None
    parsed = domain.parse(state["text"])
    action = action_of(domain, name)
    reached = domain.step(parsed, action)
    config, deadline = SearchConfig(simulations=LOOKAHEAD), deadline_of(state, resources)
    ends = domain.is_terminal(reached)

    async def looked(position: Any, **what: str) -> SearchResult:
        with traced("search", {"simulations": LOOKAHEAD, **what}, bundle=resources.bundle_version) as run:
            result = await asyncio.wrap_future(service.submit(position, config, seed=context.seed, deadline=deadline))
            noted(run, domain, result)
        return result

    found = await asyncio.gather(looked(parsed), *([] if ends else [looked(reached, after=name)]))
    root = found[0]
    sign = 1.0 if domain.to_move(reached) == domain.to_move(parsed) else -1.0
    value = sign * (float(domain.outcome(reached)) if ends else float(found[1].value))
    if root.action == action or value >= root.value:
        return None
    better = domain.action_name(root.action)
    if (ends or found[1].proven) and root.proven:
        return f"proven to be worth {value:+.2f}, where {better} is worth {root.value:+.2f}"
    lost = (ends or found[1].proven) and value <= -1.0
    # Random games, which stand in for a network where there is none, are too coarse for more than proofs.
    if lost or (resources.network is not None and root.value - value > BLUNDER):
        return f"a look ahead values it at {value:+.2f}, and {better} at {root.value:+.2f}"
    return None
