"""Novelty: how far a state is from those that thresholds were proven on. A certificate says nothing of states unlike
them, so the neural rungs leave those to the dear ones.

There are two kinds, and a domain says which its observations ask for (`Domain.bag_of_features`):

- `PrincipalNovelty`, for dense observations such as boards. A state is as novel as its observation is unlikely under a
  Gaussian on the main directions of those seen and a spherical one on all the rest (M. Tipping, C. Bishop, "Mixtures of
  probabilistic principal component analysers", Neural Computation 1999): the Mahalanobis distance in the former, plus
  what the former cannot explain over its usual size.
- `RarityNovelty`, for bags of features such as hashed n-grams of a text: few of very many are not zero. A feature that
  no state had before has no variance, so a Gaussian sees nothing odd in it; it is counted instead. A state is as novel
  as its features are rare: the mean of `smoothing / (df + smoothing)` over its non-zero features, df being how many of
  the states seen had that feature with that sign (document frequency, K. Spärck Jones, Journal of Documentation 1972;
  of the features that share a column by hashing, half have the other sign, K. Weinberger et al., ICML 2009).

A state whose text is shorter or longer than any that was seen (a game of fewer or more moves, a message of more words)
is infinitely far.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Discriminator, Field, FiniteFloat, Tag

from escalade.domains.base import FloatArray, IntArray
from escalade.neural.novelty_kernels import gaussian_distances, rarities, rarities_left_out

PRINCIPAL_QUANTILE, RARITY_QUANTILE = 0.999, 0.99
"""Where no quantile is given."""


class _Spec(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    limit: FiniteFloat = Field(gt=0, description="States farther than this are novel.")
    quantile: float = Field(gt=0, lt=1, description="Share of the states it was fitted on that the limit is to keep.")
    shortest: int = Field(ge=0, description="Characters of the shortest text seen.")
    longest: int = Field(ge=0, description="Characters of the longest text seen.")


class PrincipalSpec(_Spec):
    """What a manifest says of `PrincipalNovelty`, whose tensors lie with the weights."""

    rank: int = Field(ge=1, le=1024, description="K, the number of main directions.")
    rest: FiniteFloat = Field(ge=0, description="Mean square of what the directions leave, 0 for nothing.")

    def shapes(self, size: int) -> dict[str, tuple[int, ...]]:
        """Of its tensors by name, for observations of so many numbers."""
        return {"mean": (size,), "directions": (size, self.rank), "spread": (self.rank,)}


class RaritySpec(_Spec):
    """What a manifest says of `RarityNovelty`, whose tensor lies with the weights."""

    kind: Literal["rarity"] = "rarity"
    smoothing: FiniteFloat = Field(gt=0, description="States that must have had a feature for it to be half as rare.")

    def shapes(self, size: int) -> dict[str, tuple[int, ...]]:
        """Of its tensor by name, for observations of so many numbers."""
        return {"rarity": (2, size)}


def _kind(spec: Any) -> str:
    """Manifests from before there were two kinds name none."""
    kind = spec.get("kind", "principal") if isinstance(spec, Mapping) else getattr(spec, "kind", "principal")
    return str(kind)


NoveltySpec = Annotated[
    Annotated[PrincipalSpec, Tag("principal")] | Annotated[RaritySpec, Tag("rarity")],
    Discriminator(
        _kind, custom_error_type="novelty_kind", custom_error_message="kind must be rarity, or not be given at all"
    ),
]


class Novelty(ABC):
    """Distances of states from those it was fitted on."""

    spec: PrincipalSpec | RaritySpec

    @property
    @abstractmethod
    def size(self) -> int:
        """D, the numbers of an observation."""

    @abstractmethod
    def tensors(self) -> dict[str, Any]:
        """By name, as a bundle keeps them."""

    @abstractmethod
    def _measure(self, flat: FloatArray) -> NDArray[np.float64]:
        """`[B]`: distances of observations `[B, D]`, whatever their texts."""

    def distances(self, observations: FloatArray, texts: Sequence[str]) -> NDArray[np.float64]:
        """`[B]`: how far states are: observations `[B, *O]` float32, and the texts of the same B states. In squared
        standard deviations, or in [0, 1] for bags of features. Raises ValueError for
        observations of another size."""
        flat = np.ascontiguousarray(observations, np.float32).reshape(len(observations), -1)
        if flat.shape[1] != self.size:
            raise ValueError(f"observations must have {self.size} numbers a state, not {flat.shape[1]}")
        found = self._measure(flat)
        for row, text in enumerate(texts):
            if not self.spec.shortest <= len(text) <= self.spec.longest:
                found[row] = np.inf
        return found

    def novel(self, observations: FloatArray, texts: Sequence[str]) -> NDArray[np.bool_]:
        """`[B]` bool: whether each is farther than the limit."""
        return self.distances(observations, texts) > self.spec.limit


@dataclass(frozen=True, eq=False)
class PrincipalNovelty(Novelty):
    """mean `[D]`, directions `[D, K]` (orthonormal columns) and spread `[K]` (standard deviation along each), float32,
    of observations flattened to D numbers. Raises ValueError unless spread is positive."""

    spec: PrincipalSpec
    mean: FloatArray
    directions: FloatArray
    spread: FloatArray
    _scaled: FloatArray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if not (self.spread > 0).all():
            raise ValueError("spread must be positive")
        object.__setattr__(self, "_scaled", np.ascontiguousarray(self.directions / self.spread))

    @property
    def size(self) -> int:
        return len(self.mean)

    def tensors(self) -> dict[str, Any]:
        return {name: np.ascontiguousarray(getattr(self, name), np.float32) for name in self.spec.shapes(self.size)}

    def _measure(self, flat: FloatArray) -> NDArray[np.float64]:
        found = np.empty(len(flat))
        gaussian_distances(flat, self.mean, self._scaled, self.spread, self.spec.rest, found)
        return found


@dataclass(frozen=True, eq=False)
class RarityNovelty(Novelty):
    """rarity `[2, D]` float32 in (0, 1]: of each feature where it is positive, and where it is negative; 1 if no state
    had it. Raises ValueError for other numbers."""

    spec: RaritySpec
    rarity: FloatArray

    def __post_init__(self) -> None:
        if not ((self.rarity > 0) & (self.rarity <= 1)).all():
            raise ValueError("rarity must be over 0 and at most 1")

    @property
    def size(self) -> int:
        return int(self.rarity.shape[1])

    def tensors(self) -> dict[str, Any]:
        return {"rarity": np.ascontiguousarray(self.rarity, np.float32)}

    def _measure(self, flat: FloatArray) -> NDArray[np.float64]:
        found = np.empty(len(flat))
        rarities(flat, self.rarity, found)
        return found


def restored(spec: PrincipalSpec | RaritySpec, tensors: Mapping[str, Any]) -> Novelty:
    """From what a bundle keeps of it. Raises ValueError for numbers that cannot be."""
    if isinstance(spec, RaritySpec):
        return RarityNovelty(spec, **tensors)
    return PrincipalNovelty(spec, **tensors)


def fit_novelty(
    observations: FloatArray,
    texts: Sequence[str],
    *,
    bag_of_features: bool = False,
    quantile: float | None = None,
    group: IntArray | None = None,
    rank: int = 32,
    smoothing: float = 4.0,
) -> Novelty:
    """From the states it is to know, at least 2: observations `[N, *O]` float32, and N texts.

    bag_of_features: as in `Domain`; with it a `RarityNovelty`, else a `PrincipalNovelty`.
    quantile: share of states like these that is not to be novel; PRINCIPAL_QUANTILE or RARITY_QUANTILE if None. For a
        Gaussian the limit is that quantile of the distances of these states themselves. Rare features are another
        thing: each state's own made it less rare. So each is measured by the others alone (leave-one-out), and the
        limit is the ceil((N + 1) quantile)-th smallest of these distances, as in conformal prediction (V. Vovk et
        al., 2005).
    group: `[N]` int64, the game or conversation of each state: those of one are left out together. None: all apart.
    rank: of the main directions, fewer where the observations have not so many.
    smoothing: see `RaritySpec`. A smaller one weighs what was never seen more against what was hardly seen.

    Raises ValueError for fewer than 2 states, or a quantile or smoothing that cannot be.
    """
    flat = np.ascontiguousarray(observations, np.float32).reshape(len(observations), -1)
    if len(flat) < 2:
        raise ValueError("novelty needs at least 2 states to learn what is usual")
    if bag_of_features:
        return _fit_rarity(flat, texts, RARITY_QUANTILE if quantile is None else quantile, group, smoothing)
    return _fit_principal(flat, texts, PRINCIPAL_QUANTILE if quantile is None else quantile, rank)


def _fit_principal(flat: FloatArray, texts: Sequence[str], quantile: float, rank: int) -> PrincipalNovelty:
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
    loose = PrincipalNovelty(PrincipalSpec(limit=1.0, **known), mean, directions, spread)
    limit = float(np.quantile(loose.distances(flat, texts), quantile))
    return PrincipalNovelty(PrincipalSpec(limit=max(limit, 1e-9), **known), mean, directions, spread)


def _fit_rarity(
    flat: FloatArray, texts: Sequence[str], quantile: float, group: IntArray | None, smoothing: float
) -> RarityNovelty:
    each: IntArray = np.arange(len(flat))
    groups = each if group is None else np.unique(group, return_inverse=True)[1]
    if groups.max() == 0:  # all of one: nothing would be left
        groups = each
    order, ends = np.argsort(groups, kind="stable"), np.cumsum(np.bincount(groups))
    lengths = np.array([len(text) for text in texts], np.int64)
    seen = np.stack([(flat > 0).sum(axis=0), (flat < 0).sum(axis=0)]).astype(np.float64)
    spec = RaritySpec(
        limit=1.0, quantile=quantile, smoothing=smoothing, shortest=int(lengths.min()), longest=int(lengths.max())
    )
    found = np.empty(len(flat))
    rarities_left_out(flat, order, ends, seen, smoothing, found)
    found[_outside(lengths, order, ends, groups)] = np.inf
    rank = min(int(np.ceil((len(flat) + 1) * quantile)), len(flat))
    ordered = np.sort(found[np.isfinite(found)])
    limit = float(ordered[min(rank, len(ordered)) - 1]) if len(ordered) else 1.0
    rarity = (smoothing / (seen + smoothing)).astype(np.float32)
    return RarityNovelty(spec.model_copy(update={"limit": limit}), rarity)


def _outside(lengths: IntArray, order: IntArray, ends: IntArray, groups: IntArray) -> NDArray[np.bool_]:
    """`[N]`: texts shorter or longer than all of the other groups."""
    starts = np.concatenate(([0], ends[:-1]))
    found = np.zeros(len(lengths), np.bool_)
    for sign in (1, -1):  # shorter, longer
        least = np.minimum.reduceat(sign * lengths[order], starts)
        first, second = np.partition(least, 1)[:2]
        found |= sign * lengths < np.where(least == first, second, first)[groups]
    return found
