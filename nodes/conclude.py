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
    **dict.fromkeys(
        ("timeout", "rate_limited", "server_error", "unreachable", "overloaded"),
        "see to the language model's endpoint, or let another rung stand behind it (ladder reason,search)",
    ),
    "unauthorized": "give the language model's endpoint a key that it takes (OPENAI_API_KEY)",
    "token_cap": "allow more tokens (ESCALADE_LLM_TOKENS_PER_DECISION, ESCALADE_LLM_TOKENS_PER_HOUR)",
    "no_person": "let a person be asked (option human, on a graph with a checkpointer)",
    "deadline": "allow more time (deadline_ms)",
    "budget": "allow more money (budget_usd)",
    "recursion_limit": "allow more steps (recursion_limit in the run's config)",
    "unpriced": "state the model's prices (ESCALADE_LLM_INPUT_USD_PER_MTOK, ESCALADE_LLM_OUTPUT_USD_PER_MTOK)",
}


def conclude_node(resources: Resources) -> Step:
    def run(state: DecisionState, context: DecisionContext) -> Update:
        # Whatever was edited in the checkpoint, what is not legal in the state's text is not chosen.
        domain, text = resources.domain, canonical_text(resources.domain, state["text"])
        legal = legal_in(domain, text)
        reports = [with_legality(report, legal, domain) for report in state["reports"]]
        source = best_report(reports)
        if source is None:
            raise NoDecisionError(explain(reports), reports=reports)
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


def explain(reports: list[dict[str, Any]]) -> str:
    """Why there is no decision, rung by rung, and what to do about it."""
    if not reports:
        return "no rung could decide: the ladder has none that this mode allows"
    said = ", ".join(f"{report['rung']} {report['outcome']} ({_cause(report)})" for report in reports)
    advice = "; ".join(dict.fromkeys(ADVICE[r["reason"]] for r in reports if r["reason"] in ADVICE))
    return f"no rung could decide: {said}" + (f". To get a decision: {advice}" if advice else "")


def _cause(report: dict[str, Any]) -> str:
    details = report.get("details") or {}
    if report["reason"] == "error" and "message" in details:
        return f"error: {details['error']}: {details['message']}"
    return str(report["reason"])
