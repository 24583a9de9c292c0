"""`escalade frontier`: what every choice of thresholds costs, and what it is worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.markup import escape

from escalade.app.cli_options import DomainArgument, DomainOptions, JsonOption, MeasuredBundleOption, domain_options
from escalade.app.labelling import (
    BehindOption,
    CountOption,
    ReferenceOption,
    StatesOption,
    StoreOfDecisionsOption,
    Wanted,
    mention,
)
from escalade.app.measured import (
    open_bundle,
    percent,
    progress_bars,
    table_of,
    warn_of_contradictions,
    write_report,
)
from escalade.app.settings import read_settings
from escalade.domains.catalog import load_domain
from escalade.domains.errors import EscaladeError, SettingsError

if TYPE_CHECKING:
    from escalade.training.frontier import Frontier

TABLE, REPORT, PLOT = "frontier.csv", "frontier.json", "frontier.png"
FEWEST = 10
"""States to choose thresholds on, and as many to measure them."""
HELD_OUT = 2**32
"""Added to the seed: certificates, of any seed people give, were made from other games."""


def frontier(
    domain: DomainArgument,
    reference: ReferenceOption = None,
    states: StatesOption = None,
    count: CountOption = 2000,
    experience: StoreOfDecisionsOption = None,
    simulations: BehindOption = 600,
    bundle: MeasuredBundleOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    option: DomainOptions = None,
    as_json: JsonOption = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Output folder for the table and plot.", show_default="out/frontier/DOMAIN"
        ),
    ] = None,
) -> None:
    """Sweep the confidence thresholds of a bundle over sampled or given states: cost against quality.

    Writes frontier.csv, frontier.json and frontier.png: the swept thresholds, the certified ones, fixed thresholds of
    0.5, 0.7 and 0.9, and each rung alone.
    """
    from escalade.training.contradictions import contradictions
    from escalade.training.frontier import draw, plain, write_csv
    from escalade.training.frontier import frontier as sweep
    from escalade.training.recorded import record
    from escalade.training.untaught import untaught

    loaded = load_domain(domain, domain_options(option))
    settings = read_settings()
    source = bundle or settings.bundles.get(domain) or settings.bundles.get(loaded.name)
    opened = open_bundle(source, loaded, settings, "--bundle")
    folder = out or Path("out/frontier") / loaded.name
    with progress_bars() as tell:
        wanted = Wanted(reference, states, count, experience, seed + HELD_OUT, folder)
        labelled = wanted.labelled(loaded, opened, settings, lambda done, of: tell("asking the reference", done, of))
        doubtful = {}
        if not labelled.reference.startswith("search:"):  # whose choices vary with their seeds
            doubtful[labelled.source] = contradictions(loaded, labelled.states, labelled.acceptable)
            warn_of_contradictions(doubtful[labelled.source], labelled.source)
        labelled, left = untaught(loaded, opened, labelled, "bundle")
        mention(left)
        if len(set(labelled.group.tolist())) < 2 * FEWEST:
            why = f" ({left})" if left.count else ""
            raise SettingsError(f"{len(labelled)} states are too few to sweep on: give at least {2 * FEWEST}{why}")
        recorded = record(
            loaded,
            opened,
            labelled,
            simulations=simulations,
            seed=seed,
            on_progress=lambda rung, done, of: tell(f"asking {rung}", done, of),
        )
    found = sweep(
        opened, recorded, reference=labelled.reference, source=labelled.source, simulations=simulations, seed=seed
    )
    folder.mkdir(parents=True, exist_ok=True)
    write_csv(found, folder / TABLE)
    report = {"schema_version": 1, "bundle": opened.version, "left_out": left.to_json(), **plain(found)}
    report["contradictory_labels"] = {where: one.plain() for where, one in doubtful.items()}
    write_report(report, folder / REPORT)
    try:
        draw(found, folder / PLOT)
    except EscaladeError as error:  # without matplotlib the figures are no worse
        Console(stderr=True).print(f"[yellow]no plot:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
    if as_json:
        typer.echo(json.dumps(report))
        return
    _print(found, folder)


def _print(found: Frontier, folder: Path) -> None:
    console = Console()
    console.print(
        f"reference {escape(found.reference)}; measured on {found.states:,} states ({escape(found.source)}), "
        f"thresholds chosen on as many others; search of {found.simulations} simulations; seed "
        f"{found.seed}; intervals hold 95 %",
        highlight=False,
        soft_wrap=True,
    )
    table = table_of("way to decide", "right", "work, ms", "by networks")
    sweep = [point for point in found.points if point.kind == "sweep"]
    few = {id(sweep[round(place * (len(sweep) - 1) / 7)]) for place in range(8)} if len(sweep) > 8 else set()
    for point in found.points:
        if point.kind == "sweep" and few and id(point) not in few:
            continue
        cost = "" if point.cost_s != point.cost_s else f"{1000 * point.cost_s:.3g}"
        networks = sum(point.shares.get(rung, 0.0) for rung in ("policy", "value"))
        table.add_row(escape(point.name), percent(point.right), cost, f"{networks:.1%}" if point.shares else "")
    console.print(table)
    files = ", ".join(name for name in (TABLE, REPORT, PLOT) if (folder / name).exists())
    console.print(
        f"[dim]{files} in {escape(str(folder))}; {TABLE} has all {len(sweep)} swept points[/]",
        highlight=False,
        soft_wrap=True,
    )
