"""What can be seen of an answer before anyone knows whether it is right: the features from which a calibrator makes a
rung's confidence.

Softmax values are no confidence by themselves: a position with two equally good moves has half of it on each, and one
with a single good move that was overlooked may have nearly all of it on another. So each rung gives several numbers,
of how decided it is, how even the game looks and how far its sources agree, and `escalade.neural.calibration` weighs
them as data have shown. The first feature is the rung's raw score, in [0, 1].
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from escalade.domains.base import BoolArray, FloatArray

Features = NDArray[np.float64]
"""`[B, F]`, a row an answer."""

POLICY_FEATURES = (
    "top",
    "margin",
    "entropy",
    "top_against_spread",
    "decidedness",
    "value",
    "legal_share",
    "log_ratio",
    "log_second",
)
"""Probability of the first choice; its lead over the second; entropy over that of a uniform choice; the first times
the number of choices the entropy stands for; |value|; value; share of actions that are legal; log of first over
second; log of the second."""

VALUE_FEATURES = (
    "lead",
    *POLICY_FEATURES,
    "best",
    "gap",
    "policy_choice",
    "regret",
    "surprise",
    "prior",
    "agreement",
)
"""`raw_lead`; the policy's; value of the best action; its lead over the second; value of the policy's first choice;
what that one gives away; value of the state less the best action's; the policy's probability of the best action;
whether both choose alike."""

SEARCH_FEATURES = ("share", "margin", "entropy", "gap", "prior", "agreement", "decidedness", "value", "proven")
"""Share of visits, 1 if the choice is proven; its lead over the second's; entropy over that of a uniform choice; lead
of its value over the best of the others; the policy's probability of it; whether it is the policy's first choice;
|value|; value; whether the value is exact."""

REASON_FEATURES = ("share", "margin", "kinds")
"""Share of a language model's samples that name the action; its lead over the next; different actions among all."""

FEATURES: dict[str, tuple[str, ...]] = {
    "policy": POLICY_FEATURES,
    "value": VALUE_FEATURES,
    "search": SEARCH_FEATURES,
    "reason": REASON_FEATURES,
}
"""Names by rung, in order."""

_SMALLEST = 1e-6
_LONGEST_ODDS = 10.0


def policy_features(probabilities: FloatArray, legal: BoolArray, values: FloatArray) -> Features:
    """`[B, 9]`: POLICY_FEATURES of answers with probabilities `[B, A]` float32 (0 where not legal `[B, A]` bool) and
    values `[B]` float32 of the states."""
    out = np.empty((len(probabilities), len(POLICY_FEATURES)))
    _policy_features(probabilities, legal, values, out)
    return out


def value_features(
    probabilities: FloatArray, legal: BoolArray, values: FloatArray, action_values: Features, exact: BoolArray
) -> Features:
    """`[B, 17]`: VALUE_FEATURES of a lookahead whose action values `[B, A]` float64 are NaN where illegal, beside what
    the policy says of the states themselves. exact `[B, A]` bool: actions that end the game."""
    out = np.empty((len(probabilities), len(VALUE_FEATURES)))
    _policy_features(probabilities, legal, values, out[:, 1 : 1 + len(POLICY_FEATURES)])
    _value_features(probabilities, values, action_values, exact, out)
    return out


def search_features(
    policies: FloatArray,
    priors: FloatArray,
    action_values: FloatArray,
    legal: BoolArray,
    actions: NDArray[np.int64],
    values: FloatArray,
    proven: BoolArray,
) -> Features:
    """`[B, 9]`: SEARCH_FEATURES of searches with policies, priors and action_values `[B, A]` float32 (the latter NaN
    where unvisited), legal `[B, A]`, chosen actions `[B]`, values `[B]` and proven `[B]` as `SearchResult` has them."""
    out = np.empty((len(policies), len(SEARCH_FEATURES)))
    _search_features(policies, priors, action_values, legal, actions, values, proven, out)
    return out


