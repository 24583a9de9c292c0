"""The steps of one iteration, each a function of a run's folder: what to collect, fit, evaluate, certify, promote.

A step that was done leaves a file that says so, and is not done twice; one that was stopped on the way is done again
and leaves the same.
"""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from escalade.domains.base import legal_mask
from escalade.neural.bundle import read_bundle, write_bundle
from escalade.neural.networks import PolicyValueNetwork
from escalade.search.solvers import exact_solver
from escalade.training.agreement import Agreement
from escalade.training.arena import SearchPlayer, play_match
from escalade.training.collect import CollectTask
from escalade.training.evaluate import evaluate
from escalade.training.exact import ExactPositions
from escalade.training.learner import Learner, Pass, Validation
from escalade.training.recipe import Recipe
from escalade.training.rows import Rows, compact, joined
from escalade.training.run import Run, RunError
from escalade.training.td import shared_td_values
from escalade.training.window import Targets, position_keys, split

Tell = Callable[[dict[str, Any]], None]
"""Hears of progress: plain events such as {"event": "pass", "iteration": 3, …}."""


def silent(event: dict[str, Any]) -> None:
    """Nobody listens."""


# Collect


def tasks(run: Run, iteration: int, *, last: bool, cores: int | None = None) -> list[dict[str, Any]]:
    """What an iteration's collectors are to do, each piece as `CollectTask.plain` gives it."""
    recipe, config = run.recipe, run.config
    bundle = run.bundle(iteration - 1)
    common = CollectTask(
        source="self_play",
        domain=config.domain,
        options=config.options,
        folder=str(run.store.shards_folder),
        shard="",
        first=0,
        count=0,
        seed=config.seed,
        run=run.name,
        bundle=None if bundle is None else str(bundle),
        cores=cores,
        self_play=recipe.self_play,
        solved=recipe.solved,
        solve_games=recipe.solve_games and exact_solver(run.domain) is not None,
        search=recipe.relabel,
    )
    pieces = [("self_play", recipe.games, recipe.games_a_task)]
    if exact_solver(run.domain) is not None:
        pieces.append(("solver", recipe.families, recipe.families_a_task))
    found: list[CollectTask] = []
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
                found.append(piece)
                left -= piece.count
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


def fit(run: Run, iteration: int, span: tuple[float, float], *, last: bool, tell: Tell = silent) -> dict[str, Any]:
    """Fit the network to the window and leave the iteration's bundle. span: how far the run is, from 0 to 1, when this
    begins and ends; the learning rate follows. Returns what fit.json says.

    In several processes (torchrun) all call this, and the first one writes.
    """
    from torch import distributed

    folder = run.iteration(iteration)
    done: dict[str, Any] | None = run.read(folder / "fit.json")
    if done is not None and run.bundle(iteration) is not None:
        return done
    began = time.perf_counter()
    writes = not distributed.is_initialized() or distributed.get_rank() == 0
    learner = Learner(run.recipe.spec(run.domain), run.recipe.learner, seed=run.config.seed, device=training_device())
    if iteration > 1:
        learner.load(run.iteration(iteration - 1) / "learner.safetensors")
    learned, held = window(run, iteration, learner.averaged)  # TD(0) asks it as it was before the fit
    partial = folder / "partial.safetensors"
    state: dict[str, Any] = {"lines": [], "best": None, "seconds": 0.0}
    if partial.exists():
        state = learner.load(partial)
    passes = run.recipe.last_passes if last else run.recipe.passes
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(len(state["lines"]), passes):
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
        )
        judged = learner.validate(held)
        line = {"pass": number + 1, **_figures(result, judged), "positions": len(learned.value), "steps": learner.steps}
        tell({"event": "pass", "iteration": iteration, **line})
        state["lines"].append(line)
        loss = judged.policy_loss + judged.value_loss
        state["best"] = number if not (state["best"] is not None and loss >= _best_loss(state)) else state["best"]
        if state["best"] == number:
            learner.keep()
        if writes:
            learner.save(partial, {**state, "seconds": state["seconds"] + time.perf_counter() - began})
    if writes:
        learner.save(folder / "learner.safetensors")
        if run.bundle(iteration) is None:
            write_bundle(folder / "bundle", domain=run.domain, network=learner.kept.cpu())
        done = {**state, "best": state["best"] + 1, "seconds": state["seconds"] + time.perf_counter() - began}
        run.write(folder / "fit.json", done)
        partial.unlink(missing_ok=True)
        run.log()
    return done or state


