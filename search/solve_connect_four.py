"""Exact scores in Connect Four.

A score is 22 less the number of stones the winner has placed, positive if the player to move wins, negative if he
loses, 0 for a draw: the sooner the win the larger. Both sides play for it.

Alpha-beta on bitboards with null windows, a transposition table and moves that lose at once left out, after J. Tromp's
Fhourstones (https://tromp.github.io/c4/c4.html) and P. Pons, "Solving Connect 4" (http://blog.gamesolver.org). Beyond
these, every move is bounded without looking ahead by whom the zugzwang favours (`domains/connect_four_boards.py`), all
moves of a position at once in vector registers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import numpy as np
from numba import njit

from escalade.domains.base import IntArray
from escalade.domains.connect_four import ConnectFour
from escalade.domains.connect_four_boards import (
    BOTTOM,
    EVEN,
    FULL_BOARD,
    ODD,
    WIDTH,
    find_threats,
    fours,
    popcount,
    safe_moves,
    zugzwang_bounds,
)
from escalade.domains.line_game import LineState
from escalade.search.opening_book import PLIES, opening_book

_COLUMN = 63
_CENTRE_FIRST = (21, 14, 28, 7, 35, 0, 42)  # the bit at which each column starts
_BEST = 21
_NEVER = -100  # below every score
_PAUSED = 100  # above every score
_PAUSE_AFTER = 1 << 20  # positions: about a tenth of a second

# An entry of the table is one word: the key (49 bits), a lower and an upper bound plus 32 as the player to move sees
# them (6 bits each), 3 bits unused. It is read and written whole, so threads share the table without a lock: whatever
# a thread reads is what some thread wrote, and that is true of the position named in it. An empty entry bounds nothing.
_KEY_SHIFT, _LOWER_SHIFT, _UPPER_SHIFT = 15, 9, 3
_NEAR_BITS = 17
_NEAR_STONES = 22  # from here on positions share a part of the table that fits a core's own cache
_MIRRORED_STONES = 14  # up to here a position and its mirror image share an entry; later few of them meet


class ConnectFourSolver:
    """Exact scores of any position. Threads may share it, and work at the same time.

    What a call learns stays in a table and helps the next ones: `2 ** table_bits` entries of 8 bytes and 1 MiB more.
    book: whether openings are looked up (`escalade.search.opening_book`); without it the empty board takes half a
    minute.
    """

    def __init__(self, table_bits: int = 23, *, book: bool = True) -> None:
        self._book = opening_book() if book else None
        self.first_ply = 0 if book else PLIES
        self._game = ConnectFour()
        self._table_bits = table_bits
        self._allocation = threading.Lock()
        self._table: IntArray | None = None

    def scores(self, state: LineState, on_progress: Callable[[int], None] | None = None) -> list[float | None]:
        """Exact score of every action, None where illegal. on_progress hears how many actions are solved.

        Takes milliseconds from 14 plies on, a fraction of a second at 8; earlier positions are in the opening book.
        """
        found: list[float | None] = [None] * WIDTH
        guess = 0
        legal = sorted(self._game.legal_actions(state), key=lambda column: abs(column - WIDTH // 2))
        for number, action in enumerate(legal, start=1):
            guess = -self._score(self._game.step(state, action), -guess, _BEST)
            found[action] = float(guess)
            if on_progress is not None:
                on_progress(number)
        return found

    def lists(self, state: LineState) -> bool:
        """Whether the book has the exact score of every action."""
        return self._book is not None and len(self._book.entries) > 0 and len(state.moves) < PLIES

    def value(self, state: LineState) -> float:
        """Sign of the exact score for the player to move; a finished state's outcome. Needs less than the scores."""
        return float(self._score(state, 0, 1))

    def score(self, state: LineState) -> int:
        """Exact score for the player to move."""
        return self._score(state, 0, _BEST)

    def _score(self, state: LineState, guess: int, limit: int) -> int:
        known = None if self._book is None else self._book.score(state)
        if known is not None:
            return max(-limit, min(known, limit))
        with self._allocation:
            if self._table is None:
                self._table = np.zeros((1 << self._table_bits) + (1 << _NEAR_BITS), np.int64)
        # Everything but the table belongs to this call.
        frames, threats, order = (np.zeros((43, 8), np.int64) for _ in range(3))
        low, high = np.zeros(8, np.int64), np.zeros(8, np.int64)
        position = (state.mine, state.mine | state.theirs, len(state.moves), guess, limit)
        goes_on = False
        while True:
            score = _solve(*position, goes_on, frames, threats, order, low, high, self._table, self._table_bits)
            if score != _PAUSED:  # a pause lets an interrupt from the keyboard through
                return int(score)
            goes_on = True


