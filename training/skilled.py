"""Positions as good players reach them, one from each game: both sides search, and now and then one is careless.

Casual games (`escalade.training.casual`) hardly ever come to the positions that good play leads to, least of all to
good openings, and a network that is judged by them alone may be bad at just those.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from escalade.domains.base import Domain
from escalade.domains.evaluator import AnyEvaluator
from escalade.training.arena import Player, RandomPlayer, SearchPlayer
from escalade.training.lockstep import Turn, lockstep

SIMULATIONS = 16
"""Of the players' searches."""
CARELESS = 0.1
"""Probability with which a move is any legal one."""
AT_ONCE = 512
"""Games in lock-step."""


def skilled_states(
    domain: Domain[Any],
    evaluator: AnyEvaluator,
    count: int,
    *,
    seed: int,
    first_ply: int = 0,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Any]:
    """`count` unfinished states, one of a game each, every ply from `first_ply` on equally likely within a game; fewer
    where games end before. evaluator: what the players' searches ask. Each state depends on its number, the seed and
    the evaluator alone."""
    skilled, careless = SearchPlayer("skilled", evaluator, SIMULATIONS), RandomPlayer()

    def player(turn: Turn) -> Player:
        return careless if turn.random.random() < CARELESS else skilled

    found: list[Any] = []
    for start in range(0, count, AT_ONCE):
        randoms = [np.random.default_rng((seed, number)) for number in range(start, min(start + AT_ONCE, count))]
        games: list[list[Any]] = []
        for games in lockstep(domain, randoms, player):  # noqa: B007 -- the last ones
            pass
        for game, random in zip(games, randoms, strict=True):
            unfinished = [state for state in game[first_ply:] if not domain.is_terminal(state)]
            if unfinished:
                found.append(unfinished[int(random.integers(len(unfinished)))])
        if on_progress is not None:
            on_progress(len(found), count)
    return found
