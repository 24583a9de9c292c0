"""Connect Four's boards as bits, and what they tell without a search: threats, forced moves, whom the zugzwang favours.

A board is an int64 as in J. Tromp's Fhourstones and P. Pons' "Solving Connect 4": column c holds bits 7c .. 7c + 5 from
the bottom up, bit 7c + 6 stays empty so that lines do not wrap. Rows count from 1 at the bottom. A *threat* of a player
is an empty cell that would complete four for him. *First* is the player who began: he moves whenever the number of
stones is even; *Second* is the other. Scores are as in `search/solve_connect_four.py`.

Functions without branches let loops over moves become vector instructions. They are compiled into their callers, whose
cache does not notice a change here: after one, delete `domains/__pycache__` and `search/__pycache__`.
"""

from __future__ import annotations

import numpy as np
from numba import njit

WIDTH, HEIGHT = 7, 6
STRIDE = HEIGHT + 1
BOTTOM = sum(1 << STRIDE * column for column in range(WIDTH))
FULL_BOARD = BOTTOM * ((1 << HEIGHT) - 1)
CELLS = WIDTH * HEIGHT
ROWS = tuple(BOTTOM << row for row in range(6))
ODD, EVEN = ROWS[0] | ROWS[2] | ROWS[4], ROWS[1] | ROWS[3] | ROWS[5]
_ABOVE = BOTTOM << 6  # the cells that stay empty, one above each column


@njit(nogil=True, cache=True, inline="always")
def popcount(cells):  # type: ignore[no-untyped-def]
    """The number of bits set in an int64; compilers know this pattern and use their instruction for it."""
    x = np.uint64(cells)
    x = x - ((x >> np.uint64(1)) & np.uint64(0x5555555555555555))
    x = (x & np.uint64(0x3333333333333333)) + ((x >> np.uint64(2)) & np.uint64(0x3333333333333333))
    x = (x + (x >> np.uint64(4))) & np.uint64(0x0F0F0F0F0F0F0F0F)
    return np.int64((x * np.uint64(0x0101010101010101)) >> np.uint64(56))


@njit(nogil=True, cache=True, inline="always")
def fours(cells):  # type: ignore[no-untyped-def]
    """Not 0 if there are four in a line among the cells."""
    found = np.int64(0)
    for shift in (1, 6, 7, 8):
        pairs = cells & (cells >> shift)
        found |= pairs & (pairs >> 2 * shift)
    return found


@njit(nogil=True, cache=True, inline="always")
def find_threats(cells, occupied):  # type: ignore[no-untyped-def]
    """Empty cells, reachable yet or not, that complete four for the owner of `cells`."""
    found = (cells << 1) & (cells << 2) & (cells << 3)
    for shift in (6, 7, 8):
        below = (cells << shift) & (cells << 2 * shift)
        above = (cells >> shift) & (cells >> 2 * shift)
        found |= below & ((cells << 3 * shift) | (cells >> shift))
        found |= above & ((cells >> 3 * shift) | (cells << shift))
    return found & (FULL_BOARD ^ occupied)


@njit(nogil=True, cache=True, inline="always")
def upwards(cells):  # type: ignore[no-untyped-def]
    """The cells and all that lie above them."""
    cells |= (cells & ~ROWS[5]) << 1
    cells |= (cells & ~(ROWS[5] | ROWS[4])) << 2
    return cells | (cells & (ROWS[0] | ROWS[1])) << 4


@njit(nogil=True, cache=True, inline="always")
def safe_moves(occupied, threats):  # type: ignore[no-untyped-def]
    """(moves that meet an immediate threat of the other player and open none, whether there is no such move)"""
    free = (occupied + BOTTOM) & FULL_BOARD
    forced = free & threats
    moves = (forced if forced != 0 else free) & ~(threats >> 1)
    return moves, (moves == 0) | ((forced & (forced - 1)) != 0)


@njit(nogil=True, cache=True, inline="always")
def left_to_first(second_threats, empty, free):  # type: ignore[no-untyped-def]
    """(empty cells that First can still get if Second follows him up, those at and above Second's even threats)

    Second can answer every stone of First in the column it fell into, and so gets all even rows; only where First
    takes a free even cell (the *base* of a column of odd height) he answers with another such base. First then gets
    odd rows and bases at most. And if Second has threats in even rows, First never gets above the cell below one.
    """
    cut_off = upwards(second_threats & EVEN & ~free)
    return empty & (ODD | free) & ~cut_off, cut_off


@njit(nogil=True, cache=True, inline="always")
def deciding_threats(first_threats, free):  # type: ignore[no-untyped-def]
    """First's odd threats that turn the zugzwang in his favour."""
    return first_threats & ODD & ~free & ~ROWS[0]


