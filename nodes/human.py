"""The last rung: a person. The node only asks (it runs again from the top when the answer comes, so it does nothing
else), and LangGraph refuses an answer that does not fit the schema, leaving the question open."""

from __future__ import annotations

from typing import Any, Literal

from langgraph.types import interrupt
from pydantic import BaseModel, ConfigDict, Field, create_model

from escalade.nodes.context import DecisionContext
from escalade.nodes.resources import Resources
from escalade.nodes.state import DecisionState
from escalade.nodes.step import Step, Update


class Ask(Step):
    counts_gap = False  # the time until the answer is the person's


class Answer(BaseModel):
    model_config = ConfigDict(extra="forbid")


def human_node(resources: Resources) -> Step:
    domain = resources.domain

    def run(state: DecisionState, context: DecisionContext) -> Update:
        parsed = domain.parse(state["text"])
        names = [domain.action_name(action) for action in domain.legal_actions(parsed)]
        question = {
            "question": f"Decide for {domain.name}: choose one of the legal actions.",
            "domain": domain.name,
            "state": state["text"],
            "description": domain.describe(parsed),
            "legal_actions": names,
            "rungs": [_summary(report, resources) for report in state["reports"]],
        }
        answer: Any = interrupt(question, response_schema=answer_schema(names))
        proposal = {
            "rung": "human",
            "action": domain.parse_action(answer.action_name),
            "confidence": None,
            "value": None,
            "policy": None,
            "cost_usd": 0.0,
            "latency_ms": 0.0,  # the wait is the person's, not the decision's
            "details": {},
        }
        return {"proposal": proposal}

    return Ask("human", resources, run)


def answer_schema(names: list[str]) -> type[BaseModel]:
    """The form a person fills in: `{"action_name": …}` with one of the legal actions."""
    choice: Any = Literal[tuple(names)]
    field = Field(description="The legal action to take.")
    return create_model("HumanDecision", __base__=Answer, action_name=(choice, field))


def _summary(report: dict[str, Any], resources: Resources) -> dict[str, Any]:
    action = report.get("action")
    return {
        "rung": report["rung"],
        "outcome": report["outcome"],
        "reason": report["reason"],
        "action_name": None if action is None else resources.domain.action_name(action),
        "confidence": report.get("confidence"),
    }
