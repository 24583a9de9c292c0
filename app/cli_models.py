"""`escalade models`: which trained bundles are registered, and which one of them serves."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from escalade.app.cli_options import JsonOption
from escalade.app.settings import read_settings

if TYPE_CHECKING:
    from escalade.training.registry import Registry

app = typer.Typer(no_args_is_help=True, help="The model registry (ESCALADE_REGISTRY): bundles, versions, champions.")

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="A model: the name of its domain.")]


@app.command("ls")
def ls(
    name: Annotated[str | None, typer.Argument(metavar="[NAME]", help="Only this model.")] = None,
    as_json: JsonOption = False,
) -> None:
    """List the versions, oldest first, with their aliases and metrics."""
    versions = _registry().versions(name)
    if as_json:
        from dataclasses import asdict

        typer.echo(json.dumps([{**asdict(one), "created": one.created.isoformat()} for one in versions]))
        return
    table = Table(box=None, pad_edge=False, header_style="dim")
    for column in ("model", "version", "aliases", "created (UTC)", "bundle", "run", "metrics"):
        table.add_column(column, justify="right" if column == "version" else "left")
    for one in versions:
        metrics = ", ".join(f"{figure} {one.metrics[figure]:.4g}" for figure in sorted(one.metrics))
        created = f"{one.created:%Y-%m-%d %H:%M}"
        cells = (one.name, str(one.version), ", ".join(one.aliases), created, one.bundle_version, one.run_name, metrics)
        table.add_row(*map(escape, cells))
    Console().print(table)


@app.command("register")
def register(
    folder: Annotated[str, typer.Argument(metavar="BUNDLE", help="A bundle's folder, or builtin:NAME.")],
    run_name: Annotated[str, typer.Option(help="What to call how it was made.")] = "by hand",
    as_json: JsonOption = False,
) -> None:
    """Copy a bundle into the registry, under the name of its domain; one that is there keeps its version."""
    from escalade.neural.bundle import read_bundle
    from escalade.neural.sources import bundle_folder

    bundle = read_bundle(bundle_folder(folder))
    version = _registry().register(bundle.path, run_name=run_name)
    _tell(bundle.manifest.domain.name, version, f"bundle {bundle.version}", as_json)


@app.command("promote")
def promote(
    name: NameArgument,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="Its number in `escalade models ls`.")],
    as_json: JsonOption = False,
) -> None:
    """Make a version the champion. Servers serve it when they are next started."""
    _registry().promote(name, version)
    _tell(name, version, "champion", as_json)


@app.command("rollback")
def rollback(name: NameArgument, as_json: JsonOption = False) -> None:
    """Make the champion before this one champion again."""
    _tell(name, _registry().rollback(name), "champion again", as_json)


def _tell(name: str, version: int, what: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"name": name, "version": version}))
        return
    Console().print(f"{escape(name)} version {version}: {escape(what)}", highlight=False)


def _registry() -> Registry:
    from escalade.training.registry import Registry  # brings torch, which takes a second to load

    return Registry(read_settings().registry)
