"""Connect Four solved exactly: alpha-beta on bitboards with a transposition table.

After J. Tromp's Fhourstones and P. Pons' "Solving Connect 4": negamax with null windows, moves ordered by the threats
they make, moves that lose at once pruned, both bounds of a position kept in the table. A score is 22 - k where the
winner wins with their k-th disc: positive for the player to move, sooner is larger; 0 is a draw.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numba import njit

from escalade.domains.connect_four import BOTTOM, FULL_BOARD, ConnectFour
from escalade.domains.line_game import LineState

TABLE_BITS = 23  # entries of 9 bytes: 72 MiB
MIRROR_PLIES = 16  # up to here a position and its mirror image share an entry
CENTRE_FIRST = (3, 2, 4, 1, 5, 0, 6)
_LOWER_BOUND = 100  # added to a table value that is a lower bound
_HASH = np.uint64(0x9E3779B97F4A7C15)
_ORDER = np.array(CENTRE_FIRST, dtype=np.int64)


class ConnectFourSolver:
    """Exact scores of any position. May be shared by threads; they take turns. The table is kept between calls."""

    def __init__(self) -> None:
        self._game = ConnectFour()
        self._lock = threading.Lock()
        self._keys = np.zeros(0, np.int64)
        self._bounds = np.zeros(0, np.int8)

    def scores(self, state: LineState, on_progress: Callable[[int], None] | None = None) -> list[float | None]:
        """Exact score of every action, None where illegal. on_progress hears how many actions are solved.

        Takes milliseconds from 14 plies on, seconds at 8, and long for the empty board.
        """
        found: list[float | None] = [None] * self._game.num_actions
        legal = [action for action in CENTRE_FIRST if action in self._game.legal_actions(state)]
        for number, action in enumerate(legal, start=1):
            child = self._game.step(state, action)
            found[action] = self._score(child) * -1.0 + 0.0
            if on_progress is not None:
                on_progress(number)
        return found

    def value(self, state: LineState) -> float:
        """Sign of the exact score for the player to move; a finished state's outcome."""
        return float(np.sign(self._score(state)))

    def _score(self, state: LineState) -> int:
        plies = len(state.moves)
        if self._game.is_terminal(state):
            return -((44 - plies) // 2) if self._game.outcome(state) else 0
        with self._lock:
            if not len(self._keys):
                self._keys = np.zeros(1 << TABLE_BITS, np.int64)
                self._bounds = np.zeros(1 << TABLE_BITS, np.int8)
            return int(_solve(state.mine, state.mine | state.theirs, plies, self._keys, self._bounds))


@njit(nogil=True, cache=True)
def _winning_cells(cells, occupied):  # type: ignore[no-untyped-def]
    """Free cells that would complete four in a line of `cells`, reachable or not."""
    found = (cells << 1) & (cells << 2) & (cells << 3)
    for shift in (6, 7, 8):
        pairs = (cells << shift) & (cells << 2 * shift)
        found |= pairs & ((cells << 3 * shift) | (cells >> shift))
        pairs = (cells >> shift) & (cells >> 2 * shift)
        found |= pairs & ((cells << shift) | (cells >> 3 * shift))
    return found & (FULL_BOARD ^ occupied)


@njit(nogil=True, cache=True)
def _count(bits):  # type: ignore[no-untyped-def]
    count = 0
    while bits:
        bits &= bits - 1
        count += 1
    return count


@njit(nogil=True, cache=True)
def _mirrored(bits):  # type: ignore[no-untyped-def]
    found = 0
    for column in range(7):
        found |= ((bits >> 7 * column) & 127) << 7 * (6 - column)
    return found


@njit(nogil=True, cache=True)
def _key(mine, occupied, plies):  # type: ignore[no-untyped-def]
    """A number that no two positions share, but mirror images early in the game."""
    key = mine + occupied + BOTTOM
    if plies < MIRROR_PLIES:
        key = min(key, _mirrored(mine) + _mirrored(occupied) + BOTTOM)
    return key


@njit(nogil=True, cache=True)
def _solve(mine, occupied, plies, keys, bounds):  # type: ignore[no-untyped-def]
    """Exact score of an unfinished position, by halving the window of possible scores."""
    playable = (occupied + BOTTOM) & FULL_BOARD
    if _winning_cells(mine, occupied) & playable:
        return (43 - plies) // 2
    low, high = -((42 - plies) // 2), (43 - plies) // 2
    while low < high:
        middle = low + (high - low) // 2
        # Scores near 0 first: windows there are decided with much less search.
        if middle <= 0 and -((-low) // 2) < middle:
            middle = -((-low) // 2)
        elif middle >= 0 and high // 2 > middle:
            middle = high // 2
        score = _negamax(mine, occupied, plies, middle, middle + 1, keys, bounds)
        if score <= middle:
            high = score
        else:
            low = score
    return low


@njit(nogil=True, cache=True)
def _negamax(mine, occupied, plies, alpha, beta, keys, bounds):  # type: ignore[no-untyped-def]
    """The score if it is within (alpha, beta), else a bound on it. The player to move cannot win at once."""
    playable = (occupied + BOTTOM) & FULL_BOARD
    dangers = _winning_cells(mine ^ occupied, occupied)
    forced = playable & dangers
    if forced:
        if forced & (forced - 1):
            return -((42 - plies) // 2)  # two threats at once
        playable = forced
    playable &= ~(dangers >> 1)  # not below a cell where the other would win
    if playable == 0:
        return -((42 - plies) // 2)
    if plies >= 40:
        return 0
    alpha = max(alpha, -((40 - plies) // 2))
    beta = min(beta, (41 - plies) // 2)
    if alpha >= beta:
        return alpha
    key = _key(mine, occupied, plies)
    slot = (np.uint64(key) * _HASH) >> np.uint64(64 - TABLE_BITS)
    if keys[slot] == key:
        bound = bounds[slot]
        if bound > _LOWER_BOUND // 2:
            alpha = max(alpha, bound - _LOWER_BOUND)
        else:
            beta = min(beta, bound)
        if alpha >= beta:
            return alpha if bound > _LOWER_BOUND // 2 else beta
    while playable:
        best, most = 0, -1
        for column in _ORDER:
            move = playable & (127 << 7 * column)
            if move:
                threats = _count(_winning_cells(mine | move, occupied))
                if threats > most:
                    best, most = move, threats
        playable &= ~best
        score = -_negamax(mine ^ occupied, occupied | best, plies + 1, -beta, -alpha, keys, bounds)
        if score >= beta:
            keys[slot] = key
            bounds[slot] = score + _LOWER_BOUND
            return score
        alpha = max(alpha, score)
    keys[slot] = key
    bounds[slot] = alpha
    return alpha
