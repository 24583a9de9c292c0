"""The kernels of an `ArrayDomain`: its rules compiled by Numba, over rows of integers.

One state is one row of `W` int64. Kernels write to arrays they are given, so that a search allocates nothing while it
runs, and are called through pointers from inside the search's own kernels; hence the exact signatures below (M states,
A actions, K numbers in one encoded state). Decorate each with `@njit(nogil=True, cache=True)`; they trust their input.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import types

from escalade.domains.errors import DomainFault

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


_GUARD = 4096
_UNWRITTEN = np.float32(-7.25e30)
_sound: set[Any] = set()


def check_kernels(domain: Any) -> RowKernels:
    """The kernels of an `ArrayDomain`, once it is sure that they keep to their arrays: one that wrote beyond them would
    spoil the memory of the whole process. Tried on the initial state, once a kind of domain.

    Raises DomainFault if a kernel writes more, or less, than `num_actions` and `observation_shape` promise.
    """
    kernels: RowKernels = domain.kernels
    numbers = math.prod(domain.observation_shape)
    key = (kernels, domain.row_width, domain.num_actions, numbers)
    if key not in _sound:
        rows = np.asarray(domain.to_rows([domain.initial_state()]))
        if rows.shape != (1, domain.row_width) or rows.dtype != np.int64:
            raise DomainFault(
                f"domain '{domain.name}': to_rows gives {rows.dtype} {list(rows.shape)} for one state, not int64 "
                f"{[1, domain.row_width]} as row_width says"
            )
        encoded = _written(lambda out: kernels.encode(rows, out), numbers)
        if encoded != numbers:
            raise DomainFault(
                f"domain '{domain.name}': its kernel encode writes {encoded} numbers a state, but observation_shape "
                f"{tuple(domain.observation_shape)} has {numbers}"
            )
        if kernels.ends is not None:
            ends = _written(lambda out: kernels.ends(rows, out), domain.num_actions)
            if ends != domain.num_actions:
                raise DomainFault(
                    f"domain '{domain.name}': its kernel ends writes {ends} of {domain.num_actions} actions"
                )
        legal = np.full(domain.num_actions + _GUARD, 7, np.uint8)
        view = legal[: domain.num_actions].view(np.bool_).reshape(1, -1)
        kernels.rules(rows, view, np.zeros(1, np.bool_), np.zeros(1, np.float32), np.zeros(1, np.int8))
        ruled = int((legal != 7).sum())
        if ruled != domain.num_actions:
            raise DomainFault(
                f"domain '{domain.name}': its kernel rules writes {ruled} of {domain.num_actions} actions"
            )
        _sound.add(key)
    return kernels


def _written(kernel: Callable[[Any], None], size: int) -> int:
    """How many numbers a kernel writes to an array `[1, size]` and to the room behind it."""
    room = np.full(size + _GUARD, _UNWRITTEN)
    kernel(room[:size].reshape(1, size))
    return int((room != _UNWRITTEN).sum())
