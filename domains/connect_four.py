"""Connect Four. A state is written as the columns 1-7 in the order played: `4455`.

Bitboards as in J. Tromp's Fhourstones and P. Pons' "Solving Connect 4": column c holds bits 7c .. 7c + 5 from the
bottom up, bit 7c + 6 stays empty so that lines do not wrap.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit

from escalade.domains.base import FloatArray, Symmetry
from escalade.domains.kernels import RowKernels
from escalade.domains.line_game import LineGame, LineState
from escalade.domains.random_bits import GAMMA, below, mix

WIDTH, HEIGHT = 7, 6
_STRIDE = HEIGHT + 1
BOTTOM = sum(1 << _STRIDE * column for column in range(WIDTH))
FULL_BOARD = BOTTOM * ((1 << HEIGHT) - 1)
_SHIFTS = np.array([_STRIDE * (p % WIDTH) + HEIGHT - 1 - p // WIDTH for p in range(WIDTH * HEIGHT)], np.int64)
"""The bit of each place, row by row from the top."""


@njit(nogil=True, cache=True)
def has_line(cells):  # type: ignore[no-untyped-def]
    """Whether the bits of one player (int64) hold four in a line."""
    for shift in (1, 6, 7, 8):
        pairs = cells & (cells >> shift)
        if pairs & (pairs >> 2 * shift):
            return True
    return False


@njit(nogil=True, cache=True)
def _step(rows, actions, out):  # type: ignore[no-untyped-def]
    for b in range(rows.shape[0]):
        mine, theirs = rows[b, 0], rows[b, 1]
        occupied = mine | theirs
        grown = occupied | (occupied + (1 << 7 * actions[b]))
        out[b, 0] = theirs
        out[b, 1] = grown ^ theirs
        out[b, 2] = 1 - rows[b, 2]


@njit(nogil=True, cache=True)
def _rules(rows, legal, terminal, outcome, to_move):  # type: ignore[no-untyped-def]
    for b in range(rows.shape[0]):
        to_move[b] = rows[b, 2]
        occupied = rows[b, 0] | rows[b, 1]
        lost = has_line(rows[b, 1])
        terminal[b] = lost or occupied == FULL_BOARD
        outcome[b] = -1.0 if lost else 0.0
        for a in range(7):
            legal[b, a] = not terminal[b] and (occupied >> (7 * a + 5)) & 1 == 0


@njit(nogil=True, cache=True)
def _encode(rows, out):  # type: ignore[no-untyped-def]
    for b in range(rows.shape[0]):
        mine, theirs = rows[b, 0], rows[b, 1]
        empty = ~(mine | theirs)
        for place in range(42):
            out[b, place] = np.int32((mine >> _SHIFTS[place]) & 1)
        for place in range(42):
            out[b, 42 + place] = np.int32((theirs >> _SHIFTS[place]) & 1)
        for place in range(42):
            out[b, 84 + place] = np.int32((empty >> _SHIFTS[place]) & 1)


@njit(nogil=True, cache=True)
def _ends(rows, out):  # type: ignore[no-untyped-def]
    for b in range(rows.shape[0]):
        mine, theirs = rows[b, 0], rows[b, 1]
        occupied = mine | theirs
        over = has_line(theirs)
        for a in range(7):
            bit = (occupied + (1 << 7 * a)) & (0b111111 << 7 * a)
            out[b, a] = np.nan
            if bit and not over:
                if has_line(mine | bit):
                    out[b, a] = 1.0
                elif occupied | bit == FULL_BOARD:
                    out[b, a] = 0.0


@njit(nogil=True, cache=True)
def _playout(rows, keys, values):  # type: ignore[no-untyped-def]
    free = np.empty(7, np.int64)
    for b in range(rows.shape[0]):
        values[b] = 0.0
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


class ConnectFour(LineGame):
    """Which column to drop a disc into, of seven columns with six places each."""

    name = "connect_four"
    num_actions = WIDTH
    observation_shape = (3, HEIGHT, WIDTH)
    move_characters = "1234567"
    move_noun = "column"
    kernels = RowKernels(_step, _rules, _encode, _playout, _ends)
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

    def winning_cells(self, cells: int) -> int:
        wins = (cells << 1) & (cells << 2) & (cells << 3)
        for shift in (_STRIDE - 1, _STRIDE, _STRIDE + 1):
            below, above = (cells << shift) & (cells << 2 * shift), (cells >> shift) & (cells >> 2 * shift)
            wins |= below & (cells << 3 * shift | cells >> shift) | above & (cells >> 3 * shift | cells << shift)
        return wins & FULL_BOARD

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
