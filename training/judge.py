"""The last steps of an iteration: evaluate, certify, promote. Each is done once, however often it is begun.

What decides who is champion: exactly solved positions, where there is a solver; else games against the champion, where
there is a simulator; else the loss on held-out rows of the experience (`escalade.training.validation`).
"""

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
from escalade.training.returns import is_one_player
from escalade.training.run import Run, RunError, Tell, silent
from escalade.training.run_window import held_out
from escalade.training.validation import held_out_figures

GAMES = 40
"""Of a match that judges, where the recipe does not say."""
ANY = 10**9
"""An iteration that may look at the experience of all others."""


def evaluate_iteration(run: Run, iteration: int, tell: Tell = silent) -> dict[str, Any]:
    """Judge an iteration's bundle, as described above. Returns what evaluation.json says; `score` is what promotion
    compares."""
    path = run.iteration(iteration) / "evaluation.json"
    done: dict[str, Any] | None = run.read(path)
    if done is not None:
        return done
    began = time.perf_counter()
    network = read_bundle(_bundle(run, iteration), run.domain).network
    # Searches without a network are the same for all iterations: `escalade.training.strength` measures them once.
    settings = dataclasses.replace(run.recipe.evaluation, without_network=False)

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
    elif run.domain.has_simulator:
        line, report = _match(run, iteration, network, heard)
    else:
        line, report = _held_out(run, iteration, network), {}
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
    """Games against the champion; score is the share of points less a half. The first one has nobody to beat. With one
    player both play from the same openings, and the greater mean return wins."""
    champion = run.champion
    if champion is None:
        return {"by": "nothing", "score": 0.0}, {}
    other = read_bundle(_bundle(run, champion["iteration"]), run.domain).network
    told = partial(heard, "match with the champion")
    result = _played(run, network, other, seed=run.config.seed + iteration, on_progress=told)
    report: dict[str, Any] = dataclasses.asdict(result)
    line = {"by": "match", "score": result.score - 0.5, "games": result.games}
    if is_one_player(run.domain, seed=run.config.seed):
        # Each plays half of the episodes, the champion's counting against the challenger: points of 1/2 and a quarter
        # of the difference.
        shares = {"return_change": result.score, "low": result.score_low, "high": result.score_high}
        change = {name: 4 * (share - 0.5) for name, share in shares.items()}
        ends = {"return_change_low": change["low"], "return_change_high": change["high"]}
        return {**line, "return_change": change["return_change"], **ends}, report
    return {**line, "elo": result.elo, "elo_low": result.elo_low, "elo_high": result.elo_high}, report


def _held_out(run: Run, iteration: int, network: Any) -> dict[str, Any]:
    """The held-out rows, on which the champion is measured again: both on the same rows, though the experience may have
    grown since. score: how much less the loss is than the champion's; the first one has nobody to beat. Where no row
    is held out, the newest, which has seen most, is taken for the best."""
    champion = run.champion
    if champion is not None and champion["iteration"] == iteration:
        champion = None
    other = None if champion is None else read_bundle(_bundle(run, champion["iteration"]), run.domain).network
    figures = held_out_figures(network, held_out(run, iteration), other)
    if figures is None:
        return {"by": "nothing", "score": 0.0}
    if champion is not None:
        figures["against"] = champion["iteration"]
    return {"by": "validation", "score": 0.0 - figures.get("loss_change", 0.0), **figures}


def without_progress(run: Run, iteration: int, since: int = 0) -> int:
    """How many iterations after `since`, up to this one, followed the champion and were not promoted, where held-out
    rows judge; 0 in other domains, in which experience is made anew and a pause is no end."""
    champion = run.champion
    if champion is None or champion["by"] != "validation":
        return 0
    return max(0, iteration - max(int(champion["iteration"]), since))


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
        figures = held_out_figures(first, held_out(run, ANY), second)
        if figures is None:
            return Comparison(False, "there are no held-out rows to compare them on")
        change = (
            f"{figures['loss_change']:+.4f} ({figures['loss_change_low']:+.4f} to {figures['loss_change_high']:+.4f})"
        )
        return Comparison(figures["loss_change"] < 0, f"loss on {figures['count']} held-out rows {change}")
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
    their match, or has a smaller loss on the same held-out rows; who only draws is not known to be better. A champion
    that nothing chose, as before there were held-out rows, is no measure."""
    champion = run.champion
    if champion is None or champion["iteration"] == iteration:
        return True
    judged = run.read(run.iteration(iteration) / "evaluation.json")
    score, by = float(judged["score"]), judged["lines"][0]["by"]
    if by == "validation":
        return score > 0 or champion["by"] == "nothing"
    return score > 0 if by == "match" else bool(score >= champion["score"])


def promote(run: Run, iteration: int, tell: Tell = silent) -> dict[str, Any]:
    """Make an iteration's bundle the champion if it is better (`is_better`). Returns what promotion.json says."""
    path = run.iteration(iteration) / "promotion.json"
    done: dict[str, Any] | None = run.read(path)
    judged = run.read(run.iteration(iteration) / "evaluation.json")
    if done is None:
        by, score, better = judged["lines"][0]["by"], judged["score"], is_better(run, iteration)
        named = ("count", "validation_loss", "loss_change", "loss_change_low", "loss_change_high", "against")
        figures = {
            name: judged["lines"][0][name] for name in named if by == "validation" and name in judged["lines"][0]
        }
        done = {"lines": [{"promoted": better, "score": score, "by": by, **figures}], "promoted": better}
        if better:
            run.crown(iteration, score, by)
        run.write(path, done)
        run.log()
    elif done["promoted"]:
        run.crown(iteration, judged["score"], judged["lines"][0]["by"])
    tell({"event": "promotion", "iteration": iteration, **done["lines"][0]})
    return done
