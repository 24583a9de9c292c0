"""Estimates of states met before: by another order of moves, in another tree, or a move ago.

A state has one place in the table, found by a hash of its row; whoever comes later takes it. Only estimates that depend
on the state alone may be kept, so never those of rollouts.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import numpy as np
from numba import njit

from escalade.domains.base import BoolArray, FloatArray
from escalade.domains.evaluator import checked_answer
from escalade.domains.random_bits import GAMMA, mix
from escalade.search.arrays import NONE


@njit(nogil=True, cache=True, error_model="numpy")
def place_of(f, rows, m):  # type: ignore[no-untyped-def]
    """The place of the state in line `m` of `rows`."""
    key = np.uint64(0)
    for w in range(f.width):
        key = mix(key * GAMMA + np.uint64(rows[m * f.width + w]))
    return np.int64(key & np.uint64(f.cache_places - 1))


@njit(nogil=True, cache=True, error_model="numpy")
def known_place(f, m):  # type: ignore[no-untyped-def]
    """Where the estimate of pending leaf `m` is kept, or NONE."""
    place = place_of(f, f.leaf_rows, m)
    if not np.isfinite(f.cached_values[place]):
        return np.int64(NONE)
    for w in range(f.width):
        if f.cached_rows[place * f.width + w] != f.leaf_rows[m * f.width + w]:
            return np.int64(NONE)
    return place


@njit(nogil=True, cache=True, error_model="numpy")
def keep_estimate(f, m):  # type: ignore[no-untyped-def]
    """Keep what question `m` was answered."""
    place = place_of(f, f.asked_rows, m)
    for w in range(f.width):
        f.cached_rows[place * f.width + w] = f.asked_rows[m * f.width + w]
    for a in range(f.actions):
        f.cached_logits[place * f.actions + a] = f.logits[m * f.actions + a]
    f.cached_values[place] = f.values[m]


class CachedEvaluator:
    """An `Evaluator` that asks another only about what it has not seen lately: the same for plain Python domains, whose
    states have no rows. What is encoded and legal stands for the state, as it is all the other would see."""

    def __init__(self, evaluator: Any, entries: int) -> None:
        self._evaluator = evaluator
        self._entries = entries
        self._known: OrderedDict[tuple[bytes, bytes], tuple[FloatArray, np.float32]] = OrderedDict()
        self.hits = 0

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        keys = [(seen.tobytes(), allowed.tobytes()) for seen, allowed in zip(observations, legal, strict=True)]
        unknown = [m for m, key in enumerate(keys) if key not in self._known]
        self.hits += len(keys) - len(unknown)
        logits, values = np.empty(legal.shape, np.float32), np.empty(len(keys), np.float32)
        for m, key in enumerate(keys):
            if key in self._known:
                self._known.move_to_end(key)
                logits[m], values[m] = self._known[key]
        if unknown:
            answer = self._evaluator.evaluate(observations[unknown], legal[unknown])
            logits[unknown], values[unknown] = checked_answer(answer, len(unknown), legal.shape[1])
        for m in unknown:
            if not (np.isfinite(values[m]) and np.isfinite(logits[m][legal[m]]).all()):
                continue
            self._known[keys[m]] = (logits[m].copy(), values[m])
            if len(self._known) > self._entries:
                self._known.popitem(last=False)
        return logits, values

    def forget(self) -> None:
        self._known.clear()
