"""An exact solver: what every action is worth under perfect play. A domain may bring one (`Domain.solver`).

It is used wherever something asks for `exact`: labels, evaluation, certificates, `escalade solve`. The conformance kit
checks it against playing positions out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol, runtime_checkable


@runtime_checkable
class Solver(Protocol):
    """Every value is from the view of the player to move in the state asked about. Threads may ask at the same time.

    One that can list all positions of its game may have a method `reachable_positions()` too, which returns a state of
    each that play can reach, finished ones included: then networks are judged by all of them, instead of a sample.
    One may have an attribute `first_ply`: after so many plies a position is solved in well under a second. Certificates
    are proven on positions from there on; without it, on those after the first fifth of a game. And one may have a
    method `lists(state)`: whether the state is in a list of which it holds all answers, such as a book of openings.
    """

    def scores(self, state: Any, on_progress: Callable[[int], None] | None = None) -> list[float | None]:
        """Exact score of every action, None where illegal: positive wins, sooner is larger; 0 draws. on_progress hears
        how many actions are solved, where that takes long."""
        ...

    def value(self, state: Any) -> float:
        """1, 0 or -1: won, drawn or lost; a finished state's outcome."""
        ...
