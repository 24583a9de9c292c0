"""`escalade evaluate`: how good a bundle's network is, in figures with counts, seeds and intervals."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from escalade.app.cli_options import DomainArgument, DomainOptions, JsonOption, MeasuredBundleOption, domain_options
from escalade.app.labelling import mention
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
    from escalade.neural.bundle import Bundle
    from escalade.training.agreement import Agreement, Estimates
    from escalade.training.contradictions import Contradictions
    from escalade.training.evaluate import Evaluation, EvaluationConfig
    from escalade.training.untaught import LeftOut

COUNT, QUICK_COUNT = 2000, 500
QUICK_GAMES = 20
"""Of a match, in a domain that only matches can judge."""


def evaluate(
    domain: DomainArgument,
    bundle: MeasuredBundleOption = None,
    option: DomainOptions = None,
    positions: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Table of test positions: moves, and the exact scores score_1 … score_A, empty where illegal.",
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Table of test states with the action or label that is right in each: columns state, action.",
        ),
    ] = None,
    count: Annotated[
        int | None,
        typer.Option(min=1, help="Number of positions to solve if no file is given.", show_default="2000; quick: 500"),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    simulations: Annotated[
        str | None,
        typer.Option(
            metavar="N,N,…",
            help="MCTS simulations of the searches to compare with the solver; 0 is the network alone.",
            show_default="0,16,64,256,600; quick: 0,64",
        ),
    ] = None,
    games: Annotated[
        int | None,
        typer.Option(min=0, help="Games per match, an even number; or episodes.", show_default="200; quick: 0"),
    ] = None,
    against: Annotated[
        str | None, typer.Option(metavar="BUNDLE", help="Model bundle to play against too, such as the last champion.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Only the measurements that take seconds.")] = False,
    as_json: JsonOption = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="Output folder for the report and plots.", show_default="out/evaluation/DOMAIN"
        ),
    ] = None,
) -> None:
    """Evaluate a bundle: agreement with the exact solver, value and confidence errors, savings by the value, matches.

    With --labels, agreement with those labels. Without a solver and without a file, it only plays: matches, or episodes
    where there is one player. Beside each search with the network stands the same one without it (rollouts, as many
    simulations), which shows what the rules prove at sight. States that taught the bundle are left out. Writes
    report.json and plots beside it.
    """
    from escalade.search.solvers import exact_solver
    from escalade.training.contradictions import contradictions
    from escalade.training.evaluate import evaluate as measure
    from escalade.training.exact import open_positions
    from escalade.training.reference import file_labels, labelled_positions
    from escalade.training.untaught import untaught_positions

    if positions is not None and labels is not None:
        raise SettingsError("--positions and --labels: give one of them")
    loaded = load_domain(domain, domain_options(option))
    config = _config(seed, simulations, games, quick)
    settings = read_settings()
    source = bundle or settings.bundles.get(domain) or settings.bundles.get(loaded.name)
    opened = open_bundle(source, loaded, settings, "--bundle")
    rival = None if against is None else open_bundle(against, loaded, settings, "--against")
    folder = out or Path("out/evaluation") / loaded.name
    count = count or (QUICK_COUNT if quick else COUNT)
    try:
        with progress_bars() as tell:
            given = None
            contradictory: Contradictions | None = None
            if labels is not None:
                given = labelled_positions(loaded, file_labels(loaded, labels))
            elif positions is not None or exact_solver(loaded) is not None:
                given = open_positions(
                    loaded,
                    path=positions,
                    count=count,
                    seed=seed,
                    folder=folder,
                    on_progress=lambda done, total: tell("solving positions", done, total),
                )
            elif quick and games is None:
                config = replace(config, games=QUICK_GAMES)
            left: LeftOut | None = None
            if given is not None:
                given, left = untaught_positions(loaded, opened, given)
                if left.count is not None or labels is not None or positions is not None:
                    mention(left)
                if not len(given):
                    raise SettingsError(f"nothing is left to measure on: {left}")
            if labels is not None or positions is not None:
                assert given is not None
                contradictory = contradictions(loaded, given.states, given.optimal)
                warn_of_contradictions(contradictory, given.source)
            found = measure(
                loaded,
                opened.network,
                rival.network if rival else None,
                config,
                positions=given,
                calibrator=opened.calibrator("policy"),
                on_progress=tell,
            )
        report = _write(found, opened, rival, folder, contradictory, left)
    except OSError as error:
        raise SettingsError(f"--out: '{folder}' cannot be written: {error.strerror or error}") from None
    if as_json:
        typer.echo(json.dumps(report))
        return
    _print(found)
    files = ", ".join(["report.json", *report["plots"]])
    who = f"bundle {opened.version}" if rival is None else f"bundle {opened.version}, previous {rival.version}"
    Console().print(f"[dim]{who}; {escape(files)} in {escape(str(folder))}[/]", highlight=False, soft_wrap=True)


def _config(seed: int, simulations: str | None, games: int | None, quick: bool) -> EvaluationConfig:
    from escalade.training.evaluate import EvaluationConfig

    given: dict[str, Any] = {"seed": seed}
    if simulations is not None:
        numbers = [part.strip() for part in simulations.split(",")]
        if not all(number.isascii() and number.isdigit() for number in numbers):
            raise SettingsError(f"--simulations must be whole numbers such as 0,16,64, not '{simulations}'")
        given["simulations"] = tuple(sorted({int(number) for number in numbers}))
    if games is not None:
        if games % 2:
            raise SettingsError(f"--games must be an even number, as sides are swapped, not {games}")
        given["games"] = games
    return EvaluationConfig(**given) if quick else EvaluationConfig.full(**given)


def _write(
    found: Evaluation,
    opened: Bundle,
    rival: Bundle | None,
    folder: Path,
    contradictory: Contradictions | None,
    left: LeftOut | None,
) -> dict[str, Any]:
    """Write plots and report.json; the report."""
    from escalade.training.plots import write_plots

    plots: list[str] = []
    try:
        plots = [path.name for path in write_plots(found, folder)]
    except EscaladeError as error:  # without matplotlib the figures are no worse
        Console(stderr=True).print(f"[yellow]no plots:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
    named = [
        None if bundle is None else {"path": str(bundle.path), "version": bundle.version, "hash": bundle.hash}
        for bundle in (opened, rival)
    ]
    report = {**found.to_json(), "bundle": named[0], "against": named[1], "plots": plots}
    if left is not None:
        report["left_out"] = left.to_json()
    if contradictory is not None:
        report["contradictory_labels"] = {found.positions_source: contradictory.plain()}
    write_report(report, folder / "report.json")
    return report


# For people


def _print(found: Evaluation) -> None:
    console = Console()
    if found.estimates is not None:
        _print_positions(found, found.estimates, console)
    if found.savings is not None:
        told = f"instead of the value network ({found.savings.positions:,} positions)"
        table = table_of(told, "strength", "simulations", "without it", "saved")
        for saving in found.savings.savings:
            without = "" if saving.reached == "between" else f"{saving.reached} "
            saved = f"{saving.saved:.0%} ({100 * saving.saved_low:.0f}…{100 * saving.saved_high:.0f})"
            needed = f"{without}{saving.needed:,.0f}"
            table.add_row(saving.against, f"{saving.strength:.1%}", str(saving.simulations), needed, saved)
        console.print(table)
    if found.matches:
        table = table_of("games", "won:drawn:lost", "score", "Elo", "sims a move")
        for match in found.matches:
            score = f"{match.score:.1%} ({100 * match.score_low:.1f}–{100 * match.score_high:.1f})"
            elo = f"{match.elo:+.0f} ({match.elo_low:+.0f}…{match.elo_high:+.0f})"
            spent = [
                f"{total / max(moves, 1):.0f}" for total, moves in zip(match.simulations, match.moves, strict=True)
            ]
            points = f"{match.wins}:{match.draws}:{match.losses}"
            table.add_row(f"{match.first} : {match.second}", points, score, elo, " : ".join(spent))
        console.print(table)
    if found.returns:
        table = table_of("episodes", "of", "mean return", "cut short", "sims a move")
        for one in found.returns:
            mean = f"{one.mean:+.3f} ({one.low:+.3f}…{one.high:+.3f})"
            searched = f"{one.simulations / max(one.moves, 1):.0f}"
            table.add_row(one.player, str(one.episodes), mean, str(one.cut_short), searched)
        console.print(table)
    for what, why in found.skipped.items():
        console.print(f"[yellow]not measured:[/] {escape(what)}: {escape(why)}", highlight=False, soft_wrap=True)


def _shares(row: Agreement) -> tuple[str, str, str, str]:
    return f"{row.all.count:,}", percent(row.all), f"{row.differing.count:,}", percent(row.differing)


def _print_positions(found: Evaluation, estimates: Estimates, console: Console) -> None:
    """How it did where it is known what is right."""
    drawn = f"{found.positions:,} positions ({found.positions_source}), {found.differing:,} where moves differ"
    console.print(f"{escape(drawn)}; seed {found.seed}; intervals hold 95 %", highlight=False, soft_wrap=True)
    table = table_of("sign-optimal moves", "phase", "of", "all", "of", "where moves differ")
    # Of its phases the report tells.
    alone = {row.simulations: row for row in found.without_network if row.phase == "all"}
    for row in found.agreement:
        name = f"{row.simulations} simulations" if row.simulations else "network alone"
        table.add_row(name, row.phase, *_shares(row))
        if row.phase == "all" and (beside := alone.get(row.simulations)) is not None:
            table.add_row(f"{row.simulations}, no network", row.phase, *_shares(beside))
    console.print(table)
    table = table_of("the network alone", "phase", "of", "figure")
    for value in estimates.values:
        mean = value.squared_error
        told = "" if mean.mean is None else f"{mean.mean:.4f}"
        told += "" if mean.low is None else f" ({mean.low:.4f}–{mean.high:.4f})"
        table.add_row("squared error of the value", value.phase, f"{mean.count:,}", told)
    for name, calibration in (("raw", estimates.calibration), ("calibrated", estimates.calibrated)):
        if calibration is not None:
            told = f"{calibration.error:.4f} ({calibration.low:.4f}–{calibration.high:.4f})"
            table.add_row(f"calibration error, {name}", "all", f"{calibration.count:,}", told)
    for name, share in (
        ("greatest of all logits is legal", estimates.legal),
        ("first choice optimal", estimates.optimal),
    ):
        table.add_row(name, "all", f"{share.count:,}", percent(share))
    console.print(table)
