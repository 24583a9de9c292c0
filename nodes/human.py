"""The last rung: a person. The node only asks (it runs again from the top when the answer comes, so it does nothing
else). A wrong answer asks again, with what was wrong in the question; an error would take the thread out of the
interrupted ones, where people look for what waits for them.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from langgraph.types import interrupt

from escalade.domains.base import Domain
from escalade.domains.errors import ActionError, StateError
from escalade.nodes.checked import with_legality
from escalade.nodes.conclude import best_report
from escalade.nodes.context import DecisionContext
from escalade.nodes.human_answers import DECLINED, Asked, read_answer
from escalade.nodes.parse import canonical_text, guarded, legal_in
from escalade.nodes.resources import Resources
from escalade.nodes.state import DecisionState
from escalade.nodes.step import Step, Update

ACTION = "decide"
"""What the action is called in the forms of Agent Inbox and LangChain's human-in-the-loop middleware."""


CALLED_ABOUT: ContextVar[Any] = ContextVar("CALLED_ABOUT", default=None)
"""The state that the running graph was called with, None where that is not known. LangGraph drops the input of a call
that it resumes from a checkpoint."""


class Ask(Step):
    counts_gap = False  # the time until the answer is the person's


def human_node(resources: Resources) -> Step:
    domain = resources.domain

    def run(state: DecisionState, context: DecisionContext) -> Update:
        text = canonical_text(domain, state["text"])
        check_about(domain, CALLED_ABOUT.get(), text)
        legal = legal_in(domain, text)
        reports = [with_legality(report, legal, domain) for report in state["reports"]]
        best = best_report(reports)
        asked = Asked(domain, text, state["id"], legal, None if best is None else best["action"])
        situation = guarded(domain, domain.describe, text)
        fault, action = None, None
        while action is None:
            question = question_about(asked, situation, [_summary(report, resources) for report in reports], fault)
            # A plain JSON schema is a form that LangGraph does not check: it would refuse the other forms of answer.
            answer = interrupt(question, response_schema=answer_schema(question["legal_actions"]))
            try:
                action = read_answer(answer, asked)
            except ActionError as error:
                fault = str(error)
            except RecursionError:
                fault = "the answer is nested too deep: give {'action_name': …}"
        proposal: dict[str, Any] = {
            "rung": "human",
            "confidence": None,
            "value": None,
            "policy": None,
            "cost_usd": 0.0,
            "latency_ms": 0.0,  # the wait is the person's, not the decision's
            "details": {},
        }
        if action == DECLINED:
            return {"proposal": {**proposal, "outcome": "skipped", "reason": "declined"}}
        return {"proposal": {**proposal, "action": action}}

    return Ask("human", resources, run)


def check_about(domain: Domain[Any], given: Any, text: str) -> None:
    """Raises StateError if a call about a state was resumed with the checkpoint of a call about another. given: None
    where that is not known. text: the canonical text of the checkpoint's state."""
    if given is not None and given != text and canonical_text(domain, given) != text:
        raise StateError(
            f"the call about the state {str(given)[:80]!r} was resumed with the checkpoint of another call in the same "
            f"node, about '{text[:80]}': make such calls in a fixed order, or each in a node (or `Send`) of its own"
        )


def question_about(
    asked: Asked, situation: str, rungs: list[dict[str, Any]], fault: str | None = None
) -> dict[str, Any]:
    """One question in three forms: our own fields, a `HumanInterrupt` of Agent Inbox (`action_request`, `config`,
    `description`), and a `HITLRequest` of LangChain's middleware (`action_requests`, `review_configs`). situation: the
    state in words. fault: what was wrong with the last answer."""
    names = [asked.domain.action_name(action) for action in asked.legal]
    proposed = None if asked.proposed is None else asked.domain.action_name(asked.proposed)
    description = f"{situation}\n\nLegal actions: {asked.names()}."
    if proposed is not None:
        description += f"\nProposed: {proposed}."
    if fault is not None:
        description = f"Asked again: {fault}\n\n{description}"
    arguments = {"action_name": proposed or "", "state": asked.text}
    known = proposed is not None
    return {
        "question": f"Decide for {asked.domain.name}: choose one of the legal actions."
        + (f" Asked again: {fault}" if fault else ""),
        "error": fault,
        "domain": asked.domain.name,
        "decision_id": asked.decision_id,
        "state": asked.text,
        "description": description,
        "legal_actions": names,
        "proposed_action": proposed,
        "rungs": rungs,
        "action_request": {"action": ACTION, "args": arguments},
        "config": {"allow_accept": known, "allow_edit": True, "allow_respond": True, "allow_ignore": known},
        "action_requests": [{"name": ACTION, "args": arguments, "description": description}],
        "review_configs": [
            {"action_name": ACTION, "allowed_decisions": [*["approve"] * known, "edit", "reject", "respond"]}
        ],
    }


def answer_schema(names: list[str]) -> dict[str, Any]:
    """The form a person fills in: `{"action_name": …}` with one of the legal actions."""
    choice = {"type": "string", "enum": names, "title": "Action", "description": "The legal action to take."}
    return {
        "type": "object",
        "title": "HumanDecision",
        "properties": {"action_name": choice},
        "required": ["action_name"],
        "additionalProperties": False,
    }


def _summary(report: dict[str, Any], resources: Resources) -> dict[str, Any]:
    action = report.get("action")
    return {
        "rung": report["rung"],
        "outcome": report["outcome"],
        "reason": report["reason"],
        "action_name": None if action is None else resources.domain.action_name(action),
        "confidence": report.get("confidence"),
    }
