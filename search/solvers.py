"""Exact solvers: what every action is worth under perfect play. They are the references that quality is measured by."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

from escalade.domains.base import Domain
from escalade.domains.connect_four import ConnectFour
from escalade.domains.solver import Solver
from escalade.domains.tic_tac_toe import TicTacToe

__all__ = ["Solver", "exact_solver", "optimal_actions"]


_own: WeakKeyDictionary[Domain[Any], Solver | None] = WeakKeyDictionary()
"""The solvers that domains bring, by domain object."""


def exact_solver(domain: Domain[Any]) -> Solver | None:
    """The solver of a domain's game, shared by all who ask: its own (`Domain.solver`), else one that comes with the
    package; None where there is none."""
    own = _own_solver(domain)
    if own is not None:
        return own
    if isinstance(domain, TicTacToe):
        return _tic_tac_toe()
    return _connect_four() if isinstance(domain, ConnectFour) else None


def _own_solver(domain: Domain[Any]) -> Solver | None:
    try:
        return _own[domain]
    except (KeyError, TypeError):  # not asked yet, or of a kind that cannot be a key
        pass
    bring = getattr(domain, "solver", None)
    found: Solver | None = bring() if callable(bring) else None
    with suppress(TypeError):
        _own[domain] = found
    return found


def optimal_actions(scores: Sequence[float | None]) -> list[int]:
    """The legal actions that keep the best of win, draw and loss, whatever their score within it."""
    signs = [None if score is None else (score > 0) - (score < 0) for score in scores]
    best = max(sign for sign in signs if sign is not None)
    return [action for action, sign in enumerate(signs) if sign == best]


@cache
def _tic_tac_toe() -> Solver:
    from escalade.search.solve_tic_tac_toe import TicTacToeSolver

    return TicTacToeSolver()


@cache
def _connect_four() -> Solver:
    from escalade.search.solve_connect_four import ConnectFourSolver

    return ConnectFourSolver()
