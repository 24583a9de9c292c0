"""Collecting experience: one function, wherever it runs. It takes a task that is plain data, writes one shard, and
returns plain numbers; done again, after a crash or on another machine, it leaves the same shard once."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import numpy as np
from pydantic import TypeAdapter, ValidationError

from escalade.domains.base import BoolArray, Domain, FloatArray
from escalade.domains.catalog import load_domain
from escalade.domains.errors import SettingsError
from escalade.domains.evaluator import BatchHints, NativeCall, usable_cores
from escalade.neural.bundle import read_bundle
from escalade.neural.manifest import DomainStamp, first_fault
from escalade.neural.networks import PolicyValueNetwork
from escalade.search.config import SearchConfig
from escalade.search.evaluators import RolloutEvaluator, UniformEvaluator
from escalade.search.solvers import exact_solver
from escalade.training.arena import Player, SearchPlayer
from escalade.training.random_games import random_games
from escalade.training.relabel import relabelled_rows
from escalade.training.rows import Rows, joined
from escalade.training.self_play import SelfPlay, SelfPlayConfig
from escalade.training.shards import SUFFIX, ShardError, read_shard, shard_notes, write_shard
from escalade.training.solved import SolvedConfig, casual_families, exact_labels, no_solver_for, opening_rows
from escalade.training.sparring import SolverPlayer, sparring_games

Untaught = Literal["rollouts", "uniform", "random"]
"""Who plays where there is no network yet."""
FEWEST_MOVES = 4
HEARD_SECONDS = 0.5
"""Between two reports of progress in which nothing has ended."""

Progress = Callable[[int, int], None]
"""Hears how many games, families or positions are done, and how many rows they gave."""


@dataclass(frozen=True)
class CollectTask:
    """What one collector is to do, in one piece.

    source: "self_play" plays the games of these numbers, "solver" labels the families of these numbers exactly,
        "sparring" plays the games of these numbers against the exact solver and labels them, "openings" labels every
        opening (whatever the numbers), "search" searches the positions of an earlier shard anew (`relabel`, a shard's
        name).
    domain, options: as `load_domain`. root: the run's folder, as this machine sees it. folder: where shards lie, from
    there. shard: name of the one to write, without suffix. first, count: the numbers are first .. first + count - 1.
    bundle: folder of the network that plays, from root; None: there is none yet, and `untaught` says who plays. run:
    names the games. cores: that this collector may use, None for all.
    seconds: after so many, a piece of self-play cuts its games short and a piece of labelling ends; None: never.
    untaught: "rollouts" searches with eight random games a leaf, "uniform" searches knowing nothing but the rules,
        "random" plays random moves, which cost least and teach how games end, but no policy.
    """

    source: Literal["self_play", "solver", "sparring", "openings", "search"]
    domain: str
    folder: str
    shard: str
    first: int
    count: int
    seed: int
    root: str = ""
    run: str = "run"
    bundle: str | None = None
    untaught: Untaught = "rollouts"
    seconds: float | None = None
    relabel: str | None = None
    cores: int | None = None
    solve_games: bool = False
    options: dict[str, Any] = field(default_factory=dict)
    self_play: SelfPlayConfig = field(default_factory=SelfPlayConfig)
    solved: SolvedConfig = field(default_factory=SolvedConfig)
    search: SearchConfig = field(default_factory=lambda: SearchConfig(simulations=600))

    def plain(self) -> dict[str, Any]:
        """The task as JSON."""
        return asdict(self)

    @staticmethod
    def of(plain: dict[str, Any]) -> CollectTask:
        """The task that `plain` gave. Raises SettingsError for anything else."""
        try:
            return _TASK.validate_python(plain)
        except ValidationError as error:
            raise SettingsError(f"no task for a collector: {first_fault(error)}") from None

    @property
    def shards(self) -> Path:
        """Where shards lie."""
        return Path(self.root, self.folder)


_TASK = TypeAdapter(CollectTask)


def collect(plain: dict[str, Any], on_progress: Progress | None = None) -> dict[str, Any]:
    """Do a task (`CollectTask.plain`). Returns what the shard notes: source, games, positions, rows, simulations,
    seconds, and what self-play counts besides; `repeated` says that the shard was there already.

    Raises EscaladeError for a task that cannot be done, OSError if the shard cannot be written.
    """
    task = CollectTask.of(plain)
    if not task.shards.is_absolute():
        raise SettingsError(f"root: a task whose folder is '{task.folder}' needs the absolute folder of its run")
    domain = load_domain(task.domain, task.options or None)
    path = task.shards / f"{task.shard}{SUFFIX}"
    stamp = DomainStamp.of(domain)
    try:
        read_shard(path, stamp)
        return {**shard_notes(path), "repeated": True}
    except (ShardError, FileNotFoundError):
        pass  # not there, or not whole: it is written now
    began = heard = time.perf_counter()

    def over() -> bool:
        return task.seconds is not None and time.perf_counter() - began >= task.seconds

    parts: list[Rows] = []
    done = rows = 0
    numbers: dict[str, Any] = {}
    for finished, part in _WORK[task.source](task, domain, stamp, numbers, over):
        done, rows = done + finished, rows + (0 if part is None else len(part))
        if part is not None and len(part):
            parts.append(part)
        if on_progress is not None and (finished or time.perf_counter() - heard > HEARD_SECONDS):
            heard = time.perf_counter()
            on_progress(done, max(rows, int(numbers.get("positions", 0))))
        if part is not None and task.source != "self_play" and over():
            break
    notes = {"source": task.source, "games": done, "rows": rows, "positions": rows, "simulations": 0, **numbers}
    notes |= {"shard": task.shard, "seconds": time.perf_counter() - began}
    if parts:
        write_shard(task.shards, joined(parts), stamp, name=task.shard, notes=notes)
    return {**notes, "repeated": False}


def _self_play(
    task: CollectTask, domain: Domain[Any], stamp: DomainStamp, numbers: dict[str, Any], over: Callable[[], bool]
) -> Iterator[tuple[int, Rows | None]]:
    games = range(task.first, task.first + task.count)
    if task.bundle is None and task.untaught == "random":
        numbers["moves"] = "random"
        for rows in random_games(domain, games, task.self_play, seed=task.seed, run=task.run, until=over):
            yield len(np.unique(rows.game)), rows
            numbers["rows"] = numbers.get("rows", 0) + len(rows)
        if "rows" in numbers:
            return
        # None ended in time. A move or two of one searched game is something to begin with.
        moves = itertools.count()
        games, over = games[:1], lambda: next(moves) >= FEWEST_MOVES
        task = replace(task, untaught="uniform", self_play=replace(task.self_play, at_once=1, opening_plies=0))
    evaluator, model = _evaluator(task, domain)
    player = SelfPlay(domain, evaluator, task.self_play, seed=task.seed)
    for played in player.turns(games, task.run, model, until=over):
        numbers |= asdict(player.stats)
        if played is None:
            yield 0, None
            continue
        ended = np.unique(played.game)
        if task.solve_games:
            first = int(ended[0].rsplit("/", 1)[1])
            played = exact_labels(domain, played, task.solved, seed=(task.seed, 1, first))
        yield len(ended), played
    numbers |= asdict(player.stats)


def _solved(
    task: CollectTask, domain: Domain[Any], stamp: DomainStamp, numbers: dict[str, Any], over: Callable[[], bool]
) -> Iterator[tuple[int, Rows | None]]:
    wanted = range(task.first, task.first + task.count)
    for rows in casual_families(domain, wanted, task.solved, seed=task.seed, run=task.run):
        yield 1, rows


def _sparred(
    task: CollectTask, domain: Domain[Any], stamp: DomainStamp, numbers: dict[str, Any], over: Callable[[], bool]
) -> Iterator[tuple[int, Rows | None]]:
    solver = exact_solver(domain)
    if solver is None:
        raise no_solver_for(domain)
    learner: Player = SolverPlayer(solver, by_score=False)  # until there is a network, any move that loses nothing
    if task.bundle is not None:
        evaluator, model = _evaluator(task, domain)
        learner = SearchPlayer(model, evaluator, task.self_play.search.simulations)
    wanted = range(task.first, task.first + task.count)
    games = sparring_games(
        domain, learner, SolverPlayer(solver), wanted, task.solved, seed=task.seed, run=task.run, until=over
    )
    for rows in games:
        yield int(rows is not None), rows


def _openings(
    task: CollectTask, domain: Domain[Any], stamp: DomainStamp, numbers: dict[str, Any], over: Callable[[], bool]
) -> Iterator[tuple[int, Rows | None]]:
    for rows in opening_rows(domain, task.solved.openings, run=task.run):
        yield len(rows), rows


def _searched(
    task: CollectTask, domain: Domain[Any], stamp: DomainStamp, numbers: dict[str, Any], over: Callable[[], bool]
) -> Iterator[tuple[int, Rows | None]]:
    if task.relabel is None:
        raise SettingsError("relabel: a task with the source 'search' names the shard to search anew")
    evaluator, model = _evaluator(task, domain)
    earlier = read_shard(task.shards / f"{task.relabel}{SUFFIX}", stamp)
    earlier = earlier.take(np.arange(task.first, min(task.first + task.count, len(earlier))))
    numbers["simulations"] = 0
    for start in range(0, len(earlier), 512):
        some = earlier.take(np.arange(start, min(start + 512, len(earlier))))
        rows, simulations = relabelled_rows(domain, evaluator, some, task.search, seed=(task.seed, start), model=model)
        numbers["simulations"] += simulations
        yield len(rows), rows


_WORK = {
    "self_play": _self_play,
    "solver": _solved,
    "sparring": _sparred,
    "openings": _openings,
    "search": _searched,
}


def _evaluator(task: CollectTask, domain: Domain[Any]) -> tuple[Any, str]:
    if task.bundle is None:
        return (UniformEvaluator(), "uniform") if task.untaught == "uniform" else (RolloutEvaluator(domain), "rollouts")
    network, version = _network(str(Path(task.root, task.bundle)), task.domain, tuple(sorted(task.options.items())))
    return (network if task.cores is None else Sharing(network, task.cores)), version


@lru_cache(maxsize=2)
def _network(folder: str, name: str, options: tuple[tuple[str, Any], ...]) -> tuple[PolicyValueNetwork, str]:
    """Bundles never change once written, so one that was read is kept."""
    bundle = read_bundle(folder, load_domain(name, dict(options) or None))
    return bundle.network, bundle.version


@dataclass(frozen=True, eq=False)
class Sharing:
    """A network that uses only so many cores, where several collectors share a machine."""

    network: PolicyValueNetwork
    cores: int

    @property
    def hints(self) -> BatchHints:
        hints = self.network.hints
        return replace(hints, calls=min(hints.calls, self.cores))

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        return self.network.evaluate(observations, legal)

    def native(self) -> NativeCall | None:
        return self.network.native()


def cores_each(collectors: int) -> int:
    """Cores for each of so many collectors on this machine."""
    return max(1, usable_cores() // collectors)
