"""Figures with their 95 % intervals: shares, means, calibration errors and Elo differences."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from escalade.domains.base import BoolArray

LEVEL = 0.95
NORMAL = 1.959963984540054
"""So many standard errors to either side."""
RESAMPLES = 1000
BINS = 15
ELO_PER_LOGIT = 400 / math.log(10)


@dataclass(frozen=True)
class Share:
    """How many of how many, with Wilson's interval (E. B. Wilson, JASA 22, 1927); None where there were none."""

    hits: int
    count: int
    share: float | None
    low: float | None
    high: float | None


def share_of(hits: BoolArray) -> Share:
    """The share of True in `[N]` bool."""
    count, total = int(np.sum(hits)), len(hits)
    if not total:
        return Share(0, 0, None, None, None)
    from scipy.stats import binomtest  # here, as it takes half a second to import, and every command imports this file

    interval = binomtest(count, total).proportion_ci(LEVEL, "wilson")
    return Share(count, total, count / total, float(interval.low), float(interval.high))


@dataclass(frozen=True)
class Mean:
    """A mean over `count` positions with its normal interval; None where there were none (the interval: fewer than
    two)."""

    count: int
    mean: float | None
    low: float | None
    high: float | None


def mean_of(values: NDArray[Any]) -> Mean:
    """The mean of `[N]` numbers that are not negative, such as squared errors."""
    if not len(values):
        return Mean(0, None, None, None)
    mean = float(np.mean(values, dtype=np.float64))
    if len(values) < 2:
        return Mean(len(values), mean, None, None)
    margin = NORMAL * float(np.std(values, ddof=1, dtype=np.float64)) / math.sqrt(len(values))
    return Mean(len(values), mean, max(mean - margin, 0.0), mean + margin)


@dataclass(frozen=True)
class ReliabilityBin:
    """Positions of neighbouring confidence: the mean of it, and how often the move was optimal."""

    confidence: float
    optimal: Share


@dataclass(frozen=True)
class Calibration:
    """How far confidences are from shares of optimal moves.

    error: the expected calibration error (M. P. Naeini et al., AAAI 2015) over bins of equal mass: the mean over
        positions of how far their bin's confidence is from its share. A sample makes it a little too large.
    low, high: percentile interval of 1000 bootstrap resamples of the positions.
    """

    count: int
    seed: int
    error: float
    low: float
    high: float
    bins: tuple[ReliabilityBin, ...]


def calibration_of(confidence: NDArray[Any], optimal: BoolArray, *, seed: int, bins: int = BINS) -> Calibration:
    """The calibration of N confidences `[N]` in [0, 1] against `optimal` `[N]` bool; N at least 1."""
    confidence = np.asarray(confidence, np.float64)
    order = np.argsort(confidence, kind="stable")
    table = tuple(
        ReliabilityBin(float(confidence[part].mean()), share_of(optimal[part]))
        for part in np.array_split(order, min(bins, len(order)))
    )
    random = np.random.default_rng(seed)
    errors = [
        _calibration_error(confidence[drawn], optimal[drawn], bins)
        for drawn in (random.integers(len(order), size=len(order)) for _ in range(RESAMPLES))
    ]
    low, high = np.quantile(errors, ((1 - LEVEL) / 2, (1 + LEVEL) / 2)).tolist()
    return Calibration(len(order), seed, _calibration_error(confidence, optimal, bins), low, high, table)


def _calibration_error(confidence: NDArray[np.float64], optimal: BoolArray, bins: int) -> float:
    order = np.argsort(confidence, kind="stable")
    gaps = (confidence - optimal)[order]
    bins = min(bins, len(gaps))
    # Where np.array_split cuts: the first bins have one more.
    small, larger = divmod(len(gaps), bins)
    starts = [number * small + min(number, larger) for number in range(bins)]
    return float(np.abs(np.add.reduceat(gaps, starts)).sum() / len(gaps))


@dataclass(frozen=True)
class Elo:
    """A difference in Elo points and the expected score that goes with it, by pairs of games.

    elo: 400 log10(p / (1 - p)), p being the mean score of the pairs, one won and one lost pair added: so it is finite
        even if every game was won, and a little nearer to 0 than without (A. Agresti, B. Coull, "Approximate is better
        than 'exact' for interval estimation of binomial proportions", The American Statistician 52, 1998).
    low, high: the normal interval of log(p / (1 - p)) by the delta method. Its error is that of the mean over pairs,
        whose two games share an opening and so are no independent draws.
    """

    elo: float
    low: float
    high: float
    score_low: float
    score_high: float


def elo_of(pairs: Sequence[float]) -> Elo:
    """The difference that pairs of games show. pairs: mean points of each pair in [0, 1], at least one."""
    points = np.array([*pairs, 1.0, 0.0])
    mean = float(points.mean())
    error = float(points.std(ddof=1)) / math.sqrt(len(points)) / (mean * (1 - mean))
    logit = math.log(mean / (1 - mean))
    low, high = logit - NORMAL * error, logit + NORMAL * error
    return Elo(
        elo=ELO_PER_LOGIT * logit,
        low=ELO_PER_LOGIT * low,
        high=ELO_PER_LOGIT * high,
        score_low=1 / (1 + math.exp(-low)),
        score_high=1 / (1 + math.exp(-high)),
    )
