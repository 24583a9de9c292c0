"""From the options of `escalade train` to a run and what works for it."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from escalade.app.settings import read_settings
from escalade.domains.errors import EscaladeError, SettingsError
from escalade.neural.files import write_whole
from escalade.neural.sources import BUILTIN, REGISTERED

if TYPE_CHECKING:
    from escalade.graph.training import TrainingResources
    from escalade.training.run import Run
    from escalade.training.tracking import Tracker


@contextmanager
def only_if_begun(folder: Path) -> Iterator[None]:
    """Leave no folder of a new run that is refused before it has begun."""
    fresh = not folder.exists()
    try:
        yield
    except EscaladeError:
        if fresh and not (folder / "run.json").exists():
            shutil.rmtree(folder, ignore_errors=True)
        raise


def remember(
    folder: Path,
    domain: str,
    recipe: str,
    minutes: float | None,
    iterations: int | None,
    seed: int,
    exclude: list[Path] | None,
    experience: list[Path] | None,
    start: str | None,
) -> None:
    """Keep the command that trains it, for its model card; files by their names alone."""
    words = ["escalade", "train", domain]
    given = {"--recipe": recipe, "--minutes": minutes, "--iterations": iterations, "--seed": seed or None}
    if start is not None:
        given["--start"] = start if start.startswith((BUILTIN, REGISTERED)) else Path(start).name
    for name, value in given.items():
        if value is not None and value != "default":
            words += [name, str(value)]
    for name, paths in (("--exclude", exclude), ("--experience", experience)):
        for path in paths or ():
            words += [name, path.name]
    document = json.dumps({"command": " ".join(words)}).encode()
    write_whole(folder / "command.json", lambda file: file.write(document))


def start_of(bundle: str | None) -> str | None:
    """What a run is told to begin with: a builtin bundle by its name, any other by its folder."""
    from escalade.app.wiring import registered_folder

    if bundle is None or bundle.startswith(BUILTIN):
        return bundle
    return str(Path(registered_folder(bundle, read_settings())).absolute())


def plots(folder: Path, result: dict[str, Any]) -> list[Path]:
    """Drawings of the run, if there is something to draw and something to draw with."""
    from escalade.training.run import Run
    from escalade.training.run_plots import write_run_plots

    try:
        return write_run_plots(Run.open(folder), result.get("history") or [])
    except SettingsError:
        return []


def contradictory_labels(folder: Path) -> dict[str, Any] | None:
    """What a run found of labels that contradict each other; None where it learned from no labels."""
    from escalade.training.run import Run

    found: dict[str, Any] | None = Run.open(folder, alone=False).read(folder / "contradictory_labels.json")
    return found


def import_drawing() -> None:
    """Import what the drawings at the end need while the collectors work and this process only waits."""

    def work() -> None:
        with suppress(Exception):  # `plots` does without it, or says what is wrong
            from escalade.training.drawing import new_figure

            new_figure((1.0, 1.0)).subplots().set(title="fonts")

    threading.Thread(target=work, daemon=True, name="escalade-import-drawing").start()


def where(root: Path, resume: str | None, run: str | None, domain: str) -> tuple[Path, str, Run | None]:
    """The folder of runs, the name of this one, and the run itself if it is an old one."""
    from escalade.training.run import Run, RunError

    if resume is None:
        name = run or f"{domain.replace(':', '.')}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
        if (root / name / "run.json").exists():
            raise SettingsError(f"--run: there is a run '{name}' already: --resume it, or choose another name")
        return root, name, None
    if run is not None:
        raise SettingsError("--run names a new run, --resume an old one: give one of them")
    folder = Path(resume) if (Path(resume) / "run.json").exists() else root / resume
    if not (folder / "run.json").exists():
        if (root / resume).is_dir():
            raise RunError(f"--resume: run '{resume}' was ended before it had begun: give its first command again")
        raise RunError(f"--resume: there is no run '{resume}', here or in '{root}'")
    folder = folder.absolute()
    return folder.parent, folder.name, Run.open(folder)


def same(old: Run, domain: str, given: dict[str, Any]) -> None:
    """Raises SettingsError naming the option that would make an old run another one."""
    if old.config.domain != domain:
        raise SettingsError(f"--resume: '{old.name}' learns {old.config.domain}, not {domain}")
    defaults = {"recipe": "default", "seed": 0, "options": {}, "experience": [], "exclude": [], "start": None}
    for name, default in defaults.items():
        if given[name] != default:
            option = "option" if name == "options" else name
            raise SettingsError(f"--{option}: '{old.name}' has its own already")


def go_on(old: Run, state: Any, minutes: float | None, iterations: int | None, register: bool) -> dict[str, Any] | None:
    """What to start with: nothing where steps are waiting to be done. Another budget is written down first. A finished
    run may still be registered."""
    from escalade.graph.training import stopped_on_the_way

    if minutes is not None or iterations is not None:
        old.write(old.folder / "budget.json", {"minutes": minutes, "iterations": iterations})
    if stopped_on_the_way(state):
        return None
    if state.values and minutes is None and iterations is None and not register:
        raise SettingsError(f"run '{old.name}' is finished: give --iterations or --minutes, of the whole run, to go on")
    return {"domain": old.config.domain, "run": old.name}


def resources(
    stack: ExitStack,
    folder: Path,
    domain: str,
    given: dict[str, Any],
    old: Run | None,
    processes: int | None,
    fit_processes: int,
    ray: str | None,
    queue: bool,
    register: bool,
) -> TrainingResources:
    """What the training graph works with: who collects (this process, `processes` of them here or at Ray's address, or
    whoever takes tasks from the queue), how many fit together, and whether champions are registered. What is opened for
    it closes with the stack."""
    from escalade.domains.base import array_domain
    from escalade.domains.catalog import load_domain
    from escalade.domains.evaluator import usable_cores
    from escalade.graph.training import TrainingResources
    from escalade.search.solvers import exact_solver
    from escalade.training.collect import cores_each
    from escalade.training.distributed import fit_in
    from escalade.training.recipe import recipe_from
    from escalade.training.task_queue import Queue
    from escalade.training.workers import InProcess, Processes, RayActors, Workers

    loaded = old.domain if old is not None else load_domain(domain, given["options"] or None)
    chosen = old.recipe if old is not None else recipe_from(given["recipe"], loaded)
    by_minutes = given["minutes"] or (old is not None and old.budget.get("minutes"))
    # Python rules hold the interpreter's lock: more cores are more processes, which take seconds to start.
    plain = loaded.has_simulator and array_domain(loaded) is None and by_minutes
    if processes is None:
        processes = usable_cores() if plain or (chosen.families and exact_solver(loaded) is not None) else 1
    workers: Workers
    if queue:
        workers = Queue(folder / "queue")
    elif ray is not None:
        workers = RayActors(processes, None if ray == "local" else ray)
    else:
        workers = InProcess() if processes == 1 else Processes(processes)
        if isinstance(workers, Processes):
            workers.warm(domain, given["options"] or None)
    stack.callback(workers.close)
    extra: dict[str, Any] = {} if fit_processes == 1 else {"fit": fit_in(fit_processes)}
    if register:
        extra["register"] = _registrar()
    cores = 1 if ray is not None else None if processes == 1 or queue else cores_each(processes)
    return TrainingResources(root=folder.parent, workers=workers, parallel=processes, cores=cores, **extra)


def _registrar() -> Any:
    """Tells the registry of a run's champion; a run told twice is one version. It serves if nobody did, or if it is
    no worse than who does; else it stays challenger. Which of them it was is said on stderr."""
    from rich.console import Console
    from rich.markup import escape

    from escalade.domains.errors import BundleError, RegistryError
    from escalade.training.judge import Comparison, compare
    from escalade.training.mlflow_store import is_installed
    from escalade.training.registry import CHALLENGER, CHAMPION, SCHEME, Registry

    registry = Registry(read_settings().registry)
    if not is_installed():  # it would be found out only when all is learned
        raise SettingsError("--register needs MLflow: pip install 'escalade[train]'")

    def say(what: str) -> None:
        Console(stderr=True).print(f"registry: {escape(what)}", highlight=False, soft_wrap=True)

    def tell(run: Run, champion: dict[str, Any]) -> None:
        folder = run.bundle(champion["iteration"])
        assert folder is not None
        line = (run.read(run.iteration(champion["iteration"]) / "evaluation.json") or {}).get("lines", [{}])[0]
        metrics = {name: float(figure) for name, figure in line.items() if isinstance(figure, int | float)}
        parameters = {"seed": str(run.config.seed), "iteration": str(champion["iteration"])}
        version = registry.register(folder, run_name=run.name, parameters=parameters, metrics=metrics)
        name = run.domain.name
        who, serving = f"{name} version {version}", registry.alias(name, CHAMPION)
        if serving == version:
            say(f"{who} is the champion already")
            return
        registry.set_alias(name, CHALLENGER, version)
        if serving is None:
            registry.promote(name, version)
            say(f"{who} is the first champion")
            return
        say(f"{who} is compared with the champion, version {serving}")
        try:
            found = compare(run, folder, registry.folder(f"{SCHEME}{name}/{serving}"))
        except (BundleError, RegistryError) as error:  # of a champion from another time, maybe for other actions
            found = Comparison(False, f"they cannot be compared: {error}")
        if found.better:
            registry.promote(name, version)
            say(f"{who} is the champion now, in place of version {serving}: {found.why}")
        else:
            say(
                f"{who} stays challenger, version {serving} champion: {found.why}; "
                f"`escalade models promote {name} {version}` promotes it all the same"
            )

    return tell


def trackers(stack: ExitStack, kinds: list[str] | None, folder: Path, given: dict[str, Any]) -> list[Tracker]:
    """What hears of the figures besides metrics.jsonl."""
    from escalade.training.tracking import open_tracker

    parameters = {"domain": str(given["domain"]), "seed": str(given["seed"]), "recipe": json.dumps(given["recipe"])}
    found = []
    for kind in dict.fromkeys(kinds or ()):
        found.append(open_tracker(kind, folder, parameters, read_settings().registry))
        stack.callback(found[-1].close)
    return found
