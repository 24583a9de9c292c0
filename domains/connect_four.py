"""Connect Four. A state is written as the columns 1-7 in the order played: `4455`.

Bitboards as in J. Tromp's Fhourstones and P. Pons' "Solving Connect 4": column c holds bits 7c .. 7c + 5 from the
bottom up, bit 7c + 6 stays empty so that lines do not wrap.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit
from numpy.typing import NDArray

from escalade.domains.base import BoolArray, FloatArray, IntArray, KeyArray, Symmetry
from escalade.domains.line_game import LineGame, LineState
from escalade.domains.random_bits import GAMMA, below, mix

WIDTH, HEIGHT = 7, 6
_STRIDE = HEIGHT + 1
BOTTOM = sum(1 << _STRIDE * column for column in range(WIDTH))
FULL_BOARD = BOTTOM * ((1 << HEIGHT) - 1)


class ConnectFour(LineGame):
    """Which column to drop a disc into, of seven columns with six places each."""

    name = "connect_four"
    num_actions = WIDTH
    observation_shape = (3, HEIGHT, WIDTH)
    move_characters = "1234567"
    move_noun = "column"
    num_cells = WIDTH * HEIGHT

    def landing(self, occupied: int, action: int) -> int:
        column = ((1 << HEIGHT) - 1) << _STRIDE * action
        return (occupied + (1 << _STRIDE * action)) & column & ~occupied

    def has_line(self, cells: int) -> bool:
        for shift in (1, _STRIDE - 1, _STRIDE, _STRIDE + 1):
            pairs = cells & (cells >> shift)
            if pairs & (pairs >> 2 * shift):
                return True
        return False

    def full_reason(self, action: int) -> str:
        return f"column {self.action_name(action)} is full"

    def describe(self, state: LineState) -> str:
        x, o = (state.mine, state.theirs) if state.to_move == 0 else (state.theirs, state.mine)
        lines = []
        for height in reversed(range(HEIGHT)):
            bits = [_STRIDE * column + height for column in range(WIDTH)]
            lines.append(" ".join("X" if x >> bit & 1 else "O" if o >> bit & 1 else "." for bit in bits))
        board = "\n".join(lines)
        return (
            "Connect Four: discs fall to the lowest free place of a column; four in a line wins.\n"
            f"1 2 3 4 5 6 7\n{board}\n{self.turn_text(state, 'Choose a column that is not full.')}"
        )

    def symmetries(self) -> Sequence[Symmetry]:
        """The reflection that swaps left and right."""

        def mirror(boards: FloatArray) -> FloatArray:
            return np.ascontiguousarray(boards[..., ::-1])

        return [Symmetry("mirror", mirror, np.arange(WIDTH - 1, -1, -1, dtype=np.int64))]

    def step_rows(self, rows: IntArray, actions: IntArray) -> IntArray:
        return _step(rows, actions)

    def rules_rows(self, rows: IntArray) -> tuple[BoolArray, BoolArray, FloatArray, NDArray[np.int8]]:
        return _rules(rows)

    def encode_rows(self, rows: IntArray) -> FloatArray:
        return _encode(rows)

    def playout_rows(self, rows: IntArray, keys: KeyArray) -> FloatArray:
        return _playout(rows, keys)


@njit(nogil=True, cache=True)
def has_line(cells):  # type: ignore[no-untyped-def]
    """Whether the bits of one player (int64) hold four in a line."""
    for shift in (1, 6, 7, 8):
        pairs = cells & (cells >> shift)
        if pairs & (pairs >> 2 * shift):
            return True
    return False


@njit(nogil=True, cache=True)
def _step(rows, actions):  # type: ignore[no-untyped-def]
    out = np.empty_like(rows)
    for b in range(rows.shape[0]):
        mine, theirs = rows[b, 0], rows[b, 1]
        occupied = mine | theirs
        grown = occupied | (occupied + (1 << 7 * actions[b]))
        out[b, 0] = theirs
        out[b, 1] = grown ^ theirs
        out[b, 2] = 1 - rows[b, 2]
    return out


@njit(nogil=True, cache=True)
def _rules(rows):  # type: ignore[no-untyped-def]
    count = rows.shape[0]
    legal = np.zeros((count, 7), np.bool_)
    terminal = np.zeros(count, np.bool_)
    outcome = np.zeros(count, np.float32)
    to_move = np.empty(count, np.int8)
    for b in range(count):
        to_move[b] = rows[b, 2]
        occupied = rows[b, 0] | rows[b, 1]
        if has_line(rows[b, 1]):
            terminal[b] = True
            outcome[b] = -1.0
        elif occupied == FULL_BOARD:
            terminal[b] = True
        else:
            for a in range(7):
                legal[b, a] = (occupied >> (7 * a + 5)) & 1 == 0
    return legal, terminal, outcome, to_move


@njit(nogil=True, cache=True)
def _encode(rows):  # type: ignore[no-untyped-def]
    count = rows.shape[0]
    planes = np.zeros((count, 3, 6, 7), np.float32)
    for b in range(count):
        for column in range(7):
            for height in range(6):
                bit = 7 * column + height
                if (rows[b, 0] >> bit) & 1:
                    plane = 0
                elif (rows[b, 1] >> bit) & 1:
                    plane = 1
                else:
                    plane = 2
                planes[b, plane, 5 - height, column] = 1.0
    return planes


@njit(nogil=True, cache=True)
def _playout(rows, keys):  # type: ignore[no-untyped-def]
    count = rows.shape[0]
    values = np.zeros(count, np.float32)
    free = np.empty(7, np.int64)
    for b in range(count):
        mine, theirs, key = rows[b, 0], rows[b, 1], keys[b]
        sign = np.float32(1.0)  # of the player to move now, seen from the one to move in the row
        while True:
            if has_line(theirs):
                values[b] = -sign
                break
            occupied = mine | theirs
            if occupied == FULL_BOARD:
                break
            n = 0
            for a in range(7):
                if (occupied >> (7 * a + 5)) & 1 == 0:
                    free[n] = a
                    n += 1
            key = key + GAMMA
            column = free[below(mix(key), n)]
            grown = occupied | (occupied + (1 << 7 * column))
            mine, theirs = theirs, grown ^ theirs
            sign = -sign
    return values
