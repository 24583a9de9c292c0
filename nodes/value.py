"""The value rung: one ply of lookahead. Every legal action is tried in the simulator and all results are valued in one
batch; finished ones count with their exact outcome."""

from __future__ import annotations

from typing import Any

import numpy as np

from escalade.domains.base import BoolArray, Domain, FloatArray, legal_mask
from escalade.nodes.context import DecisionContext
from escalade.nodes.resources import Resources
from escalade.nodes.state import DecisionState
from escalade.nodes.step import RungStep, Update, deadline_of


class Lookahead:
    """The children of one state. `values` `[A]` float64, from the view of the state's player to move: NaN where
    illegal, exact where the action ends the game, else to be filled in for `open_actions`."""

    def __init__(self, domain: Domain[Any], text: str) -> None:
        state = domain.parse(text)
        player = domain.to_move(state)
        self.values = np.full(domain.num_actions, np.nan)
        self.open_actions: list[int] = []
        self.signs: list[float] = []
        children = []
        for action in domain.legal_actions(state):
            child = domain.step(state, action)
            sign = 1.0 if domain.to_move(child) == player else -1.0
            if domain.is_terminal(child):
                self.values[action] = sign * domain.outcome(child)
            else:
                self.open_actions.append(action)
                self.signs.append(sign)
                children.append(child)
        self.observations: FloatArray = (
            domain.encode(children) if children else np.zeros((0, *domain.observation_shape), np.float32)
        )
        self.legal: BoolArray = legal_mask(domain, children)

    def fill_in(self, values: FloatArray) -> None:
        """Values `[k]` of the open children, each from the view of its own player to move."""
        self.values[self.open_actions] = np.multiply(self.signs, values)


def value_node(resources: Resources) -> RungStep:
    network, calibrator = resources.value_network, resources.calibrator("value")

    def proposal(lookahead: Lookahead) -> Update:
        action = int(np.nanargmax(lookahead.values))
        raw = raw_confidence(lookahead.values, exact=action not in lookahead.open_actions)
        values = [None if np.isnan(value) else float(value) for value in lookahead.values]
        return {
            "action": action,
            "confidence": calibrator.confidence(raw),
            "value": values[action],
            "policy": None,
            "details": {
                "action_values": values,
                "raw_confidence": raw,
                "calibrator": calibrator.kind,
                "bundle": resources.bundle_version,
            },
        }

    def run(state: DecisionState, context: DecisionContext) -> Update:
        assert network is not None  # the router asks only if there is one
        lookahead = Lookahead(resources.domain, state["text"])
        answer = network.evaluate(lookahead.observations, lookahead.legal, deadline_of(state, resources))
        lookahead.fill_in(answer[1])
        return proposal(lookahead)

    async def async_run(state: DecisionState, context: DecisionContext) -> Update:
        assert network is not None
        lookahead = Lookahead(resources.domain, state["text"])
        deadline = deadline_of(state, resources)
        answer = await network.evaluate_async(lookahead.observations, lookahead.legal, deadline)
        lookahead.fill_in(answer[1])
        return proposal(lookahead)

    return RungStep("value", resources, run, async_run)


def raw_confidence(values: np.ndarray[Any, np.dtype[np.float64]], *, exact: bool) -> float:
    """A score in [0.5, 1] from action values `[A]` (NaN where illegal), for a calibrator to turn into a probability: 1
    for a win at once or the only legal action, else half plus a quarter of the gap to the second best."""
    ranked = np.sort(values[~np.isnan(values)])[::-1]
    if len(ranked) == 1 or (exact and ranked[0] >= 1):
        return 1.0
    return float(0.5 + (ranked[0] - ranked[1]) / 4)
