"""`escalade ledger`: what decisions cost, and what they saved."""

from __future__ import annotations

import dataclasses
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from escalade.app.cli_options import JsonOption
from escalade.app.measured import table_of
from escalade.app.render import money
from escalade.app.settings import read_settings
from escalade.domains.errors import SettingsError

if TYPE_CHECKING:
    from escalade.app.ledger_totals import Saving, Totals


def ledger(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Ledger file.", show_default="ESCALADE_LEDGER")
    ] = None,
    domain: Annotated[str | None, typer.Option(help="Only this domain.", show_default="all")] = None,
    days: Annotated[int | None, typer.Option(min=1, help="Only the last N days.", show_default="all")] = None,
    by_day: Annotated[bool, typer.Option("--by-day", help="One line per day.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Report the cost of all decisions, and what they would have cost with the language model or the search alone.

    Decisions are recorded in the ledger if ESCALADE_LEDGER names a file.
    """
    from escalade.app.ledger_totals import totals

    path = file or read_settings().ledger
    if path is None:
        raise SettingsError("there is no ledger: name its FILE, or set ESCALADE_LEDGER")
    if not path.exists():
        raise SettingsError(f"there is no ledger '{path}' yet: decisions are added where ESCALADE_LEDGER names it")
    since = None if days is None else f"{datetime.now(UTC) - timedelta(days=days - 1):%Y-%m-%d}"
    found = totals(path, domain=domain, since=since, by_day=by_day)
    if as_json:
        typer.echo(json.dumps([dataclasses.asdict(one) for one in found]))
        return
    if not found:
        typer.echo("no decisions" if domain is None else f"no decisions of a domain '{domain}'")
        return
    _print(found)


def _print(found: list[Totals]) -> None:
    console = Console()
    table = table_of("domain", "day", "decisions", "cost", "audits", "by rung")
    for one in found:
        shares = ", ".join(f"{rung} {share:.1%}" for rung, share in one.shares.items())
        unpriced = f" + {one.unpriced:,} unpriced" if one.unpriced else ""
        cost = f"{money(one.usd)}{unpriced}"
        table.add_row(escape(one.domain), one.day, f"{one.decisions:,}", cost, _audits(one), shares)
    console.print(table)
    for one in found:
        if one.simulated:
            told = (
                f"{escape(one.domain)}: a simulated language model had a part in {one.simulated:,} of these decisions"
            )
            console.print(f"[yellow]{told}[/]", highlight=False, soft_wrap=True)
    for one in found:
        if one.failures:
            unpriced = f", {one.failures_unpriced:,} of them unpriced" if one.failures_unpriced else ""
            told = f"{escape(one.domain)}: {one.failures:,} runs ended without a decision and cost "
            console.print(f"{told}{money(one.failures_usd)}{unpriced}", highlight=False, soft_wrap=True)
    table = table_of("domain", "day", "against", "would cost", "saved", "guessed")
    for one in found:
        for what, saving, unit in (
            ("LLM", one.llm, "USD"),
            ("search", one.search, "USD"),
            ("search, work", one.search_work, "s"),
        ):
            if saving is not None and saving.saved is not None:
                cells = (what, f"{saving.alone:.4g} {unit}", _saved(saving), f"{saving.estimated / saving.count:.0%}")
                table.add_row(escape(one.domain), one.day, *cells)
    if table.row_count:
        console.print(table)
        console.print(
            "[dim]against one rung alone; saved: audits counted, 95 % interval; guessed: decisions without that rung[/]"
        )


def _audits(one: Totals) -> str:
    if not one.audits:
        return ""
    unpriced = f", {one.audits_unpriced:,} unpriced" if one.audits_unpriced else ""
    return f"{one.audits:,}: {money(one.audits_usd)}{unpriced}"


def _saved(saving: Saving) -> str:
    told = f"{saving.saved:.1%}"
    if saving.low is not None and saving.high is not None:
        told += f" ({100 * saving.low:.1f}–{100 * saving.high:.1f})"
    return re.sub(r"-0\.0", "0.0", told)
