"""`escalade data label`: positions with the labels of a teacher, into the experience store."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from escalade.app.cli_options import DomainArgument, DomainOptions, JsonOption, domain_options
from escalade.app.render import money
from escalade.app.settings import Settings, read_settings
from escalade.app.state_file import InputFormatOption, read_states
from escalade.app.waiting import TEMPORARY_FAILURE, PatienceOption, patience_with, shown_waiting
from escalade.domains.base import Domain
from escalade.domains.catalog import load_domain
from escalade.domains.errors import EscaladeError, SettingsError

if TYPE_CHECKING:
    from escalade.app.teachers import Bill, Teacher
    from escalade.neural.bundle import Bundle
    from escalade.training.rows import Rows
    from escalade.training.store import ExperienceStore

GuidingBundleOption = Annotated[
    str | None,
    typer.Option(
        "--bundle",
        metavar="BUNDLE",
        help="Model bundle that guides the search and ranks positions by uncertainty: a folder, builtin:NAME, "
        "models:/NAME@ALIAS or models:/NAME/VERSION; `none` for random rollouts.",
        show_default="random rollouts",
    ),
]
StoreOption = Annotated[
    Path | None,
    typer.Option(
        "--store",
        help="Folder of the experience store.",
        show_default="ESCALADE_EXPERIENCE/DOMAIN, else out/experience/DOMAIN",
    ),
]
LABEL = "label-"
"""In a shard's name, before its work, and the numbers of its first position and of the next shard's."""
SOME = 10
"""If not one of so many positions is found, there is nothing to label."""
ASKED_AT_ONCE = 1024
"""Positions of which the network is asked how sure it is."""
Positions = Callable[[range], "Rows"]
"""The positions of these numbers, not labelled yet; fewer where there are none."""


def store_folder(store: Path | None, settings: Settings, domain: Domain[Any]) -> Path:
    return store or (settings.experience or Path("out/experience")) / domain.name


def label(
    domain: DomainArgument,
    teacher: Annotated[
        str, typer.Option(help="Teacher: solver, search, or llm (a search guided by a language model).")
    ],
    input: Annotated[
        Path | None, typer.Option("--input", help="Label every state of this file: lines, a table, or JSON Lines.")
    ] = None,
    input_format: InputFormatOption = "auto",
    count: Annotated[int | None, typer.Option(min=1, help="Number of random games to label positions of.")] = None,
    first_ply: Annotated[int, typer.Option(min=0, help="First ply of positions from random games.")] = 0,
    last_ply: Annotated[int | None, typer.Option(min=0, help="Last ply of positions from random games.")] = None,
    simulations: Annotated[int, typer.Option(min=1, help="MCTS simulations per search.")] = 400,
    seed: Annotated[int, typer.Option(min=0, help="Random seed.")] = 0,
    least_sure: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Label only the N distinct positions of lowest policy confidence; a larger N later continues.",
        ),
    ] = None,
    patience: PatienceOption = None,
    bundle: GuidingBundleOption = None,
    store: StoreOption = None,
    option: DomainOptions = None,
    as_json: JsonOption = False,
) -> None:
    """Label positions with a teacher, into the experience store. An interrupted run is resumed by the same command."""
    from escalade.training.store import ExperienceStore

    if (input is None) == (count is None):
        raise SettingsError("give either --input FILE with states, or --count N of casual games")
    settings = read_settings()
    loaded = load_domain(domain, domain_options(option) or settings.domain_options.get(domain))
    chosen = _teacher(teacher, loaded, settings, bundle, simulations)
    if patience is not None and teacher != "llm":
        raise SettingsError("--patience is for --teacher llm, whose endpoint may be down")
    patience_with(getattr(chosen, "model", None) if teacher == "llm" else None, patience)
    if input is not None:
        total, positions, source = _from_file(loaded, input, input_format)
    else:
        assert count is not None
        total, positions, source = count, *_casual(loaded, first_ply, last_ply, seed)
    if least_sure is not None:
        network = _bundle(loaded, settings, bundle)
        if network is None:
            raise SettingsError("--least-sure needs --bundle: whose policy is to be asked how sure it is")
        # Not how many of them: who asks for more goes on after those that are labelled.
        source = [*source, total, "least sure", network.version]
        total, positions = _least_sure(loaded, network, total, positions, least_sure)
    work = json.dumps([chosen.fingerprint, source, seed, str(option)], sort_keys=True)
    folder = store_folder(store, settings, loaded)
    try:
        opened = ExperienceStore(folder, loaded)
    except (FileExistsError, NotADirectoryError) as error:
        raise SettingsError(f"--store: there can be no store in '{folder}': '{error.filename}' is no folder") from None
    summary = _label(opened, chosen, positions, total, hashlib.sha256(work.encode()).hexdigest()[:12], seed)
    bill: Bill | None = getattr(chosen, "bill", None)
    if bill is not None:
        cost = None if bill.unpriced else bill.usd
        summary |= {"llm_calls": bill.calls, "llm_failed": dict(bill.failed), "cost_usd": cost}
        summary |= {"priced_usd": bill.usd, "unpriced_calls": bill.unpriced}
    if as_json:
        typer.echo(json.dumps(summary))
    else:
        typer.echo(_told(summary, opened.folder))


def _label(
    store: ExperienceStore, teacher: Teacher, positions: Positions, total: int, work: str, seed: int
) -> dict[str, Any]:
    """A shard a batch; what an earlier run of the same work has written is passed over."""
    from escalade.app.teachers import LanguageModelTeacher
    from escalade.nodes.daemon import in_daemon_thread
    from escalade.nodes.patience import PatienceOver

    began, rows, earlier, first = time.perf_counter(), 0, 0, 0
    done = _done(store, work)
    told = TextColumn("{task.description}")
    columns = (told, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        bar = progress.add_task("labelling", total=total)
        if isinstance(teacher, LanguageModelTeacher):
            teacher.on_wait = shown_waiting(progress, bar, "labelling", teacher.model.endpoint.patience)
        while first < total:
            progress.update(bar, completed=first)
            if first in done:
                earlier += min(done[first], total) - first
                first = done[first]
                continue
            numbers = range(first, min(first + teacher.batch, total))
            try:
                # Kernels do not hear Ctrl-C, so they work where nobody has to wait for them.
                found = in_daemon_thread(partial(_labelled, teacher, positions, numbers, seed)).result()
            except KeyboardInterrupt:
                progress.stop()
                typer.echo(f"stopped after {first} of {total} positions; the same command goes on there", err=True)
                raise typer.Exit(130) from None
            except PatienceOver as over:
                progress.stop()
                told_over = f"stopped after {first} of {total} positions: {over}; the same command goes on there"
                typer.echo(told_over, err=True)
                raise typer.Exit(TEMPORARY_FAILURE) from None
            if found is not None:
                store.add(found, f"{LABEL}{work}-{numbers.start:08d}-{numbers.stop:08d}")
                rows += len(found)
            first = numbers.stop
    store.refresh()
    return {"rows": rows, "labelled_before": earlier, "seconds": time.perf_counter() - began}


def _done(store: ExperienceStore, work: str) -> dict[int, int]:
    """Where batches of this work begin, and where they end, that are in the store already."""
    shards = [entry.name.split(f"{LABEL}{work}-")[1] for entry in store.entries if f"{LABEL}{work}-" in entry.name]
    return {int(name[:8]): int(name[9:17]) for name in shards}


def _labelled(teacher: Teacher, positions: Positions, numbers: range, seed: int) -> Rows | None:
    rows = positions(numbers)
    return teacher.label(rows, (seed, numbers[0])) if len(rows) else None


def _told(summary: dict[str, Any], folder: Path) -> str:
    told = f"{summary['rows']} rows to {folder} in {summary['seconds']:.1f} s"
    if summary["labelled_before"]:
        told += f", {summary['labelled_before']} positions were labelled before"
    if "llm_calls" in summary:
        failed = sum(summary["llm_failed"].values())
        told += f"; {summary['llm_calls']} LLM calls, {failed} without a usable answer, {money(summary['cost_usd'])}"
    return told


def _teacher(name: str, domain: Domain[Any], settings: Settings, bundle: str | None, simulations: int) -> Teacher:
    from escalade.app.teachers import LanguageModelTeacher, SearchTeacher, SolverTeacher
    from escalade.app.wiring import open_language_model
    from escalade.search.config import SearchConfig

    if name == "solver":
        return SolverTeacher(domain)
    if name not in ("search", "llm"):
        raise SettingsError(f"--teacher must be solver, search or llm, not '{name}'")
    config = SearchConfig(simulations=simulations)
    evaluator, model = _evaluator(domain, settings, bundle)
    if name == "search":
        return SearchTeacher(domain, evaluator, model, config)
    return LanguageModelTeacher(domain, open_language_model(settings), evaluator, model, config)


def _evaluator(domain: Domain[Any], settings: Settings, bundle: str | None) -> tuple[Any, str]:
    """What a search asks about its leaves, and its name."""
    from escalade.search.evaluators import RolloutEvaluator

    if not domain.has_simulator:
        return None, ""
    found = _bundle(domain, settings, bundle)
    if found is None:
        return RolloutEvaluator(domain, settings.rollouts), "rollouts"
    return found.network, found.version


def _bundle(domain: Domain[Any], settings: Settings, bundle: str | None) -> Bundle | None:
    """The one that is named, or that the settings name; None if there is none."""
    from escalade.app.wiring import NO_BUNDLE, registered_folder

    bundle = bundle or settings.bundles.get(domain.name)
    if bundle is None or bundle == NO_BUNDLE:
        return None
    import torch

    from escalade.neural.bundle import read_bundle
    from escalade.neural.sources import bundle_folder

    torch.set_num_threads(1)  # as in app/wiring.py
    return read_bundle(bundle_folder(registered_folder(bundle, settings)), domain)


def _from_file(domain: Domain[Any], path: Path, kind: str) -> tuple[int, Positions, list[Any]]:
    """How many, the positions, and what they depend on. Raises SettingsError naming the line at fault."""
    from escalade.app.teachers import unlabelled
    from escalade.nodes.parse import canonical_text

    texts = []
    given = read_states(path, domain, kind)
    for value, place in zip(given.values, given.places, strict=True):
        try:
            texts.append(canonical_text(domain, value))
        except EscaladeError as error:
            raise SettingsError(f"--input '{path}', {place}: {error}") from None
    digest = hashlib.sha256("\n".join(texts).encode()).hexdigest()

    def positions(numbers: range) -> Rows:
        states = [domain.parse(texts[number]) for number in numbers]
        games = [f"input-{digest[:12]}/{number:08d}" for number in numbers]
        return unlabelled(domain, states, games, [0] * len(states))

    return len(texts), positions, ["input", digest]


def _casual(domain: Domain[Any], first_ply: int, last_ply: int | None, seed: int) -> tuple[Positions, list[Any]]:
    from escalade.app.teachers import unlabelled
    from escalade.search.searchable import check_simulator
    from escalade.training.casual import GAMES, casual_positions

    check_simulator(domain)
    if last_ply is not None and last_ply < first_ply:
        raise SettingsError(f"--last-ply {last_ply} is before --first-ply {first_ply}")
    if not any(casual_positions(domain, range(SOME), first_ply, last_ply, seed=seed)):
        games = f"none of {SOME * GAMES} casual games of '{domain.name}' lasts so long"
        raise SettingsError(f"--first-ply {first_ply}: {games}; give a smaller number")

    def positions(numbers: range) -> Rows:
        found = list(casual_positions(domain, numbers, first_ply, last_ply, seed=seed))
        return unlabelled(domain, *_columns(found, seed))

    return positions, ["casual", first_ply, last_ply]


def _least_sure(
    domain: Domain[Any], bundle: Bundle, total: int, positions: Positions, count: int
) -> tuple[int, Positions]:
    """Of all positions, each once, the `count` that the policy is least sure of, the least sure first (uncertainty
    sampling; D. Lewis, W. Gale, "A sequential algorithm for training text classifiers", SIGIR 1994)."""
    from escalade.app.teachers import unlabelled
    from escalade.neural.actions import action_probabilities
    from escalade.neural.confidence import policy_features
    from escalade.training.production import LEAST_SURE

    found: dict[str, tuple[float, str, str, int]] = {}
    columns = (TextColumn("asking the network"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        for first in progress.track(range(0, total, ASKED_AT_ONCE)):
            rows = positions(range(first, min(first + ASKED_AT_ONCE, total)))
            if len(rows):
                logits, values = bundle.network.evaluate(np.asarray(rows.observation), rows.legal)
                features = policy_features(action_probabilities(logits, rows.legal), rows.legal, values)
                sure = bundle.calibrator("policy").confidences(features)
                for one in zip(sure.tolist(), rows.state.tolist(), rows.game.tolist(), rows.ply.tolist(), strict=True):
                    found.setdefault(one[1], one)
    least = sorted(found.values(), key=lambda one: one[0])[:count]

    def chosen(numbers: range) -> Rows:
        some = [least[number] for number in numbers]
        states = [domain.parse(text) for _, text, _, _ in some]
        games = [f"{LEAST_SURE}/{game}" for _, _, game, _ in some]
        return unlabelled(domain, states, games, [ply for _, _, _, ply in some])

    return len(least), chosen


def _columns(found: Sequence[tuple[int, int, Any]], seed: int) -> tuple[list[Any], list[str], list[int]]:
    games = [f"casual-{seed}/{number:08d}" for number, _, _ in found]
    return [state for _, _, state in found], games, [ply for _, ply, _ in found]
