"""How long games of a domain are, as random ones show, and after how many actions a game is cut that need not end."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from escalade.domains.base import Domain
from escalade.domains.errors import DomainFault

GAMES, PLIES, LONGEST = 16, 4000, 1000
"""Random games that are played, plies after which none is begun, and plies of one game at most."""
LEAST, MOST, ENDLESS = 100, 1000, 200
"""Bounds of the limit: good play may last far longer than random play (a pole that is balanced), but a game that even
random play does not end is cut early, or none would."""


@dataclass(frozen=True)
class Lengths:
    """Of random games from the initial state. mean, longest: plies of those that ended, 0 where none did. ended:
    whether all did. bound: what the domain says no game exceeds, None if it says nothing. step_seconds: of a ply, what
    the rules took to name the legal actions, step, and say whether it is over."""

    mean: float
    longest: int
    ended: bool
    bound: int | None
    step_seconds: float

    @property
    def limit(self) -> int:
        """Plies after which a game is cut."""
        if self.bound is not None:
            return self.bound
        if self.ended:
            return max(LEAST, min(10 * self.longest, MOST), 2 * self.longest)
        return max(LEAST, min(4 * round(self.mean), 2 * ENDLESS)) if self.mean else ENDLESS

    @property
    def opening(self) -> int:
        """Random plies that a game may begin with: so many that positions are met which good players avoid, since who
        is played against may not be one."""
        return round(self.mean / 2)


def lengths_of(domain: Domain[Any], *, seed: int = 0, seconds: float | None = None) -> Lengths:
    """Play some random games. Equal seeds give equal games; seconds: how long at most, beyond the first ply."""
    random = np.random.default_rng(seed)
    began = time.perf_counter()
    plies = games = 0
    lengths: list[int] = []
    late = False
    while games < GAMES and plies < PLIES and not late:
        state, length = domain.initial_state(), 0
        while not domain.is_terminal(state) and length < LONGEST and not late:
            legal = domain.legal_actions(state)
            if not len(legal):
                where = f"domain '{domain.name}', state '{domain.format(state)}'"
                raise DomainFault(f"{where}: it is not finished, but nothing is legal")
            state = domain.step(state, legal[int(random.integers(len(legal)))])
            domain.to_move(state)
            length, plies = length + 1, plies + 1
            late = seconds is not None and time.perf_counter() - began > seconds
        games += 1
        if domain.is_terminal(state):
            lengths.append(length)
        elif late and games > 1:
            games -= 1  # which says nothing
    return Lengths(
        mean=float(np.mean(lengths)) if lengths else 0.0,
        longest=max(lengths, default=0),
        ended=len(lengths) == games,
        bound=domain.max_plies,
        step_seconds=(time.perf_counter() - began) / max(plies, 1),
    )


def has_one_player(domain: Domain[Any], plies: int = 50) -> bool:
    """Whether nobody but the first player moves, as far as the first plies of a random game show."""
    random, state = np.random.default_rng(0), domain.initial_state()
    for _ in range(plies):
        if domain.to_move(state) != 0:
            return False
        if domain.is_terminal(state) or not len(legal := domain.legal_actions(state)):
            break
        state = domain.step(state, legal[int(random.integers(len(legal)))])
    return bool(domain.to_move(state) == 0)
