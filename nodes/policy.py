"""The policy rung: the network's first choice, from one forward pass shared with whoever asks at the same time."""

from __future__ import annotations

from escalade.domains.base import BoolArray, FloatArray, legal_mask
from escalade.neural.actions import action_probabilities
from escalade.neural.confidence import policy_features
from escalade.nodes.context import DecisionContext
from escalade.nodes.resources import Resources
from escalade.nodes.state import DecisionState
from escalade.nodes.step import RungStep, Update, deadline_of
from escalade.nodes.tracing import evaluate, evaluate_async


def policy_node(resources: Resources) -> RungStep:
    domain, network, calibrator = resources.domain, resources.network, resources.calibrator("policy")
    version = resources.bundle_version

    def question(state: DecisionState) -> tuple[FloatArray, BoolArray]:
        parsed = [domain.parse(state["text"])]
        return domain.encode(parsed), legal_mask(domain, parsed)

    def proposal(text: str, asked: tuple[FloatArray, BoolArray], answer: tuple[FloatArray, FloatArray]) -> Update:
        (observations, legal), (logits, values) = asked, answer
        probabilities = action_probabilities(logits, legal)
        features = policy_features(probabilities, legal, values)
        return {
            "action": int(probabilities[0].argmax()),
            "confidence": float(calibrator.confidences(features)[0]),
            "value": float(values[0]),
            "policy": probabilities[0].tolist(),
            "details": {
                "raw_confidence": float(features[0, 0]),
                "calibrator": calibrator.kind,
                "bundle": resources.bundle_version,
                **resources.novelty_of(observations, text),
            },
        }

    def run(state: DecisionState, context: DecisionContext) -> Update:
        assert network is not None  # the router asks only if there is one
        asked = question(state)
        return proposal(state["text"], asked, evaluate(network, *asked, deadline_of(state, resources), version))

    async def async_run(state: DecisionState, context: DecisionContext) -> Update:
        assert network is not None
        asked, deadline = question(state), deadline_of(state, resources)
        return proposal(state["text"], asked, await evaluate_async(network, *asked, deadline, version))

    return RungStep("policy", resources, run, async_run)
