"""Exact solvers: what every action is worth under perfect play."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from escalade.domains.base import Domain
from escalade.domains.tic_tac_toe import TicTacToe


class Solver(Protocol):
    def scores(self, state: Any) -> list[float | None]: ...

    def value(self, state: Any) -> float: ...


def exact_solver(domain: Domain[Any]) -> Any:
    from escalade.search.solve_tic_tac_toe import TicTacToeSolver

    return TicTacToeSolver() if isinstance(domain, TicTacToe) else None


def optimal_actions(scores: Sequence[float | None]) -> list[int]:
    signs = [None if s is None else (s > 0) - (s < 0) for s in scores]
    best = max(s for s in signs if s is not None)
    return [a for a, s in enumerate(signs) if s == best]
