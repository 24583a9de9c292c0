"""The kernels of an `ArrayDomain`: its rules compiled by Numba, over rows of integers.

One state is one row of `W` int64. Kernels write to arrays they are given, so that a search allocates nothing while it
runs, and are called through pointers from inside the search's own kernels; hence the exact signatures below (M states,
A actions, K numbers in one encoded state). Decorate each with `@njit(nogil=True, cache=True)`; they trust their input.
"""

from __future__ import annotations

import math
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
PROOFS = types.void(_ROWS, _OUT)
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
    proofs(rows, out `[M, A]` float32): for each legal action whose exact worth the rules prove without a search that
        worth to the player to move in the row; NaN for every other action. Without it nothing is known.
    """

    step: Any
    rules: Any
    encode: Any
    playout: Any
    ends: Any = None
    proofs: Any = None


OPTIONAL = ("ends", "proofs")
"""Kernels that a domain may leave out."""
_sound: set[Any] = set()


def check_kernels(domain: Any) -> RowKernels:
    """The kernels of an `ArrayDomain`, once it is sure that they keep to their arrays: one that wrote beyond them would
    spoil the memory of the whole process. Tried on the initial state, once a kind of domain.

    Raises DomainFault if a kernel writes more, or less, than `row_width`, `num_actions`, `observation_shape` promise.
    """
    kernels: RowKernels = domain.kernels
    width, actions, numbers = domain.row_width, domain.num_actions, math.prod(domain.observation_shape)
    key = (kernels, width, actions, numbers)
    if key in _sound:
        return kernels
    for name, kernel in zip(RowKernels._fields, kernels, strict=True):
        if not hasattr(kernel, "signatures") and not (name in OPTIONAL and kernel is None):
            raise DomainFault(
                f"domain '{domain.name}': its kernel {name} is {type(kernel).__name__}, not a function decorated with "
                "@njit(nogil=True, cache=True)"
            )
    rows = np.asarray(domain.to_rows([domain.initial_state()]))
    if rows.shape != (1, width) or rows.dtype != np.int64:
        raise DomainFault(
            f"domain '{domain.name}': to_rows gives {rows.dtype} {list(rows.shape)} for one state, not int64 "
            f"{[1, width]} as row_width says"
        )
    legal, terminal = _Guarded(np.bool_, actions), _Guarded(np.bool_, 1)
    outcome, to_move, after = _Guarded(np.float32, 1), _Guarded(np.int8, 1), _Guarded(np.int64, width)
    encoded, playout = (_Guarded(np.float32, size) for size in (numbers, 1))
    kernels.rules(rows, legal.rows, terminal.each, outcome.each, to_move.each)
    for trial in (legal, terminal, outcome, to_move):
        trial.check(domain.name, "rules")
    if not legal.each.any():
        raise DomainFault(f"domain '{domain.name}': nothing is legal in its initial state")
    kernels.encode(rows, encoded.rows)
    encoded.check(domain.name, "encode")
    kernels.step(rows, np.flatnonzero(legal.each)[:1], after.rows)
    after.check(domain.name, "step")
    kernels.playout(rows, np.zeros(1, np.uint64), playout.each)
    playout.check(domain.name, "playout")
    for name in OPTIONAL:
        kernel, told = getattr(kernels, name), _Guarded(np.float32, actions)
        if kernel is not None:
            kernel(rows, told.rows)
            told.check(domain.name, name)
    _sound.add(key)
    return kernels


_GUARD = 4096
_UNTOUCHED = 0xC5
"""Bytes of this make numbers that no kernel would write."""


class _Guarded:
    """Room for a kernel's answer, and more behind it that it must not touch."""

    def __init__(self, kind: Any, size: int) -> None:
        self._size = size
        self._bytes = np.full((size + _GUARD) * np.dtype(kind).itemsize, _UNTOUCHED, np.uint8)
        self._whole = self._bytes.view(kind)
        self.each = self._whole[:size]
        self.rows = self.each.reshape(1, size)

    def check(self, domain: str, kernel: str) -> None:
        touched = (self._bytes.reshape(len(self._whole), -1) != _UNTOUCHED).any(axis=1)
        if touched[: self._size].all() and not touched[self._size :].any():
            return
        raise DomainFault(
            f"domain '{domain}': its kernel {kernel} writes {touched.sum()} {self._whole.dtype} values for one state "
            f"where {self._size} are promised"
        )
