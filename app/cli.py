"""The command line. Errors are one sentence on stderr: exit code 2 for wrong use, 1 for a decision that failed."""

from __future__ import annotations

import logging
import sqlite3
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console
from rich.markup import escape

from escalade import __version__
from escalade.app import (
    cli_certify,
    cli_collect,
    cli_data,
    cli_decide,
    cli_domains,
    cli_evaluate,
    cli_frontier,
    cli_ledger,
    cli_llm,
    cli_models,
    cli_play,
    cli_serve,
    cli_train,
    cli_watch,
)
from escalade.domains.errors import DomainFault, EscaladeError, NoDecisionError
from escalade.domains.text_file import FileWarning

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Make repeated discrete decisions on a ladder: policy network, value network, language model, tree search, "
    "a person.",
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"escalade {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of errors.")] = False,
) -> None:
    logging.basicConfig(level=logging.DEBUG if debug else logging.ERROR)
    warnings.simplefilter("always", FileWarning)
    warnings.showwarning = _shown_in_a_line(warnings.showwarning)
    # A user's own domain, named module:Class, is looked for where they stand. Last, so that a folder called
    # `graph` or `search` there hides nothing that is installed.
    if str(Path.cwd()) not in sys.path:
        sys.path.append(str(Path.cwd()))


def _shown_in_a_line(otherwise: Callable[..., None]) -> Callable[..., None]:
    """How warnings are shown: those about a user's file as a sentence, once each, and any other as before."""
    shown: set[str] = set()

    def show(message: Warning | str, category: type[Warning], *rest: Any, **more: Any) -> None:
        if not issubclass(category, FileWarning):
            otherwise(message, category, *rest, **more)
        elif str(message) not in shown:
            shown.add(str(message))
            Console(stderr=True, soft_wrap=True).print(f"[yellow]note:[/] {escape(str(message))}", highlight=False)

    return show


app.command("decide")(cli_decide.decide)
app.command("solve")(cli_decide.solve)
app.command("play")(cli_play.play)
app.command("train")(cli_train.train)
app.command("collect")(cli_collect.collect)
app.command("serve")(cli_serve.serve)
app.command("evaluate")(cli_evaluate.evaluate)
app.command("certify")(cli_certify.certify)
app.command("frontier")(cli_frontier.frontier)
app.command("ledger")(cli_ledger.ledger)
app.command("watch")(cli_watch.watch)
app.add_typer(cli_domains.app, name="domains")
app.add_typer(cli_data.app, name="data")
app.add_typer(cli_models.app, name="models")
app.add_typer(cli_llm.app, name="llm")


def main() -> NoReturn:
    """The entry point `escalade`."""
    try:
        app()
    except Exception as error:
        if "--debug" in sys.argv:
            raise
        if isinstance(error, EscaladeError):
            _tell(str(error))
            sys.exit(1 if isinstance(error, NoDecisionError | DomainFault) else 2)
        if isinstance(error, OSError):
            what = error.strerror or str(error) or type(error).__name__
            _tell(what if error.filename is None else f"'{error.filename}': {what}")
            sys.exit(1)
        if isinstance(error, sqlite3.DatabaseError):
            _tell(f"a SQLite file (a run's graph.sqlite, or the registry) cannot be used: {error}")
            sys.exit(1)
        _tell(f"unexpected {type(error).__name__}: {error} (`escalade --debug …` shows where it comes from)")
        sys.exit(1)
    sys.exit(0)


def _tell(message: str) -> None:
    Console(stderr=True, soft_wrap=True).print(f"[red]error:[/] {escape(' '.join(message.split()))}", highlight=False)
