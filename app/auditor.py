"""Who audits ask: the networks, for what each says of a state, and a certificate's reference, for what is right there.

Both go through the decision graph itself, without its sinks, so that an audit asks what a decision would have asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from escalade.app.counterfactual import work_seconds
from escalade.app.tracing import sampled
from escalade.domains.decision import Decision, RungReport
from escalade.domains.errors import NoDecisionError
from escalade.graph.decision import decided, wire
from escalade.nodes.certified import NEURAL
from escalade.nodes.context import NO_LIMITS, DecisionContext
from escalade.nodes.resources import Resources
from escalade.training.reference import acceptable_actions

OnCost = Callable[[float | None, float], None]
"""Hears of each audit its price in USD, None if unpriced, and the seconds of this machine's work."""


class Auditor:
    """resources: those of the decisions that are audited. reference: of their certificates. Its calls are slow, and not
    for an event loop."""

    def __init__(self, resources: Resources, reference: str, on_cost: OnCost | None = None) -> None:
        self._resources = replace(
            resources, sinks=(), failure_sinks=(), watch=None, defaults=DecisionContext(), limits=NO_LIMITS
        )
        self._graph = wire(self._resources).compile()
        self._reference, self._on_cost = reference, on_cost

    def neural_reports(self, text: str) -> Sequence[RungReport]:
        """What every network says of a state, if the domain's own rules leave it to networks, whether or not it was
        asked when that was decided."""
        # Nothing is accepted, so that the next network is asked too.
        context = DecisionContext(ladder=NEURAL, policy_threshold=1.0, value_threshold=1.0)
        try:
            return self._decision(text, context).rungs
        except NoDecisionError:
            return ()

    def acceptable(self, text: str) -> set[int] | None:
        """The actions that the reference holds for right; None where only an outcome can tell."""
        if self._reference == "llm" and self._resources.language_model is not None:
            decision = self._decision(text, DecisionContext(mode="llm_only", ladder=("reason",)))
            self._told(decision.cost_usd, work_seconds(decision))
            return {decision.action}
        search = self._resources.search
        began = time.perf_counter()
        right = acceptable_actions(
            self._resources.domain, self._reference, text, None if search is None else search.evaluator
        )
        if right is not None:
            seconds = time.perf_counter() - began
            self._told(seconds * self._resources.compute_usd_per_hour / 3600, seconds)
        return right

    def _told(self, usd: float | None, seconds: float) -> None:
        if self._on_cost is not None:
            self._on_cost(usd, seconds)

    def _decision(self, text: str, context: DecisionContext) -> Decision:
        with sampled(0.0):  # what is traced are decisions
            answer: Any = self._graph.invoke({"state": text}, context=context)
        return Decision.model_validate(decided(answer))
