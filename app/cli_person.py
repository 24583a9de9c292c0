"""The last rung in the terminal: a person reads what the others said, and decides."""

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
    stderr, answers are lines of stdin. Raises NoDecisionError if nobody answers."""
    from langgraph.checkpoint.memory import InMemorySaver
    from langgraph.types import Command

    from escalade.graph.decision import decided, wire

    graph = wire(decider.resources).compile(checkpointer=InMemorySaver(), name=decider.graph.name)
    config: Any = {"configurable": {"thread_id": "person"}}
    given: Any = {"state": state}
    result = graph.invoke(given, config, context=context)
    while result.get("__interrupt__"):
        (question,) = result["__interrupt__"]
        answer = _answer(question.value)
        result = graph.invoke(Command(resume={"action_name": answer}), config, context=context)
    return decided(result)


def _answer(question: dict[str, Any]) -> str:
    console = Console(stderr=True, highlight=False)
    console.print(f"\n{escape(question['description'])}\n", soft_wrap=True)
    table = table_of("rung", "would take", "outcome", "reason", "confidence")
    for report in question["rungs"]:
        sure = "" if report["confidence"] is None else f"{report['confidence']:.2f}"
        table.add_row(report["rung"], escape(report["action_name"] or ""), report["outcome"], report["reason"], sure)
    if table.row_count:
        console.print(table)
    legal = question["legal_actions"]
    shown = ", ".join(legal) if len(legal) <= 30 else f"{', '.join(legal[:30])}, … ({len(legal)} in all)"
    console.print(f"Your decision, one of: {escape(shown)}", soft_wrap=True)
    for line in sys.stdin:
        said = line.strip()
        if said in legal:
            return said
        console.print(f"'{escape(said[:40])}' is not one of: {escape(shown)}", soft_wrap=True)
    raise NoDecisionError("the run asks a person, and nobody answered: type the name of a legal action")