@njit(nogil=True, cache=True, inline="always")
def _key(mine, occupied, stones):  # type: ignore[no-untyped-def]
    """The number that names a position, in 7 bits a column."""
    key = mine + occupied
    if stones <= _MIRRORED_STONES:
        mirrored = np.int64(0)
        for column in range(WIDTH):
            mirrored |= ((key >> 7 * column) & 127) << 7 * (WIDTH - 1 - column)
        key = min(key, mirrored)
    return key


@njit(nogil=True, cache=True, inline="always")
def _slot(key, stones, far_bits):  # type: ignore[no-untyped-def]
    """Where in the table an entry lies."""
    spread = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    if stones < _NEAR_STONES:
        return spread >> np.uint64(64 - far_bits)
    return (spread >> np.uint64(64 - _NEAR_BITS)) + (np.uint64(1) << np.uint64(far_bits))


@njit(nogil=True, cache=True, inline="always")
def _bounds_in(entry, key):  # type: ignore[no-untyped-def]
    """(lower, upper) bound that an entry gives for the position with this key; wide ones if it is of another."""
    if (entry ^ (key << _KEY_SHIFT)) >> _KEY_SHIFT != 0 or entry == 0:
        return -32, 31
    return ((entry >> _LOWER_SHIFT) & 63) - 32, ((entry >> _UPPER_SHIFT) & 63) - 32


@njit(nogil=True, cache=True)
def _expand(mine, occupied, stones, others, columns, count, threats, order, low, high):  # type: ignore[no-untyped-def]
    """Look at `count` moves of a position at once; `others` are the threats of the player not to move.

    `columns` holds where each move's column starts, 8 bits a move. Written for move i: into row `stones` of `threats`
    and `order` `[43, 8]` the mover's threats after it, and its rank in the order of search with the start of its column
    in the lowest 6 bits; into `low` and `high` `[8]` bounds of the score as the mover sees it.
    """
    theirs = mine ^ occupied
    first_moves = stones & 1 == 0
    parity = ODD if first_moves else EVEN
    free = (occupied + BOTTOM) & FULL_BOARD
    least, most = -((40 - stones) >> 1), (39 - stones) >> 1
    for i in range(count):
        start = (columns >> 8 * i) & 63
        move = free & (_COLUMN << start)
        after = mine | move
        now = occupied | move
        made = find_threats(after, now)
        left = others & ~move
        _, won = safe_moves(now, made)
        below, above = zugzwang_bounds(
            after if first_moves else theirs,
            theirs if first_moves else after,
            now,
            made if first_moves else left,
            left if first_moves else made,
            least if first_moves else -most,
            most if first_moves else -least,
        )
        low[i] = (41 - stones) >> 1 if won else (below if first_moves else -above)
        high[i] = (41 - stones) >> 1 if won else (above if first_moves else -below)
        # Many threats first, above all in the rows that zugzwang favours, and quiet moves before forcing ones.
        forcing = made & (now + BOTTOM) != 0
        rank = 16 * popcount(made) + 8 * popcount(made & parity) - (8 if forcing else 0)
        order[stones, i] = ((8 * rank + 7 - i) << 6) | start
        threats[stones, i] = made


