"""`escalade data`: what experience there is, whether it is sound, questions to it in SQL, and what adds to it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from escalade.app.cli_label import StoreOption, label, store_folder
from escalade.app.cli_options import DomainArgument, DomainOptions, JsonOption, domain_options
from escalade.app.settings import read_settings
from escalade.domains.catalog import load_domain
from escalade.domains.errors import SettingsError

if TYPE_CHECKING:
    from escalade.training.store import Damage, ExperienceStore

app = typer.Typer(
    no_args_is_help=True, help="Inspect and extend the experience store: training rows in Parquet shards."
)

app.command("label")(label)

COUNTS = """count(*) AS rows, count(DISTINCT game) AS games, count(DISTINCT state) AS states, count(policy) AS policies,
    count(value) AS values, count(outcome) AS outcomes, avg(outcome) AS mean_outcome"""


@app.command("ls")
def ls(
    domain: DomainArgument, store: StoreOption = None, option: DomainOptions = None, as_json: JsonOption = False
) -> None:
    """List the shards, oldest first."""
    found = _open(domain, store, option)
    if as_json:
        from dataclasses import asdict

        typer.echo(json.dumps([asdict(entry) for entry in found.entries]))
        return
    table = _table("shard", "rows", "games", "KiB", "sources")
    for entry in found.entries:
        sources = ", ".join(f"{name} {count}" for name, count in entry.sources.items())
        table.add_row(entry.name, str(entry.rows), str(entry.games), f"{entry.bytes / 1024:,.0f}", sources)
    Console().print(table)
    _tell_damages(found.damaged)


@app.command("stats")
def stats(
    domain: DomainArgument, store: StoreOption = None, option: DomainOptions = None, as_json: JsonOption = False
) -> None:
    """Count the rows by source, model and phase, with the policies, values and outcomes they hold."""
    from escalade.training.query import query

    found = _open(domain, store, option)
    asked = {
        "all": "'all'",
        "source": "source",
        "model": "coalesce(model, 'none')",
        "phase": "printf('plies %02d to %02d', ply // 10 * 10, ply // 10 * 10 + 9)",
    }
    said: dict[str, list[dict[str, Any]]] = {}
    for name, key in asked.items():
        answer = query(
            found,
            f"SELECT {key} AS name, {COUNTS} FROM experience GROUP BY 1 ORDER BY 1",  # noqa: S608 - our own words
        )
        said[name] = [dict(zip(answer.columns, line, strict=True)) for line in answer.lines]
    if as_json:
        typer.echo(json.dumps({"shards": len(found.entries), "damaged": len(found.damaged), **said}))
        return
    table = _table("", "rows", "games", "states", "policies", "values", "outcomes", "mean outcome")
    for name, lines in said.items():
        for line in lines:
            mean = "" if line["mean_outcome"] is None else f"{line['mean_outcome']:+.3f}"
            counts = [f"{line[key]:,}" for key in ("rows", "games", "states", "policies", "values", "outcomes")]
            table.add_row(line["name"] if name == "all" else f"  {name} {line['name']}", *counts, mean)
    Console().print(table)
    Console().print(f"[dim]{len(found.entries)} shards in {escape(str(found.folder))}[/]", highlight=False)
    _tell_damages(found.damaged)


@app.command("check")
def check(
    domain: DomainArgument, store: StoreOption = None, option: DomainOptions = None, as_json: JsonOption = False
) -> None:
    """Verify all shards and outcomes; damaged files are moved aside. Exits with code 1 if any is damaged or missing."""
    found = _open(domain, store, option)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=len(found.entries))
        found.check(lambda _: progress.advance(task))
    damages = found.noticed  # some when it was opened
    if as_json:
        lost, aside = (
            [{"name": d.name, "reason": d.reason} for d in damages if d.gone == gone] for gone in (True, False)
        )
        counts = {"shards": len(found.entries), "rows": found.rows, "outcomes": found.outcomes.table().num_rows}
        typer.echo(json.dumps({**counts, "set_aside": aside, "lost": lost}))
    else:
        Console().print(f"{len(found.entries)} shards with {found.rows:,} rows are sound", highlight=False)
        if outcomes := found.outcomes.table().num_rows:
            Console().print(f"outcomes reported and sound: {outcomes:,}", highlight=False)
        _tell_damages(damages)
        if earlier := {damage.name for damage in found.damaged} - {damage.name for damage in damages}:
            Console().print(f"[dim]set aside or lost earlier: {len(earlier)}; `ls` says which[/]", highlight=False)
            Console().print(
                f"[dim]to be done with them, delete {escape(str(found.damaged_folder))}[/]", highlight=False
            )
    if damages or found.damaged:
        raise typer.Exit(1)


@app.command("query")
def query_command(
    domain: DomainArgument,
    sql: Annotated[
        str, typer.Argument(help='SQL query, such as "SELECT source, count(*) FROM experience GROUP BY 1".')
    ],
    store: StoreOption = None,
    option: DomainOptions = None,
    limit: Annotated[int, typer.Option(min=1, help="Maximum number of rows to print.")] = 100,
    as_json: JsonOption = False,
) -> None:
    """Query the experience in SQL.

    Table `experience`, with reported outcomes applied as in training: game, ply, state, observation, legal, policy,
    action, value, outcome, source, model, decision. Table `outcomes`, the reports: decision, outcome, action, told_at,
    told_by.
    """
    from escalade.training.query import query

    found = _open(domain, store, option)
    answer = query(found, sql, limit)
    _tell_damages(found.damaged)
    if as_json:
        typer.echo(json.dumps([dict(zip(answer.columns, line, strict=True)) for line in answer.lines], default=str))
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in answer.columns:
        table.add_column(escape(column), overflow="fold")
    for line in answer.lines:
        table.add_row(*(escape(_shown(value)) for value in line))
    console = Console()
    (console if console.is_terminal else Console(width=WIDE)).print(table)


@app.command("outcome")
def outcome(
    domain: DomainArgument,
    decision: Annotated[str, typer.Argument(metavar="DECISION_ID", help="`decision_id` of the decision.")],
    value: Annotated[
        float | None,
        typer.Option(min=-1, max=1, help="Outcome in [-1, 1], from the view of the player to move in the decision."),
    ] = None,
    action: Annotated[str | None, typer.Option(help="The correct action.")] = None,
    by: Annotated[str, typer.Option(help="Who reports this.")] = "",
    store: StoreOption = None,
    option: DomainOptions = None,
) -> None:
    """Report the outcome of a decision as training data; the last report on a decision counts."""
    from escalade.training.outcomes import Outcome, decided_state

    found = _open(domain, store, option)
    loaded = load_domain(domain, domain_options(option))
    reported = Outcome(decision, value, None if action is None else loaded.parse_action(action), by)
    state = decided_state(found, decision)
    if state is None:
        raise SettingsError(
            f"DECISION_ID: there is no decision '{decision}' in '{found.folder}'; a server writes one within 30 seconds"
        )
    if reported.action is not None and reported.action not in loaded.legal_actions(loaded.parse(state)):
        raise SettingsError(f"--action: '{action}' was not legal in the state decided, '{state}'")
    found.outcomes.add([reported])
    typer.echo(f"outcome of decision {decision} written", err=True)


WIDE = 100_000
"""Columns where no terminal has an end."""
FIRST = 3
"""Of an array, shown to people."""


def _shown(value: Any) -> str:
    if isinstance(value, list | tuple) and len(value) > FIRST:
        return f"[{', '.join(map(str, value[:FIRST]))}, … {len(value)}]"
    return str(value)


def _table(*columns: str) -> Table:
    """Numbers to the right, words to the left."""
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in columns:
        table.add_column(column, justify="left" if column in ("", "shard", "sources") else "right")
    return table


def _open(domain: str, store: Path | None, option: list[str] | None) -> ExperienceStore:
    from escalade.training.store import ExperienceStore

    loaded = load_domain(domain, domain_options(option))
    folder = store_folder(store, read_settings(), loaded)
    if not (folder / "shards").is_dir():  # a store begun by mistake would stand in somebody's folder
        raise SettingsError(f"--store: there is no experience store in '{folder}'; training makes one")
    return ExperienceStore(folder, loaded)


def _tell_damages(damages: list[Damage]) -> None:
    for damage in damages:
        what = "lost" if damage.gone else "set aside"
        Console(stderr=True).print(f"[yellow]{what}:[/] {escape(damage.reason)}", highlight=False, soft_wrap=True)
