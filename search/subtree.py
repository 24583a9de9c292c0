"""Keeping what a search knows of the position after a move: kernels over one tree of a `Forest`."""

from __future__ import annotations

import numpy as np
from numba import njit, types

from escalade.search.arrays import NONE
from escalade.search.backup import add_noise
from escalade.search.forest import FOREST_TYPE


@njit(
    types.int64(FOREST_TYPE, types.int64, types.int64, types.int64[::1]),
    nogil=True,
    cache=True,
    error_model="numpy",
)
def keep_subtree(f, tree, action, kept):  # type: ignore[no-untyped-def]
    """Make the child of the root by `action` the root: its subtree moves to the front of the tree's nodes, in order.

    Returns how many nodes remain, and writes which they were to `kept` `[>= size]`; 0, and nothing is changed, if that
    child was never visited. Children have larger numbers than their parents, so one pass in order finds the subtree,
    and no node is written over before it has moved.
    """
    start, actions, width = f.start[tree], f.actions, f.width
    if f.size[tree] == 0:
        return 0
    child = f.child[start * actions + action]
    if child < 0 or f.visits[start + child] == 0:
        return 0
    place = np.full(f.size[tree], NONE, np.int64)
    place[child] = 0
    kept[0] = child
    count = 1
    for node in range(child + 1, f.size[tree]):
        if place[f.parent[start + node]] >= 0:
            place[node] = count
            kept[count] = node
            count += 1
    for node in range(count):
        old, new = start + kept[node], start + node
        f.visits[new], f.total[new] = f.visits[old], f.total[old]
        f.raw_value[new], f.value[new] = f.raw_value[old], f.value[old]
        f.lower[new], f.upper[new] = f.lower[old], f.upper[old]
        f.to_move[new], f.terminal[new] = f.to_move[old], f.terminal[old]
        f.parent[new] = place[f.parent[old]] if node > 0 else NONE
        f.parent_action[new] = f.parent_action[old] if node > 0 else NONE
        for w in range(width):
            f.rows[new * width + w] = f.rows[old * width + w]
        for a in range(actions):
            to, of = new * actions + a, old * actions + a
            f.prior[to], f.edge_visits[to], f.edge_value[to] = f.prior[of], f.edge_visits[of], f.edge_value[of]
            f.edge_lower[to], f.edge_upper[to] = f.edge_lower[of], f.edge_upper[of]
            f.child[to] = place[f.child[of]] if f.child[of] >= 0 else f.child[of]
    f.size[tree] = count
    return count


@njit(types.void(FOREST_TYPE, types.int64, types.boolean), nogil=True, cache=True, error_model="numpy")
def renew_noise(f, tree, was_root):  # type: ignore[no-untyped-def]
    """Mix new noise into the priors of a root that was kept; if it was the root before, in place of the old noise."""
    if f.noise_fraction[tree] > 0:
        if was_root:
            for a in range(f.actions):
                f.prior[f.start[tree] * f.actions + a] = f.root_prior[tree * f.actions + a]
        add_noise(f, tree)
