"""The last steps of an iteration: evaluate, certify, promote. Each is done once, however often it is begun."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from escalade.neural.bundle import read_bundle
from escalade.training.agreement import Agreement, agreement
from escalade.training.arena import MatchResult, SearchPlayer, play_match
from escalade.training.evaluate import evaluate
from escalade.training.run import Run, RunError, Tell, silent

GAMES = 40
"""Of a match that judges, where the recipe does not say."""


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
        assert found.estimates is not None  # where there are positions
        line["value_error"] = next(gap.squared_error.mean for gap in found.estimates.values if gap.phase == "all")
        report: dict[str, Any] = found.to_json()
    else:
        line, report = _match(run, iteration, network, heard)
    done = {"lines": [line], "score": line["score"], "seconds": time.perf_counter() - began, "report": report}
    run.write(path, done)
    run.log()
    return done


def judge_start(run: Run, tell: Tell = silent) -> dict[str, Any] | None:
    """Judge the bundle that a run begins with, as iteration 0 and its first champion. Returns its line of figures, None
    where there is no such bundle."""
    if run.bundle(0) is None:
        return None
    judged = evaluate_iteration(run, 0, tell)
    line = {"iteration": 0, "seconds": judged["seconds"], **judged["lines"][0]}
    tell({"event": "evaluation", **line})
    promote(run, 0, tell)
    return {**line, "promoted": True}


def _score(rows: Iterable[Agreement]) -> float:
    """The mean share of optimal moves over the numbers of simulations, where moves differ if they do anywhere."""
    everywhere = [row for row in rows if row.phase == "all"]
    shares = [row.all.share if row.differing.share is None else row.differing.share for row in everywhere]
    return float(np.mean([share for share in shares if share is not None]))


def _match(
    run: Run, iteration: int, network: Any, heard: Callable[[str, int, int], None]
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Games against the champion; score is the share of points less a half. The first one has nobody to beat, and
    where nothing can be played the newest, which has seen most, is taken for the best."""
    champion = run.champion
    if champion is None or not run.domain.has_simulator:
        return {"by": "nothing", "score": 0.0}, {}
    other = read_bundle(_bundle(run, champion["iteration"]), run.domain).network
    told = partial(heard, "match with the champion")
    result = _played(run, network, other, seed=run.config.seed + iteration, on_progress=told)
    report: dict[str, Any] = dataclasses.asdict(result)
    line = {"by": "match", "score": result.score - 0.5, "games": result.games, "elo": result.elo}
    return {**line, "elo_low": result.elo_low, "elo_high": result.elo_high}, report


def _played(
    run: Run, network: Any, champion: Any, *, seed: int, on_progress: Callable[[int, int], None] | None = None
) -> MatchResult:
    simulations = max(run.recipe.evaluation.players)
    return play_match(
        run.domain,
        SearchPlayer("challenger", network, simulations),
        SearchPlayer("champion", champion, simulations),
        run.recipe.evaluation.games or GAMES,
        seed=seed,
        max_plies=run.recipe.self_play.max_plies or run.lengths(timed=True).limit,
        on_progress=on_progress,
    )


@dataclass(frozen=True)
class Comparison:
    """Whether a challenger is to take a champion's place, and by what, in words."""

    better: bool
    why: str


def compare(run: Run, challenger: Path, champion: Path) -> Comparison:
    """Judge two bundles of a run's domain alike, as the run judges its own: by the shares of optimal moves in its
    exactly solved positions, where as good is good enough, or else by games, of which a challenger must win more than
    half of the points. What cannot be compared takes no place.

    Raises BundleError for a bundle that is damaged, or was made for another domain.
    """
    first, second = (read_bundle(folder, run.domain).network for folder in (challenger, champion))
    settings, positions = run.recipe.evaluation, run.positions()
    if positions is not None:
        new, old = (
            _score(agreement(run.domain, network, positions, settings.simulations, seed=settings.seed))
            for network in (first, second)
        )
        return Comparison(new >= old, f"optimal moves {new:.2%} against {old:.2%} (n={len(positions)})")
    if not run.domain.has_simulator:
        return Comparison(False, "there is neither a solver nor a simulator to compare them with")
    result = _played(run, first, second, seed=run.config.seed)
    points = f"{result.wins}:{result.draws}:{result.losses} (won:drawn:lost)"
    return Comparison(result.score > 0.5, f"{result.score:.1%} of the points in {result.games} games, {points}")


def _bundle(run: Run, iteration: int) -> Path:
    bundle = run.bundle(iteration)
    if bundle is None:
        raise RunError(f"iteration {iteration} of '{run.folder}' has no bundle")
    return bundle


def is_better(run: Run, iteration: int) -> bool:
    """Whether an iteration that was judged is to be the champion: it is at least as good as the one before, or won
    their match; who only draws is not known to be better."""
    champion = run.champion
    if champion is None or champion["iteration"] == iteration:
        return True
    judged = run.read(run.iteration(iteration) / "evaluation.json")
    score: float = judged["score"]
    return score > 0 if judged["lines"][0]["by"] == "match" else bool(score >= champion["score"])


def promote(run: Run, iteration: int, tell: Tell = silent) -> dict[str, Any]:
    """Make an iteration's bundle the champion if it is better (`is_better`). Returns what promotion.json says."""
    path = run.iteration(iteration) / "promotion.json"
    done: dict[str, Any] | None = run.read(path)
    judged = run.read(run.iteration(iteration) / "evaluation.json")
    if done is None:
        by, score, better = judged["lines"][0]["by"], judged["score"], is_better(run, iteration)
        done = {"lines": [{"promoted": better, "score": score, "by": by}], "promoted": better}
        if better:
            run.crown(iteration, score, by)
        run.write(path, done)
        run.log()
    elif done["promoted"]:
        run.crown(iteration, judged["score"], judged["lines"][0]["by"])
    tell({"event": "promotion", "iteration": iteration, "promoted": done["promoted"], "score": judged["score"]})
    return done
