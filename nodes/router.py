"""The one place that decides where to go: it judges what the last rung proposed, then picks the next rung or the end.

Conditional edges only read `next_rung`. Codes written here, per outcome:

- accepted: `only_action` (there was nothing to choose from), `over_threshold`, `trusted` (the rung needs no threshold
  unless one is given), `mode` (an `_only` mode).
- escalated: `under_threshold`, `novel` (unlike the states that the network's certificate was made from),
  `no_certificate` (no certified threshold, none by hand), `alarm` (audits found the certificate broken),
  `no_confidence` (it gave none).
- skipped: `no_model`, `no_simulator`, `no_llm`, `no_person`, `rule` (the domain leaves
  this state to others), `novel`, `deadline`, `budget`, `unpriced`, `breaker_open` (the endpoint failed too often),
  `recursion_limit` (of the run's config: too few steps are left), `declined` (the person left it to the other rungs).
- failed: `illegal_action` (the proposed action is not legal in this state); every other code comes from the rung.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from escalade.domains.decision import Rung
from escalade.nodes.certified import NEURAL, Refusal, certificate_for, described
from escalade.nodes.checked import with_legality
from escalade.nodes.context import MODE_RUNGS, DecisionContext
from escalade.nodes.events import emit_rung
from escalade.nodes.parse import legal_in
from escalade.nodes.reasoning import fewest_turns, most_calls
from escalade.nodes.resources import Resources
from escalade.nodes.search import is_last_resort
from escalade.nodes.state import DecisionState
from escalade.nodes.step import Step, Update

END_OF_LADDER = "conclude"
STEPS_OF_A_RUNG = 4
"""Router, rung, router, conclude: with fewer steps left, LangGraph would end the run without a decision."""
GRACE_MS = 50.0
"""For a search that alone can still decide, where another rung failed and left it no time."""


def router_node(resources: Resources) -> Step:
    def run(state: DecisionState, context: DecisionContext) -> Update:
        update = decide(state, context)
        for report in update["reports"][len(state["reports"]) :]:
            emit_rung(resources.domain, state.get("id"), report)
        return update

    def decide(state: DecisionState, context: DecisionContext) -> Update:
        reports = list(state["reports"])
        proposal = state.get("proposal")
        if proposal is not None:
            legal = legal_in(resources.domain, state["text"])
            proposal = with_legality(proposal, legal, resources.domain)
            report = judge(proposal, reports, context, resources, forced=len(legal) == 1)
            reports.append(report)
            if report["outcome"] == "accepted":
                why = f"{report['rung']} accepted: {report['reason']}"
                return {"reports": reports, "proposal": None, "next_rung": END_OF_LADDER, "why": why}
        reports, rung = next_rung(
            reports,
            state["text"],
            state["elapsed_ms"],
            context,
            resources,
            allowed=state.get("rungs"),
            steps=state.get("remaining_steps"),
        )
        if rung is None:
            why = "no rung is left"
            return {"reports": reports, "proposal": None, "next_rung": END_OF_LADDER, "why": why}
        return {
            "reports": reports,
            "proposal": None,
            "next_rung": rung,
            "why": f"{rung} is the next rung that fits",
            "allowance_ms": allowance(rung, counted(rung, state["elapsed_ms"], reports, context), context, resources),
            "allowance_usd": allowance_usd(reports, context),
            "network_value": network_value(reports),
        }

    return Step("router", resources, run)


def judge(
    proposal: dict[str, Any],
    reports: list[dict[str, Any]],
    context: DecisionContext,
    resources: Resources,
    *,
    forced: bool = False,
) -> dict[str, Any]:
    """A proposal with its outcome, reason and threshold, after the reports of the rungs before it. forced: whether
    there was nothing to choose from."""
    if proposal.get("outcome") in ("failed", "skipped"):
        return proposal
    rung, confidence = proposal["rung"], proposal.get("confidence")
    threshold = context.threshold(rung)
    details = proposal.get("details") or {}
    if context.mode != "auto":
        return {**proposal, "outcome": "accepted", "reason": "mode", "threshold": None}
    if forced:
        return {**proposal, "outcome": "accepted", "reason": "only_action", "threshold": None}
    if threshold is None and rung in NEURAL:
        # Without a certificate the networks may not accept; the dear rungs are what they would be measured against.
        ladder = [one for one in ladder_of(context, resources) if unavailable(one, context, resources) is None]
        certificate = certificate_for(rung, reports, context, resources, ladder)
        if isinstance(certificate, Refusal):
            details = {**details, "no_certificate": certificate.why}
            return {**proposal, "outcome": "escalated", "reason": certificate.reason, "details": details}
        threshold = certificate.threshold(rung)
        details = {**details, "certificate": described(certificate, context, ladder)}
        novelty = details.get("novelty", 0.0)
        if isinstance(novelty, float) and novelty > 1.0:
            return {**proposal, "outcome": "escalated", "reason": "novel", "threshold": threshold, "details": details}
    if threshold is None:
        verdict = ("accepted", "trusted")
    elif confidence is None:
        verdict = ("escalated", "no_confidence")
    else:
        verdict = ("accepted", "over_threshold") if confidence >= threshold else ("escalated", "under_threshold")
    return {**proposal, "outcome": verdict[0], "reason": verdict[1], "threshold": threshold, "details": details}


def network_value(reports: Sequence[dict[str, Any]]) -> float | None:
    """What the last network that was asked, and was not sure enough to decide, thinks the state is worth."""
    values = [
        report["value"]
        for report in reports
        if report["rung"] in NEURAL and report["outcome"] == "escalated" and report.get("value") is not None
    ]
    return float(values[-1]) if values else None


def ladder_of(context: DecisionContext, resources: Resources) -> list[Rung]:
    """The rungs of this run, in order."""
    order = context.ladder or resources.domain.ladder
    return cast(list[Rung], [rung for rung in order if rung in MODE_RUNGS[context.mode]])


def next_rung(
    reports: list[dict[str, Any]],
    text: str,
    elapsed_ms: float,
    context: DecisionContext,
    resources: Resources,
    *,
    allowed: Sequence[str] | None = None,
    steps: int | None = None,
) -> tuple[list[dict[str, Any]], Rung | None]:
    """The next rung that can be asked, None at the end, and the reports with those skipped on the way added. allowed:
    the rungs that the domain lets decide this state, None for all. steps: that LangGraph's `recursion_limit` leaves,
    this one included; None where nobody counts them."""
    done = {report["rung"] for report in reports}
    costs = [report["cost_usd"] for report in reports]
    novel = any(report.get("reason") == "novel" for report in reports)
    for rung in ladder_of(context, resources):
        if rung in done:
            continue
        reason = (
            ("rule" if allowed is not None and rung not in allowed else None)
            or unavailable(rung, context, resources)
            or ("recursion_limit" if steps is not None and steps < STEPS_OF_A_RUNG else None)
            or ("novel" if novel and rung in NEURAL else None)
            or does_not_fit(rung, text, counted(rung, elapsed_ms, reports, context), costs, context, resources)
        )
        if reason is None:
            return reports, rung
        reports = [*reports, {"rung": rung, "outcome": "skipped", "reason": reason, "cost_usd": 0.0}]
    return reports, None


def counted(rung: Rung, elapsed_ms: float, reports: list[dict[str, Any]], context: DecisionContext) -> float:
    """How much of the time counts as gone for a rung: never all, for a search that is the last resort."""
    if rung != "search" or context.deadline_ms is None or not is_last_resort(reports):
        return elapsed_ms
    return min(elapsed_ms, context.deadline_ms - GRACE_MS)


def unavailable(rung: Rung, context: DecisionContext, resources: Resources) -> str | None:
    """Why a rung cannot be asked at all here, None if it can."""
    if rung in ("policy", "value") and resources.network is None:
        return "no_model"
    if rung in ("value", "search") and not resources.domain.has_simulator:
        return "no_simulator"
    if rung == "reason" and resources.language_model is None:
        return "no_llm"
    if rung == "human" and not (context.human or (context.ladder and "human" in context.ladder)):
        return "no_person"
    return None


def does_not_fit(
    rung: Rung,
    text: str,
    elapsed_ms: float,
    costs: list[float | None],
    context: DecisionContext,
    resources: Resources,
) -> str | None:
    """Why a rung is beyond this decision's time or money, None if it is not."""
    model = resources.language_model
    if rung == "reason" and model is not None and model.endpoint.refuses():
        return "breaker_open"
    if context.deadline_ms is not None:
        if elapsed_ms >= context.deadline_ms:
            return "deadline"
        granted = allowance(rung, elapsed_ms, context, resources)
        if (
            rung == "reason"
            and model is not None
            and granted is not None
            and granted < fewest_turns(context) * model.expected_ms
        ):
            return "deadline"
    if context.budget_usd is not None:
        left = money_left(costs, context.budget_usd)
        if rung == "reason" and model is not None:
            price = model.most_it_can_cost(resources.domain, text, *most_calls(context))
            if price is None or None in costs:  # or money of unknown amount was already spent
                return "unpriced"
            if price > left:
                return "budget"
        elif resources.compute_usd_per_hour > 0 and rung != "human":
            if None in costs:
                return "unpriced"
            if left <= 0:
                return "budget"
    return None


def allowance_usd(reports: Sequence[dict[str, Any]], context: DecisionContext) -> float | None:
    """USD that the next rung may spend, None without a budget."""
    if context.budget_usd is None:
        return None
    return max(0.0, money_left([report["cost_usd"] for report in reports], context.budget_usd))


def money_left(costs: Sequence[float | None], budget_usd: float) -> float:
    """What is left of a budget after visits of which some may have an unknown cost."""
    return budget_usd - sum(cost for cost in costs if cost is not None)


def allowance(rung: Rung, elapsed_ms: float, context: DecisionContext, resources: Resources) -> float | None:
    """Milliseconds a rung may take, None without a deadline.

    A language model that could use up all of the time gets half of it while a search stands behind it, so that a
    hanging endpoint still leaves time for a legal answer.
    """
    if context.deadline_ms is None:
        return None
    left = max(0.0, context.deadline_ms - elapsed_ms)
    if rung == "reason":
        later = ladder_of(context, resources)
        later = later[later.index("reason") + 1 :]
        if "search" in later and unavailable("search", context, resources) is None:
            return left / 2
    return left
