"""The first steps of an iteration, each a function of a run's folder: what to collect, and the fit
(`escalade.training.judge` has the others).

A step that was done leaves a file that says so, and is not done twice; one that was stopped on the way is done again
and leaves the same.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from escalade.domains.errors import SettingsError
from escalade.neural.bundle import halved, read_bundle, write_bundle
from escalade.search.solvers import exact_solver
from escalade.training.budget import sized
from escalade.training.collect import CollectTask
from escalade.training.learner import Learner, Pass
from escalade.training.recipe import Recipe
from escalade.training.run import Run, Tell, silent
from escalade.training.run_window import taught_by, window
from escalade.training.validation import Validation

STRIDE = 1_000_000
"""Numbers of games that an iteration of a run by minutes may use."""

# Collect


def tasks(
    run: Run,
    iteration: int,
    *,
    last: bool,
    cores: int | None = None,
    seconds: float | None = None,
    workers: int = 1,
    pace: Mapping[str, float] | None = None,
) -> list[dict[str, Any]]:
    """What an iteration's collectors are to do, each piece as `CollectTask.plain` gives it, but for its root: the
    run's folder, wherever that is by then. Nothing, where the recipe wants no games and no families and the run learns
    from other stores alone. Raises SettingsError if it has none.

    seconds: of a run by minutes, what so many workers have for it; pace: seconds a game or a family, by source
    (`escalade.training.budget`).
    """
    recipe, config = run.recipe, run.config
    bundle = run.bundle(iteration - 1)
    self_play, endless = recipe.self_play, False
    if recipe.games:
        lengths = run.lengths()
        # Random games that do not end show nothing; a search at least learns from itself.
        self_play, endless = self_play.of(lengths), not lengths.mean
        if endless and iteration == 1:
            run.note_endless(lengths)
    common = CollectTask(
        source="self_play",
        domain=config.domain,
        options=config.options,
        folder=str(run.store.shards_folder.relative_to(run.folder)),
        shard="",
        first=0,
        count=0,
        seed=config.seed,
        run=run.name,
        bundle=None if bundle is None else str(bundle.relative_to(run.folder)),
        cores=cores,
        untaught="uniform" if recipe.untaught == "random" and endless else recipe.untaught,
        self_play=self_play,
        solved=recipe.solved,
        solve_games=recipe.solve_games and exact_solver(run.domain) is not None,
        search=recipe.relabel,
    )
    pieces = [("self_play", recipe.games, recipe.games_a_task)]
    if exact_solver(run.domain) is not None:
        pieces.append(("solver", recipe.families, recipe.families_a_task))
        pieces.append(("sparring", recipe.sparring, recipe.sparring_a_task))
        if recipe.solved.openings and iteration == 1:
            pieces.append(("openings", 1, 1))
    found: list[CollectTask] = []
    if seconds is not None:
        kinds = [
            (dataclasses.replace(common, source=source, first=(iteration - 1) * max(count, STRIDE)), count)  # type: ignore[arg-type]
            for source, count, _ in pieces
            if count
        ]
        for task, number in sized(kinds, seconds, workers, pace or {}):
            found.append(dataclasses.replace(task, shard=f"{iteration:06d}-{task.source}-{number:04d}"))
        pieces = []
    for source, count, each in pieces:
        first = (iteration - 1) * count
        for start in range(0, count, each):
            shard = f"{iteration:06d}-{source}-{start // each:04d}"
            size = min(each, count - start)
            found.append(
                dataclasses.replace(common, source=source, shard=shard, first=first + start, count=size)  # type: ignore[arg-type]
            )
    if last and recipe.relabelled and bundle is not None:
        left = recipe.relabelled
        for entry in reversed(run.store.entries):
            if left > 0 and "-self_play-" in entry.name and not entry.name.startswith(f"{iteration:06d}"):
                name = Path(entry.name).stem
                piece = dataclasses.replace(
                    common, source="search", relabel=name, shard=f"{name}-search", first=0, count=min(entry.rows, left)
                )
                piece = dataclasses.replace(piece, seconds=seconds)
                found.append(piece)
                left -= piece.count
    if not found and not config.experience:
        raise SettingsError(
            f"the recipe collects nothing for {config.domain} (games {recipe.games}; families {recipe.families}, which "
            "need an exact solver), and no other experience is given: there would be nothing to learn from"
        )
    return [task.plain() for task in found]


# Fit


def share_of_work(recipe: Recipe, iteration: int, iterations: int) -> float:
    """How much of all fitting of a run is done after an iteration, from 0 to 1, if every iteration collects as much as
    the others: the passes of each are over all that was collected before."""
    work = [number * recipe.passes for number in range(1, iterations)] + [iterations * recipe.last_passes]
    return sum(work[:iteration]) / sum(work)


def training_device() -> str:
    """A GPU if there is one, this process's own where several share the work."""
    import torch

    return f"cuda:{torch.cuda.current_device()}" if torch.cuda.is_available() else "cpu"