def reason_features(votes: Mapping[Any, int], chosen: Any, samples: int) -> Features:
    """`[1, 3]`: REASON_FEATURES of a choice, from how many of so many samples named each legal action."""
    rival = max((count for action, count in votes.items() if action != chosen), default=0)
    own = votes.get(chosen, 0)
    return np.array([[own / samples, (own - rival) / samples, len(votes) / samples]])


@njit(nogil=True, cache=True)
def _policy_features(probabilities: Any, legal: Any, values: Any, out: Any) -> None:
    for row in range(len(probabilities)):
        first, second, entropy, count = 0.0, 0.0, 0.0, 0
        for action in range(probabilities.shape[1]):
            if not legal[row, action]:
                continue
            count += 1
            chance = float(probabilities[row, action])
            if chance > first:
                first, second = chance, first
            elif chance > second:
                second = chance
            if chance > 0.0:
                entropy -= chance * math.log(chance)
        floor = max(second, _SMALLEST)
        out[row, 0] = first
        out[row, 1] = first - second
        out[row, 2] = entropy / math.log(count) if count > 1 else 0.0
        out[row, 3] = first * math.exp(entropy)
        out[row, 4] = abs(values[row])
        out[row, 5] = values[row]
        out[row, 6] = count / probabilities.shape[1]
        out[row, 7] = min(_LONGEST_ODDS, math.log(max(first, _SMALLEST) / floor))
        out[row, 8] = math.log(floor)


@njit(nogil=True, cache=True)
def _value_features(probabilities: Any, values: Any, action_values: Any, exact: Any, out: Any) -> None:
    last = out.shape[1]
    for row in range(len(probabilities)):
        best, choice = -1, -1
        second, count = -math.inf, 0
        for action in range(probabilities.shape[1]):
            value = action_values[row, action]
            if math.isnan(value):
                continue
            count += 1
            if choice < 0 or probabilities[row, action] > probabilities[row, choice]:
                choice = action
            if best < 0 or value > action_values[row, best]:
                if best >= 0:
                    second = action_values[row, best]
                best = action
            elif value > second:
                second = value
        top = action_values[row, best]
        gap = top - second if count > 1 else 2.0
        certain = count == 1 or (exact[row, best] and top >= 1.0)
        out[row, 0] = 1.0 if certain else 0.5 + gap / 4.0
        out[row, last - 7] = top
        out[row, last - 6] = gap
        out[row, last - 5] = action_values[row, choice]
        out[row, last - 4] = top - action_values[row, choice]
        out[row, last - 3] = values[row] - top
        out[row, last - 2] = probabilities[row, best]
        out[row, last - 1] = 1.0 if best == choice else 0.0


@njit(nogil=True, cache=True)
def _search_features(
    policies: Any, priors: Any, action_values: Any, legal: Any, actions: Any, values: Any, proven: Any, out: Any
) -> None:
    for row in range(len(policies)):
        chosen = actions[row]
        second, entropy, count = 0.0, 0.0, 0
        rival, favourite = -math.inf, chosen
        for action in range(policies.shape[1]):
            if not legal[row, action]:
                continue
            count += 1
            share = float(policies[row, action])
            if share > 0.0:
                entropy -= share * math.log(share)
            if priors[row, action] > priors[row, favourite]:
                favourite = action
            if action != chosen:
                second = max(second, share)
                if not math.isnan(action_values[row, action]):
                    rival = max(rival, float(action_values[row, action]))
        own = float(action_values[row, chosen])
        out[row, 0] = 1.0 if proven[row] else policies[row, chosen]
        out[row, 1] = policies[row, chosen] - second
        out[row, 2] = entropy / math.log(count) if count > 1 else 0.0
        out[row, 3] = min(2.0, own - rival) if not math.isnan(own) else 0.0
        out[row, 4] = priors[row, chosen]
        out[row, 5] = 1.0 if favourite == chosen else 0.0
        out[row, 6] = abs(values[row])
        out[row, 7] = values[row]
        out[row, 8] = 1.0 if proven[row] else 0.0
