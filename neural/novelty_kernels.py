"""Kernels of novelty (`neural/novelty.py`): distances of observations `[N, D]` float32, into `out` `[N]` float64."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit


@njit(nogil=True, cache=True)
def gaussian_distances(flat: Any, mean: Any, scaled: Any, spread: Any, rest: float, out: Any) -> None:
    # A row at a time, so that a state is as far alone as among others, to the last bit.
    size, rank = scaled.shape
    along = np.empty(rank, np.float32)
    for row in range(len(flat)):
        along[:] = 0
        whole = 0.0
        for place in range(size):
            apart = flat[row, place] - mean[place]
            whole += float(apart) * float(apart)
            for direction in range(rank):
                along[direction] += apart * scaled[place, direction]
        inside, found = 0.0, 0.0
        for direction in range(rank):
            found += float(along[direction]) ** 2
            inside += float(along[direction] * spread[direction]) ** 2
        if rest > 0:  # what is left by Pythagoras: the directions are orthonormal
            found += max(whole - inside, 0.0) / rest
        out[row] = found


@njit(nogil=True, cache=True)
def rarities(flat: Any, rarity: Any, out: Any) -> None:
    for row in range(len(flat)):
        total, count = 0.0, 0
        for place in range(flat.shape[1]):
            number = flat[row, place]
            if number != 0:
                total += float(rarity[0 if number > 0 else 1, place])
                count += 1
        out[row] = total / count if count else 1.0  # a state without a feature is like none


@njit(nogil=True, cache=True)
def rarities_left_out(flat: Any, order: Any, ends: Any, seen: Any, smoothing: float, out: Any) -> None:
    """Distances of rows `[N, D]` by all groups but their own; a group's rows lie together in `order`."""
    own, first = np.zeros(seen.shape), 0
    for end in ends:
        for place in range(first, end):
            row = order[place]
            for column in range(flat.shape[1]):
                if flat[row, column] != 0:
                    own[0 if flat[row, column] > 0 else 1, column] += 1
        for place in range(first, end):
            row, total, count = order[place], 0.0, 0
            for column in range(flat.shape[1]):
                if flat[row, column] != 0:
                    sign = 0 if flat[row, column] > 0 else 1
                    total += smoothing / (seen[sign, column] - own[sign, column] + smoothing)
                    count += 1
            out[row] = total / count if count else 1.0
        for place in range(first, end):
            row = order[place]
            for column in range(flat.shape[1]):
                if flat[row, column] != 0:
                    own[0 if flat[row, column] > 0 else 1, column] = 0
        first = end
