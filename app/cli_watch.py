"""`escalade watch`: how true certificates have been."""

from __future__ import annotations

import dataclasses
import json
import time
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape

from escalade.app.cli_options import JsonOption
from escalade.app.measured import table_of
from escalade.app.settings import read_settings
from escalade.domains.errors import SettingsError


def watch(
    file: Annotated[
        Path | None, typer.Argument(metavar="FILE", help="Watch file.", show_default="ESCALADE_WATCH")
    ] = None,
    domain: Annotated[str | None, typer.Option(help="Only this domain.", show_default="all")] = None,
    as_json: JsonOption = False,
) -> None:
    """Report the audits of certified decisions and the certificates that no longer hold. Exits with code 1 if any.

    Audits are made if ESCALADE_WATCH names a file.
    """
    from escalade.app.watch_file import left_out, pending, watched

    path = file or read_settings().watch
    if path is None:
        raise SettingsError("nothing is watched: name the watch's FILE, or set ESCALADE_WATCH")
    if not path.exists():
        raise SettingsError(f"there is no watch '{path}' yet: audits are made where ESCALADE_WATCH names it")
    found, waiting, taught = watched(path, domain), pending(path, domain), left_out(path, domain)
    if as_json:
        known = [{**dataclasses.asdict(one), "left_out": taught.get(one.domain, 0)} for one in found]
        typer.echo(json.dumps(known))
    elif not found and not waiting and not taught:
        typer.echo("no audits yet" if domain is None else f"no audits yet of a domain '{domain}'")
    else:
        console = Console()
        table = table_of("domain", "alpha", "since", "audits", "wrong", "detector", "alarm at")
        for one in found:
            since = time.strftime("%Y-%m-%d", time.gmtime(one.since))
            wrong = f"{one.wrong} ({one.wrong / max(one.audits, 1):.1%})"
            cells = (since, f"{one.audits:,}", wrong, f"{one.value:.3g}", f"{one.limit:.3g}")
            table.add_row(escape(one.domain), f"{one.alpha:g}", *cells)
        if found:
            console.print(table)
        for name, count in waiting.items():
            console.print(f"{escape(name)}: {count:,} audits wait for their outcome (POST /outcomes)", highlight=False)
        for name, count in taught.items():
            told = f"{escape(name)}: {count:,} audits left out, of states that taught the bundle"
            console.print(told, highlight=False)
        for one in found:
            if one.problem is not None:
                told = f"[red]broken:[/] {escape(one.domain)}, alpha {one.alpha:g}: {escape(one.problem)}"
                console.print(told, highlight=False, soft_wrap=True)
    if any(one.problem is not None for one in found):
        raise typer.Exit(1)
