"""Hex on 5x5 as a user writes it, in plain Python: the first player joins top and bottom, the second left and right."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from escalade.domains.base import Domain, FloatArray, Symmetry
from escalade.domains.errors import ActionError, StateError

SIZE = 5
CELLS = SIZE * SIZE
State = tuple[int, ...]
"""Cells row by row: 0 empty, 1 and 2 the players' stones; who has fewer is to move, the first if neither."""


class Hex5(Domain[State]):
    """Hex on 5x5, without the swap rule."""

    name = "hex5"
    num_actions = CELLS
    observation_shape = (2, SIZE, SIZE)

    def initial_state(self) -> State:
        return (0,) * CELLS

    def parse(self, source: Any) -> State:
        text = str(source).strip()
        if len(text) != CELLS or set(text) - set(".12") or text.count("1") - text.count("2") not in (0, 1):
            raise StateError("a hex5 state is 25 of '.', '1', '2', row by row, with as many 2 as 1, or one less")
        return tuple(".12".index(cell) for cell in text)

    def format(self, state: State) -> str:
        return "".join(".12"[cell] for cell in state)

    def action_name(self, action: int) -> str:
        return "abcde"[action % SIZE] + str(action // SIZE + 1)

    def to_move(self, state: State) -> int:
        return state.count(1) - state.count(2)

    def legal_actions(self, state: State) -> list[int]:
        return [] if self.is_terminal(state) else [cell for cell in range(CELLS) if state[cell] == 0]

    def step(self, state: State, action: int) -> State:
        if action not in self.legal_actions(state):
            raise ActionError(f"action {action} is not legal in '{self.format(state)}'")
        return (*state[:action], self.to_move(state) + 1, *state[action + 1 :])

    def is_terminal(self, state: State) -> bool:
        return _joined(state, 0) or _joined(state, 1)

    def outcome(self, state: State) -> float:
        return -1.0  # whoever moved last has won

    def encode(self, states: Sequence[State]) -> FloatArray:
        """The mover's stones and the other's, turned so that the mover always joins top and bottom."""
        out = np.zeros((len(states), 2, SIZE, SIZE), np.float32)
        for row, state in enumerate(states):
            board, player = np.array(state).reshape(SIZE, SIZE), self.to_move(state)
            board = board if player == 0 else board.T
            out[row, 0], out[row, 1] = board == player + 1, board == 2 - player
        return out

    def symmetries(self) -> Sequence[Symmetry]:
        half_turn = np.arange(CELLS)[::-1].copy()
        return (Symmetry("half turn", lambda planes: np.ascontiguousarray(planes[..., ::-1, ::-1]), half_turn),)


def _joined(state: State, player: int) -> bool:
    reached = [cell for cell in (range(SIZE) if player == 0 else range(0, CELLS, SIZE)) if state[cell] == player + 1]
    seen = set(reached)
    while reached:
        cell = reached.pop()
        row, column = divmod(cell, SIZE)
        if (row if player == 0 else column) == SIZE - 1:
            return True
        for down, right in ((-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0)):
            y, x = row + down, column + right
            other = y * SIZE + x
            if 0 <= y < SIZE and 0 <= x < SIZE and state[other] == player + 1 and other not in seen:
                seen.add(other)
                reached.append(other)
    return False
