"""The policy rung: the network's first choice, from one forward pass shared with whoever asks at the same time."""

from __future__ import annotations

from escalade.domains.base import BoolArray, FloatArray, legal_mask
from escalade.neural.actions import action_probabilities
from escalade.nodes.context import DecisionContext
from escalade.nodes.resources import Resources
from escalade.nodes.state import DecisionState
from escalade.nodes.step import RungStep, Update, deadline_of


def policy_node(resources: Resources) -> RungStep:
    domain, network, calibrator = resources.domain, resources.network, resources.calibrator("policy")

    def question(state: DecisionState) -> tuple[FloatArray, BoolArray]:
        parsed = [domain.parse(state["text"])]
        return domain.encode(parsed), legal_mask(domain, parsed)

    def proposal(legal: BoolArray, answer: tuple[FloatArray, FloatArray]) -> Update:
        logits, values = answer
        probabilities = action_probabilities(logits, legal)[0]
        action = int(probabilities.argmax())
        raw = float(probabilities[action])
        return {
            "action": action,
            "confidence": calibrator.confidence(raw),
            "value": float(values[0]),
            "policy": probabilities.tolist(),
            "details": {"raw_confidence": raw, "calibrator": calibrator.kind, "bundle": resources.bundle_version},
        }

    def run(state: DecisionState, context: DecisionContext) -> Update:
        assert network is not None  # the router asks only if there is one
        observations, legal = question(state)
        return proposal(legal, network.evaluate(observations, legal, deadline_of(state, resources)))

    async def async_run(state: DecisionState, context: DecisionContext) -> Update:
        assert network is not None
        observations, legal = question(state)
        return proposal(legal, await network.evaluate_async(observations, legal, deadline_of(state, resources)))

    return RungStep("policy", resources, run, async_run)
