"""`escalade certify`: thresholds for the networks, with proof of how often what they decide is wrong."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

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
from escalade.app.settings import Settings, read_settings
from escalade.domains.base import Domain
from escalade.domains.catalog import load_domain
from escalade.domains.errors import EscaladeError, SettingsError

if TYPE_CHECKING:
    from escalade.neural.bundle import Bundle
    from escalade.training.certified_report import Measured
    from escalade.training.certify_config import Promise
    from escalade.training.contradictions import Contradictions
    from escalade.training.intervals import Calibration
    from escalade.training.reference import Labelled
    from escalade.training.untaught import LeftOut

BUNDLE, REPORT, DIAGRAM = "bundle", "report.json", "reliability.png"


def certify(
    domain: DomainArgument,
    alpha: Annotated[
        list[float] | None,
        typer.Option(
            "--alpha",
            help="Largest share of decisions that may be worse than the reference's; may be repeated.",
            show_default="0.05",
        ),
    ] = None,
    own_alpha: Annotated[
        list[float] | None,
        typer.Option(
            "--own-alpha",
            help="The same for the decisions that the networks make themselves, for when the rung behind them has a "
            "larger error of its own; may be repeated.",
        ),
    ] = None,
    delta: Annotated[float, typer.Option(help="Largest probability that a certificate does not hold.")] = 0.05,
    reference: ReferenceOption = None,
    states: StatesOption = None,
    count: CountOption = 4000,
    experience: StoreOfDecisionsOption = None,
    simulations: BehindOption = 600,
    max_cost: Annotated[
        float | None,
        typer.Option(
            metavar="USD",
            help="Choose the most accurate certified thresholds with at most this average cost per decision.",
        ),
    ] = None,
    novel: Annotated[
        float | None,
        typer.Option(
            metavar="SHARE",
            help="Share of states like these that may count as novel and go past the networks: a larger one finds more "
            "of what is unlike them.",
            show_default="0.01 for texts, 0.001 for others",
        ),
    ] = None,
    test: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Table of test states; those that were not used for calibration are also measured."
        ),
    ] = None,
    bundle: MeasuredBundleOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    option: DomainOptions = None,
    as_json: JsonOption = False,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER",
            help="Output folder for the certified bundle and the report.",
            show_default="out/certified/DOMAIN",
        ),
    ] = None,
) -> None:
    """Calibrate the networks of a bundle and certify the confidence thresholds from which they may decide.

    One half of the states tunes the thresholds, the other half certifies them. Writes a new bundle to FOLDER/bundle and
    a report beside it. Exits with code 1 if any of the requested certificates could not be issued.
    """
    from escalade.neural.fixed_sequence import least_count
    from escalade.training.acceptance_limit import acceptance_limit
    from escalade.training.certified_report import draw_reliability, measured, reliability
    from escalade.training.certify import CertificationError, split
    from escalade.training.certify import certify as prove
    from escalade.training.certify_config import Promise
    from escalade.training.contradictions import contradictions
    from escalade.training.recorded import record
    from escalade.training.reference import apart
    from escalade.training.unproven import states_for
    from escalade.training.untaught import untaught

    loaded = load_domain(domain, domain_options(option))
    settings = read_settings()
    limit = _seconds(max_cost, settings)
    for name, given in (("--alpha", alpha), ("--own-alpha", own_alpha), ("--delta", [delta]), ("--novel", [novel])):
        for each in given or []:
            if each is not None and not 0 < each < 1:
                raise SettingsError(f"{name} must be between 0 and 1, not {each:g}")
    wanted = alpha or ([] if own_alpha else [0.05])
    promises = [Promise(each, delta, max_cost_s=limit) for each in wanted]
    promises += [Promise(each, delta, "own", limit) for each in own_alpha or []]
    source = bundle or settings.bundles.get(domain) or settings.bundles.get(loaded.name)
    opened = open_bundle(source, loaded, settings, "--bundle")
    folder = out or Path("out/certified") / loaded.name
    if folder.exists() and not folder.is_dir():
        raise SettingsError(f"--out: '{folder}' is a file: give a folder")
    if (folder / BUNDLE).exists():
        raise SettingsError(f"--out: '{folder / BUNDLE}' exists already, and bundles never change: give another folder")
    with progress_bars() as tell:

        def labels(path: Path | None) -> Labelled:
            least = max(states_for(least_count(one.alpha, one.delta)) for one in promises)
            given = Wanted(reference, path, count, experience, seed, folder, least)
            return given.labelled(loaded, opened, settings, lambda done, of: tell("asking the reference", done, of))

        every = labels(states)
        labelled, left = untaught(loaded, opened, every)
        mention(left)
        if not len(labelled):
            raise CertificationError(f"nothing is left to prove by: {left}{_census_advice(loaded)}")
        if states is not None:
            _doubt_copies(labelled)
        fresh = None
        if test is not None:  # what is wrong with it is said first
            fresh, _ = untaught(loaded, opened, apart(loaded, labels(test), labelled))
            if not len(fresh):
                raise SettingsError(f"--test: every state of '{test}' had a part in the bundle: give other states")
        doubtful = {
            given.source: contradictions(loaded, given.states, given.acceptable)
            for given in (every, fresh)
            if given is not None and not given.reference.startswith("search:")  # whose choices vary with their seeds
        }
        for where, contradictory in doubtful.items():
            warn_of_contradictions(contradictory, where)
        recorded = record(
            loaded,
            opened,
            labelled,
            simulations=simulations,
            seed=seed,
            on_progress=lambda rung, done, of: tell(f"asking {rung}", done, of),
        )
        unproven: dict[str, str] = {}
        try:
            made = prove(
                opened,
                recorded,
                promises,
                folder / BUNDLE,
                domain=loaded,
                labelled=labelled,
                simulations=simulations,
                seed=seed,
                novel=novel,
                on_unproven=(lambda one, why: unproven.update({one.name: why})) if len(promises) > 1 else None,
            )
        except CertificationError as error:
            raise (CertificationError(f"{error} ({left})") if left.count else error) from None
        tune, calibrate = split(recorded, seed)
        calibrations = reliability(made, calibrate, seed)
        tuned = tune.answers({rung: made.calibrator(rung) for rung in tune.rungs[:-1]}, made.novelty)
        limits = {one.name: dataclasses.asdict(acceptance_limit(tuned, one.alpha, one.covers)) for one in promises}
        tested: list[Measured] = []
        if fresh is not None:
            told = record(loaded, made, fresh, simulations=simulations, seed=seed + 1)
            tested = [measured(made, one, told, fresh.source) for one in made.certificates]
    report = _write(folder, made, opened, calibrations, tested, unproven, left, limits, doubtful)
    try:
        draw_reliability(calibrations, folder / DIAGRAM)
    except EscaladeError as error:  # without matplotlib the figures are no worse
        Console(stderr=True).print(f"[yellow]no plot:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
    if as_json:
        typer.echo(json.dumps(report))
    else:
        _print(made, calibrations, tested, promises, folder)
    for name, why in unproven.items():
        Console(stderr=True).print(f"[red]alpha {name}:[/] {escape(why)}", highlight=False, soft_wrap=True)
    if unproven:
        raise typer.Exit(1)


def _doubt_copies(labelled: Labelled) -> None:
    """Say so if most rows of a file are copies of others: states may well be met again, but rows that were copied prove
    nothing more."""
    different = len(set(labelled.states))
    if 2 * different <= len(labelled) + 1:
        typer.echo(
            f"warning: only {different} of {len(labelled)} states differ: if rows were copied, and not met so often, "
            "nothing is proven",
            err=True,
        )


def _census_advice(domain: Domain[Any]) -> str:
    """What the author of a small game can do, all of whose positions taught."""
    from escalade.search.solvers import exact_solver

    solver = exact_solver(domain)
    if solver is None or hasattr(solver, "reachable_positions"):
        return ""
    return (
        "; in a game so small that training meets all of its positions, let its solver list them (a method "
        "reachable_positions, see domains/solver.py): all are looked at then, and none is left out"
    )


def _seconds(max_cost: float | None, settings: Settings) -> float | None:
    """So much money in seconds of this machine's time."""
    if max_cost is None:
        return None
    if not 0 < max_cost < math.inf:
        raise SettingsError(f"--max-cost must be a positive number, not {max_cost:g}")
    from escalade.app.prices import read_prices
    from escalade.app.wiring import compute_price

    usd_per_hour = compute_price(settings, read_prices(settings.prices))
    if usd_per_hour <= 0:
        raise SettingsError("--max-cost needs the price of this machine's time: set ESCALADE_COMPUTE_USD_PER_HOUR")
    return max_cost * 3600 / usd_per_hour


