"""Fixed-sequence testing: how far along a path of ever bolder settings the promise "loss at most alpha" is proven.

Learn-then-Test (A. Angelopoulos et al., "Learn then Test: calibrating predictive algorithms to achieve risk control",
Annals of Applied Statistics 2025, section 3.2). Losses are 0 or 1, so exact binomial tails serve as p-values. The path
is fixed before the data are seen; settings are tested in its order, each at the whole delta, until the first that
fails. Then with probability at least 1 - delta none of those that passed breaks its promise.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from scipy.special import bdtr, betaincinv


def p_value(wrong: int, count: int, alpha: float) -> float:
    """How likely `wrong` losses or fewer in `count` cases are, were the risk alpha: small speaks for a smaller risk."""
    return float(bdtr(wrong, count, alpha))


def upper_bound(wrong: int, count: int, delta: float) -> float:
    """The risk is below this with confidence 1 - delta (C. Clopper, E. Pearson, Biometrika 1934), seen by itself."""
    return 1.0 if wrong >= count else float(betaincinv(wrong + 1, count - wrong, 1 - delta))


def passed(p_values: Sequence[float], delta: float) -> int:
    """How many settings from the first on pass, given the p-value of each."""
    for place, value in enumerate(p_values):
        if value > delta:
            return place
    return len(p_values)


def least_count(alpha: float, delta: float) -> int:
    """Cases without a single loss that are needed to prove anything: with fewer even a flawless setting fails."""
    return math.ceil(math.log(delta) / math.log1p(-alpha))


def count_for(loss: float, alpha: float, delta: float, most: int = 10_000_000) -> int | None:
    """About how many cases a setting of this true loss needs to pass in half of all tries; None beyond `most`."""
    if loss >= alpha:
        return None
    low, high = 1, least_count(alpha, delta)
    while p_value(round(loss * high), high, alpha) > delta:
        low, high = high, high * 2
        if high > most:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        fails = p_value(math.ceil(loss * middle), middle, alpha) > delta
        low, high = (middle, high) if fails else (low, middle)
    return high