def fit(
    run: Run,
    iteration: int,
    span: tuple[float, float],
    *,
    last: bool,
    seconds: float | None = None,
    tell: Tell = silent,
) -> dict[str, Any]:
    """Fit the network to the window and leave the iteration's bundle. span: how far the run is, from 0 to 1, when this
    begins and ends; the learning rate follows. Returns what fit.json says.

    seconds: after so many it ends, though not before the network has learned for half as long. None: after its passes.

    In several processes (torchrun) all call this, and the first one writes.
    """
    from torch import distributed

    folder = run.iteration(iteration)
    done: dict[str, Any] | None = run.read(folder / "fit.json")
    if done is not None and run.bundle(iteration) is not None:
        return done
    began = time.perf_counter()
    writes = not distributed.is_initialized() or distributed.get_rank() == 0
    spec, seed, first = run.recipe.spec(run.domain), run.config.seed, run.bundle(0)
    start = None if first is None or iteration > 1 else read_bundle(first, run.domain).network
    learner = Learner(spec, run.recipe.learner, seed=seed, device=training_device(), start=start)
    if iteration > 1:
        learner.load(run.iteration(iteration - 1) / "learner.safetensors")
    found = window(run, iteration, learner.averaged)  # TD(0) asks it as it was before the fit
    learned, held = found.learned, found.held
    if found.kept and iteration == 1:
        text = f"{found.kept:,} rows of --experience teach nothing: `escalade certify` can prove by them (window.proof)"
        tell({"event": "note", "text": text})
    run.tell_problems(tell)
    partial = folder / "partial.safetensors"
    state: dict[str, Any] = {"lines": [], "best": None, "seconds": 0.0}
    if partial.exists():
        state = learner.load(partial)
    passes = run.recipe.last_passes if last else run.recipe.passes
    folder.mkdir(parents=True, exist_ok=True)
    timed = None if seconds is None else _Timed(span, began, seconds)
    for number in range(len(state["lines"]), passes):
        if timed is not None and number and timed()[1]:
            break
        part = (span[0] + (span[1] - span[0]) * number / passes, span[0] + (span[1] - span[0]) * (number + 1) / passes)
        told = time.perf_counter()

        def heard(step: int, steps: int, number: int = number) -> None:
            nonlocal told
            if time.perf_counter() - told > 0.5 or step == steps:
                told = time.perf_counter()
                tell({"event": "fit", "pass": number + 1, "passes": passes, "step": step, "steps": steps})

        result = learner.learn(
            learned,
            seed=(run.config.seed, iteration, number),
            symmetries=run.domain.symmetries(),
            span=part,
            on_step=heard,
            by_clock=timed,
        )
        judged = learner.validate(held)
        line = {"pass": number + 1, **_figures(result, judged), "positions": len(learned.value), "steps": learner.steps}
        tell({"event": "pass", "iteration": iteration, **line})
        state["lines"].append(line)
        if state["best"] is None or not _loss(line) >= _loss(state["lines"][state["best"]]):
            state["best"] = number
            learner.keep()
        if writes:
            learner.save(partial, {**state, "seconds": state["seconds"] + time.perf_counter() - began})
    if writes:
        learner.save(folder / "learner.safetensors")
        if run.bundle(iteration) is None:
            network = learner.kept.cpu()
            network = halved(network) if run.recipe.half_weights else network
            taught = taught_by(run, iteration, found.met)
            write_bundle(run.plain_bundle(iteration), domain=run.domain, network=network, taught=taught)
        done = {**state, "best": state["best"] + 1, "seconds": state["seconds"] + time.perf_counter() - began}
        run.write(folder / "fit.json", done)
        partial.unlink(missing_ok=True)
        run.log()
    return done or state


def _loss(line: dict[str, Any]) -> float:
    """What the passes of an iteration are compared by: the validation losses that are known (labelled texts have no
    value); NaN where neither is, which is no worse than anything, so that the newest pass is kept."""
    known = [line[f"validation_{kind}_loss"] for kind in ("policy", "value")]
    return sum(loss for loss in known if loss is not None) if any(loss is not None for loss in known) else math.nan


class _Timed:
    """How far the run is by the clock, in a fit that began at this time and has so many seconds, and whether they are
    over. What came before the first step, such as reading the experience, counts half of them at most."""

    def __init__(self, span: tuple[float, float], began: float, seconds: float) -> None:
        self._span = span
        self._begins = time.perf_counter()
        self._ends = max(began + seconds, time.perf_counter() + seconds / 2)

    def __call__(self) -> tuple[float, bool]:
        share = (time.perf_counter() - self._begins) / (self._ends - self._begins)
        return self._span[0] + (self._span[1] - self._span[0]) * min(1.0, share), share >= 1


def _figures(result: Pass, judged: Validation) -> dict[str, Any]:
    """Numbers for JSON, which knows no NaN."""
    figures = {**dataclasses.asdict(result), **{f"validation_{k}": v for k, v in dataclasses.asdict(judged).items()}}
    return {
        name: None if isinstance(figure, float) and math.isnan(figure) else figure for name, figure in figures.items()
    }
