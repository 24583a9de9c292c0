"""A training run on disk: everything a stopped run goes on from.

    run.json                what is trained, and how: domain, recipe, seed
    experience/             the store that collectors write to
    iterations/0001/        of each iteration: learner.safetensors, bundle/, fit.json, evaluation.json, strength.json;
                            of the best one certified/, its bundle with certificates; 0000 is what the run began with,
                            if that was a bundle
    contradictory_labels.json  what is known of labels that contradict each other, where there are labels
    budget.json             iterations or minutes, if they were changed on the way
    sizes.json              how many positions it is judged by, if it has not the time for those of the recipe
    lengths.json            how long games are, and what a step of the rules takes, as random games have shown
    clock.json              seconds of work in all sessions
    metrics.jsonl           a line a pass, an evaluation, a promotion, and how strong an iteration is
    champion.json           which iteration's bundle is best so far; `champion` is a link to it
    run.lock                held by the process that trains

Every file appears whole or not at all, and each step can be done again: what it finds done it does not do twice.
"""

from __future__ import annotations

import fcntl
import json
import os
import threading
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import TypeAdapter, ValidationError

from escalade.domains.base import Domain
from escalade.domains.catalog import load_domain
from escalade.domains.errors import EscaladeError, SettingsError
from escalade.domains.lengths import Lengths, lengths_of
from escalade.neural.files import write_whole
from escalade.neural.manifest import first_fault
from escalade.neural.sources import bundle_folder
from escalade.search.solvers import exact_solver
from escalade.training.exact import ExactPositions, OnSolved, open_positions, read_positions
from escalade.training.recipe import Recipe
from escalade.training.rows import Rows
from escalade.training.store import ExperienceStore

TIMED_SECONDS = 1.0
"""For so long at most random games are played and timed, in a run by minutes."""

Tell = Callable[[dict[str, Any]], None]
"""Hears of a run's progress: plain events such as {"event": "pass", "iteration": 3, …}."""


def silent(event: dict[str, Any]) -> None:
    """Nobody listens."""


class RunError(EscaladeError, ValueError):
    """A folder is no training run, or cannot be one now."""


@dataclass(frozen=True)
class RunConfig:
    """domain, options: as `load_domain`. experience: folders of other experience stores of the domain, whose newest
    rows are learned from too. exclude: files of test positions (`escalade.training.exact`) that are never learned from,
    nor their mirror images. start: the bundle that it begins with, a folder or `builtin:NAME`; its network may have
    fewer blocks than the recipe's. None: random weights."""

    domain: str
    recipe: Recipe
    seed: int = 0
    options: dict[str, Any] = field(default_factory=dict)
    experience: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    start: str | None = None


_CONFIG = TypeAdapter(RunConfig)