@njit(nogil=True, cache=True, inline="always")
def left_to_second(first_threats, deciding, empty, free):  # type: ignore[no-untyped-def]
    """(empty cells that Second can still get if First follows him up, those at and above which he gets none)

    First can do the same once he has a threat in an odd row, since the rest of the board then has an even number of
    cells when Second is to move: Second gets odd rows and bases elsewhere, and must in the end play below the threat.
    deciding: that threat; a proof rests on a single one.
    """
    top = ((deciding << 4) | (deciding << 2)) & _ABOVE
    column = top - (top >> 6)
    cut_off = upwards((first_threats & EVEN & ~free & ~column) | deciding)
    return empty & (ODD | free | column) & ~cut_off, cut_off


@njit(nogil=True, cache=True, inline="always")
def zugzwang_bounds(first, second, occupied, first_threats, second_threats, low, high):  # type: ignore[no-untyped-def]
    """(lower, upper) bound of the score as First sees it, no wider than `low` and `high`, given the cells of both.

    Holds where the player to move can neither win at once nor must lose to the next stone. It rests on follow-up
    (V. Allis, "A Knowledge-Based Approach of Connect-Four", 1988: Claimeven, Baseinverse, odd and even threats): if
    what a player can still get (`left_to_first`, `left_to_second`) holds no four with his stones, he cannot win; and if
    the other has threats there, he plays below one only when all else is full, and then has lost.

    A winner by zugzwang places his last stone when all but the cells from below the threats upwards are full.
    """
    empty = FULL_BOARD ^ occupied
    free = (occupied + BOTTOM) & FULL_BOARD
    to_first, cut_off = left_to_first(second_threats, empty, free)
    score = -(popcount(cut_off | (cut_off >> 1)) >> 1)
    high = min(high, score) if fours(first | to_first) == 0 else high
    odd = deciding_threats(first_threats, free)
    low_odd = odd & ROWS[2]
    chosen = low_odd & -low_odd if low_odd != 0 else odd & -odd  # a low one ends the game sooner
    to_second, cut_off = left_to_second(first_threats, chosen, empty, free)
    score = 22 - ((45 - popcount(cut_off | (cut_off >> 1))) >> 1)
    low = max(low, score) if (fours(second | to_second) == 0) & (odd != 0) else low

    # Where all lines left to Second pass through his threats, none on top of another, First can wait till all is full.
    cut_off = upwards(second_threats & ~free)
    score = ((45 - popcount(cut_off | (cut_off >> 1))) >> 1) - 22
    stacked = second_threats & (second_threats << 1)
    low = max(low, score) if (fours(second | (empty & ~second_threats)) | stacked) == 0 else low
    return low, high


@njit(nogil=True, cache=True)
def _wins_by_another_threat(second, first_threats, occupied):  # type: ignore[no-untyped-def]
    """Whether one of First's odd threats wins by zugzwang: all are tried, so that a position and its mirror image are
    proven alike."""
    empty = FULL_BOARD ^ occupied
    free = (occupied + BOTTOM) & FULL_BOARD
    odd = deciding_threats(first_threats, free)
    while odd != 0:
        chosen = odd & -odd
        odd ^= chosen
        to_second, _ = left_to_second(first_threats, chosen, empty, free)
        if fours(second | to_second) == 0:
            return True
    return False


@njit(nogil=True, cache=True)
def proven_value(mine, theirs, stones):  # type: ignore[no-untyped-def]
    """1, 0 or -1 where threats, forced moves and zugzwang prove what an unfinished position is worth to the player to
    move, NaN where they do not. mine, theirs: cells of the player to move and of the other; stones: how many in all."""
    occupied = mine | theirs
    if find_threats(mine, occupied) & (occupied + BOTTOM) != 0:
        return np.float32(1)
    sign = np.float32(1)
    while stones < CELLS:
        # The player to move cannot win at once: the move before saw to that.
        others = find_threats(theirs, occupied)
        moves, lost = safe_moves(occupied, others)
        if lost:
            return -sign
        if stones & 1 == 0:
            first, second, for_first = mine, theirs, sign
            first_threats, second_threats = find_threats(mine, occupied), others
        else:
            first, second, for_first = theirs, mine, -sign
            first_threats, second_threats = others, find_threats(mine, occupied)
        low, high = zugzwang_bounds(first, second, occupied, first_threats, second_threats, -1, 1)
        if low <= 0 and _wins_by_another_threat(second, first_threats, occupied):
            low = 1
        low, high = min(low, 1), max(high, -1)  # of the score only the sign counts here
        if low == high:
            return for_first * np.float32(low)
        if moves & (moves - 1) != 0:
            return np.float32(np.nan)
        mine, theirs = theirs, mine | moves  # the only move that does not lose at once
        occupied |= moves
        stones += 1
        sign = -sign
    return np.float32(0)
