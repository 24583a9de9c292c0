"""Tic-tac-toe solved in full: a table of all 5478 reachable boards, made when first asked.

A score counts the winner's cells left plus one, positive for the player to move: the first player's fifth cell wins at
1, the third at 3; the second player has four cells, so 2 and 1. Sooner is larger; 0 is a draw.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property

from escalade.domains.line_game import LineState
from escalade.domains.tic_tac_toe import TicTacToe


class TicTacToeSolver:
    """Exact scores of any position, by looking them up."""

    def __init__(self) -> None:
        self._game = TicTacToe()

    def scores(self, state: LineState, on_progress: Callable[[int], None] | None = None) -> list[float | None]:
        """Exact score of every action, None where illegal. All are there at once, so no progress is told."""
        found: list[float | None] = [None] * self._game.num_actions
        for action in self._game.legal_actions(state):
            child = self._game.step(state, action)
            found[action] = 0.0 - self._table[child.mine, child.theirs][1]
        return found

    def value(self, state: LineState) -> float:
        """1, 0 or -1: the exact value for the player to move; a finished state's outcome."""
        score = self._table[state.mine, state.theirs][1]
        return float((score > 0) - (score < 0))

    def reachable_positions(self) -> list[LineState]:
        """All 5478 boards that play can reach, finished ones too, each with one order of moves that leads there."""
        return [state for state, _ in self._table.values()]

    @cached_property
    def _table(self) -> dict[tuple[int, int], tuple[LineState, int]]:
        """State and score by (mine, theirs)."""
        game, table = self._game, dict[tuple[int, int], tuple[LineState, int]]()

        def solve(state: LineState) -> int:
            key = (state.mine, state.theirs)
            if key not in table:
                if game.is_terminal(state):
                    # The one who just moved won with their k-th cell, of 5 or of 4.
                    plies = len(state.moves)
                    score = -((11 - plies) // 2 if plies % 2 else (10 - plies) // 2) if game.outcome(state) else 0
                else:
                    score = max(-solve(game.step(state, action)) for action in game.legal_actions(state))
                table[key] = (state, score)
            return table[key][1]

        solve(game.initial_state())
        return table
