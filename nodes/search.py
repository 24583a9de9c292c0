"""The search rung: a request to the search service, whose threads search for all runs together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import numpy as np

from escalade.domains.base import Domain
from escalade.domains.errors import DeadlineError
from escalade.neural.confidence import Features, search_features
from escalade.nodes.context import DecisionContext
from escalade.nodes.resources import Resources
from escalade.nodes.state import DecisionState
from escalade.nodes.step import RungStep, Update, deadline_of
from escalade.nodes.tracing import noted, traced
from escalade.search.config import SearchConfig
from escalade.search.results import SearchResult
from escalade.search.service import SearchTicket

LAST_SIMULATIONS, LAST_S = 16, 1.0
"""Of a search that is the last resort."""


def is_last_resort(reports: Sequence[dict[str, Any]]) -> bool:
    """Whether, since a rung failed, nothing is decided without a search. A decision that is a little late is worth more
    than none."""
    outcomes = {report["outcome"] for report in reports}
    return "failed" in outcomes and "escalated" not in outcomes


def waited_for(ticket: SearchTicket) -> SearchResult:
    """Its result. Who stops waiting, by Ctrl-C say, takes the search along."""
    try:
        return ticket.result()
    except BaseException:
        ticket.cancel()
        raise


def search_node(resources: Resources) -> RungStep:
    domain, calibrator = resources.domain, resources.calibrator("search")

    def ask(state: DecisionState, context: DecisionContext) -> SearchTicket:
        return submit(state, context, context.simulations, deadline_of(state, resources))

    def ask_again(state: DecisionState, context: DecisionContext) -> SearchTicket:
        """A small one, where the machine was too busy to begin the other in time."""
        return submit(state, context, min(context.simulations, LAST_SIMULATIONS), resources.clock() + LAST_S)

    def submit(state: DecisionState, context: DecisionContext, simulations: int, until: float | None) -> SearchTicket:
        assert resources.search is not None  # the router asks only if there is one
        config = SearchConfig(simulations=simulations)
        return resources.search.submit(domain.parse(state["text"]), config, seed=context.seed, deadline=until)

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
            try:
                result = waited_for(ask(state, context))
            except DeadlineError:
                if not is_last_resort(state["reports"]):
                    raise
                result = waited_for(ask_again(state, context))
            noted(run, domain, result)
        return proposal(result)

    async def async_run(state: DecisionState, context: DecisionContext) -> Update:
        # Cancelling this task cancels the ticket, and with it the search.
        with traced("search", {"simulations": context.simulations}, bundle=resources.bundle_version) as run:
            try:
                result = await asyncio.wrap_future(ask(state, context))
            except DeadlineError:
                if not is_last_resort(state["reports"]):
                    raise
                result = await asyncio.wrap_future(ask_again(state, context))
            noted(run, domain, result)
        return proposal(result)

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
