"""Observations of nothing but zeros and ones, an eighth of a byte each: what lets a machine with little memory learn
from tens of millions of positions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from escalade.domains.base import FloatArray


@dataclass(frozen=True, eq=False)
class PackedBits:
    """N observations of shape O. Indexed, it gives some of them; `np.asarray` unpacks it, to uint8 `[N, *O]`.

    bits: `[N, B]` uint8, each row's numbers in order, eight to a byte, the first one the highest bit; B is the least
    that holds them. observation_shape: O.
    """

    bits: NDArray[np.uint8]
    observation_shape: tuple[int, ...]

    @staticmethod
    def of(observation: NDArray[Any]) -> PackedBits | None:
        """The same numbers packed; None where some are neither 0 nor 1."""
        small = observation.astype(np.bool_)
        if not np.array_equal(small, observation):
            return None
        return PackedBits(np.packbits(small.reshape(len(small), _size(small.shape[1:])), axis=1), small.shape[1:])

    @property
    def shape(self) -> tuple[int, ...]:
        return len(self), *self.observation_shape

    @property
    def dtype(self) -> np.dtype[np.uint8]:
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.bits)

    def __getitem__(self, chosen: slice | NDArray[Any]) -> PackedBits:
        return PackedBits(self.bits[chosen], self.observation_shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        found: NDArray[Any] = np.unpackbits(self.bits, axis=1, count=_size(self.observation_shape)).reshape(self.shape)
        return found if dtype is None else found.astype(dtype)


Observations = FloatArray | PackedBits
"""`[N, *O]`: float32 as shards hold it, or what `compact` makes of it."""


def compact(observation: Observations) -> Observations:
    """The same numbers in the least of bits, uint8, float16 and float32 that holds them exactly."""
    if isinstance(observation, PackedBits):
        return observation
    if (packed := PackedBits.of(observation)) is not None:
        return packed
    for kind in (np.uint8, np.float16):
        if observation.dtype.itemsize <= np.dtype(kind).itemsize:
            return observation
        with np.errstate(all="ignore"):
            smaller: Any = observation.astype(kind)
        if np.array_equal(smaller, observation):
            found: Observations = smaller
            return found
    return observation


def concatenated(parts: Sequence[Observations]) -> Observations:
    """Observations one after another; packed where all are."""
    packed = [part for part in parts if isinstance(part, PackedBits)]
    if len(packed) == len(parts):
        return PackedBits(np.concatenate([part.bits for part in packed]), packed[0].observation_shape)
    found: Observations = np.concatenate([np.asarray(part) for part in parts])
    return found


def _size(shape: tuple[int, ...]) -> int:
    return math.prod(shape)
