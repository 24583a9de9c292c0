"""Novelty: how far a state is from those that thresholds were proven on. A certificate says nothing of states unlike
them, so the neural rungs leave those to the dear ones.

A state is as novel as its observation is unlikely under a Gaussian on the main directions of those seen and a
spherical one on all the rest (M. Tipping, C. Bishop, "Mixtures of probabilistic principal component analysers", Neural
Computation 1999): the Mahalanobis distance in the former, plus what the former cannot explain over its usual size.
A state whose text is shorter or longer than any that was seen (a game of fewer or more moves, a message of more words)
is infinitely far.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat

from escalade.domains.base import FloatArray

TENSORS = ("mean", "directions", "spread")


class NoveltySpec(BaseModel):
    """What a manifest says of the tensors, which lie with the weights.

    rank: K main directions. limit: states farther than this are novel. quantile: of the states it was fitted on, this
    share is nearer. rest: mean square of what the directions leave, 0 for nothing. shortest, longest: characters of the
    texts seen.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    rank: int = Field(ge=1, le=1024)
    limit: FiniteFloat = Field(gt=0)
    quantile: float = Field(gt=0, lt=1)
    rest: FiniteFloat = Field(ge=0)
    shortest: int = Field(ge=0)
    longest: int = Field(ge=0)


@dataclass(frozen=True, eq=False)
class Novelty:
    """mean `[D]`, directions `[D, K]` (orthonormal columns) and spread `[K]` (standard deviation along each), float32,
    of observations flattened to D numbers."""

    spec: NoveltySpec
    mean: FloatArray
    directions: FloatArray
    spread: FloatArray
    _scaled: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_scaled", np.ascontiguousarray(self.directions / self.spread))

    def distances(self, observations: FloatArray, texts: Sequence[str]) -> NDArray[np.float64]:
        """`[B]`: how far states are, in squared standard deviations: observations `[B, *O]` float32, and the texts of
        the same B states. Raises ValueError for observations of another size."""
        flat = np.ascontiguousarray(observations, np.float32).reshape(len(observations), -1)
        if flat.shape[1] != len(self.mean):
            raise ValueError(f"observations must have {len(self.mean)} numbers a state, not {flat.shape[1]}")
        found = np.empty(len(flat))
        _distances(flat, self.mean, self._scaled, self.spread, self.spec.rest, found)
        for row, text in enumerate(texts):
            if not self.spec.shortest <= len(text) <= self.spec.longest:
                found[row] = np.inf
        return found

    def novel(self, observations: FloatArray, texts: Sequence[str]) -> NDArray[np.bool_]:
        """`[B]` bool: whether each is farther than the limit."""
        return self.distances(observations, texts) > self.spec.limit

    def tensors(self) -> dict[str, Any]:
        """By name, as a bundle keeps them."""
        return {name: np.ascontiguousarray(getattr(self, name), np.float32) for name in TENSORS}


@njit(nogil=True, cache=True)
def _distances(flat: Any, mean: Any, scaled: Any, spread: Any, rest: float, out: Any) -> None:
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


def fit_novelty(observations: FloatArray, texts: Sequence[str], *, rank: int = 32, quantile: float = 0.999) -> Novelty:
    """From the states it is to know, at least 2: observations `[N, *O]` float32, and N texts.

    rank: of the main directions, fewer where the observations have not so many. The limit is the `quantile` of the
    distances of these states themselves. Raises ValueError for fewer than 2.
    """
    flat = observations.reshape(len(observations), -1)
    if len(flat) < 2:
        raise ValueError("novelty needs at least 2 states to learn what is usual")
    mean = flat.mean(axis=0, dtype=np.float64).astype(np.float32)
    apart = (flat - mean).astype(np.float64)
    _, sizes, rows = np.linalg.svd(apart, full_matrices=False)
    spread = sizes / np.sqrt(len(flat))
    kept = max(1, min(rank, int((spread > 1e-6 * max(spread[0], 1e-12)).sum())))
    directions, spread = rows[:kept].T.astype(np.float32), np.maximum(spread[:kept], 1e-6).astype(np.float32)
    left = np.maximum((apart**2).sum(axis=1) - ((apart @ directions) ** 2).sum(axis=1), 0.0)
    rest = float(left.mean())
    known: dict[str, Any] = {
        "rank": kept,
        "quantile": quantile,
        "rest": rest if rest > 1e-6 * float((apart**2).sum(axis=1).mean()) else 0.0,  # else it is mere rounding
        "shortest": min(map(len, texts)),
        "longest": max(map(len, texts)),
    }
    loose = Novelty(NoveltySpec(limit=1.0, **known), mean, directions, spread)
    limit = float(np.quantile(loose.distances(flat, texts), quantile))
    return Novelty(NoveltySpec(limit=max(limit, 1e-9), **known), mean, directions, spread)
