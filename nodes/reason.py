"""The language model's rung: one call constrained to the legal actions, its answer checked against them.

Failure codes: `timeout`, `rate_limited`, `unauthorized`, `server_error`, `unreachable`, `refused` (another 4xx),
`malformed_answer`, `illegal_action`, `error`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from langchain_core.messages import AIMessage

from escalade.domains.errors import ActionError
from escalade.nodes.certified import NEURAL
from escalade.nodes.context import DecisionContext
from escalade.nodes.daemon import in_daemon_thread
from escalade.nodes.language_model import LanguageModel, chosen_name, evaluation_of
from escalade.nodes.resources import Resources
from escalade.nodes.state import DecisionState
from escalade.nodes.step import RungStep, Update, failed, log


class Reason(RungStep):
    works = False


def reason_node(resources: Resources) -> RungStep:
    domain, clock = resources.domain, resources.clock

    def prepare(state: DecisionState) -> tuple[LanguageModel, Any, list[Any], Sequence[int], float]:
        model = resources.language_model
        assert model is not None  # the router asks only if there is one
        parsed = domain.parse(state["text"])
        legal = domain.legal_actions(parsed)
        names = [domain.action_name(action) for action in legal]
        bound, messages = model.question(domain.describe(parsed), names, evaluates=domain.has_simulator)
        allowance = state.get("allowance_ms")
        timeout = model.timeout_s if allowance is None else min(model.timeout_s, allowance / 1000)
        return model, bound, messages, legal, timeout

    def proposal(
        model: LanguageModel,
        message: Any,
        legal: Sequence[int],
        started: float,
        network: float | None,
        weight: float,
    ) -> Update:
        """network: the value of a network that was unsure, with this weight; None if there is none."""
        usage = getattr(message, "usage_metadata", None)
        cost = model.cost(usage)
        tokens = {key: usage.get(key) for key in ("input_tokens", "output_tokens")} if usage else None
        details = {"model": model.name, "tokens": tokens}
        name = chosen_name(message) if isinstance(message, AIMessage) else None
        if name is None:
            return failed("malformed_answer", details, cost)
        try:
            action = domain.parse_action(name)
        except ActionError:
            action = -1
        if action not in legal:
            return failed("illegal_action", {**details, "answer": name[:80]}, cost)
        model.took((clock() - started) * 1000)
        # An LLM's own word on how sure it is counts for nothing, and one sample has no agreement to measure.
        return {
            "action": action,
            "confidence": None,
            **blended(evaluation_of(message), network, weight, details),
            "policy": None,
            "cost_usd": cost,
        }

    def run(state: DecisionState, context: DecisionContext) -> Update:
        model, bound, messages, legal, timeout = prepare(state)
        started = clock()
        try:
            # The client's own time-out starts anew with every byte; this one does not.
            message = in_daemon_thread(lambda: bound.invoke(messages, timeout=timeout)).result(timeout)
        except Exception as error:  # noqa: BLE001 -- any provider's errors; told apart by `failure`
            return failure(error, model)
        return proposal(model, message, legal, started, network_value(state), context.network_weight)

    async def async_run(state: DecisionState, context: DecisionContext) -> Update:
        model, bound, messages, legal, timeout = prepare(state)
        started = clock()
        try:
            message = await asyncio.wait_for(bound.ainvoke(messages, timeout=timeout), timeout)
        except Exception as error:  # noqa: BLE001 -- any provider's errors; told apart by `failure`
            return failure(error, model)
        return proposal(model, message, legal, started, network_value(state), context.network_weight)

    return Reason("reason", resources, run, async_run)


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


def failure(error: Exception, model: LanguageModel) -> Update:
    """A failed proposal. Providers' messages can quote keys and prompts, so only the kind of error is told."""
    name, status = type(error).__name__, getattr(error, "status_code", None)
    log.warning("the language model failed: %s %s", name, status or "")
    if isinstance(error, TimeoutError) or "Timeout" in name:
        reason = "timeout"
    elif status == 429:
        reason = "rate_limited"
    elif status in (401, 403):
        reason = "unauthorized"
    elif isinstance(status, int):
        reason = "server_error" if status >= 500 else "refused"
    elif isinstance(error, ValueError | LookupError | TypeError | AttributeError):
        reason = "malformed_answer"  # the client could not read what came
    else:
        reason = "unreachable" if "Connect" in name or "Connection" in name else "error"
    # What a failed call cost, if anything, is not known.
    cost = 0.0 if reason in ("unreachable", "unauthorized", "rate_limited", "refused") else model.cost(None)
    return failed(reason, {"model": model.name, "error": name, "status": status}, cost)
