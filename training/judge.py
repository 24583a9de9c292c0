"""The last steps of an iteration: evaluate, certify, promote. Each is done once, however often it is begun."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from escalade.neural.bundle import read_bundle
from escalade.training.agreement import Agreement
from escalade.training.arena import SearchPlayer, play_match
from escalade.training.evaluate import evaluate
from escalade.training.run import Run, RunError, Tell, silent


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
