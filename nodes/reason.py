"""The language model's rung: one call constrained to the legal actions, its answer checked against them.

Failure codes: those of `escalade.nodes.endpoint`, and `illegal_action`.
"""

from __future__ import annotations

from typing import Any

from escalade.domains.errors import ActionError
from escalade.nodes.certified import NEURAL
from escalade.nodes.context import DecisionContext
from escalade.nodes.daemon import wait_for
from escalade.nodes.endpoint import CallFailed
from escalade.nodes.language_model import LanguageModel
from escalade.nodes.questions import choice, names_of, situation
from escalade.nodes.resources import Resources
from escalade.nodes.state import DecisionState
from escalade.nodes.step import RungStep, Update, failed, log


class Reason(RungStep):
    works = False


def reason_node(resources: Resources) -> RungStep:
    domain = resources.domain

    async def propose(state: DecisionState, context: DecisionContext) -> Update:
        model = resources.language_model
        assert model is not None  # the router asks only if there is one
        parsed = domain.parse(state["text"])
        legal = domain.legal_actions(parsed)
        form = choice(names_of(domain, legal), evaluates=domain.has_simulator)
        allowance = state.get("allowance_ms")
        timeout_s = model.timeout_s if allowance is None else min(model.timeout_s, allowance / 1000)
        details: dict[str, Any] = {"model": model.name}
        try:
            if resources.batches is not None:
                answer, details["batch"] = await resources.batches.ask(state["text"], timeout_s=timeout_s)
            else:
                answer = await model.ask(form, situation(domain, parsed), timeout_s=timeout_s)
        except CallFailed as error:
            return failure(error, model)
        details["tokens"] = answer.tokens
        if answer.attempts > 1:
            details["attempts"] = answer.attempts
        if answer.simulated:
            details["simulated"] = True
        name = answer.fields["action"]
        try:
            action = domain.parse_action(name)
        except ActionError:
            action = -1
        if action not in legal:
            return failed("illegal_action", {**details, "answer": name[:80]}, answer.cost_usd)
        evaluation = answer.fields.get("evaluation")
        # An LLM's own word on how sure it is counts for nothing, and one sample has no agreement to measure.
        return {
            "action": action,
            "confidence": None,
            **blended(evaluation, network_value(state), context.network_weight, details),
            "policy": None,
            "cost_usd": answer.cost_usd,
        }

    def run(state: DecisionState, context: DecisionContext) -> Update:
        return wait_for(propose(state, context))

    return Reason("reason", resources, run, propose)


def network_value(state: DecisionState) -> float | None:
    """What the last network that was asked, and was not sure enough to decide, thinks the state is worth."""
    values = [
        report["value"]
        for report in state["reports"]
        if report["rung"] in NEURAL and report["outcome"] == "escalated" and report.get("value") is not None
    ]
    return float(values[-1]) if values else None


def blended(evaluation: float | None, network: float | None, weight: float, details: dict[str, Any]) -> dict[str, Any]:
    """`value` of the state by the model and an unsure network together, and `details` with both; by the one that says
    anything, where the other does not."""
    known = {"evaluation": evaluation, "network_value": network, "network_weight": weight}
    if evaluation is None:
        return {"value": network, "details": details if network is None else {**details, "network_value": network}}
    if network is None:
        return {"value": evaluation, "details": {**details, "evaluation": evaluation}}
    return {"value": weight * network + (1 - weight) * evaluation, "details": {**details, **known}}


def failure(error: CallFailed, model: LanguageModel) -> Update:
    """A failed proposal."""
    details = {"model": model.name, **error.details}
    cost = details.pop("cost_usd", 0.0)
    log.warning("the language model failed: %s %s", error.reason, details.get("status") or "")
    return failed(error.reason, details, cost)
