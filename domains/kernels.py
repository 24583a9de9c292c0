"""The kernels of an `ArrayDomain`: its rules compiled by Numba, over rows of integers.

One state is one row of `W` int64. Kernels write to arrays they are given, so that a search allocates nothing while it
runs, and are called through pointers from inside the search's own kernels; hence the exact signatures below (M states,
A actions, K numbers in one encoded state). Decorate each with `@njit(nogil=True, cache=True)`; they trust their input.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from numba import types

_ROWS, _OUT = types.int64[:, ::1], types.float32[:, ::1]
_FLAGS, _EACH = types.boolean[:, ::1], types.float32[::1]

STEP = types.void(_ROWS, types.int64[::1], _ROWS)
RULES = types.void(_ROWS, _FLAGS, types.boolean[::1], _EACH, types.int8[::1])
ENCODE = types.void(_ROWS, _OUT)
ENDS = types.void(_ROWS, _OUT)
PLAYOUT = types.void(_ROWS, types.uint64[::1], _EACH)


class RowKernels(NamedTuple):
    """Compiled functions; every entry of the arrays they write to must be set.

    step(rows `[M, W]` int64, actions `[M]` int64, out `[M, W]`): the states after legal actions. `out` is never `rows`.
    rules(rows, legal `[M, A]` bool, terminal `[M]` bool, outcome `[M]` float32, to_move `[M]` int8): no action is legal
        in a finished state; the outcome is 0 in an unfinished one.
    encode(rows, out `[M, K]` float32): unfinished states as `Domain.encode` gives them, each flattened.
    playout(rows, keys `[M]` uint64, out `[M]` float32): the outcome of one uniformly random game from each row, from
        the view of the player to move in that row. Equal key and row, equal result.
    ends(rows, out `[M, A]` float32): for each legal action that ends the game the outcome, from the view of the player
        to move in the row; NaN for every other action. Without it the search finds out by `step` and `rules`.
    """

    step: Any
    rules: Any
    encode: Any
    playout: Any
    ends: Any = None
