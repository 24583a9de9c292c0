"""The tools of `escalade.nodes.tools` where networks and searches are on a LangGraph server: each question is a run of
the remote graph, limited to one rung. The rules of the domain are asked here."""

from __future__ import annotations

import asyncio
from typing import Any

from langgraph.pregel.remote import RemoteGraph

from escalade.domains.base import Domain
from escalade.domains.errors import NoDecisionError
from escalade.graph.embed.embedded import Embedded
from escalade.nodes.context import DecisionContext
from escalade.nodes.resources import Resources
from escalade.nodes.tools import MOST_SIMULATIONS, NeuralTools


class RemoteNeuralTools(NeuralTools):
    """domain: what the remote graph decides."""

    def __init__(self, domain: Domain[Any], graph: RemoteGraph) -> None:
        super().__init__(Resources(domain=domain, defaults=DecisionContext(), calibrators={}))
        self.remote = Embedded(graph)

    def offered(self) -> list[str]:
        names = ["legal_actions", "policy_prior"]
        return [*names, "position_value", "search"] if self.resources.domain.has_simulator else names

    async def policy_prior(self, state: Any) -> dict[str, Any]:
        report, decision = await self._ask(state, mode="neural_only", ladder=("policy",))
        policy = decision["policy"]
        legal = self.resources.domain.legal_actions(self._parsed(state))
        shares = {self.resources.domain.action_name(action): round(policy[action], 4) for action in legal}
        return {"probabilities": shares, "value": round(report["value"], 4)}

    async def position_value(self, state: Any, action: str) -> dict[str, Any]:
        domain, parsed = self.resources.domain, self._parsed(state)
        number = self._legal(parsed, action)
        report, _ = await self._ask(state, mode="neural_only", ladder=("value",))
        value = report["details"]["action_values"][number]
        return {"value": round(value, 4), "exact": domain.is_terminal(domain.step(parsed, number))}

    async def search(self, state: Any, simulations: int = 100) -> dict[str, Any]:
        report, decision = await self._ask(
            state, mode="search_only", ladder=("search",), simulations=min(simulations, MOST_SIMULATIONS)
        )
        found = report["details"]
        moves = found["moveInfos"]
        return {
            "action": decision["action_name"],
            "value": round(report["value"], 4),
            "proven": found["rootInfo"]["proven"],
            "line": next(move["pv"] for move in moves if move["pv"]),
            "visits": {move["move"]: move["visits"] for move in moves if move["visits"]},
        }

    async def _ask(self, state: Any, **options: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        """The report of the one rung that is asked, and the decision."""
        text = self.resources.domain.format(self._parsed(state))
        given = {"options": DecisionContext(**options)}
        # In a thread: an asynchronous client belongs to one event loop, and tools are called from any.
        decision = await asyncio.to_thread(lambda: self.remote.decide(text, None, {}, **given))
        if decision["domain"] != self.resources.domain.name:
            raise NoDecisionError(
                f"the remote graph decides {decision['domain']}, not {self.resources.domain.name}: give another "
                "RemoteGraph, or the domain that it decides"
            )
        report = decision["rungs"][-1]
        if report["rung"] != decision["source"]:
            raise NoDecisionError(f"the remote graph did not ask '{options['ladder'][0]}'")
        return report, decision
