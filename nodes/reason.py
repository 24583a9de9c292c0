"""The language model's rung: questions constrained to the legal actions, their answers checked against them. Asked
several times over (`samples`), it is as sure as its answers agree.

Failure codes: those of `escalade.nodes.call_failed`, and `illegal_action`.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from langchain_core.messages import BaseMessage

from escalade.domains.base import Domain
from escalade.domains.errors import ActionError
from escalade.nodes.call_failed import CallFailed
from escalade.nodes.certified import NEURAL
from escalade.nodes.context import DecisionContext
from escalade.nodes.daemon import wait_for
from escalade.nodes.guards import DecisionTokens
from escalade.nodes.language_model import Answer, LanguageModel
from escalade.nodes.questions import choice, names_of, situation
from escalade.nodes.resources import Resources
from escalade.nodes.state import DecisionState
from escalade.nodes.step import RungStep, Update, failed, log
from escalade.nodes.structured import Form


class Reason(RungStep):
    works = False


def reason_node(resources: Resources) -> RungStep:
    domain = resources.domain

    async def propose(state: DecisionState, context: DecisionContext) -> Update:
        model = resources.language_model
        assert model is not None  # the router asks only if there is one
        parsed = domain.parse(state["text"])
        legal = domain.legal_actions(parsed)
        form, messages = choice(names_of(domain, legal), evaluates=domain.has_simulator), situation(domain, parsed)
        allowance = state.get("allowance_ms")
        timeout_s = model.timeout_s if allowance is None else min(model.timeout_s, allowance / 1000)
        details: dict[str, Any] = {"model": model.name}
        try:
            if context.samples > 1:
                answers, cost = await sampled(model, form, messages, context.samples, timeout_s)
            elif resources.batches is not None:
                answer, details["batch"] = await resources.batches.ask(state["text"], timeout_s=timeout_s)
                answers, cost = [answer], answer.cost_usd
            else:
                answer = await model.ask(form, messages, timeout_s=timeout_s)
                answers, cost = [answer], answer.cost_usd
        except CallFailed as error:
            return failure(error, model)
        details |= _told(answers)
        named = [(_action(domain, answer.fields["action"]), answer) for answer in answers]
        votes = Counter(action for action, _ in named if action in legal)
        if not votes:
            return failed("illegal_action", {**details, "answer": answers[0].fields["action"][:80]}, cost)
        action, count = max(votes.items(), key=lambda one: (one[1], -one[0]))
        evaluations = [one.fields["evaluation"] for said, one in named if said == action and "evaluation" in one.fields]
        evaluation = sum(evaluations) / len(evaluations) if evaluations else None
        confidence = None
        if context.samples > 1:
            # How often it says the same is the raw confidence; what it says of its own certainty counts for nothing.
            details["samples"] = context.samples
            details["votes"] = {domain.action_name(one): number for one, number in votes.most_common()}
            details["raw_confidence"] = count / context.samples
            features = np.array([[count / context.samples]])
            confidence = float(resources.calibrator("reason").confidences(features)[0])
        return {
            "action": action,
            "confidence": confidence,
            **blended(evaluation, network_value(state), context.network_weight, details),
            "policy": None,
            "cost_usd": cost,
        }

    def run(state: DecisionState, context: DecisionContext) -> Update:
        return wait_for(propose(state, context))

    return Reason("reason", resources, run, propose)


async def sampled(
    model: LanguageModel, form: Form, messages: Sequence[BaseMessage], count: int, timeout_s: float
) -> tuple[list[Answer], float | None]:
    """So many answers to one question, asked for at once (X. Wang et al., "Self-consistency improves chain of thought
    reasoning in language models", ICLR 2023), and what all calls cost. Those that fail are left out. Raises CallFailed
    if all do."""
    tokens = DecisionTokens(model.tokens_per_decision)
    asked = (model.ask(form, messages, timeout_s=timeout_s, decision=tokens, sampled=True) for _ in range(count))
    ended = await asyncio.gather(*asked, return_exceptions=True)
    for one in ended:
        if isinstance(one, BaseException) and not isinstance(one, CallFailed):
            raise one
    answers = [one for one in ended if isinstance(one, Answer)]
    failures = [one for one in ended if isinstance(one, CallFailed)]
    costs = [one.cost_usd for one in answers] + [one.details.get("cost_usd", 0.0) for one in failures]
    total = None if None in costs else sum(filter(None, costs))
    if not answers:
        failures[0].details["cost_usd"] = total
        raise failures[0]
    return answers, total


def _told(answers: Sequence[Answer]) -> dict[str, Any]:
    """What the calls have in common for a report."""
    tokens = [one.tokens for one in answers if one.tokens is not None]
    whole = {name: sum(one[name] or 0 for one in tokens) for name in ("input_tokens", "output_tokens")}
    details: dict[str, Any] = {"tokens": whole if tokens else None}
    attempts = sum(one.attempts for one in answers)
    if attempts > len(answers):
        details["attempts"] = attempts
    if any(one.simulated for one in answers):
        details["simulated"] = True
    return details


def _action(domain: Domain[Any], name: str) -> int:
    """The action of a name, -1 if it names none."""
    try:
        return domain.parse_action(name)
    except ActionError:
        return -1


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
