"""Chance inside kernels: a counter-based generator, so that a result depends on its own key and nothing else.

SplitMix64: G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom number generators", OOPSLA 2014, section 4.
"""

from __future__ import annotations

import numpy as np
from numba import njit

GAMMA = np.uint64(0x9E3779B97F4A7C15)


@njit(nogil=True, cache=True, inline="always")
def mix(key):  # type: ignore[no-untyped-def]
    """A uint64 whose bits all depend on all bits of `key` (uint64)."""
    z = key
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(nogil=True, cache=True, inline="always")
def below(bits, limit):  # type: ignore[no-untyped-def]
    """An integer in 0 .. limit - 1 from uint64 `bits`; `limit` is small, the bias below 2**-32."""
    return np.int64(((bits >> np.uint64(32)) * np.uint64(limit)) >> np.uint64(32))


@njit(nogil=True, cache=True)
def uniforms(seeds, count):  # type: ignore[no-untyped-def]
    """`[M, count]` float64 in (0, 1), from one uint64 a row."""
    out = np.empty((seeds.shape[0], count))
    for m in range(seeds.shape[0]):
        for a in range(count):
            bits = mix(seeds[m] ^ (GAMMA * np.uint64(a + 1)))
            out[m, a] = (np.float64(bits >> np.uint64(12)) + 0.5) / 2.0**52
    return out
