"""The parts of Gumbel search: the schedule of sequential halving, completed Q values, the improved policy.

I. Danihelka, A. Guez, J. Schrittwieser, D. Silver, "Policy improvement by planning with Gumbel", ICLR 2022. Values are
in [-1, 1] by law, so Q is scaled by that fixed range to [0, 1] and not by what a search happened to see.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from escalade.domains.base import FloatArray


@functools.lru_cache(maxsize=256)
def halving_schedule(considered: int, simulations: int) -> NDArray[np.int32]:
    """How often the action to try was visited before, for each simulation: `[simulations]` int32.

    Sequential halving (Z. Karnin, T. Koren, O. Somekh, "Almost optimal exploration in multi-armed bandits", ICML 2013):
    `considered` actions share a phase of the budget equally, the worse half is dropped, and so on down to two.
    """
    if considered <= 1:
        return np.arange(simulations, dtype=np.int32)
    phases = math.ceil(math.log2(considered))
    visits: list[int] = []
    before, left = 0, considered
    while len(visits) < simulations:
        for _ in range(max(1, simulations // (phases * left))):
            visits += [before] * left
            before += 1
        left = max(2, left // 2)
    return np.array(visits[:simulations], np.int32)


@njit(nogil=True, cache=True, error_model="numpy")
def sigma(f, tree, at):  # type: ignore[no-untyped-def]
    """The factor by which Q weighs against logits: (c_visit + max_b n(b)) * c_scale (equation 8), halved since Q
    spans [-1, 1]."""
    most = np.int32(0)
    for action in range(f.actions):
        most = max(most, f.edge_visits[at * f.actions + action])
    return np.float32(0.5) * (f.c_visit[tree] + np.float32(most)) * f.c_scale[tree]


@njit(nogil=True, cache=True, error_model="numpy")
def completed_value(f, at):  # type: ignore[no-untyped-def]
    """What an action not tried is taken to be worth: the node's own estimate mixed with the mean, by prior, of the
    actions tried,

        (v + N / sum_tried P(b) * sum_tried P(b) Q(b)) / (1 + N)

    (appendix D, equation 33).
    """
    mass, mean, visits = np.float32(0), np.float32(0), np.int32(0)
    for action in range(f.actions):
        n = f.edge_visits[at * f.actions + action]
        if n > 0:
            mass += f.prior[at * f.actions + action]
            mean += f.prior[at * f.actions + action] * f.edge_value[at * f.actions + action]
            visits += n
    if mass <= 0:
        return f.raw_value[at]
    return (f.raw_value[at] + np.float32(visits) * mean / mass) / np.float32(1 + visits)


def improved_policy(prior: FloatArray, values: FloatArray, scale: float) -> FloatArray:
    """softmax(log prior + scale * Q): `[..., A]` float32 from priors and completed Q values of the same shape
    (equation 11). Its expected Q is never below the prior's. Actions without prior get nothing."""
    with np.errstate(divide="ignore"):
        scores = np.log(prior.astype(np.float64)) + scale * values
    weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
    return (weights / weights.sum(axis=-1, keepdims=True)).astype(np.float32)
