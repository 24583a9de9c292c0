"""New leaves and what becomes of their values: kernels over one tree of a `Forest`."""

from __future__ import annotations

import numpy as np
from numba import njit

from escalade.search.arrays import BEYOND, NONE, UNLAWFUL


@njit(nogil=True, cache=True, error_model="numpy")
def add_leaf(f, tree, m):  # type: ignore[no-untyped-def]
    """Make the node of the leaf at place `m` of the work list. Its priors are 0 until the evaluator has answered.
    Returns whether its exact value is known already, so that no one need be asked. What cannot be, by the laws of a
    domain, stops the tree."""
    start = f.start[tree]
    node, parent, action = f.leaf_node[m], f.leaf_parent[m], f.leaf_action[m]
    at = start + node
    edge, leaf = at * f.actions, m * f.actions
    f.size[tree] = node + 1
    if parent >= 0:
        f.child[(start + parent) * f.actions + action] = node
    f.parent[at], f.parent_action[at] = parent, action
    f.to_move[at] = f.leaf_to_move[m]
    f.visits[at], f.total[at], f.raw_value[at] = 0, 0, 0
    f.terminal[at] = f.leaf_terminal[m]
    if f.leaf_terminal[m]:
        f.lower[at], f.upper[at], f.value[at] = f.leaf_outcome[m], f.leaf_outcome[m], f.leaf_outcome[m]
    else:
        f.lower[at], f.upper[at], f.value[at] = -1, 1, 0
    known, legal, lawful = False, np.int64(0), True
    for a in range(f.actions):
        allowed, ends, proof = f.leaf_legal[leaf + a], f.leaf_ends[leaf + a], f.leaf_proofs[leaf + a]
        f.prior[edge + a] = 0 if allowed else NONE
        told = (ends == ends) | (proof == proof)
        known |= told
        legal += allowed
        lawful &= not (told and (not allowed or abs(ends) > 1 or abs(proof) > 1))
    if not lawful or not (abs(f.leaf_outcome[m]) <= 1 if f.leaf_terminal[m] else legal > 0):
        f.stopped[tree] = UNLAWFUL
    if node == 0:
        f.considered[tree] = min(f.considered[tree], legal)
    for a in range(f.actions):
        f.child[edge + a] = NONE
    for a in range(f.actions):
        f.edge_visits[edge + a] = 0
    for a in range(f.actions):
        f.edge_value[edge + a] = 0
    for a in range(f.actions):
        f.edge_lower[edge + a] = -1
    for a in range(f.actions):
        f.edge_upper[edge + a] = 1
    if known and f.proofs[tree]:
        for a in range(f.actions):
            value = f.leaf_ends[leaf + a]
            if value != value and node > 0:  # at the root the search shows what it found, and how
                value = f.leaf_proofs[leaf + a]
                f.child[edge + a] = BEYOND if value == value else NONE
            if value == value:
                f.edge_value[edge + a], f.edge_lower[edge + a], f.edge_upper[edge + a] = value, value, value
        bound(f, at)
    return f.lower[at] == f.upper[at]


@njit(nogil=True, cache=True, error_model="numpy")
def set_priors(f, tree, node, logits, line):  # type: ignore[no-untyped-def]
    """Softmax of a line of logits `[., A]` over the legal actions; at the root mixed with Dirichlet noise (Silver et
    al. 2017, Methods, "Self-play"), whose gamma variates were drawn before. Returns whether they were numbers that can
    be compared: minus infinity is one, for an action without any weight."""
    edge = (f.start[tree] + node) * f.actions
    top = np.float32(-np.inf)
    for a in range(f.actions):
        if f.prior[edge + a] >= 0:
            top = max(top, logits[line * f.actions + a])
    total = np.float32(0)
    for a in range(f.actions):
        if f.prior[edge + a] >= 0:
            weight = np.exp(logits[line * f.actions + a] - top)
            f.prior[edge + a] = weight
            total += weight
    share = np.float32(1) / total
    for a in range(f.actions):
        if f.prior[edge + a] >= 0:
            f.prior[edge + a] *= share
    if node == 0 and f.noise_fraction[tree] > 0:
        add_noise(f, tree)
    return np.isfinite(total)