def _best_loss(state: dict[str, Any]) -> float:
    best = state["lines"][state["best"]]
    loss = best["validation_policy_loss"], best["validation_value_loss"]
    return math.inf if None in loss else sum(loss)


def _figures(result: Pass, judged: Validation) -> dict[str, Any]:
    """Numbers for JSON, which knows no NaN."""
    figures = {**dataclasses.asdict(result), **{f"validation_{k}": v for k, v in dataclasses.asdict(judged).items()}}
    return {
        name: None if isinstance(figure, float) and math.isnan(figure) else figure for name, figure in figures.items()
    }


def window(run: Run, iteration: int, network: PolicyValueNetwork) -> tuple[Targets, Targets]:
    """What an iteration learns from, and what it validates by. network: what TD(0) targets are made with, if the recipe
    wants some. Raises RunError if nothing was collected."""
    store = run.store
    store.refresh()
    parts: list[Rows] = []
    count = 0
    names = {entry.name for entry in store.entries}
    for entry in reversed(store.entries):
        anew = f"{Path(entry.name).stem}-search{Path(entry.name).suffix}"
        late = int(entry.name.split("-")[0]) > iteration
        if count >= run.recipe.rows or anew in names or late:
            continue  # enough; searched anew; of an iteration that is done again
        rows = store.read(entry.name)
        if rows is not None:
            parts.append(_small(rows))
            count += len(rows)
    for folder in run.config.experience:
        from escalade.training.store import ExperienceStore

        other = ExperienceStore(folder, run.domain).recent(run.recipe.rows)
        if other is not None:
            parts.append(_small(other))
    if not parts:
        raise RunError(f"there is no experience in '{store.folder}' to learn from")
    rows = joined(parts[::-1])
    for positions in run.excluded():
        rows = rows.take(~np.isin(position_keys(rows), _keys_of(run, positions)))
    config = run.recipe.window
    return split(rows, config, shared_td_values(rows, run.domain, network, config.gamma) if config.td else None)


def _small(rows: Rows) -> Rows:
    return dataclasses.replace(rows, observation=compact(rows.observation))


def _keys_of(run: Run, positions: ExactPositions) -> Any:
    """Keys of positions and their symmetric images."""
    states = positions.parsed(run.domain)
    observation, legal = run.domain.encode(states), legal_mask(run.domain, states)
    blank = Rows(
        game=np.full(len(states), "x"),
        ply=np.zeros(len(states), np.int32),
        state=np.full(len(states), ""),
        observation=observation,
        legal=legal,
        policy=np.full(legal.shape, np.nan, np.float32),
        action=np.full(len(states), -1, np.int32),
        value=np.full(len(states), np.nan, np.float32),
        outcome=np.full(len(states), np.nan, np.float32),
        source=np.full(len(states), "solver"),
        model=np.full(len(states), ""),
        decision=np.full(len(states), ""),
    )
    keys = [position_keys(blank)]
    for symmetry in run.domain.symmetries():
        turned = np.empty_like(legal)
        turned[:, symmetry.actions] = legal
        keys.append(
            position_keys(dataclasses.replace(blank, observation=symmetry.observations(observation), legal=turned))
        )
    return np.unique(np.concatenate(keys))


# Evaluate, certify, promote


