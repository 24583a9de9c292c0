"""The search rung: a request to the search service, whose threads search for all runs together."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from escalade.domains.base import Domain
from escalade.neural.confidence import Features, search_features
from escalade.nodes.context import DecisionContext
from escalade.nodes.resources import Resources
from escalade.nodes.state import DecisionState
from escalade.nodes.step import RungStep, Update, deadline_of
from escalade.nodes.tracing import Traced, traced
from escalade.search.config import SearchConfig
from escalade.search.results import SearchResult
from escalade.search.service import SearchTicket


def search_node(resources: Resources) -> RungStep:
    domain, calibrator = resources.domain, resources.calibrator("search")

    def ask(state: DecisionState, context: DecisionContext) -> SearchTicket:
        assert resources.search is not None  # the router asks only if there is one
        return resources.search.submit(
            domain.parse(state["text"]),
            SearchConfig(simulations=context.simulations),
            seed=context.seed,
            deadline=deadline_of(state, resources),
        )

    def proposal(result: SearchResult) -> Update:
        features = _features(result)
        return {
            "action": result.action,
            "confidence": float(calibrator.confidences(features)[0]),
            "value": result.value,
            "policy": result.policy.tolist(),
            "details": {
                **katago_report(domain, result),
                "raw_confidence": float(features[0, 0]),
                "calibrator": calibrator.kind,
            },
        }

    def run(state: DecisionState, context: DecisionContext) -> Update:
        with traced("search", {"simulations": context.simulations}, bundle=resources.bundle_version) as run:
            result = ask(state, context).result()
            note(run, result)
        return proposal(result)

    async def async_run(state: DecisionState, context: DecisionContext) -> Update:
        # Cancelling this task cancels the ticket, and with it the search.
        with traced("search", {"simulations": context.simulations}, bundle=resources.bundle_version) as run:
            result = await asyncio.wrap_future(ask(state, context))
            note(run, result)
        return proposal(result)

    def note(run: Traced, result: SearchResult) -> None:
        action = domain.action_name(result.action)
        run.note(
            {"action": action, "value": float(result.value), "proven": bool(result.proven)}, stopped=result.stopped
        )

    return RungStep("search", resources, run, async_run)


def _features(result: SearchResult) -> Features:
    return search_features(
        result.policy[None],
        result.prior[None],
        result.action_values[None],
        ~np.isnan(result.lower)[None],
        np.array([result.action]),
        np.array([result.value], np.float32),
        np.array([result.proven]),
    )


def katago_report(domain: Domain[Any], result: SearchResult) -> dict[str, Any]:
    """What was found, by the names of KataGo's analysis engine: `winrate` in [0, 1] and `utility` in [-1, 1] are the
    value from the view of the player to move, `pv` is the principal variation, `order` the rank."""
    legal = np.flatnonzero(~np.isnan(result.lower))
    order = sorted(legal, key=lambda action: (action != result.action, -result.visits[action], -result.prior[action]))
    moves = []
    for rank, action in enumerate(order):
        value = result.action_values[action]
        exact = result.lower[action] == result.upper[action]
        if np.isnan(value):
            value = result.lower[action]
        known = exact or result.visits[action] > 0
        chosen = action == result.action
        moves.append(
            {
                "move": domain.action_name(int(action)),
                "order": rank,
                "visits": int(result.visits[action]),
                "prior": float(result.prior[action]),
                "utility": float(value) if known else None,
                "winrate": float((value + 1) / 2) if known else None,
                "proven": bool(exact),
                "pv": [domain.action_name(step) for step in result.principal_variation] if chosen else None,
            }
        )
    return {
        "rootInfo": {
            "visits": result.simulations,
            "utility": result.value,
            "winrate": (result.value + 1) / 2,
            "proven": result.proven,
            "stopped": result.stopped,
        },
        "moveInfos": moves,
    }
