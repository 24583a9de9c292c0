"""Connect Four. A state is written as the columns 1-7 in the order played: `4455`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numba import njit

from escalade.domains.base import Symmetry
from escalade.domains.connect_four_boards import (
    BOTTOM,
    FULL_BOARD,
    HEIGHT,
    STRIDE,
    WIDTH,
    find_threats,
    fours,
    popcount,
    proven_value,
)
from escalade.domains.kernels import RowKernels
from escalade.domains.line_game import LineGame, LineState
from escalade.domains.random_bits import GAMMA, below, mix

_SHIFTS = np.array([STRIDE * (p % WIDTH) + HEIGHT - 1 - p // WIDTH for p in range(WIDTH * HEIGHT)], np.int64)
"""The bit of each place, row by row from the top."""


def _lines() -> list[int]:
    """The 69 lines of four, each as the bits of its cells."""
    found = []
    for across, up in ((1, 0), (0, 1), (1, 1), (1, -1)):
        for column in range(WIDTH - 3 * across):
            for row in range(HEIGHT):
                if 0 <= row + 3 * up < HEIGHT:
                    found.append(sum(1 << STRIDE * (column + k * across) + row + k * up for k in range(4)))
    return found


_LINES = np.array(_lines(), np.int64)
_PLANES = 5 * WIDTH * HEIGHT
_SIZE = _PLANES + 6 * len(_LINES)


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
        lost = fours(rows[b, 1]) != 0
        terminal[b] = lost or occupied == FULL_BOARD
        outcome[b] = -1.0 if lost else 0.0
        for a in range(7):
            legal[b, a] = not terminal[b] and (occupied >> (7 * a + 5)) & 1 == 0


@njit(nogil=True, cache=True)
def _encode(rows, out):  # type: ignore[no-untyped-def]
    for b in range(rows.shape[0]):
        mine, theirs = rows[b, 0], rows[b, 1]
        occupied = mine | theirs
        next_free = occupied + BOTTOM
        wins, losses = find_threats(mine, occupied), find_threats(theirs, occupied)
        for place in range(42):
            bit = _SHIFTS[place]
            out[b, place] = np.int32((mine >> bit) & 1)
            out[b, 42 + place] = np.int32((theirs >> bit) & 1)
            out[b, 84 + place] = np.int32((next_free >> bit) & 1)
            out[b, 126 + place] = np.int32((wins >> bit) & 1)
            out[b, 168 + place] = np.int32((losses >> bit) & 1)
        for place in range(_PLANES, _SIZE):
            out[b, place] = 0
        for number in range(_LINES.shape[0]):
            own, other = mine & _LINES[number], theirs & _LINES[number]
            if (own == 0) != (other == 0):
                kind = 2 * popcount(own | other) - 2 + (own == 0)
                if kind < 6:  # a line of four ends the game
                    out[b, _PLANES + kind * _LINES.shape[0] + number] = 1


@njit(nogil=True, cache=True)
def _ends(rows, out):  # type: ignore[no-untyped-def]
    for b in range(rows.shape[0]):
        mine, theirs = rows[b, 0], rows[b, 1]
        occupied = mine | theirs
        over = fours(theirs) != 0
        for a in range(7):
            bit = (occupied + (1 << 7 * a)) & (0b111111 << 7 * a)
            out[b, a] = np.nan
            if bit and not over:
                if fours(mine | bit) != 0:
                    out[b, a] = 1.0
                elif occupied | bit == FULL_BOARD:
                    out[b, a] = 0.0


@njit(nogil=True, cache=True)
def _proofs(rows, out):  # type: ignore[no-untyped-def]
    for b in range(rows.shape[0]):
        mine, theirs = rows[b, 0], rows[b, 1]
        occupied = mine | theirs
        stones = popcount(occupied)
        over = fours(theirs) != 0
        for a in range(7):
            bit = (occupied + (1 << 7 * a)) & (0b111111 << 7 * a)
            if bit == 0 or over:
                out[b, a] = np.nan
            elif fours(mine | bit) != 0:
                out[b, a] = 1.0
            elif occupied | bit == FULL_BOARD:
                out[b, a] = 0.0
            else:
                out[b, a] = -proven_value(theirs, mine | bit, stones + 1)


@njit(nogil=True, cache=True)
def _playout(rows, keys, values):  # type: ignore[no-untyped-def]
    free = np.empty(7, np.int64)
    for b in range(rows.shape[0]):
        values[b] = 0.0
        mine, theirs, key = rows[b, 0], rows[b, 1], keys[b]
        sign = np.float32(1.0)  # of the player to move now, seen from the one to move in the row
        while True:
            if fours(theirs) != 0:
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
    """Which column to drop a disc into, of seven columns with six places each.

    A network sees 624 numbers, all 0 or 1: five planes of 6 x 7 (the mover's discs, the other's, the cells that the
    next disc can fall to, the free cells where a disc of the mover, and where one of the other, would make four in a
    line), then for each of the 69 lines of four whether it holds one disc of the mover and none of the other, one of
    the other and none of the mover, and so on for two and for three. Lines and threats carry what the rules are about,
    which a small network would have to find out first.
    """

    name = "connect_four"
    num_actions = WIDTH
    observation_shape = (_SIZE,)
    move_characters = "1234567"
    move_noun = "column"
    kernels = RowKernels(_step, _rules, _encode, _playout, _ends, _proofs)
    num_cells = WIDTH * HEIGHT

    def landing(self, occupied: int, action: int) -> int:
        column = ((1 << HEIGHT) - 1) << STRIDE * action
        return (occupied + (1 << STRIDE * action)) & column & ~occupied

    def has_line(self, cells: int) -> bool:
        for shift in (1, STRIDE - 1, STRIDE, STRIDE + 1):
            pairs = cells & (cells >> shift)
            if pairs & (pairs >> 2 * shift):
                return True
        return False

    def winning_cells(self, cells: int) -> int:
        return find_threats.py_func(cells, 0)  # one call into a kernel costs more than these few operations

    def proven_actions(self, state: LineState) -> Mapping[int, float]:
        """By threats, forced moves and zugzwang (`escalade.domains.connect_four_boards.proven_value`)."""
        values = self.proofs_rows(self.to_rows([state]))[0].tolist()
        return {action: value for action, value in enumerate(values) if not math.isnan(value)}

    def full_reason(self, action: int) -> str:
        return f"column {self.action_name(action)} is full"

    def notation(self) -> str:
        return (
            "A state is the columns 1 to 7 in the order in which discs were dropped, X first: '4455' means that X and "
            "O played column 4, then both column 5; '' is the empty board."
        )

    def examples(self) -> Sequence[str]:
        return ("4455", "44444")

    def describe(self, state: LineState) -> str:
        x, o = (state.mine, state.theirs) if state.to_move == 0 else (state.theirs, state.mine)
        lines = []
        for height in reversed(range(HEIGHT)):
            bits = [STRIDE * column + height for column in range(WIDTH)]
            lines.append(" ".join("X" if x >> bit & 1 else "O" if o >> bit & 1 else "." for bit in bits))
        board = "\n".join(lines)
        return (
            "Connect Four: discs fall to the lowest free place of a column; four in a line wins.\n"
            f"1 2 3 4 5 6 7\n{board}\n{self.turn_text(state, 'Choose a column that is not full.')}"
        )

    def symmetries(self) -> Sequence[Symmetry]:
        """The reflection that swaps left and right."""
        return [Symmetry("mirror", lambda seen: seen[:, _MIRRORED], np.arange(WIDTH - 1, -1, -1, dtype=np.int64))]


def _mirrored() -> list[int]:
    """Which number of an observation comes to stand at each place when left and right are swapped."""
    planes = np.arange(_PLANES).reshape(-1, HEIGHT, WIDTH)[:, :, ::-1].reshape(-1).tolist()
    columns = [(_LINES >> STRIDE * column) & 127 for column in range(WIDTH)]
    reflected = np.sum([cells << STRIDE * (WIDTH - 1 - c) for c, cells in enumerate(columns)], axis=0).tolist()
    places = {line: place for place, line in enumerate(_LINES.tolist())}
    lines = [_PLANES + kind * len(places) + places[line] for kind in range(6) for line in reflected]
    return [*planes, *lines]


_MIRRORED = np.array(_mirrored(), np.int64)
