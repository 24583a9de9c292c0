"""Elo on a scale that stays the same: a player rated by games against opponents whose ratings are fixed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from escalade.training.intervals import ELO_PER_LOGIT, LEVEL

REACH = 3000.0
"""Elo points beyond the opponents' ratings in which a rating is looked for."""
SPREAD_PAIRS = 10
"""Fewer pairs of games say nothing about how far their results spread."""


class Games(NamedTuple):
    """Games against one opponent: its rating, and the mean points of each pair of games, in [0, 1]."""

    rating: float
    pairs: Sequence[float]


@dataclass(frozen=True)
class Rating:
    """elo: median; low, high: 95 % interval. Where all games were won, the interval has no more than the prior for an
    upper end, and is as wide as that."""

    elo: float
    low: float
    high: float


def rating_of(played: Sequence[Games]) -> Rating:
    """The rating that games show, one pair of games at least.

    The posterior of the Bradley-Terry model (R. Bradley, M. Terry, Biometrika 39, 1952), a draw being half a game won,
    under Jeffreys' prior, which needs no setting and leaves a rating finite where every game was won (D. Firth,
    Biometrika 80, 1993). Games of one pair share an opening: where pairs spread more than single games would, each
    counts for less. The opponents' ratings are taken as exact: they are the scale.
    """
    found = [(games.rating, np.asarray(games.pairs, np.float64)) for games in played if len(games.pairs)]
    if not found:
        raise ValueError("a rating needs at least one pair of games")
    ratings = np.array([rating for rating, _ in found])
    games = np.array([2.0 * len(pairs) for _, pairs in found])
    shares = np.array([pairs.mean() for _, pairs in found])
    at = np.arange(math.floor(ratings.min() - REACH), math.ceil(ratings.max() + REACH) + 1.0)
    logits = (at[:, None] - ratings) / ELO_PER_LOGIT  # [R, opponents]
    won, lost = -np.logaddexp(0, -logits), -np.logaddexp(0, logits)
    counted = games / _spread([pairs for _, pairs in found])
    likelihood = (counted * (shares * won + (1 - shares) * lost)).sum(axis=1)
    prior = 0.5 * np.log((counted * np.exp(won + lost)).sum(axis=1))
    density = np.exp((logarithm := likelihood + prior) - logarithm.max())
    cumulative = (np.cumsum(density) - density / 2) / density.sum()
    low, median, high = np.interp([(1 - LEVEL) / 2, 0.5, (1 + LEVEL) / 2], cumulative, at).tolist()
    return Rating(median, low, high)


def expected(rating: float, opponent: float) -> float:
    """The share of points to be expected."""
    return 1 / (1 + 10 ** ((opponent - rating) / 400))


def _spread(results: Sequence[np.ndarray]) -> float:
    """How many times the variance of pairs is that of two independent games, each won or lost; at least 1."""
    within = sum(float(np.square(pairs - pairs.mean()).sum()) for pairs in results)
    alone = sum((len(pairs) - 1) * pairs.mean() * (1 - pairs.mean()) / 2 for pairs in results)
    return max(1.0, within / alone) if alone > 0 and sum(map(len, results)) >= SPREAD_PAIRS else 1.0
