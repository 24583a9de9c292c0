"""A run by minutes: how long each part of an iteration may take, and how much work fits into that.

A few moves are timed first (`escalade.domains.lengths`), later iterations go by what the ones before took. Estimates
only size the work; that it ends in time is the clock's doing: collectors cut their games short and fits end when their
seconds are over.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from escalade.domains.base import Domain, array_domain
from escalade.domains.evaluator import usable_cores
from escalade.domains.lengths import Lengths
from escalade.search.solvers import exact_solver
from escalade.training.certify_config import CertifyConfig
from escalade.training.collect import CollectTask
from escalade.training.judge import GAMES
from escalade.training.recipe import Recipe
from escalade.training.self_play import SelfPlayConfig

SHORTEST = 6.0
"""Seconds of an iteration at least."""
FIRST = 0.03
"""Share of the whole run in which nobody that was taught collects."""
JUDGING = 0.12
"""Share of an iteration's time that matches may take, by estimate."""
PIECE = 12.0
"""Seconds of work in one piece, so that a shard is written about as often."""
SLACK = 1.25
"""A piece may take so many times what was planned before it is cut short."""
LEAST = 0.5
"""Seconds that collecting and a fit have at least, even if the budget is spent."""
OVERHEAD, COMPILED = 4e-5, 4e-5
"""Seconds of a simulation beside Python rules, and of a whole one where the rules are kernels."""
SOLVING = 0.03
"""Seconds of a position that is solved exactly, in the middle of a game."""
STARTUP = 5.0
"""Seconds that a session takes to begin on an idle machine."""
SOLVED_JUDGING, FEWEST_POSITIONS = 0.1, 50
"""Share of the whole run that judging by exactly solved positions may take once, and how many there are at least."""
PROVING, FEWEST_STATES = 0.2, 1000
"""Share of the whole run that certificates may take, and states with which they are hopeless."""
FAMILY, SPARRING = 0.5, 10.0
"""Seconds of a solved family and of a labelled game against the solver, before one was."""


@dataclass(frozen=True)
class Shape:
    """How a run by minutes is cut. rounds: iterations, as long as none takes more than `longest` seconds. fitting:
    share of an iteration that is for the fit. last_fit: share of the whole run that the last fit has."""

    rounds: int
    longest: float
    fitting: float
    last_fit: float


SELF_TAUGHT = Shape(rounds=20, longest=45.0, fitting=0.3, last_fit=0.09)
"""Many short iterations: what is learned makes the next games better."""
LABELLED = Shape(rounds=5, longest=600.0, fitting=0.25, last_fit=0.25)
"""Few, where a solver's labels teach most: they are as good in the first iteration as in the last."""


def shape_of(recipe: Recipe, domain: Domain[Any]) -> Shape:
    return LABELLED if recipe.families and exact_solver(domain) is not None else SELF_TAUGHT


@dataclass(frozen=True)
class Round:
    """Seconds that the next iteration has for collecting and for its fit, and whether it is the last."""

    collect: float
    fit: float
    last: bool


def round_seconds(minutes: float, shape: Shape = SELF_TAUGHT) -> float:
    """Seconds of an iteration, but for the first and the last."""
    return min(max(60 * minutes / shape.rounds, SHORTEST), shape.longest)


def closing(minutes: float, startup: float = 0.0) -> float:
    """Seconds at the end that are for what is drawn and exported. startup: what this session took to begin, which says
    how busy the machine is."""
    return min(1.0 + 0.015 * 60 * minutes, 8.0) + 0.7 * min(startup, 0.3 * 60 * minutes)


def next_round(
    minutes: float, spent: float, after: float, judging: float, *, first: bool = False, shape: Shape = SELF_TAUGHT
) -> Round:
    """minutes: of the whole run. spent: seconds of work so far. after: what the end will take (`closing`); judging:
    what the evaluation will. first: whether random moves are to be played."""
    # Where judging is dear, iterations are longer, so that most of the time teaches.
    total, length = 60 * minutes, max(round_seconds(minutes, shape), 4 * judging)
    last_fit = shape.last_fit * total
    left = total - spent - after - judging - last_fit
    if left <= 1.5 * length + judging:
        return Round(max(LEAST, left), max(LEAST, min(last_fit, left + last_fit)), True)
    collect = max(LEAST, FIRST * total) if first else (1 - shape.fitting) * length
    return Round(min(collect, left), shape.fitting * length, False)


