"""`escalade domains` and `escalade domains check`."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from escalade.app.cli_options import DomainArgument, DomainOptions, JsonOption, domain_options
from escalade.domains.catalog import domain_class, domain_names, load_domain
from escalade.domains.conformance import TO_JUDGE, check_domain
from escalade.domains.errors import CatalogError

app = typer.Typer(
    invoke_without_command=True, help="List the installed domains, or check one against the laws of a domain."
)


@app.callback()
def domains(context: typer.Context) -> None:
    """List all installed domains."""
    if context.invoked_subcommand is not None:
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("domain", "simulator", "what it decides"):
        table.add_column(column)
    for name in domain_names():
        try:
            found = domain_class(name)
        except CatalogError as error:  # somebody's broken package must not hide the others
            table.add_row(name, "", f"[red]{escape(str(error))}[/]")
            continue
        text = (found.__doc__ or "").strip().split("\n")[0]
        table.add_row(name, "yes" if found.has_simulator else "no", escape(text))
    Console().print(table)


@app.command("check")
def check(
    domain: DomainArgument,
    option: DomainOptions = None,
    state: Annotated[list[str] | None, typer.Option(help="A state to include; may be repeated.")] = None,
    games: Annotated[int, typer.Option(min=1, help="Random games to play.")] = 200,
    max_plies: Annotated[
        int, typer.Option(min=1, help="Number of actions after which a game counts as endless.")
    ] = 1000,
    last_mover_loses: Annotated[
        bool, typer.Option("--last-mover-loses", help="A misère game: whoever makes the last move loses.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Random seed.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Check a domain against every law that search, networks and rungs rely on, and show finished games to judge.

    No check can find a value that is seen from the wrong side everywhere: read the finished games at the end.
    """
    report = check_domain(
        load_domain(domain, domain_options(option)),
        states=state or (),
        games=games,
        seed=seed,
        max_plies=max_plies,
        last_mover_loses=last_mover_loses,
    )
    if as_json:
        laws = [{"law": r.law, "outcome": r.outcome, "cases": r.cases, "detail": r.detail} for r in report.results]
        typer.echo(
            json.dumps({"domain": domain, "passed": report.passed, "laws": laws, "finished": list(report.finished)})
        )
    else:
        console = Console()
        for result in report.results:
            colour = {"passed": "green", "failed": "red", "skipped": "dim"}[result.outcome]
            told = f": {escape(result.detail)}" if result.detail else ""
            console.print(f"[{colour}]{result.outcome:8}[/]{escape(result.law)} [dim]({result.cases})[/]{told}")
        if report.finished:
            console.print(f"\n[bold]{TO_JUDGE}[/]")
        for text in report.finished:
            console.print(escape(text), highlight=False)
    if not report.passed:
        raise typer.Exit(1)