class Run:
    """The run in a folder. Use `Run.begin` or `Run.open`."""

    def __init__(self, folder: Path, config: RunConfig) -> None:
        self.folder = folder
        self.config = config
        self.recipe = config.recipe
        sizes = self.read(folder / "sizes.json")
        if isinstance(sizes, dict) and isinstance(sizes.get("positions"), int):
            self.recipe = replace(self.recipe, positions=min(sizes["positions"], self.recipe.positions))
        self.domain: Domain[Any] = load_domain(config.domain, config.options or None)
        self.store = ExperienceStore(folder / "experience", self.domain)
        self._elsewhere: list[ExperienceStore] | None = None
        self._told: set[str] = set()
        self._notes: list[str] = []

    @staticmethod
    def begin(folder: Path, config: RunConfig) -> Run:
        """Begin a run, or open it if it was begun with the same config. Raises RunError if there is another one, or if
        another process trains there, SettingsError for a config that no run can have; none is begun then."""
        folder.mkdir(parents=True, exist_ok=True)
        hold(folder)
        if not (folder / "run.json").exists():
            _check(config)
            if config.start is not None:
                from escalade.training.start import copy_bundle

                copy_bundle(bundle_folder(config.start), folder / _bundle_of(0))
            document = json.dumps(_CONFIG.dump_python(config, mode="json"), indent=1).encode()
            write_whole(folder / "run.json", lambda file: file.write(document))
        run = Run.open(folder)
        if run.config != config:
            raise RunError(f"'{folder}' holds a run of another config: choose another folder, or --resume it")
        return run

    @staticmethod
    def open(folder: Path, *, alone: bool = True) -> Run:
        """The run that was begun in a folder. Raises RunError if there is none, or another process trains there.

        alone: whether to keep others out; not so for who helps the process that does.
        """
        try:
            raw = (folder / "run.json").read_bytes()
        except OSError:
            raise RunError(f"there is no training run in '{folder}'") from None
        try:
            config = _CONFIG.validate_json(raw)
        except ValidationError as error:
            raise RunError(f"'{folder / 'run.json'}' is damaged: {first_fault(error)}") from None
        if alone:
            hold(folder)
        return Run(folder, config)

    @property
    def name(self) -> str:
        return self.folder.name

    def iteration(self, number: int) -> Path:
        """The folder of an iteration, from 1."""
        return self.folder / _bundle_of(number).parent

    def bundle(self, number: int) -> Path | None:
        """The bundle that an iteration made, if it has, with its certificates once there are any; of 0 the one that the
        run began with."""
        paths = (self.certified_bundle(number), self.plain_bundle(number))
        return next((path for path in paths if path.exists()), None)

    def plain_bundle(self, number: int) -> Path:
        """Where an iteration's fit leaves its bundle."""
        return self.folder / _bundle_of(number)

    def certified_bundle(self, number: int) -> Path:
        """Where the same is once it is certified."""
        return self.iteration(number) / "certified"

    def write(self, path: Path, document: Any) -> None:
        """Write JSON, whole."""
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda file: file.write(json.dumps(document, indent=1).encode()))

    def read(self, path: Path) -> Any:
        """Read JSON, None if there is none. Raises RunError if it is damaged."""
        try:
            return json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise RunError(f"'{path}' is damaged: {error}: remove it, and that step is done again") from None

    @property
    def budget(self) -> dict[str, Any]:
        """iterations and minutes of the whole run, where they were changed after it was begun."""
        path = self.folder / "budget.json"
        found: Any = self.read(path) or {}
        if not isinstance(found, dict) or not all(isinstance(n, int | float | None) for n in found.values()):
            raise RunError(f"'{path}' is damaged: remove it, or write such as {{\"iterations\": 5}}")
        budget: dict[str, Any] = found
        return budget

    @property
    def champion(self) -> dict[str, Any] | None:
        """What `champion.json` says: iteration, score, and what the score is. Raises RunError if it is damaged."""
        path = self.folder / "champion.json"
        found: Any = self.read(path)
        whole = isinstance(found, dict) and isinstance(found.get("iteration"), int) and {"score", "by"} <= found.keys()
        if found is not None and not whole:
            raise RunError(f"'{path}' is damaged: remove it, and the next promotion writes it anew")
        champion: dict[str, Any] | None = found
        return champion

    def crown(self, iteration: int, score: float | None, by: str) -> None:
        """Make an iteration's bundle the champion."""
        self.write(self.folder / "champion.json", {"iteration": iteration, "score": score, "by": by})
        self.point_at(iteration)

    def point_at(self, iteration: int) -> None:
        """Let the link `champion` lead to an iteration's bundle."""
        link = self.folder / ".champion.partial"
        link.unlink(missing_ok=True)
        bundle = self.bundle(iteration) or self.plain_bundle(iteration)
        link.symlink_to(bundle.relative_to(self.folder))
        os.replace(link, self.folder / "champion")

    def judge_by(self, positions: int) -> None:
        """Judge by no more positions than so many, in this session and all others; what was decided first holds."""
        path = self.folder / "sizes.json"
        if not path.exists():
            self.write(path, {"positions": positions})
            self.recipe = replace(self.recipe, positions=min(positions, self.recipe.positions))

    def lengths(self, *, timed: bool = False) -> Lengths:
        """How long games are, and what a step of the rules takes: found out once, so that every session of the run goes
        by the same. timed: whether finding out may take no longer than a second, as a run by minutes wants it."""
        path = self.folder / "lengths.json"
        found = self.read(path)
        if found is None:
            found = asdict(lengths_of(self.domain, seed=self.config.seed, seconds=TIMED_SECONDS if timed else None))
            self.write(path, found)
        try:
            return Lengths(**found)
        except TypeError:
            raise RunError(f"'{path}' is damaged: remove it, and games are timed again") from None

    def positions(self, on_solved: OnSolved | None = None) -> ExactPositions | None:
        """What the run is judged by; None where nothing is known exactly."""
        if exact_solver(self.domain) is None:
            return None
        # Not the seed of any experience.
        seed = int(np.random.default_rng((self.config.seed, 0xE7A1)).integers(2**31))
        return open_positions(
            self.domain,
            count=self.recipe.positions,
            seed=seed,
            folder=self.folder / "evaluation",
            on_progress=on_solved,
        )

    def excluded(self) -> list[ExactPositions]:
        """Positions that nothing may be learned from. Where a solver lists every position there is, judging by all of
        them leaves none out: they are the game."""
        found = [read_positions(Path(path), self.domain, scored=False) for path in self.config.exclude]
        judged = self.positions()
        if judged is not None and judged.seed is not None:
            found.append(judged)
        return found

    def elsewhere(self) -> list[ExperienceStore]:
        """The other stores that are learned from. Raises SettingsError if one is not there."""
        if self._elsewhere is None:
            self._elsewhere = [_store_elsewhere(Path(folder), self.domain) for folder in self.config.experience]
        return self._elsewhere

    def note_endless(self, lengths: Lengths) -> None:
        """Keep, to tell of it once, that no random game of the domain ended, so that games are cut."""
        self._notes.append(
            f"none of the random games of '{self.domain.name}' ended: games are cut after {lengths.limit} actions, and "
            "a network learns from what it thinks of the position there (see `escalade domains check`)"
        )

    def note_contradictions(self, rows: Rows) -> None:
        """Keep what is known of contradictory labels in the experience, as contradictory_labels.json, and what there is
        to tell of them. Told again only where it has changed."""
        from escalade.training.contradictions import contradictions_of_rows

        path = self.folder / "contradictory_labels.json"
        found = contradictions_of_rows(self.domain, rows)
        known = self.read(path)
        if (found.rows or known is not None) and found.plain() != known:
            self.write(path, found.plain())
            if found.contradictory_states:
                self._notes.append(f"experience: {found}")

    def tell_problems(self, tell: Tell) -> None:
        """Tell of shards that were found damaged or gone, in its stores as far as they were read, and of contradictory
        labels; of each once."""
        for note in self._notes:
            tell({"event": "problem", "text": note})
        self._notes.clear()
        for store in (self.store, *(self._elsewhere or ())):
            for problem in store.problems:
                if problem not in self._told:
                    self._told.add(problem)
                    tell({"event": "problem", "text": f"'{store.folder}': {problem}"})

    def log(self) -> None:
        """Write metrics.jsonl anew from what the iterations have left."""
        lines: list[dict[str, Any]] = []
        for folder in sorted((self.folder / "iterations").glob("[0-9]*")):
            number = {"iteration": int(folder.name)}
            for name in ("fit", "evaluation", "strength", "promotion"):
                found = self.read(folder / f"{name}.json") or {}
                for line in found.get("lines", []):
                    lines.append({**number, "kind": name, **line})
        text = "".join(json.dumps(line) + "\n" for line in lines).encode()
        write_whole(self.folder / "metrics.jsonl", lambda file: file.write(text))


