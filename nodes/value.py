"""The value rung: one ply of lookahead. Every legal action is tried in the simulator and all results are valued in one
batch; finished ones count with their exact outcome. The state itself is asked about beside them, for the confidence
rests on how far the policy and the values agree."""

from __future__ import annotations

import asyncio

import numpy as np

from escalade.domains.base import BoolArray, FloatArray, legal_mask
from escalade.neural.actions import action_probabilities
from escalade.neural.confidence import value_features
from escalade.neural.lookahead import Lookahead
from escalade.nodes.context import DecisionContext
from escalade.nodes.resources import Resources
from escalade.nodes.state import DecisionState
from escalade.nodes.step import RungStep, Update, deadline_of
from escalade.nodes.tracing import evaluate, evaluate_async

Answer = tuple[FloatArray, FloatArray]


class _Question:
    """A state as the policy sees it, and its children."""

    def __init__(self, resources: Resources, text: str) -> None:
        domain = resources.domain
        state = domain.parse(text)
        self.text = text
        self.observations: FloatArray = domain.encode([state])
        self.legal: BoolArray = legal_mask(domain, [state])
        self.ahead = Lookahead(domain, state)

    def together(self) -> tuple[FloatArray, BoolArray]:
        """The state and its children, for one network to answer in one pass."""
        return (
            np.concatenate((self.observations, self.ahead.observations)),
            np.concatenate((self.legal, self.ahead.legal)),
        )


def value_node(resources: Resources) -> RungStep:
    network, value_network, calibrator = resources.network, resources.value_network, resources.calibrator("value")
    one, version = network is value_network, resources.bundle_version

    def proposal(question: _Question, own: Answer, values: FloatArray) -> Update:
        """own: logits `[1, A]` and value `[1]` of the state. values `[k]` of its children."""
        ahead = question.ahead
        ahead.fill_in(values)
        probabilities = action_probabilities(own[0], question.legal)
        features = value_features(probabilities, question.legal, own[1], ahead.values[None], ahead.exact[None])
        action = int(np.nanargmax(ahead.values))
        action_values = [None if np.isnan(value) else float(value) for value in ahead.values]
        return {
            "action": action,
            "confidence": float(calibrator.confidences(features)[0]),
            "value": action_values[action],
            "policy": None,
            "details": {
                "action_values": action_values,
                "raw_confidence": float(features[0, 0]),
                "calibrator": calibrator.kind,
                "bundle": resources.bundle_version,
                **resources.novelty_of(question.observations, question.text),
            },
        }

    def parted(question: _Question, answer: Answer) -> Update:
        return proposal(question, (answer[0][:1], answer[1][:1]), answer[1][1:])

    def run(state: DecisionState, context: DecisionContext) -> Update:
        assert network is not None
        assert value_network is not None
        question, deadline = _Question(resources, state["text"]), deadline_of(state, resources)
        if one:
            return parted(question, evaluate(network, *question.together(), deadline, version))
        own = evaluate(network, question.observations, question.legal, deadline, version)
        ahead = question.ahead
        return proposal(question, own, evaluate(value_network, ahead.observations, ahead.legal, deadline, version)[1])

    async def async_run(state: DecisionState, context: DecisionContext) -> Update:
        assert network is not None
        assert value_network is not None
        question, deadline = _Question(resources, state["text"]), deadline_of(state, resources)
        if one:
            return parted(question, await evaluate_async(network, *question.together(), deadline, version))
        ahead = question.ahead
        own, children = await asyncio.gather(
            evaluate_async(network, question.observations, question.legal, deadline, version),
            evaluate_async(value_network, ahead.observations, ahead.legal, deadline, version),
        )
        return proposal(question, own, children[1])

    return RungStep("value", resources, run, async_run)