@njit(nogil=True, cache=True, error_model="numpy")
def set_uniform_priors(f, tree, node):  # type: ignore[no-untyped-def]
    """Equal priors for a node that nobody is asked about."""
    edge = (f.start[tree] + node) * f.actions
    legal = 0
    for a in range(f.actions):
        legal += f.prior[edge + a] >= 0
    for a in range(f.actions):
        if f.prior[edge + a] >= 0:
            f.prior[edge + a] = np.float32(1) / np.float32(legal)
    if node == 0 and f.noise_fraction[tree] > 0:
        add_noise(f, tree)


@njit(nogil=True, cache=True, error_model="numpy")
def add_noise(f, tree):  # type: ignore[no-untyped-def]
    """Mix the tree's noise into the priors of its root, which are kept as they were."""
    edge, noise, fraction = f.start[tree] * f.actions, tree * f.actions, f.noise_fraction[tree]
    top, total = np.float32(-np.inf), np.float32(0)
    for a in range(f.actions):
        f.root_prior[noise + a] = f.prior[edge + a]
        if f.prior[edge + a] >= 0:
            top = max(top, f.noise[noise + a])
    for a in range(f.actions):
        if f.prior[edge + a] >= 0:
            total += np.exp(f.noise[noise + a] - top)
    for a in range(f.actions):
        if f.prior[edge + a] >= 0:
            share = np.exp(f.noise[noise + a] - top) / total
            f.prior[edge + a] = (1 - fraction) * f.prior[edge + a] + fraction * share


@njit(nogil=True, cache=True, error_model="numpy")
def back_up(f, tree, node, raw_value):  # type: ignore[no-untyped-def]
    """Count a visit of a leaf and carry its value and proof to the root, turning the sign where the player to move
    changes.

    A node's value is the mean of all leaf values found below it, its own included, kept within its proven bounds.
    """
    start = f.start[tree]
    at = start + node
    f.visits[at] += 1
    if not f.terminal[at]:
        f.raw_value[at], f.total[at] = raw_value, raw_value
        settle_value(f, at)
    found, last = f.value[at], np.int64(NONE)
    while f.parent[at] >= 0:
        parent, last = start + f.parent[at], np.int64(f.parent_action[at])
        edge = parent * f.actions + last
        value, low, high = f.value[at], f.lower[at], f.upper[at]
        if f.to_move[parent] != f.to_move[at]:
            found, value, low, high = -found, -value, -high, -low
        f.edge_visits[edge] += 1
        f.edge_value[edge] = value
        f.visits[parent] += 1
        f.total[parent] += found
        if f.proofs[tree] and (low != f.edge_lower[edge] or high != f.edge_upper[edge]):
            f.edge_lower[edge], f.edge_upper[edge] = low, high
            bound(f, parent)
        settle_value(f, parent)
        at = parent
    if last >= 0:
        edge = tree * f.actions + last
        f.root_samples[edge] += 1
        f.root_sum[edge] += found
        f.root_squares[edge] += found * found


@njit(nogil=True, cache=True, error_model="numpy")
def bound(f, at):  # type: ignore[no-untyped-def]
    """A node's bounds are the best of its actions'."""
    edge = at * f.actions
    lower, upper = np.float32(-1), np.float32(-1)
    for a in range(f.actions):
        if f.prior[edge + a] >= 0:
            lower, upper = max(lower, f.edge_lower[edge + a]), max(upper, f.edge_upper[edge + a])
    f.lower[at], f.upper[at] = lower, upper


@njit(nogil=True, cache=True, error_model="numpy")
def settle_value(f, at):  # type: ignore[no-untyped-def]
    mean = np.float32(f.total[at] / np.float64(f.visits[at]))
    f.value[at] = min(max(mean, f.lower[at]), f.upper[at])