@njit(nogil=True, cache=True)
def _prove(threshold, frames, threats, order, low, high, table, far_bits):  # type: ignore[no-untyped-def]
    """Whether First's score is at least `threshold`: a lower bound of the score if so, else an upper one.

    The position stands in the last row of `frames` int64 `[43, 8]`: stones of the player to move, all stones, their
    number, threats of the other player, depth (0 at first). He neither wins nor loses with the next two stones. The
    other rows are the stack: stones of the mover, all stones, their number, best score so far as the mover sees it,
    number of moves left to try. `threats`, `order`, `low` and `high` are those of `_expand`. Returns _PAUSED after
    _PAUSE_AFTER positions; the next call with the same arguments goes on from there.
    """
    mine, occupied, stones, others, depth = frames[-1, 0], frames[-1, 1], frames[-1, 2], frames[-1, 3], frames[-1, 4]
    budget = _PAUSE_AFTER
    while True:
        if budget == 0:
            frames[-1, 0], frames[-1, 1], frames[-1, 2] = mine, occupied, stones
            frames[-1, 3], frames[-1, 4] = others, depth
            return _PAUSED
        budget -= 1
        # Enter a position. Inside, scores are as its player to move sees them.
        wanted = 1 - threshold if stones & 1 else threshold
        theirs = mine ^ occupied
        moves, _ = safe_moves(occupied, others)
        best = _NEVER
        kept = 0
        if moves & (moves - 1) == 0:  # the only move needs neither the table nor an order
            occupied |= moves
            others = find_threats(mine | moves, occupied)
            _, won = safe_moves(occupied, others)
            least, most = -((40 - stones) >> 1), (39 - stones) >> 1
            if won:
                best = (41 - stones) >> 1
            elif least >= wanted or stones >= 39:
                best = least
            elif most < wanted:
                best = most
            else:
                mine = theirs
                stones += 1
                continue
        else:
            columns = np.int64(0)
            count = 0
            for start in _CENTRE_FIRST:
                move = moves & (_COLUMN << start)
                if move != 0:
                    key = _key(theirs, occupied | move, stones + 1)
                    least, most = _bounds_in(table[_slot(key, stones + 1, far_bits)], key)
                    if -most >= wanted:
                        best = -most
                        break
                    if -least < wanted:
                        best = max(best, -least)
                    else:
                        columns |= start << 8 * count
                        count += 1
            if best < wanted and count > 0:
                # Four or eight at a time, as vector registers have it; what is computed in excess is not read.
                _expand(mine, occupied, stones, others, columns, (count + 3) & ~3, threats, order, low, high)
                proven = _NEVER
                for i in range(count):
                    proven = max(proven, low[i])
                    if high[i] >= wanted:
                        order[stones, kept], threats[stones, kept] = order[stones, i], threats[stones, i]
                        kept += 1
                    else:
                        best = max(best, high[i])
                if proven >= wanted:
                    best = proven
                    kept = 0
                elif kept > 0:
                    frames[depth, 0], frames[depth, 1], frames[depth, 2] = mine, occupied, stones
                    depth += 1
        # Without a move to try, its score is bounded: go back to the nearest position that has one.
        while kept == 0:
            if depth == 0:
                return -best if stones & 1 else best
            score = -best if stones & 1 else best
            mine, occupied, stones = frames[depth - 1, 0], frames[depth - 1, 1], frames[depth - 1, 2]
            best, kept = max(frames[depth - 1, 3], -score if stones & 1 else score), frames[depth - 1, 4]
            wanted = 1 - threshold if stones & 1 else threshold
            if best >= wanted or kept == 0:
                kept = 0
                depth -= 1
                key = _key(mine, occupied, stones)
                slot = _slot(key, stones, far_bits)
                least, most = _bounds_in(table[slot], key)
                if best >= wanted:
                    least = max(least, best)
                else:
                    most = min(most, best)
                table[slot] = (key << _KEY_SHIFT) | ((least + 32) << _LOWER_SHIFT) | ((most + 32) << _UPPER_SHIFT)
        # Try the most promising of its moves.
        kept -= 1
        frames[depth - 1, 3], frames[depth - 1, 4] = best, kept
        chosen = 0
        for i in range(1, kept + 1):
            if order[stones, i] > order[stones, chosen]:
                chosen = i
        others = threats[stones, chosen]
        start = order[stones, chosen] & 63
        order[stones, chosen], threats[stones, chosen] = order[stones, kept], threats[stones, kept]
        mine, occupied = mine ^ occupied, occupied | ((occupied + BOTTOM) & (_COLUMN << start))
        stones += 1


@njit(nogil=True, cache=True)
def _at_sight(mine, occupied, stones):  # type: ignore[no-untyped-def]
    """The score of a position that the next two stones decide, else _NEVER."""
    theirs = mine ^ occupied
    if fours(theirs) != 0:
        return ((stones + 1) >> 1) - 22
    if find_threats(mine, occupied) & (occupied + BOTTOM) != 0:
        return (43 - stones) >> 1
    _, lost = safe_moves(occupied, find_threats(theirs, occupied))
    if lost and stones < 42:
        return -((42 - stones) >> 1)
    return 0 if stones >= 40 else _NEVER


@njit(nogil=True, cache=True)
def _solve(mine, occupied, stones, guess, limit, goes_on, frames, threats, order, low, high, table, far_bits):  # type: ignore[no-untyped-def]
    """The score of a position cut to -limit .. limit; fastest with a good `guess`.

    Returns _PAUSED where `_prove` does; call again with `goes_on` and else the same arguments.
    """
    if goes_on:
        lower, upper, guess = frames[-2, 0], frames[-2, 1], frames[-2, 2]
    else:
        score = _at_sight(mine, occupied, stones)
        if score != _NEVER:
            return max(-limit, min(score, limit))
        key = _key(mine, occupied, stones)
        lower, upper = _bounds_in(table[_slot(key, stones, far_bits)], key)
        lower = min(limit, max(lower, -limit, -((40 - stones) >> 1)))
        upper = max(-limit, min(upper, limit, (41 - stones) >> 1))
    while lower < upper:
        if not goes_on:
            guess = max(lower + 1, min(guess, upper))
            frames[-1, 0], frames[-1, 1], frames[-1, 2] = mine, occupied, stones
            frames[-1, 3], frames[-1, 4] = find_threats(mine ^ occupied, occupied), 0
        goes_on = False
        bound = _prove(1 - guess if stones & 1 else guess, frames, threats, order, low, high, table, far_bits)
        if bound == _PAUSED:
            frames[-2, 0], frames[-2, 1], frames[-2, 2] = lower, upper, guess
            return _PAUSED
        bound = -bound if stones & 1 else bound
        if bound >= guess:
            lower = min(bound, upper)
            guess = lower + 1
        else:
            upper = max(bound, lower)
            guess = upper
    return lower
