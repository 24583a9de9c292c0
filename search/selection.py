"""How a tree chooses the action to try next: kernels over one node of a `Forest`.

An action is hopeless when it cannot beat what is already sure in its node; it is never tried again. `at` is a node's
place in the arena.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from escalade.search.arrays import FAILED, NONE
from escalade.search.gumbel import completed_value, score, sigma, visits_before


@njit(nogil=True, cache=True, error_model="numpy")
def puct(f, tree, at):  # type: ignore[no-untyped-def]
    """The action with the greatest

        Q(s, a) + c * P(s, a) * sqrt(N(s)) / (1 + n(s, a))

    D. Silver et al., "Mastering the game of Go without human knowledge", Nature 550, 2017, Methods, "Select". Q of an
    action not tried is the node's own value less `fpu_reduction` (first-play urgency: S. Gelly, Y. Wang, "Exploration
    exploitation in Go", 2006); within proven bounds either way.
    """
    edge = at * f.actions
    exploration = f.c_puct[tree] * np.sqrt(np.float32(f.visits[at]))
    unvisited = f.value[at] - f.fpu_reduction[tree]
    sure = f.lower[at]
    best, best_value = NONE, np.float32(-np.inf)
    for action in range(f.actions):  # without branches, which would be guessed wrong as often as not
        prior, high, n = f.prior[edge + action], f.edge_upper[edge + action], f.edge_visits[edge + action]
        q = f.edge_value[edge + action] if n > 0 else unvisited
        value = min(max(q, f.edge_lower[edge + action]), high) + exploration * prior / np.float32(1 + n)
        better = (prior >= 0) & (high > sure) & (value > best_value)
        best_value = value if better else best_value
        best = action if better else best
    return best


@njit(nogil=True, cache=True, error_model="numpy")
def gumbel_root(f, tree, at):  # type: ignore[no-untyped-def]
    """Sequential halving with Gumbel: of the actions visited as often as the schedule says, the greatest

        g(a) + logits(a) + sigma(completed Q(a))

    I. Danihelka et al., "Policy improvement by planning with Gumbel", ICLR 2022, section 3.4. Where proofs have taken
    all such actions away, the least visited of the others goes on.
    """
    wanted = visits_before(f.considered[tree], f.visits_wanted[tree] - 1, np.int64(f.visits[at] - 1))
    scale, unvisited = sigma(f, tree, at), completed_value(f, at)
    best, best_score, best_gap = NONE, np.float32(-np.inf), np.int64(2**31)
    for action in range(f.actions):
        edge = at * f.actions + action
        if f.prior[edge] < 0 or f.edge_upper[edge] <= f.lower[at]:
            continue
        n = f.edge_visits[edge]
        gap = np.int64(0 if n == wanted else 1 + n)
        value = f.noise[tree * f.actions + action] + score(f, at, action, scale, unvisited)
        if gap < best_gap or (gap == best_gap and value > best_score):
            best, best_score, best_gap = action, value, gap
    return best


@njit(nogil=True, cache=True, error_model="numpy")
def gumbel_inner(f, tree, at):  # type: ignore[no-untyped-def]
    """Below the root: the action whose share of visits lags most behind the improved policy,

        argmax pi'(a) - n(a) / (1 + N),   pi' = softmax(logits + sigma(completed Q))

    (same paper, section 5).
    """
    scale, unvisited = sigma(f, tree, at), completed_value(f, at)
    top, total = np.float32(-np.inf), np.float32(0)
    for _pass in range(2):
        for action in range(f.actions):
            edge = at * f.actions + action
            if f.prior[edge] >= 0 and f.edge_upper[edge] > f.lower[at]:
                value = score(f, at, action, scale, unvisited)
                if _pass == 0:
                    top = max(top, value)
                else:
                    total += np.exp(value - top)
    best, best_lag = NONE, np.float32(-np.inf)
    for action in range(f.actions):
        edge = at * f.actions + action
        if f.prior[edge] >= 0 and f.edge_upper[edge] > f.lower[at]:
            share = np.float32(f.edge_visits[edge]) / np.float32(f.visits[at])  # a node's visits are 1 + N
            lag = np.exp(score(f, at, action, scale, unvisited) - top) / total - share
            if lag > best_lag:
                best, best_lag = action, lag
    return best


@njit(nogil=True, cache=True, error_model="numpy")
def select(f, tree):  # type: ignore[no-untyped-def]
    """Walk from the root to an action that leads to no node yet, and return its node and the action; or, where exact
    results are not backed up, to a finished node, which is returned with NONE for the action.

    The root must not be proven: then some action can still beat the node's lower bound, in every node on the way.
    """
    start = f.start[tree]
    node = np.int64(0)
    while True:
        at = start + node
        if f.terminal[at]:
            return node, np.int64(NONE)
        if not f.gumbel[tree]:
            action = puct(f, tree, at)
        elif node == 0:
            action = gumbel_root(f, tree, at)
        else:
            action = gumbel_inner(f, tree, at)
        if action < 0:  # no number to compare: the tree cannot go on
            f.stopped[tree] = FAILED
            return node, np.int64(NONE)
        child = f.child[at * f.actions + action]
        if child < 0:
            return node, np.int64(action)
        node = np.int64(child)
