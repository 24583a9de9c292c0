"""The networks, the search and past decisions as tools for language models: typed, bounded, and answered through the
same batcher and search service as every decision.

An answer is a JSON object, and the message's artifact the same as a dict. What is wrong with a call is said in a
sentence (`ToolException`), which the model reads, in a message with status `error`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from langchain_core.tools import BaseTool, StructuredTool, ToolException
from pydantic import BaseModel, Field

from escalade.domains.base import legal_mask
from escalade.domains.errors import EscaladeError
from escalade.neural.actions import action_probabilities
from escalade.nodes.daemon import wait_for
from escalade.nodes.resources import Resources
from escalade.nodes.tool_arguments import as_state, state_arguments, unfit
from escalade.nodes.tracing import evaluate_async, traced
from escalade.search.config import SearchConfig

MOST_SIMULATIONS = 1000
"""Of one call of `search`."""


@dataclass
class ToolLimits:
    """What the calls of one decision may take together; it counts down."""

    calls: int = 8
    simulations: int = 1000

    def spend(self, simulations: int = 0) -> None:
        """Raises ToolException where nothing is left."""
        if self.calls < 1:
            raise ToolException("no more tool calls are allowed in this decision: answer now")
        if simulations > self.simulations:
            raise ToolException(f"only {self.simulations} simulations are left in this decision")
        self.calls -= 1
        self.simulations -= simulations


class NeuralTools:
    """The tools' functions. limits: of one decision; None: each call is bounded, their number is not. deadline: by the
    resources' clock, for networks and searches."""

    def __init__(
        self,
        resources: Resources,
        limits: ToolLimits | None = None,
        *,
        seed: int = 0,
        deadline: float | None = None,
    ) -> None:
        self.resources, self.limits, self.known = resources, limits, resources.similar
        self.seed, self.deadline = seed, deadline

    async def legal_actions(self, state: Any) -> dict[str, Any]:
        """The actions that are allowed in a state."""
        self._spend()
        parsed = self._parsed(state)
        return {"legal_actions": self._names(self.resources.domain.legal_actions(parsed))}

    async def policy_prior(self, state: Any) -> dict[str, Any]:
        """How likely the policy network holds each legal action to be the best, and what it thinks the state is worth
        for the player to move, from -1 (lost) to 1 (won)."""
        self._spend()
        domain, network, parsed = self.resources.domain, self.resources.network, [self._parsed(state)]
        assert network is not None  # or there is no such tool
        legal = legal_mask(domain, parsed)
        logits, values = await evaluate_async(
            network, domain.encode(parsed), legal, self.deadline, self.resources.bundle_version
        )
        probabilities = action_probabilities(logits, legal)[0]
        shares = {domain.action_name(int(a)): round(float(probabilities[a]), 4) for a in np.flatnonzero(legal[0])}
        return {"probabilities": shares, "value": round(float(values[0]), 4)}

    async def position_value(self, state: Any, action: str) -> dict[str, Any]:
        """What taking an action in a state is worth for the player who takes it, from -1 (lost) to 1 (won): exactly
        where it ends the game, else by the value network."""
        self._spend()
        resources = self.resources
        domain, network = resources.domain, resources.value_network
        assert network is not None
        parsed = self._parsed(state)
        reached = domain.step(parsed, self._legal(parsed, action))
        same = domain.to_move(reached) == domain.to_move(parsed)
        if domain.is_terminal(reached):
            value, exact = float(domain.outcome(reached)), True
        else:
            _, values = await evaluate_async(
                network,
                domain.encode([reached]),
                legal_mask(domain, [reached]),
                self.deadline,
                resources.bundle_version,
            )
            value, exact = float(values[0]), False
        return {"value": round(value if same else 0.0 - value, 4), "exact": exact}

    async def search(self, state: Any, simulations: int = 100) -> dict[str, Any]:
        """A tree search: its choice, what that is worth for the player to move (-1 to 1), whether that is proven, how
        play goes on from there, and how often it tried each action."""
        simulations = min(simulations, MOST_SIMULATIONS)
        self._spend(simulations)
        service, domain = self.resources.search, self.resources.domain
        assert service is not None
        config = SearchConfig(simulations=simulations)
        with traced("search", {"simulations": simulations}):
            ticket = service.submit(self._parsed(state), config, seed=self.seed, deadline=self.deadline)
            found = await asyncio.wrap_future(ticket)
        tried = {domain.action_name(int(action)): int(found.visits[action]) for action in np.flatnonzero(found.visits)}
        return {
            "action": domain.action_name(found.action),
            "value": round(float(found.value), 4),
            "proven": bool(found.proven),
            "line": self._names(found.principal_variation),
            "visits": tried,
        }

    async def similar_decisions(self, state: Any) -> dict[str, Any]:
        """What was decided before in the states most like this one, and by whom."""
        self._spend()
        assert self.known is not None
        text = self.resources.domain.format(self._parsed(state))
        return {"decisions": await asyncio.to_thread(self.known.similar, text, 5)}

    def offered(self) -> list[str]:
        """Names of the tools that this domain has something behind."""
        resources = self.resources
        behind = {
            "legal_actions": True,
            "policy_prior": resources.network is not None,
            "position_value": resources.value_network is not None and resources.domain.has_simulator,
            "search": resources.search is not None,
            "similar_decisions": self.known is not None,
        }
        return [name for name, there_is in behind.items() if there_is]

    def tools(self) -> list[BaseTool]:
        """Those that are offered."""
        size = Field(default=100, ge=1, le=MOST_SIMULATIONS, description="New positions to look at.")
        more: dict[str, dict[str, Any]] = {
            "position_value": {"action": (str, Field(description="The name of a legal action."))},
            "search": {"simulations": (int, size)},
        }
        domain = self.resources.domain
        return [
            _tool(name, getattr(self, name), state_arguments(domain, **more.get(name, {}))) for name in self.offered()
        ]

    def _spend(self, simulations: int = 0) -> None:
        if self.limits is not None:
            self.limits.spend(simulations)

    def _parsed(self, given: Any) -> Any:
        """Raises ToolException for what is no state, or a finished one."""
        domain = self.resources.domain
        try:
            state = domain.parse(as_state(domain, given))
        except EscaladeError as error:
            raise ToolException(str(error)) from None
        if domain.is_terminal(state):
            raise ToolException("this state is finished: no action is legal in it")
        return state

    def _legal(self, state: Any, name: str) -> int:
        """Raises ToolException for what is no legal action."""
        domain = self.resources.domain
        legal = domain.legal_actions(state)
        try:
            action = domain.parse_action(name)
        except EscaladeError:
            action = -1
        if action not in legal:
            raise ToolException(f"'{name[:40]}' is not legal here; legal are {', '.join(self._names(legal))}")
        return action

    def _names(self, actions: Sequence[int]) -> list[str]:
        return [self.resources.domain.action_name(int(action)) for action in actions]


def _tool(name: str, function: Callable[..., Awaitable[dict[str, Any]]], arguments: type[BaseModel]) -> BaseTool:
    async def work(**given: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        try:
            found = await function(**given)
        except ToolException:
            raise
        except (EscaladeError, TimeoutError) as error:  # overloaded, too late, or a domain that failed
            raise ToolException(f"no answer: {error or 'time is up'}") from error
        return found, found

    def sync(**given: Any) -> tuple[dict[str, Any], dict[str, Any]]:
        return wait_for(work(**given))

    return StructuredTool.from_function(
        sync,
        work,
        name=name,
        description=" ".join((getattr(NeuralTools, name).__doc__ or "").split()),
        args_schema=arguments,
        response_format="content_and_artifact",
        handle_tool_error=True,
        handle_validation_error=unfit,
    )
