"""The parts of Gumbel search: the schedule of sequential halving, completed Q values, the improved policy.

I. Danihelka, A. Guez, J. Schrittwieser, D. Silver, "Policy improvement by planning with Gumbel", ICLR 2022. Values are
in [-1, 1] by law, so Q is scaled by that fixed range to [0, 1] and not by what a search happened to see; unless
`SearchConfig.rescale` wants the latter, as MuZero does (J. Schrittwieser et al., Nature 588, 2020, appendix B).
"""

from __future__ import annotations

import numpy as np
from numba import njit

LEAST_SPAN = np.float32(0.02)
"""Of Q values that are rescaled: smaller differences are noise."""


@njit(nogil=True, cache=True, error_model="numpy")
def visits_before(considered, simulations, simulation):  # type: ignore[no-untyped-def]
    """How often the action to try in a `simulation`, counted from 0, was visited before.

    Sequential halving (Z. Karnin, T. Koren, O. Somekh, "Almost optimal exploration in multi-armed bandits", ICML 2013):
    `considered` actions share a phase of the `simulations` equally, the worse half is dropped, and so on down to two.
    """
    if considered <= 1:
        return simulation
    phases = 0
    while 1 << phases < considered:
        phases += 1
    before, left = np.int64(0), considered
    while True:
        rounds = max(1, simulations // (phases * left))
        if simulation < rounds * left:
            return before + simulation // left
        simulation -= rounds * left
        before += rounds
        left = max(2, left // 2)


@njit(nogil=True, cache=True, error_model="numpy")
def sigma(f, tree, at):  # type: ignore[no-untyped-def]
    """The factor by which Q weighs against logits: (c_visit + max_b n(b)) * c_scale (equation 8), halved since Q
    spans [-1, 1]; or, where it is rescaled, by what the actions tried and the node's own estimate span."""
    most = np.int32(0)
    low = high = f.raw_value[at]
    for action in range(f.actions):
        n = f.edge_visits[at * f.actions + action]
        most = max(most, n)
        if n > 0:
            low = min(low, f.edge_value[at * f.actions + action])
            high = max(high, f.edge_value[at * f.actions + action])
    span = max(high - low, LEAST_SPAN) if f.rescale[tree] else np.float32(2)
    return (f.c_visit[tree] + np.float32(most)) * f.c_scale[tree] / span


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


@njit(nogil=True, cache=True, error_model="numpy")
def score(f, at, action, scale, unvisited):  # type: ignore[no-untyped-def]
    """logits + sigma(completed Q) of an action, its Q within proven bounds. scale, unvisited: from `sigma` and
    `completed_value`."""
    edge = at * f.actions + action
    q = f.edge_value[edge] if f.edge_visits[edge] > 0 else unvisited
    q = min(max(q, f.edge_lower[edge]), f.edge_upper[edge])
    return np.log(max(f.prior[edge], np.float32(1e-30))) + scale * q


@njit(nogil=True, cache=True, error_model="numpy")
def improved_policy(scores, kept, out):  # type: ignore[no-untyped-def]
    """softmax(scores) over the kept actions, at least one, to `out`; all `[A]` (equation 11). Its expected Q is never
    below the prior's."""
    top = -np.inf
    for action in range(kept.shape[0]):
        if kept[action]:
            top = max(top, scores[action])
    total = 0.0
    for action in range(kept.shape[0]):
        out[action] = np.exp(scores[action] - top) if kept[action] else 0
        total += out[action]
    for action in range(kept.shape[0]):
        out[action] /= total