def evaluate_iteration(run: Run, iteration: int, tell: Tell = silent) -> dict[str, Any]:
    """Judge an iteration's bundle: by exactly solved positions, or else by games against the champion. Returns what
    evaluation.json says; `score` is what promotion compares."""
    path = run.iteration(iteration) / "evaluation.json"
    done: dict[str, Any] | None = run.read(path)
    if done is not None:
        return done
    began = time.perf_counter()
    network = read_bundle(_bundle(run, iteration), run.domain).network
    settings = run.recipe.evaluation

    def heard(stage: str, number: int, of: int) -> None:
        tell({"event": "evaluate", "stage": stage, "done": number, "of": of})

    positions = run.positions(lambda number, of: heard("solving", number, of))
    if positions is not None:
        found = evaluate(run.domain, network, config=settings, positions=positions, on_progress=heard)
        rows = [row for row in found.agreement if row.phase == "all"]
        line: dict[str, Any] = {"by": "agreement", "count": len(positions), "score": _score(rows)}
        line |= {f"optimal_{row.simulations}": row.all.share for row in rows}
        line |= {f"optimal_where_moves_differ_{row.simulations}": row.differing.share for row in rows}
        line["value_error"] = next(gap.squared_error.mean for gap in found.estimates.values if gap.phase == "all")
        report: dict[str, Any] = found.to_json()
    else:
        line, report = _match(run, iteration, network, heard)
    done = {"lines": [line], "score": line["score"], "seconds": time.perf_counter() - began, "report": report}
    run.write(path, done)
    run.log()
    tell({"event": "evaluation", "iteration": iteration, **line})
    return done


def _score(rows: list[Agreement]) -> float:
    """The mean share of optimal moves over the numbers of simulations, where moves differ if they do anywhere."""
    shares = [row.all.share if row.differing.share is None else row.differing.share for row in rows]
    return float(np.mean([share for share in shares if share is not None]))


def _match(
    run: Run, iteration: int, network: Any, heard: Callable[[str, int, int], None]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Games against the champion; score is the share of points less a half. The first one has nobody to beat."""
    champion = run.champion
    if champion is None or not run.recipe.evaluation.games:
        return {"by": "nothing", "score": 0.0}, {}
    other = read_bundle(_bundle(run, champion["iteration"]), run.domain).network
    simulations = max(run.recipe.evaluation.players)
    result = play_match(
        run.domain,
        SearchPlayer("challenger", network, simulations),
        SearchPlayer("champion", other, simulations),
        run.recipe.evaluation.games,
        seed=run.config.seed + iteration,
        on_progress=lambda number, of: heard("match with the champion", number, of),
    )
    report: dict[str, Any] = dataclasses.asdict(result)
    line = {"by": "match", "score": result.score - 0.5, "games": result.games, "elo": result.elo}
    return {**line, "elo_low": result.elo_low, "elo_high": result.elo_high}, report


def _bundle(run: Run, iteration: int) -> Path:
    bundle = run.bundle(iteration)
    if bundle is None:
        raise RunError(f"iteration {iteration} of '{run.folder}' has no bundle")
    return bundle


def certify(run: Run, iteration: int) -> dict[str, Any]:
    """There are no certificates yet: bundles pass as they are, and say so."""
    return {"certified": False, "reason": "no_certificates_yet"}


def promote(run: Run, iteration: int, tell: Tell = silent) -> dict[str, Any]:
    """Make an iteration's bundle the champion if it is at least as good as the one before. Returns what promotion.json
    says."""
    path = run.iteration(iteration) / "promotion.json"
    done: dict[str, Any] | None = run.read(path)
    judged = run.read(run.iteration(iteration) / "evaluation.json")
    if done is None:
        champion = run.champion
        by, score = judged["lines"][0]["by"], judged["score"]
        if champion is None or champion["iteration"] == iteration:
            better = True
        else:
            better = score >= (0.0 if by == "match" else champion["score"])
        done = {"lines": [{"promoted": better, "score": score, "by": by}], "promoted": better}
        if better:
            run.crown(iteration, score, by)
        run.write(path, done)
        run.log()
    elif done["promoted"]:
        run.crown(iteration, judged["score"], judged["lines"][0]["by"])
    tell({"event": "promotion", "iteration": iteration, "promoted": done["promoted"], "score": judged["score"]})
    return done
