"""How a tree chooses the action to try next: kernels over one node of a `Forest`.

An action is hopeless when it cannot beat what is already sure in its node; it is never tried again. `at` is a node's
place in the arena.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from escalade.search.arrays import NONE
from escalade.search.gumbel import completed_value, sigma


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
    best, best_score = NONE, np.float32(-np.inf)
    for action in range(f.actions):
        prior, high = f.prior[edge + action], f.edge_upper[edge + action]
        if prior < 0 or high <= sure:
            continue
        n = f.edge_visits[edge + action]
        q = f.edge_value[edge + action] if n > 0 else unvisited
        score = min(max(q, f.edge_lower[edge + action]), high) + exploration * prior / np.float32(1 + n)
        if score > best_score:
            best, best_score = action, score
    return best


@njit(nogil=True, cache=True, error_model="numpy")
def gumbel_root(f, tree, at):  # type: ignore[no-untyped-def]
    """Sequential halving with Gumbel: of the actions visited as often as the schedule says, the greatest

        g(a) + logits(a) + sigma(completed Q(a))

    I. Danihelka et al., "Policy improvement by planning with Gumbel", ICLR 2022, section 3.4. Where proofs have taken
    all such actions away, the least visited of the others goes on.
    """
    wanted = f.schedule[f.start[tree] + f.visits[at] - 1]
    scale, unvisited = sigma(f, tree, at), completed_value(f, at)
    best, best_score, best_gap = NONE, np.float32(-np.inf), np.int64(2**31)
    for action in range(f.actions):
        if f.prior[at * f.actions + action] < 0 or f.edge_upper[at * f.actions + action] <= f.lower[at]:
            continue
        n = f.edge_visits[at * f.actions + action]
        gap = np.int64(0 if n == wanted else 1 + n)
        q = f.edge_value[at * f.actions + action] if n > 0 else unvisited
        q = min(max(q, f.edge_lower[at * f.actions + action]), f.edge_upper[at * f.actions + action])
        score = (
            f.noise[tree * f.actions + action]
            + np.log(max(f.prior[at * f.actions + action], np.float32(1e-30)))
            + scale * q
        )
        if gap < best_gap or (gap == best_gap and score > best_score):
            best, best_score, best_gap = action, score, gap
    return best


@njit(nogil=True, cache=True, error_model="numpy")
def gumbel_inner(f, tree, at):  # type: ignore[no-untyped-def]
    """Below the root: the action whose share of visits lags most behind the improved policy,

        argmax pi'(a) - n(a) / (1 + N),   pi' = softmax(logits + sigma(completed Q))

    (same paper, section 5).
    """
    actions = f.actions
    scale, unvisited = sigma(f, tree, at), completed_value(f, at)
    top, total = np.float32(-np.inf), np.float32(0)
    for _pass in range(2):
        for action in range(actions):
            if f.prior[at * f.actions + action] >= 0 and f.edge_upper[at * f.actions + action] > f.lower[at]:
                score = _score(f, at, action, scale, unvisited)
                if _pass == 0:
                    top = max(top, score)
                else:
                    total += np.exp(score - top)
    best, best_lag = NONE, np.float32(-np.inf)
    for action in range(actions):
        if f.prior[at * f.actions + action] >= 0 and f.edge_upper[at * f.actions + action] > f.lower[at]:
            share = np.float32(f.edge_visits[at * f.actions + action]) / np.float32(
                f.visits[at]
            )  # N + 1: the node counts itself
            lag = np.exp(_score(f, at, action, scale, unvisited) - top) / total - share
            if lag > best_lag:
                best, best_lag = action, lag
    return best


@njit(nogil=True, cache=True, error_model="numpy")
def _score(f, at, action, scale, unvisited):  # type: ignore[no-untyped-def]
    q = f.edge_value[at * f.actions + action] if f.edge_visits[at * f.actions + action] > 0 else unvisited
    q = min(max(q, f.edge_lower[at * f.actions + action]), f.edge_upper[at * f.actions + action])
    return np.log(max(f.prior[at * f.actions + action], np.float32(1e-30))) + scale * q


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
        child = f.child[at * f.actions + action]
        if child < 0:
            return node, np.int64(action)
        node = np.int64(child)
