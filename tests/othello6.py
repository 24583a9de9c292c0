"""Othello on 6x6 as a user writes it, in plain Python: passes are moves, and the game ends when nobody can move."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from escalade.domains.base import Domain, FloatArray, Symmetry
from escalade.domains.errors import ActionError, StateError

SIZE = 6
PASS = SIZE * SIZE
State = tuple[tuple[int, ...], int]
"""Cells row by row (0 empty, 1 black, 2 white), and the player to move: 0 black, 1 white."""


class Othello6(Domain[State]):
    """Othello on 6x6."""

    name = "othello6"
    num_actions = PASS + 1
    observation_shape = (2, SIZE, SIZE)

    def initial_state(self) -> State:
        board = [0] * PASS
        middle = SIZE // 2
        for row, column, disc in ((0, 0, 2), (1, 1, 2), (0, 1, 1), (1, 0, 1)):
            board[(middle - 1 + row) * SIZE + middle - 1 + column] = disc
        return tuple(board), 0

    def parse(self, source: Any) -> State:
        text = str(source).strip()
        cells, _, player = text.partition(" ")
        if len(cells) != PASS or set(cells) - set(".bw") or player not in ("b", "w"):
            raise StateError(
                "an othello6 state is 36 of '.', 'b', 'w', row by row, a space, and who is to move: b or w"
            )
        return tuple(".bw".index(cell) for cell in cells), "bw".index(player)

    def format(self, state: State) -> str:
        return "".join(".bw"[cell] for cell in state[0]) + " " + "bw"[state[1]]

    def action_name(self, action: int) -> str:
        return "pass" if action == PASS else "abcdef"[action % SIZE] + str(action // SIZE + 1)

    def to_move(self, state: State) -> int:
        return state[1]

    def legal_actions(self, state: State) -> list[int]:
        board, player = state
        moves = _moves(board, player)
        if moves:
            return moves
        return [PASS] if _moves(board, 1 - player) else []

    def step(self, state: State, action: int) -> State:
        board, player = state
        if action == PASS and self.legal_actions(state) == [PASS]:
            return board, 1 - player
        flipped = _flipped(board, player, action) if 0 <= action < PASS and board[action] == 0 else []
        if not flipped:
            raise ActionError(f"action {action} is not legal in '{self.format(state)}'")
        after = list(board)
        for cell in (*flipped, action):
            after[cell] = player + 1
        return tuple(after), 1 - player

    def is_terminal(self, state: State) -> bool:
        board, player = state
        return not _moves(board, player) and not _moves(board, 1 - player)

    def outcome(self, state: State) -> float:
        board, player = state
        lead = board.count(player + 1) - board.count(2 - player)
        return float((lead > 0) - (lead < 0))

    def encode(self, states: Sequence[State]) -> FloatArray:
        boards = np.array([board for board, _ in states], np.int64).reshape(-1, SIZE, SIZE)
        players = np.array([player for _, player in states], np.int64).reshape(-1, 1, 1)
        return np.stack([boards == players + 1, boards == 2 - players], axis=1).astype(np.float32)

    def symmetries(self) -> Sequence[Symmetry]:
        """Those that leave the opening as it is: a half turn, and the flips along both diagonals."""
        found = []
        cells = np.arange(PASS).reshape(SIZE, SIZE)
        for name, image in (("half turn", _half_turn), ("diagonal", _flip), ("other diagonal", _other_flip)):
            where = np.full(PASS + 1, PASS)
            where[image(cells).reshape(-1)] = np.arange(PASS)
            found.append(Symmetry(name, image, where))
        return found


def _half_turn(planes: Any) -> Any:
    return np.ascontiguousarray(planes[..., ::-1, ::-1])


def _flip(planes: Any) -> Any:
    return np.ascontiguousarray(np.swapaxes(planes, -1, -2))


def _other_flip(planes: Any) -> Any:
    return _flip(_half_turn(planes))


def _flipped(board: tuple[int, ...], player: int, action: int) -> list[int]:
    mine, theirs = player + 1, 2 - player
    row, column = divmod(action, SIZE)
    found = []
    for down in (-1, 0, 1):
        for right in (-1, 0, 1):
            line = []
            y, x = row + down, column + right
            while (down or right) and 0 <= y < SIZE and 0 <= x < SIZE and board[y * SIZE + x] == theirs:
                line.append(y * SIZE + x)
                y, x = y + down, x + right
            if line and 0 <= y < SIZE and 0 <= x < SIZE and board[y * SIZE + x] == mine:
                found += line
    return found


def _moves(board: tuple[int, ...], player: int) -> list[int]:
    return [cell for cell in range(PASS) if board[cell] == 0 and _flipped(board, player, cell)]
