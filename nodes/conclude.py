"""The last node: one Decision, told to every sink; or a clear error if no rung gave a legal action."""

from __future__ import annotations

from typing import Any

from escalade.domains.base import RUNGS
from escalade.domains.decision import Decision, RungReport
from escalade.domains.errors import NoDecisionError
from escalade.nodes.checked import action_name, with_legality
from escalade.nodes.context import DecisionContext
from escalade.nodes.parse import canonical_text, legal_in
from escalade.nodes.resources import Resources
from escalade.nodes.state import DecisionState
from escalade.nodes.step import Step, Update, log

ADVICE = {
    "no_model": "give a trained bundle (--bundle DIR or ESCALADE_BUNDLES)",
    "no_llm": "configure a language model (ESCALADE_LLM_MODEL, with OPENAI_API_KEY or OPENAI_BASE_URL)",
    "breaker_open": "see why the language model's endpoint fails; it is tried again by itself",
    "no_person": "let a person be asked (option human, on a graph with a checkpointer)",
    "deadline": "allow more time (deadline_ms)",
    "overloaded": "send fewer decisions at once, or again later",
    "budget": "allow more money (budget_usd)",
    "recursion_limit": "allow more steps (recursion_limit in the run's config)",
    "unpriced": "state the model's prices (ESCALADE_LLM_INPUT_USD_PER_MTOK, ESCALADE_LLM_OUTPUT_USD_PER_MTOK)",
}
"""By reason, whichever rung gives it."""
ADVICE_OF_RUNG = {
    "reason": {
        **dict.fromkeys(
            ("timeout", "rate_limited", "server_error", "unreachable", "overloaded"),
            "see to the language model's endpoint",
        ),
        "unauthorized": "give the language model's endpoint a key that it takes (OPENAI_API_KEY)",
        "quota": "add credit to the account of the language model's key (OPENAI_API_KEY)",
        "refused": "see what the language model's endpoint refuses",
        "content_filter": "word the state otherwise: the language model's provider declines this one",
        "cut_off": "allow longer answers (ESCALADE_LLM_MAX_TOKENS): the language model's broke off",
        "malformed_answer": "use a language model that answers in the form asked for (ESCALADE_LLM_MODEL)",
        "illegal_action": "use a language model that keeps to the allowed actions (ESCALADE_LLM_MODEL)",
        "token_cap": "allow more tokens (ESCALADE_LLM_TOKENS_PER_DECISION, ESCALADE_LLM_TOKENS_PER_HOUR)",
    },
    "search": {"overloaded": "search less at once (fewer decisions, or fewer simulations each), or again later"},
}
"""By rung, before the advice above."""
BEHIND = ", or let another rung stand behind it (ladder reason,search)"
BACKED = ("timeout", "rate_limited", "server_error", "unreachable", "overloaded", "illegal_action")
"""Of the language model's failures, those after which a search may decide, where the domain has a simulator."""
ADVICE_OF_SETTING = {
    "OPENAI_BASE_URL": "what answers there is no chat endpoint; most addresses end in /v1",
    "ESCALADE_LLM_MODEL": "the endpoint has no such model",
    "ESCALADE_LLM_MAX_TOKENS": "prompt and answer together are too long for the model",
    "ESCALADE_LLM_LEAVE_OUT": "name the parameter there that it does not take",
}
"""Of a refusal, by the setting to look at."""


def conclude_node(resources: Resources) -> Step:
    def run(state: DecisionState, context: DecisionContext) -> Update:
        # Whatever was edited in the checkpoint, what is not legal in the state's text is not chosen.
        domain, text = resources.domain, canonical_text(resources.domain, state["text"])
        legal = legal_in(domain, text)
        reports = [with_legality(report, legal, domain) for report in state["reports"]]
        source = best_report(reports)
        if source is None:
            raise NoDecisionError(explain(reports, domain.has_simulator), reports=reports)
        costs = [report["cost_usd"] for report in reports]
        decision = Decision(
            decision_id=state["id"],
            domain=domain.name,
            state=text,
            action=source["action"],
            action_name=action_name(domain, source["action"]),
            source=source["rung"],
            confidence=source.get("confidence"),
            certified=source["outcome"] == "accepted" and "certificate" in (source.get("details") or {}),
            best_effort=source["outcome"] != "accepted",
            value=source.get("value"),
            policy=source.get("policy"),
            cost_usd=None if None in costs else sum(costs),
            latency_ms=state["elapsed_ms"],
            rungs=[RungReport(**{key: value for key, value in r.items() if key != "policy"}) for r in reports],
        )
        for sink in resources.sinks:
            try:
                sink(decision)
            except Exception as error:  # noqa: BLE001 -- a sink's trouble must not lose a decision that was made
                log.error("a decision sink failed", exc_info=error)
        return {"decision": decision.model_dump(mode="json")}

    return Step("conclude", resources, run)


def best_report(reports: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The accepted report, else the dearest rung's proposal, else None."""
    proposals = [report for report in reports if report.get("action") is not None]
    accepted = [report for report in proposals if report["outcome"] == "accepted"]
    return accepted[0] if accepted else max(proposals, key=lambda r: RUNGS.index(r["rung"]), default=None)


def explain(reports: list[dict[str, Any]], has_simulator: bool = True) -> str:
    """Why there is no decision, rung by rung, and what to do about it. has_simulator: whether the domain has one, which
    a search needs."""
    if not reports:
        return "no rung could decide: the ladder has none that this mode allows"
    said = ", ".join(f"{report['rung']} {report['outcome']} ({_cause(report)})" for report in reports)
    can_search = has_simulator and all(report["rung"] != "search" for report in reports)
    advice = "; ".join(dict.fromkeys(filter(None, (advice_for(report, can_search) for report in reports))))
    return f"no rung could decide: {said}" + (f". To get a decision: {advice}" if advice else "")


def advice_for(report: dict[str, Any], can_search: bool = False) -> str | None:
    """What to do about a rung that gave no action, None where nothing is known. can_search: whether a search could be
    added to the ladder."""
    rung, reason = report["rung"], report["reason"]
    advice = ADVICE_OF_RUNG.get(rung, {}).get(reason) or ADVICE.get(reason)
    setting = (report.get("details") or {}).get("setting")
    if rung != "reason" or advice is None:
        return advice
    if reason == "unauthorized" and setting == "OPENAI_BASE_URL":
        advice = "see to the gateway before the language model's endpoint, which lets nobody through"
    if reason == "refused" and setting in ADVICE_OF_SETTING:
        advice += f": look at {setting} ({ADVICE_OF_SETTING[setting]})"
    elif setting and setting not in advice:
        advice += f": look at {setting}"
    return advice + BEHIND if can_search and reason in BACKED else advice


def _cause(report: dict[str, Any]) -> str:
    """The reason, and for an endpoint's failure the status and the provider's code."""
    details = report.get("details") or {}
    if report["reason"] == "error" and "message" in details:
        return f"error: {details['error']}: {details['message']}"
    if report["reason"] == "illegal_action" and "message" in details:
        return f"illegal_action: {details['message']}"
    status = f"HTTP {details['status']}" if details.get("status") else ""
    said = ", ".join(filter(None, [status, details.get("code")]))
    return f"{report['reason']}: {said}" if said else str(report["reason"])