def _write(
    folder: Path,
    made: Bundle,
    before: Bundle,
    calibrations: dict[str, Calibration],
    tested: list[Measured],
    unproven: dict[str, str],
    left: LeftOut,
    limits: dict[str, dict[str, float]],
    doubtful: dict[str, Contradictions],
) -> dict[str, Any]:
    """report.json; what it says."""
    report = {
        "schema_version": 1,
        "bundle": {"path": str(made.path), "version": made.version, "hash": made.hash, "made_from": before.hash},
        "certificates": [one.model_dump(mode="json") for one in made.certificates],
        "calibration": {rung: dataclasses.asdict(one) for rung, one in calibrations.items()},
        "tested": [dataclasses.asdict(one) for one in tested],
        "unproven": unproven,
        "left_out": left.to_json(),
        "limits": limits,
        "contradictory_labels": {where: found.plain() for where, found in doubtful.items()},
    }
    write_report(report, folder / REPORT)
    return report


# For people


def _print(
    made: Bundle, calibrations: dict[str, Calibration], tested: list[Measured], promises: list[Promise], folder: Path
) -> None:
    console = Console()
    first = made.certificates[0]
    console.print(
        f"reference {escape(first.reference)}; {first.tune.count:,} states to tune, {first.calibrate.count:,} to prove "
        f"({escape(first.states)})",
        highlight=False,
        soft_wrap=True,
    )
    console.print(
        "[dim]promise: what is proven (own: what the networks decide); alone: decided by the networks; "
        "limit: the most that any thresholds could leave to them, (1 - μ) / (1 - α) with their error μ on tune; "
        "below: a bound of confidence 1 - δ for what was seen, by itself; saved: work, against always asking "
        f"{first.ladder[-1]}[/]",
        highlight=False,
        soft_wrap=True,
    )
    table = table_of("promise", "alone", "limit", "wrong of those", "below", "wrong of all", "below", "saved")
    for one in made.certificates:
        setting = one.setting
        behind = one.cost_s[one.ladder[-1]]
        table.add_row(
            f"α {one.name} δ {one.delta:g}",
            f"{setting.accepted.n / max(setting.all.n, 1):.1%}",
            "" if one.limit is None else f"{one.limit:.1%}",
            f"{setting.accepted.k} of {setting.accepted.n}",
            f"{setting.accepted.bound:.2%}",
            f"{setting.all.k} of {setting.all.n}",
            f"{setting.all.bound:.2%}",
            f"{1 - setting.cost_s / behind:.1%}" if behind > 0 else "",
        )
    console.print(table)
    table = table_of("rung", "from", "decides", "a visit", "right", "calibration error")
    for rung in first.ladder:
        limits = [f"{one.setting.thresholds[rung]:.4f}" for one in made.certificates if rung in one.setting.thresholds]
        known = calibrations.get(rung)
        right = "" if known is None else _right(known)
        error = "" if known is None else f"{known.error:.4f} ({known.low:.4f}–{known.high:.4f})"
        shares = ", ".join(f"{one.setting.shares[rung]:.1%}" for one in made.certificates)
        table.add_row(rung, ", ".join(limits), shares, f"{1000 * first.cost_s[rung]:.2f} ms", right, error)
    console.print(table)
    for one, found in zip(made.certificates, tested, strict=False):
        saved = "" if found.saved.mean is None else f", {found.saved.mean:.1%} of the cost saved"
        console.print(
            f"on {escape(found.states)} ({found.wrong.count:,} states), alpha {one.name}: networks decide "
            f"{percent(found.alone)}, wrong {percent(found.wrong_alone)} of those and {percent(found.wrong)} of all; "
            f"{first.ladder[-1]} alone {percent(found.behind)}{saved}",
            highlight=False,
            soft_wrap=True,
        )
    console.print(
        "[dim]It holds for states drawn as these were, for these weights and calibrators alone"
        + ("" if first.reference in ("exact", "labels") else f"; what is proven is agreement with {first.reference}")
        + f". Bundle {made.version}: use it by --bundle {escape(str(folder / BUNDLE))}[/]",
        highlight=False,
        soft_wrap=True,
    )


def _right(calibration: Calibration) -> str:
    hits = sum(one.optimal.hits for one in calibration.bins)
    return f"{hits / calibration.count:.1%}"
