"""Exact solvers: what every action is worth under perfect play. They are the references that quality is measured by."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from typing import Any, Protocol

from escalade.domains.base import Domain
from escalade.domains.connect_four import ConnectFour
from escalade.domains.tic_tac_toe import TicTacToe


class Solver(Protocol):
    """Every value is from the view of the player to move in the state asked about."""

    def scores(self, state: Any, on_progress: Callable[[int], None] | None = None) -> list[float | None]:
        """Exact score of every action, None where illegal: positive wins, sooner is larger; 0 draws. on_progress hears
        how many actions are solved, where that takes long."""
        ...

    def value(self, state: Any) -> float:
        """1, 0 or -1: won, drawn or lost; a finished state's outcome."""
        ...


def exact_solver(domain: Domain[Any]) -> Solver | None:
    """The solver of a domain's game, shared by all who ask; None where there is none."""
    if isinstance(domain, TicTacToe):
        return _tic_tac_toe()
    return _connect_four() if isinstance(domain, ConnectFour) else None


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