def _bundle_of(iteration: int) -> Path:
    return Path("iterations", f"{iteration:04d}", "bundle")


def _check(config: RunConfig) -> None:
    """Raises SettingsError for what would otherwise fail later, when the run has begun."""
    domain = load_domain(config.domain, config.options or None)
    if config.recipe.games and not domain.has_simulator:
        raise SettingsError(
            f"domain '{config.domain}' has no simulator, so there is no self-play: set games to 0 in the recipe"
        )
    if not domain.has_simulator and not config.experience:
        raise SettingsError(
            f"domain '{config.domain}' has no simulator, so that it learns from other stores alone: name one as "
            "experience (--experience FOLDER)"
        )
    spec = config.recipe.spec(domain)
    if config.start is not None:
        from escalade.neural.bundle import read_bundle
        from escalade.training.start import check_start

        check_start(read_bundle(bundle_folder(config.start), domain).network.spec, spec)
    for path in config.exclude:
        read_positions(Path(path), domain, scored=False)
    for folder in config.experience:
        _store_elsewhere(Path(folder), domain)


def _store_elsewhere(folder: Path, domain: Domain[Any]) -> ExperienceStore:
    if not (folder / "shards").is_dir():
        inner = folder / domain.name
        hint = f": give '{inner}'" if (inner / "shards").is_dir() else ""
        raise SettingsError(f"experience: '{folder}' is no experience store{hint}")
    return ExperienceStore(folder, domain)


_held: dict[Path, int] = {}
_holding = threading.Lock()


def hold(folder: Path) -> None:
    """Keep other processes from training in a folder, until this one ends or lets go. Raises RunError if one does."""
    with _holding:
        path = folder.resolve()
        if path in _held:
            return
        descriptor = os.open(path / "run.lock", os.O_RDWR | os.O_CREAT, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            raise RunError(
                f"another process is training in '{folder}': wait for it, or choose another folder"
            ) from None
        _held[path] = descriptor


def let_go(folder: Path) -> None:
    """Let other processes train there."""
    with _holding:
        descriptor = _held.pop(folder.resolve(), None)
        if descriptor is not None:
            os.close(descriptor)