def paces(known: Mapping[str, float], collected: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Seconds that a collector needs for a game, by source; what was measured last, or what was known before. A game
    that was cut short counts as half of one: if all were, fewer are begun next time, and those end."""
    found = dict(known)
    sums: dict[str, tuple[float, float]] = {}
    for one in collected:
        if one.get("repeated"):
            continue
        source = one.get("moves", one["source"])
        seconds, games = sums.get(source, (0.0, 0.0))
        sums[source] = seconds + one["seconds"], games + one["games"] - one.get("cut_short", 0) / 2
    found |= {source: seconds / games for source, (seconds, games) in sums.items() if games}
    return found


def expected_paces(domain: Domain[Any], lengths: Lengths, config: SelfPlayConfig) -> dict[str, float]:
    """The same, before anything was collected."""
    plies = min(lengths.mean or lengths.limit, config.max_plies or lengths.limit)
    searches = [(config.search.simulations, config.teaching if config.quick else 1.0)]
    if config.quick is not None:
        searches.append((config.quick.simulations, 1 - config.teaching))
    simulations = sum(count * share for count, share in searches)
    return {
        "self_play": max(1, plies) * simulations * simulation_seconds(domain, lengths),
        "random": max(1, plies) * 1.3 * lengths.step_seconds,
        "solver": FAMILY,
        "sparring": SPARRING,
    }


def simulation_seconds(domain: Domain[Any], lengths: Lengths) -> float:
    return COMPILED if array_domain(domain) is not None else lengths.step_seconds + OVERHEAD


def sized(
    tasks: Sequence[tuple[CollectTask, int]], time: float, workers: int, pace: Mapping[str, float]
) -> list[tuple[CollectTask, int]]:
    """Pieces of work that so many workers do in so many seconds. tasks: one of each kind, with how many games (or
    families) there are at most. Returns them with what they are to do, and the number of their piece in its kind."""
    cost = [wanted * _pace(task, pace) for task, wanted in tasks]
    share = min(1.0, time * workers / max(sum(cost), 1e-9))
    found: list[tuple[CollectTask, int]] = []
    for (task, wanted), whole in zip(tasks, cost, strict=True):
        count = max(1, math.floor(wanted * share))
        pieces = min(count, workers * max(1, math.ceil(whole * share / workers / PIECE)))
        seconds = SLACK * max(whole * share / pieces, time * whole / max(sum(cost), 1e-9) * workers / pieces)
        first = task.first
        for piece in range(pieces):
            size = count * (piece + 1) // pieces - count * piece // pieces
            settings = dataclasses.replace(task.self_play, at_once=min(task.self_play.at_once, size))
            made = dataclasses.replace(task, first=first, count=size, seconds=max(LEAST, seconds), self_play=settings)
            found.append((made, piece))
            first += size
    return found


def _pace(task: CollectTask, pace: Mapping[str, float]) -> float:
    random = task.source == "self_play" and task.bundle is None and task.untaught == "random"
    return max(pace.get("random" if random else task.source, FAMILY), 1e-6)


def busy(startup: float) -> float:
    """How many times longer everything takes than on an idle machine, going by what a session took to begin."""
    return max(1.0, startup / STARTUP)


def solver_judging(recipe: Recipe, startup: float) -> float:
    """Seconds in which an exact solver's positions are decided, by estimate, before it was ever done."""
    return recipe.positions * _position_seconds(sum(recipe.evaluation.simulations), startup)


def judged_positions(recipe: Recipe, minutes: float, startup: float) -> int:
    """Exactly solved positions that a run of so many minutes has the time to be judged by."""
    each = _position_seconds(sum(recipe.evaluation.simulations), startup)
    return min(recipe.positions, max(FEWEST_POSITIONS, int(SOLVED_JUDGING * 60 * minutes / each)))


def proof_seconds(config: CertifyConfig, startup: float) -> float:
    """Seconds that certificates take, by estimate."""
    return config.states * _position_seconds(config.simulations, startup)


def _position_seconds(simulations: int, startup: float) -> float:
    return busy(startup) * (simulations * COMPILED / usable_cores() + SOLVING)


def provable(config: CertifyConfig | None, minutes: float, startup: float) -> CertifyConfig | None:
    """What a run of so many minutes has the time to prove at its end: with fewer states, or nothing where those would
    be too few to prove anything."""
    if config is None or (took := proof_seconds(config, startup)) <= PROVING * 60 * minutes:
        return config
    states = int(config.states * PROVING * 60 * minutes / took)
    return dataclasses.replace(config, states=states) if states >= FEWEST_STATES else None


def judged(recipe: Recipe, domain: Domain[Any], lengths: Lengths, minutes: float) -> Recipe:
    """The recipe with no more games in a match than a run of so many minutes has time for, by estimate; two at
    least."""
    seconds = JUDGING * round_seconds(minutes)
    config = recipe.evaluation
    plies = min(lengths.limit, 2 * lengths.mean or lengths.limit)
    each = plies * (1 + max(config.players)) * simulation_seconds(domain, lengths)
    fitting = 2 * max(1, int(seconds / max(each, 1e-9) / 2))
    return dataclasses.replace(
        recipe, evaluation=dataclasses.replace(config, games=min(config.games or GAMES, fitting))
    )
