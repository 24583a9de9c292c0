"""Tic-tac-toe. A state is written as the cells 1-9 in the order played, row by row from the top left: `51` is the
centre, then the top left corner."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from escalade.domains.base import FloatArray, Symmetry
from escalade.domains.kernels import RowKernels
from escalade.domains.line_game import LineGame, LineState
from escalade.domains.random_bits import GAMMA, below, mix

LINES = (0b111, 0b111000, 0b111000000, 0b1001001, 0b10010010, 0b100100100, 0b100010001, 0b1010100)
_LINES = np.array(LINES, dtype=np.int64)
_FULL = 0b111111111


@njit(nogil=True, cache=True)
def _has_line(cells):  # type: ignore[no-untyped-def]
    for line in _LINES:
        if cells & line == line:
            return True
    return False


@njit(nogil=True, cache=True)
def _step(rows, actions, out):  # type: ignore[no-untyped-def]
    for b in range(rows.shape[0]):
        out[b, 0] = rows[b, 1]
        out[b, 1] = rows[b, 0] | (1 << actions[b])
        out[b, 2] = 1 - rows[b, 2]


@njit(nogil=True, cache=True)
def _rules(rows, legal, terminal, outcome, to_move):  # type: ignore[no-untyped-def]
    for b in range(rows.shape[0]):
        to_move[b] = rows[b, 2]
        occupied = rows[b, 0] | rows[b, 1]
        lost = _has_line(rows[b, 1])
        terminal[b] = lost or occupied == _FULL
        outcome[b] = -1.0 if lost else 0.0
        for a in range(9):
            legal[b, a] = not terminal[b] and (occupied >> a) & 1 == 0


@njit(nogil=True, cache=True)
def _encode(rows, out):  # type: ignore[no-untyped-def]
    for b in range(rows.shape[0]):
        for cell in range(9):
            me, other = (rows[b, 0] >> cell) & 1, (rows[b, 1] >> cell) & 1
            out[b, cell] = me
            out[b, 9 + cell] = other
            out[b, 18 + cell] = 1 - (me | other)


@njit(nogil=True, cache=True)
def _ends(rows, out):  # type: ignore[no-untyped-def]
    for b in range(rows.shape[0]):
        mine, occupied = rows[b, 0], rows[b, 0] | rows[b, 1]
        over = _has_line(rows[b, 1])
        for a in range(9):
            bit = (1 << a) & ~occupied
            out[b, a] = np.nan
            if bit and not over:
                if _has_line(mine | bit):
                    out[b, a] = 1.0
                elif occupied | bit == _FULL:
                    out[b, a] = 0.0


@njit(nogil=True, cache=True)
def _playout(rows, keys, values):  # type: ignore[no-untyped-def]
    free = np.empty(9, np.int64)
    for b in range(rows.shape[0]):
        values[b] = 0.0
        mine, theirs, key = rows[b, 0], rows[b, 1], keys[b]
        sign = np.float32(1.0)  # of the player to move now, seen from the one to move in the row
        while True:
            if _has_line(theirs):
                values[b] = -sign
                break
            occupied = mine | theirs
            if occupied == _FULL:
                break
            n = 0
            for a in range(9):
                if (occupied >> a) & 1 == 0:
                    free[n] = a
                    n += 1
            key = key + GAMMA
            mine, theirs = theirs, mine | (1 << free[below(mix(key), n)])
            sign = -sign


class TicTacToe(LineGame):
    """Which free cell to take, on three by three cells."""

    name = "tic_tac_toe"
    num_actions = 9
    observation_shape = (3, 3, 3)
    move_characters = "123456789"
    move_noun = "cell"
    kernels = RowKernels(_step, _rules, _encode, _playout, _ends)
    num_cells = 9

    def landing(self, occupied: int, action: int) -> int:
        return (1 << action) & ~occupied

    def has_line(self, cells: int) -> bool:
        return any(cells & line == line for line in LINES)

    def winning_cells(self, cells: int) -> int:
        wins = 0
        for line in LINES:
            missing = line & ~cells
            if missing & (missing - 1) == 0:
                wins |= missing
        return wins

    def full_reason(self, action: int) -> str:
        return f"cell {self.action_name(action)} is taken"

    def notation(self) -> str:
        return (
            "A state is the cells 1 to 9 (row by row from the top left) in the order in which they were taken, X "
            "first: '51' means that X took the centre and O the top left corner; '' is the empty board."
        )

    def examples(self) -> Sequence[str]:
        return ("51", "5193")

    def describe(self, state: LineState) -> str:
        x, o = (state.mine, state.theirs) if state.to_move == 0 else (state.theirs, state.mine)
        cells = ["X" if x >> i & 1 else "O" if o >> i & 1 else str(i + 1) for i in range(9)]
        board = "\n".join(" ".join(cells[row : row + 3]) for row in (0, 3, 6))
        return (
            "Tic-tac-toe: three in a row, column or diagonal wins. Free cells show their number.\n"
            f"{board}\n{self.turn_text(state, 'Choose the number of a free cell.')}"
        )

    def symmetries(self) -> Sequence[Symmetry]:
        """The seven rotations and reflections of the square other than the identity."""
        found = []
        for quarter_turns in range(4):
            for mirrored in (False, True):
                if (quarter_turns, mirrored) != (0, False):
                    found.append(_symmetry(quarter_turns, mirrored))
        return found


def _symmetry(quarter_turns: int, mirrored: bool) -> Symmetry:
    def turn(boards: FloatArray) -> FloatArray:
        turned = np.rot90(boards, quarter_turns, axes=(-2, -1))
        return np.ascontiguousarray(turned[..., ::-1] if mirrored else turned)

    # Where each cell ends up: the inverse of which old cell each new place shows.
    shown = turn(np.arange(9, dtype=np.float32).reshape(3, 3)).reshape(9).astype(np.int64)
    name = f"{90 * quarter_turns} degrees" + (" mirrored" if mirrored else "")
    return Symmetry(name, turn, np.argsort(shown))
