"""Positions as casual players reach them, one from each game: cheap to make, and varied."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from escalade.domains.base import Domain
from escalade.training.solved import casual_move

GAMES = 100
"""So many games are tried for one position; a longer search would not find it either."""


def casual_positions(
    domain: Domain[Any],
    numbers: Iterable[int],
    first_ply: int = 0,
    last_ply: int | None = None,
    *,
    seed: int,
    sense: float = 0.8,
) -> Iterator[tuple[int, int, Any]]:
    """(number, plies played, unfinished state) of a casual game for each number, every ply in bounds equally likely
    within a game; left out where games hardly ever last so long. Each depends on its number and the seed alone. sense:
    as in `training.solved.casual_states`.
    """
    for number in numbers:
        random = np.random.default_rng((seed, number))
        for _ in range(GAMES):
            state: Any = domain.initial_state()
            found: list[Any] = []
            while not domain.is_terminal(state) and (last_ply is None or len(found) <= last_ply):
                found.append(state)
                state = domain.step(state, casual_move(domain, state, random, sense))
            if len(found) > first_ply:
                ply = int(random.integers(first_ply, len(found)))
                yield number, ply, found[ply]
                break
