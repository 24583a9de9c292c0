"""Domains with one player: what its episodes return on average."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from escalade.domains.base import Domain
from escalade.search.config import whole
from escalade.training.arena import Player, openings, seed_of
from escalade.training.intervals import LEVEL

LOOKED_AT, LOOKED_PLIES = 8, 200
"""Random games that are looked at for a second player, and how many plies of each."""


class Episodes(NamedTuple):
    """outcomes: in [-1, 1]. cut_short: how many were still open at the bound of plies; their outcome counts as 0.
    moves, simulations: made in all."""

    outcomes: list[float]
    cut_short: int
    moves: int
    simulations: int


@dataclass(frozen=True)
class Returns:
    """Episodes of one player, each from another random opening. mean: of the outcomes; low, high: see `return_of`. The
    rest: as in `Episodes`."""

    player: str
    episodes: int
    seed: int
    mean: float
    low: float
    high: float
    cut_short: int
    moves: int
    simulations: int


def is_one_player(domain: Domain[Any], *, seed: int = 0) -> bool:
    """Whether nobody but player 0 moves, in some random games at least: `Domain.to_move` is the only word on it."""
    random = np.random.default_rng((seed, 0x0E))
    for _ in range(LOOKED_AT):
        state = domain.initial_state()
        for _ in range(LOOKED_PLIES):
            if domain.to_move(state) != 0:
                return False
            if domain.is_terminal(state):
                break
            state = domain.step(state, int(random.choice(domain.legal_actions(state))))
    return True


def play_episodes(
    domain: Domain[Any],
    player: Player,
    begun: Sequence[Any],
    *,
    seed: int,
    max_plies: int = 1000,
    stop: Callable[[], bool] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Episodes | None:
    """An episode from each of the unfinished states, all in lock-step. stop: as in
    `escalade.training.arena.play_pairs`."""
    states, running = list(begun), list(range(len(begun)))
    moves, simulations, ply = 0, 0, 0
    while running and ply < max_plies:
        if stop is not None and stop():
            return None
        seeds = [seed_of(seed, game, ply) for game in running]
        chosen = player.choose(domain, [states[game] for game in running], seeds)
        moves, simulations, ply = moves + len(running), simulations + chosen.simulations, ply + 1
        for game, action in zip(running, chosen.actions, strict=True):
            states[game] = domain.step(states[game], action)
        running = [game for game in running if not domain.is_terminal(states[game])]
        if on_progress is not None:
            on_progress(len(states) - len(running), len(states))
    outcomes = [float(domain.outcome(state)) if domain.is_terminal(state) else 0.0 for state in states]
    return Episodes(outcomes, len(running), moves, simulations)


def mean_return(
    domain: Domain[Any],
    player: Player,
    episodes: int,
    *,
    seed: int = 0,
    opening_plies: int | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Returns:
    """Play so many episodes, at least one, from openings as those of matches (`escalade.training.arena.openings`)."""
    begun = openings(domain, whole("episodes", episodes, 1), seed=seed, plies=opening_plies)
    played = play_episodes(domain, player, begun, seed=seed, on_progress=on_progress)
    assert played is not None  # nothing stops it
    mean, low, high = return_of(played.outcomes)
    return Returns(player.name, len(begun), seed, mean, low, high, *played[1:])


def return_of(outcomes: Sequence[float]) -> tuple[float, float, float]:
    """The mean of outcomes in [-1, 1], at least one, and its 95 % interval: Student's, with one episode of each extreme
    added, so that episodes that all ended alike are not taken for certainty (as A. Agresti, B. Coull, The American
    Statistician 52, 1998, for shares); widened to hold the mean."""
    from scipy.stats import t  # here, as it takes half a second to import

    mean = float(np.mean(outcomes, dtype=np.float64))
    widened = np.array([*outcomes, 1.0, -1.0], np.float64)
    reach = float(t.ppf((1 + LEVEL) / 2, len(widened) - 1)) * float(widened.std(ddof=1)) / math.sqrt(len(widened))
    middle = float(widened.mean())
    return mean, max(-1.0, min(mean, middle - reach)), min(1.0, max(mean, middle + reach))
