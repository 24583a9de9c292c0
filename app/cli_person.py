"""The last rung in the terminal: a person reads what the others reported, and decides."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape

from escalade.app.measured import table_of
from escalade.domains.errors import NoDecisionError
from escalade.nodes.context import DecisionContext

if TYPE_CHECKING:
    from escalade.app.wiring import Decider


def decide_with_person(decider: Decider, state: str | None, context: DecisionContext) -> dict[str, Any]:
    """A run's decision, as a dict; where the ladder ends at a person, that is whoever sits here. Questions go to
    stderr, answers are lines of stdin, in any form that `escalade.nodes.human_answers` reads. Raises NoDecisionError if
    nobody answers."""
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.types import Command

    from escalade.graph.decision import decided, wire

    graph = wire(decider.resources).compile(checkpointer=InMemorySaver(), name=decider.graph.name)
    config: Any = {"configurable": {"thread_id": "person"}}
    given: Any = {"state": state}
    result = graph.invoke(given, config, context=context)
    while result.get("__interrupt__"):
        (question,) = result["__interrupt__"]
        result = graph.invoke(Command(resume=_answer(question.value)), config, context=context)
    return decided(result)


def _answer(question: dict[str, Any]) -> str:
    console = Console(stderr=True, highlight=False)
    if question["error"] is None:
        console.print(f"\n{escape(question['description'])}\n", soft_wrap=True)
        table = table_of("rung", "would take", "outcome", "reason", "confidence")
        for report in question["rungs"]:
            sure = "" if report["confidence"] is None else f"{report['confidence']:.2f}"
            action = escape(report["action_name"] or "")
            table.add_row(report["rung"], action, report["outcome"], report["reason"], sure)
        if table.row_count:
            console.print(table)
    else:
        console.print(escape(question["error"]), soft_wrap=True)
    accept = " (or 'accept' the proposal)" if question["proposed_action"] is not None else ""
    console.print(f"Your decision{accept}:", soft_wrap=True)
    for line in sys.stdin:
        if line.strip():
            return line.strip()
    raise NoDecisionError("the run asks a person, and nobody answered: type the name of a legal action")
