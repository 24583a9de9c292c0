"""The last node of the language model's rung: its choice. Asked several times over (`samples`), the model is as sure as
its answers agree. In the short form this is the only node that asks, and legality the only check.

Failure codes: those of `escalade.nodes.call_failed`, `illegal_action`, and `refuted` (by `verify`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Any, cast

from escalade.neural.calibration import IdentityCalibrator
from escalade.neural.confidence import reason_features
from escalade.nodes.call_failed import CallFailed
from escalade.nodes.context import DecisionContext
from escalade.nodes.daemon import wait_for
from escalade.nodes.deliberate import considered
from escalade.nodes.language_model import Answer, LanguageModel
from escalade.nodes.questions import SYSTEM, choice, names_of, situation
from escalade.nodes.reasoning import (
    NOTHING,
    ReasoningState,
    ReasoningStep,
    Spent,
    action_of,
    ask,
    budget_of,
    failure,
    left_s,
    open_actions,
    reported,
    told_spent,
    with_answers,
)
from escalade.nodes.resources import Resources
from escalade.nodes.state import DecisionState
from escalade.nodes.step import Update, failed


def agree_node(resources: Resources) -> ReasoningStep:
    domain = resources.domain

    async def settle(given: DecisionState, context: DecisionContext) -> Update:
        state = cast(ReasoningState, given)
        model = resources.language_model
        assert model is not None  # the router asks only if there is one
        full = "candidates" in state
        details: dict[str, Any] = {"model": model.name, **(told(state) if full else {})}
        answers: list[Answer] = []
        spent = state.get("spent", NOTHING)
        try:
            if not full or context.samples > 1:
                answers, spent = await _answers(resources, model, state, context, details)
        except CallFailed as error:
            return failure(error, model, details)
        details |= told_spent(spent)
        named = [(action_of(domain, answer.fields["action"]), answer) for answer in answers]
        legal = domain.legal_actions(domain.parse(state["text"]))
        votes = Counter(action for action, _ in named if action in legal)
        if full:
            action = action_of(domain, state["best"])
            evaluation = state.get("evaluation")
        elif not votes:
            answer = answers[0].fields["action"][:80]
            return {**failed("illegal_action", {**details, "answer": answer}), "spent": spent}
        else:
            action = max(votes.items(), key=lambda one: (one[1], -one[0]))[0]
            evaluation = _mean(answer for said, answer in named if said == action)
        confidence = None
        if context.samples > 1:
            # How often it says the same is the raw confidence; what it says of its own certainty counts for nothing.
            details["samples"] = context.samples
            details["votes"] = {domain.action_name(one): number for one, number in votes.most_common()}
            details["raw_confidence"] = votes[action] / context.samples
            known = resources.reason_calibration
            calibrator = IdentityCalibrator() if known is None else known.of(model.name, context)
            details["calibrator"] = calibrator.kind
            confidence = float(calibrator.confidences(reason_features(votes, action, context.samples))[0])
        return {
            "action": action,
            "confidence": confidence,
            **blended(evaluation, state.get("network_value"), context.network_weight, details),
            "policy": None,
            "cost_usd": spent["cost_usd"],
        }

    def run(state: DecisionState, context: DecisionContext) -> Update:
        return wait_for(settle(state, context))

    return ReasoningStep("agree", resources, run, settle)


async def _answers(
    resources: Resources,
    model: LanguageModel,
    state: ReasoningState,
    context: DecisionContext,
    details: dict[str, Any],
) -> tuple[list[Answer], Spent]:
    """The model's choices, and what the rung has spent with them. Raises CallFailed."""
    domain = resources.domain
    if context.samples == 1 and resources.batches is not None:
        batches = resources.batches

        async def batched() -> Answer:
            answer, details["batch"] = await batches.ask(
                state["text"], timeout_s=left_s(state), budget=budget_of(state)
            )
            return answer

        answer = await reported(model, state, "choose_actions", batched())
        return [answer], with_answers(NOTHING, [answer], answer.cost_usd, 0)
    parsed = domain.parse(state["text"])
    if "candidates" in state:
        form, messages = choice(open_actions(domain, parsed, state)), considered(domain, parsed, state, SYSTEM)
    else:
        names = names_of(domain, domain.legal_actions(parsed))
        form, messages = choice(names, evaluates=domain.has_simulator), situation(domain, parsed)
    return await ask(model, state, form, messages, context.samples)


def told(state: ReasoningState) -> dict[str, Any]:
    """How the full form came to its choice, for a report."""
    details: dict[str, Any] = {
        "plan": state.get("plan"),
        "candidates": state.get("candidates", {}),
        "consulted": state.get("asked", []),
        "rounds": state.get("rounds", 0),
    }
    details |= {name: state[name] for name in ("refuted", "troubles") if state.get(name)}
    return details


def _mean(answers: Iterable[Answer]) -> float | None:
    """The mean of their evaluations of the state, None without any."""
    evaluations = [answer.fields["evaluation"] for answer in answers if "evaluation" in answer.fields]
    return sum(evaluations) / len(evaluations) if evaluations else None


def blended(evaluation: float | None, network: float | None, weight: float, details: dict[str, Any]) -> dict[str, Any]:
    """`value` of the state by the model and an unsure network together, and `details` with both; by the one that says
    anything, where the other does not."""
    known = {"evaluation": evaluation, "network_value": network, "network_weight": weight}
    if evaluation is None:
        return {"value": network, "details": details if network is None else {**details, "network_value": network}}
    if network is None:
        return {"value": evaluation, "details": {**details, "evaluation": evaluation}}
    return {"value": weight * network + (1 - weight) * evaluation, "details": {**details, **known}}
