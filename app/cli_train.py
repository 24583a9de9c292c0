"""`escalade train`: the training graph with a live view. Stopped at any point, it goes on with --resume."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import ExitStack
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from escalade.app.cli_options import DomainOptions, JsonOption, domain_options
from escalade.app.settings import read_settings
from escalade.domains.errors import SettingsError

if TYPE_CHECKING:
    from escalade.graph.training import TrainingResources
    from escalade.training.run import Run

STOPPED = 130
"""Exit code after Ctrl-C, as shells have it."""


def train(
    domain: Annotated[str, typer.Argument(metavar="DOMAIN", help="A name from `escalade domains`, or module:Class.")],
    minutes: Annotated[float | None, typer.Option(min=0.01, help="How long it may take, about.")] = None,
    iterations: Annotated[int | None, typer.Option(min=1, help="How many in all.", show_default="the recipe's")] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Go on with this run: a name under --root, or a folder.")
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(min=1, help="Collectors at once; 1 is in this process.", show_default="cores, if a solver labels"),
    ] = None,
    fit_processes: Annotated[int, typer.Option(min=1, help="Processes that share a fit (torchrun).")] = 1,
    ray: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Collect on this Ray cluster; 'local' begins one here.")
    ] = None,
    queue: Annotated[
        bool, typer.Option("--queue", help="Wait for collectors elsewhere: `escalade collect RUN_FOLDER`.")
    ] = False,
    recipe: Annotated[
        str, typer.Option(metavar="NAME|FILE", help="How to train: a name, or a JSON file in full.")
    ] = "default",
    seed: Annotated[int, typer.Option(min=0, help="Source of all chance.")] = 0,
    run: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the new run.", show_default="DOMAIN-TIME")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder of all runs.", show_default="out/train")
    ] = None,
    experience: Annotated[
        list[Path] | None, typer.Option(metavar="FOLDER", help="Learn from this store too; repeatable.")
    ] = None,
    exclude: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Never learn from the positions of this CSV; repeatable."),
    ] = None,
    register: Annotated[
        bool, typer.Option("--register/--no-register", help="Tell the model registry of the champion.")
    ] = False,
    option: DomainOptions = None,
    as_json: JsonOption = False,
) -> None:
    """Learn a domain: collect, fit, evaluate, promote, again and again.

    Everything lies in FOLDER/RUN; `champion` there is the best bundle so far.
    """
    from langgraph.checkpoint.sqlite import SqliteSaver

    from escalade.app.train_view import open_view
    from escalade.graph.training import build_training_graph
    from escalade.training.run import let_go

    given: dict[str, Any] = {
        "domain": domain,
        "minutes": minutes,
        "iterations": iterations,
        "recipe": _recipe(recipe),
        "seed": seed,
        "options": domain_options(option),
        "experience": [str(folder.absolute()) for folder in experience or ()],
        "exclude": [str(file.absolute()) for file in exclude or ()],
    }
    if queue and ray is not None:
        raise SettingsError("--queue and --ray: collectors are in one place")
    if minutes is not None and iterations is not None:
        raise SettingsError("--minutes and --iterations: give one of them")
    root, name, old = _where(root or read_settings().runs, resume, run, domain)
    if old is not None:
        _same(old, domain, given)
    folder = root / name
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        resources = _resources(stack, folder, domain, given, old, processes, fit_processes, ray, queue, register)
        saver = SqliteSaver(sqlite3.connect(folder / "graph.sqlite", check_same_thread=False))
        stack.callback(saver.conn.close)
        stack.callback(let_go, folder)
        graph = build_training_graph(resources, checkpointer=saver)
        config: Any = {"configurable": {"thread_id": name}, "recursion_limit": 1_000_000}
        state = graph.get_state(config)
        start: dict[str, Any] | None = {**given, "run": name}
        if old is not None:
            start = _go_on(old, state, minutes, iterations)
        view = stack.enter_context(open_view(name, Console(stderr=True), minutes, old, state.values))
        try:
            for event in graph.stream(start, config, stream_mode="custom", durability="sync"):
                view.hear(event)
        except KeyboardInterrupt:
            view.close()
            Console(stderr=True, soft_wrap=True).print(
                f"stopped; go on with: escalade train {escape(domain)} --resume {escape(str(folder))}", highlight=False
            )
            os._exit(STOPPED)  # collectors would be waited for; nothing is lost, whenever it ends
        result = graph.get_state(config).values
    if as_json:
        shown = {name: result.get(name) for name in ("run", "iteration", "seconds", "history", "champion")}
        typer.echo(json.dumps({**shown, "folder": str(folder), "bundle": str(folder / "champion")}))
        return
    _summary(result, folder)


def _recipe(recipe: str) -> str | dict[str, Any]:
    """The name of a recipe, or what a file says."""
    if not recipe.endswith(".json"):
        return recipe
    try:
        document = json.loads(Path(recipe).read_bytes())
    except OSError as error:
        raise SettingsError(f"--recipe: '{recipe}' cannot be read: {error.strerror or error}") from None
    except ValueError as error:
        raise SettingsError(f"--recipe: '{recipe}' is not valid JSON: {error}") from None
    if not isinstance(document, dict):
        raise SettingsError(f"--recipe: '{recipe}' is not a JSON object")
    return document


def _where(root: Path, resume: str | None, run: str | None, domain: str) -> tuple[Path, str, Run | None]:
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
        raise RunError(f"--resume: there is no run '{resume}', here or in '{root}'")
    folder = folder.absolute()
    return folder.parent, folder.name, Run.open(folder)


def _same(old: Run, domain: str, given: dict[str, Any]) -> None:
    if old.config.domain != domain:
        raise SettingsError(f"--resume: '{old.name}' learns {old.config.domain}, not {domain}")
    defaults = {"recipe": "default", "seed": 0, "options": {}, "experience": [], "exclude": []}
    for name, default in defaults.items():
        if given[name] != default:
            raise SettingsError(
                f"--{name.rstrip('s') if name == 'options' else name}: '{old.name}' has its own already"
            )


def _go_on(old: Run, state: Any, minutes: float | None, iterations: int | None) -> dict[str, Any] | None:
    """What to start with: nothing where steps are waiting to be done. Another budget is written down first."""
    if minutes is not None or iterations is not None:
        old.write(old.folder / "budget.json", {"minutes": minutes, "iterations": iterations})
    if state.next:
        return None
    if state.values and minutes is None and iterations is None:
        raise SettingsError(f"run '{old.name}' is finished: give --iterations or --minutes, of the whole run, to go on")
    return {"domain": old.config.domain, "run": old.name}


def _resources(
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
    from escalade.domains.catalog import load_domain
    from escalade.domains.evaluator import usable_cores
    from escalade.graph.training import TrainingResources
    from escalade.search.solvers import exact_solver
    from escalade.training.collect import cores_each
    from escalade.training.distributed import fit_in
    from escalade.training.recipe import Recipe, recipe_for
    from escalade.training.task_queue import Queue
    from escalade.training.workers import InProcess, Processes, RayActors, Workers

    loaded = load_domain(domain, given["options"] or None)
    named = given["recipe"]
    if old is not None:
        chosen = old.recipe
    else:
        chosen = Recipe.of(named) if isinstance(named, dict) else recipe_for(loaded, named)
    if processes is None:
        processes = usable_cores() if chosen.families and exact_solver(loaded) is not None else 1
    workers: Workers
    if queue:
        workers = Queue(folder / "queue")
    elif ray is not None:
        workers = RayActors(processes, None if ray == "local" else ray)
    else:
        workers = InProcess() if processes == 1 else Processes(processes)
    stack.callback(workers.close)
    extra: dict[str, Any] = {} if fit_processes == 1 else {"fit": fit_in(fit_processes)}
    if register:
        extra["register"] = _registrar()
    cores = 1 if ray is not None else None if processes == 1 or queue else cores_each(processes)
    return TrainingResources(root=folder.parent, workers=workers, parallel=processes, cores=cores, **extra)


def _registrar() -> Any:
    """Tells the registry of a run's champion; a run told twice is one version."""
    from escalade.training.registry import Registry

    registry = Registry(read_settings().registry)

    def tell(run: Run, champion: dict[str, Any]) -> None:
        folder = run.bundle(champion["iteration"])
        assert folder is not None
        line = (run.read(run.iteration(champion["iteration"]) / "evaluation.json") or {}).get("lines", [{}])[0]
        metrics = {name: float(figure) for name, figure in line.items() if isinstance(figure, int | float)}
        parameters = {"seed": str(run.config.seed), "iteration": str(champion["iteration"])}
        version = registry.register(folder, run_name=run.name, parameters=parameters, metrics=metrics)
        registry.promote(run.domain.name, version)

    return tell


def _summary(result: dict[str, Any], folder: Path) -> None:
    champion = result.get("champion")
    console = Console(soft_wrap=True)
    if champion is None:
        console.print(f"no iteration was finished; see {escape(str(folder))}", highlight=False)
        return
    line = next(one for one in result["history"] if one["iteration"] == champion["iteration"])
    figures = [
        f"{name.removeprefix('optimal_')} simulations {share:.2%}" if name != "optimal_0" else f"alone {share:.2%}"
        for name, share in line.items()
        if name.startswith("optimal_") and name.removeprefix("optimal_").isdigit() and share is not None
    ]
    judged = f": optimal moves {', '.join(figures)} (n={line['count']})" if figures else ""
    console.print(
        f"champion: iteration {champion['iteration']}{judged}\n{escape(str(folder / 'champion'))}", highlight=False
    )
