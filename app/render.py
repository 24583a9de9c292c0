"""What a person sees in the terminal."""

from __future__ import annotations

from typing import Any

from rich.console import Group, RenderableType
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from escalade.domains.base import Domain
from escalade.domains.decision import Decision, RungReport

COLOURS = {"accepted": "green", "escalated": "yellow", "skipped": "dim", "failed": "red"}


def decision_view(domain: Domain[Any], decision: Decision) -> RenderableType:
    """The decision in one line, then what each rung said."""
    return Group(decision_headline(decision), rung_table(domain, decision))


def decision_headline(decision: Decision) -> Text:
    """The decision in one line."""
    return Text.assemble(
        (decision.action_name, "bold green"),
        f"  by {decision.source}",
        (", with a simulated language model", "yellow") if decision.simulated else "",
        "" if decision.confidence is None else f", confidence {decision.confidence:.2f}",
        "" if decision.value is None else f", value {decision.value:+.2f}",
        ", certified" if decision.certified else ", uncertified",
        (", best effort", "yellow") if decision.best_effort else "",
        f"  ({decision.latency_ms:.1f} ms, {money(decision.cost_usd)})",
    )


def rung_table(domain: Domain[Any], decision: Decision) -> Table:
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("rung", "outcome", "reason", "action"):
        table.add_column(column)
    for column in ("confidence", "threshold", "value", "ms"):
        table.add_column(column, justify="right")
    for report in decision.rungs:
        table.add_row(*_row(domain, report), style=None if report.outcome != "skipped" else "dim")
    return table


def _row(domain: Domain[Any], report: RungReport) -> list[str]:
    colour = COLOURS[report.outcome]
    return [
        report.rung,
        f"[{colour}]{report.outcome}[/]",
        report.reason,
        "" if report.action is None else escape(domain.action_name(report.action)),
        _number(report.confidence),
        _number(report.threshold),
        "" if report.value is None else f"{report.value:+.2f}",
        f"{report.latency_ms:.1f}" if report.outcome != "skipped" else "",
    ]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.2f}"


def money(usd: float | None) -> str:
    return "unpriced" if usd is None else f"{usd:.6g} USD"
