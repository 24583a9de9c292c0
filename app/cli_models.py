"""`escalade models`: which trained bundles are registered, and which one of them serves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from escalade.app.cli_options import JsonOption
from escalade.app.settings import read_settings
from escalade.domains.errors import SettingsError

if TYPE_CHECKING:
    from escalade.training.registry import Registry

app = typer.Typer(
    no_args_is_help=True, help="Manage the model registry (ESCALADE_REGISTRY): bundles, versions, champions."
)

NameArgument = Annotated[str, typer.Argument(metavar="NAME", help="Name of a model: that of its domain.")]


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
    folder: Annotated[str, typer.Argument(metavar="BUNDLE", help="Folder of a bundle, or builtin:NAME.")],
    run_name: Annotated[str, typer.Option(help="Name of the run that the bundle came from.")] = "by hand",
    as_json: JsonOption = False,
) -> None:
    """Copy a bundle into the registry, under the name of its domain. One that is there already keeps its version."""
    from escalade.neural.bundle import read_bundle
    from escalade.neural.sources import bundle_folder

    bundle = read_bundle(bundle_folder(folder))
    version = _registry().register(bundle.path, run_name=run_name)
    _tell(bundle.manifest.domain.name, version, f"bundle {bundle.version}", as_json)


@app.command("promote")
def promote(
    name: NameArgument,
    version: Annotated[int, typer.Argument(metavar="VERSION", help="Version number, as in `escalade models ls`.")],
    as_json: JsonOption = False,
) -> None:
    """Make a version the champion. Servers load it at their next start."""
    _registry().promote(name, version)
    _tell(name, version, "champion", as_json)


@app.command("rollback")
def rollback(name: NameArgument, as_json: JsonOption = False) -> None:
    """Restore the previous champion."""
    _tell(name, _registry().rollback(name), "champion again", as_json)


@app.command("export")
def export(
    run: Annotated[Path, typer.Argument(metavar="RUN_FOLDER", help="Folder of a run of `escalade train`.")],
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to write the bundle to; must not exist.")],
    positions: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Table of test positions to evaluate it on; see `evaluate`.")
    ] = None,
    simulations: Annotated[
        str, typer.Option(metavar="N,N,…", help="MCTS simulations of the searches to evaluate.")
    ] = "0,64,600",
) -> None:
    """Export the champion of a run with its metrics, and a model card beside it (FOLDER.md)."""
    from escalade.training.card import card_of, champion_of, export_champion
    from escalade.training.evaluate import EvaluationConfig, evaluate, unmeasured
    from escalade.training.exact import read_positions
    from escalade.training.judge import GAMES
    from escalade.training.run import Run

    opened = Run.open(run, alone=False)
    _, bundle = champion_of(opened)
    try:
        sizes = tuple(int(part) for part in simulations.split(","))
    except ValueError:
        raise SettingsError(
            f"--simulations: whole numbers with commas, such as 0,64,600, not '{simulations}'"
        ) from None
    given = opened.positions() if positions is None else read_positions(positions, opened.domain)
    # Where nothing is known exactly, games alone tell how good it is.
    games = 0 if given is not None else opened.recipe.evaluation.games or GAMES
    measurable = given is not None or opened.domain.has_simulator
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("measuring", total=None)
        # Without a simulator what the run's held-out rows said is all there is, and the card has it.
        found = (
            unmeasured(opened.domain)
            if not measurable
            else evaluate(
                opened.domain,
                bundle.network,
                config=EvaluationConfig(simulations=sizes, games=games, players=opened.recipe.evaluation.players),
                positions=given,
                on_progress=lambda what, done, total: progress.update(
                    task, description=escape(what), completed=done, total=total
                ),
            )
        )
    command = opened.read(opened.folder / "command.json") or {"command": f"escalade train {opened.config.domain}"}
    written = export_champion(opened, folder, found, command["command"])
    Console().print(
        f"bundle {written.version}: {escape(str(folder))}, {escape(str(card_of(folder)))}",
        highlight=False,
        soft_wrap=True,
    )


def _tell(name: str, version: int, what: str, as_json: bool) -> None:
    if as_json:
        typer.echo(json.dumps({"name": name, "version": version}))
        return
    Console().print(f"{escape(name)} version {version}: {escape(what)}", highlight=False)


def _registry() -> Registry:
    from escalade.training.registry import Registry  # brings torch, which takes a second to load

    return Registry(read_settings().registry)
