"""`escalade train`: the training graph with a live view. Stopped at any point, it goes on with --resume."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from escalade.app.cli_options import DomainOptions, JsonOption, domain_options
from escalade.app.process_age import process_age
from escalade.app.recipe_file import recipe_option
from escalade.app.settings import read_settings
from escalade.app.train_setup import (
    contradictory_labels,
    go_on,
    import_drawing,
    only_if_begun,
    plots,
    remember,
    resources,
    same,
    start_of,
    trackers,
    where,
)
from escalade.domains.errors import SettingsError
from escalade.neural.files import write_whole

STOPPED = 130
"""Exit code after Ctrl-C, as shells have it."""


def train(
    domain: Annotated[
        str, typer.Argument(metavar="DOMAIN", help="Name of a domain (see `escalade domains`), or module:Class.")
    ],
    minutes: Annotated[
        float | None, typer.Option(min=0.01, help="Time limit, in minutes; rounds are sized to it.")
    ] = None,
    iterations: Annotated[
        int | None, typer.Option(min=1, help="Total number of iterations.", show_default="the recipe's")
    ] = None,
    resume: Annotated[
        str | None, typer.Option(metavar="RUN", help="Resume this run: a name under --root, or a folder.")
    ] = None,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Number of collector processes; 1 collects in this process.",
            show_default="cores, if a solver labels, or for Python rules with --minutes",
        ),
    ] = None,
    fit_processes: Annotated[
        int, typer.Option(min=1, help="Number of processes for distributed fitting (torchrun).")
    ] = 1,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Collect on this Ray cluster; 'local' starts one on this machine."),
    ] = None,
    queue: Annotated[
        bool, typer.Option("--queue", help="Wait for collectors on other machines: `escalade collect RUN_FOLDER`.")
    ] = False,
    recipe: Annotated[
        str,
        typer.Option(
            metavar="NAME|FILE",
            help="Training recipe: a name, or a JSON file of what differs from its `base`, another one.",
        ),
    ] = "default",
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Random seed.")] = 0,
    run: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the new run.", show_default="DOMAIN-TIME")
    ] = None,
    root: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Folder of all runs.", show_default="out/train")
    ] = None,
    experience: Annotated[
        list[Path] | None,
        typer.Option(metavar="FOLDER", help="Also learn from this experience store; may be repeated."),
    ] = None,
    exclude: Annotated[
        list[Path] | None,
        typer.Option(metavar="FILE", help="Table of positions to hold out from training; may be repeated."),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="BUNDLE",
            help="Model bundle to start from: a folder, builtin:NAME or models:/NAME@ALIAS.",
            show_default="random weights",
        ),
    ] = None,
    register: Annotated[
        bool, typer.Option("--register/--no-register", help="Register the champion in the model registry.")
    ] = False,
    track: Annotated[
        list[str] | None,
        typer.Option(metavar="mlflow|wandb", help="Also log the metrics to this tracker; may be repeated."),
    ] = None,
    option: DomainOptions = None,
    as_json: JsonOption = False,
) -> None:
    """Train networks for a domain: iterations of collect, fit, evaluate, promote.

    All files are in FOLDER/RUN; its folder `champion` is the best bundle so far.
    """
    began = time.monotonic() - process_age()  # importing counts

    from langgraph.checkpoint.sqlite import SqliteSaver

    from escalade.app.compiling import announce_compiling

    announce_compiling()
    from escalade.app.train_view import open_view
    from escalade.graph.training import build_training_graph
    from escalade.training.clock import clock_of
    from escalade.training.run import let_go

    given: dict[str, Any] = {
        "domain": domain,
        "minutes": minutes,
        "iterations": iterations,
        "recipe": recipe_option(recipe),
        "seed": seed,
        "options": domain_options(option),
        "experience": [str(folder.absolute()) for folder in experience or ()],
        "exclude": [str(file.absolute()) for file in exclude or ()],
        "start": start_of(start),
    }
    if queue and ray is not None:
        raise SettingsError("--queue and --ray: collectors are in one place")
    if minutes is not None and iterations is not None:
        raise SettingsError("--minutes and --iterations: give one of them")
    root, name, old = where(root or read_settings().runs, resume, run, domain)
    if old is not None:
        same(old, domain, given)
    folder = root / name
    with ExitStack() as stack:
        stack.enter_context(only_if_begun(folder))
        wired = resources(stack, folder, domain, given, old, processes, fit_processes, ray, queue, register)
        folder.mkdir(parents=True, exist_ok=True)
        clock_of(folder, began=began)
        if old is None:
            remember(folder, domain, recipe, minutes, iterations, seed, exclude, experience, start)
        run_file = folder / "collectors.json"
        write_whole(run_file, lambda file: file.write(json.dumps({"parallel": wired.parallel}).encode()))
        saver = SqliteSaver(sqlite3.connect(folder / "graph.sqlite", check_same_thread=False))
        stack.callback(saver.conn.close)
        stack.callback(let_go, folder)
        graph = build_training_graph(wired, checkpointer=saver)
        config: Any = {"configurable": {"thread_id": name}, "recursion_limit": 1_000_000}
        state = graph.get_state(config)
        first: dict[str, Any] | None = {**given, "run": name}
        if old is not None:
            first = go_on(old, state, minutes, iterations, register)
        if queue:
            told = f"waiting for collectors that see this folder: escalade collect {escape(str(folder))}"
            Console(stderr=True, soft_wrap=True).print(told, highlight=False)
        worked = clock_of(folder).seconds
        view = stack.enter_context(
            open_view(name, Console(stderr=True), minutes, old, state.values, worked=worked, began=began)
        )

        def stop(*_: object) -> None:
            view.close()
            Console(stderr=True, soft_wrap=True).print(
                f"stopped; go on with: escalade train {escape(domain)} --resume {escape(str(folder))}", highlight=False
            )
            os._exit(STOPPED)  # an exception would wait for the collectors; nothing is lost, whenever it ends

        signal.signal(signal.SIGINT, stop)
        import_drawing()
        listeners: list[Any] = [view, *trackers(stack, track, folder, given)]
        for event in graph.stream(first, config, stream_mode="custom", durability="sync"):
            for listener in listeners:
                listener.hear(event)
        result = graph.get_state(config).values
        drawn = plots(folder, result)
    if as_json:
        shown = {name: result.get(name) for name in ("run", "iteration", "seconds", "history", "champion")}
        shown["contradictory_labels"] = contradictory_labels(folder)
        typer.echo(json.dumps({**shown, "folder": str(folder), "bundle": str(folder / "champion")}))
        return
    _summary(result, folder, drawn)


def _summary(result: dict[str, Any], folder: Path, plots: list[Path]) -> None:
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
    if line.get("by") == "validation":
        from escalade.app.train_view import held_out_words

        judged = f": {', '.join(held_out_words(line))}"
    console.print(
        f"champion: iteration {champion['iteration']}{judged}\n{escape(str(folder / 'champion'))}", highlight=False
    )
    if plots:
        console.print(f"[dim]{escape(', '.join(str(path) for path in plots))}[/]", highlight=False)
