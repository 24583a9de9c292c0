"""Many search trees as a struct of arrays, and the three kernels that move them: select, expand, back up.

Shapes: B trees, N nodes a tree, A actions, M trees that take part in a wave. Node 0 is the root. Every value is seen
from the player to move in its node, edge values from the player to move in the parent. An edge repeats what its child
knows (visits, value, bounds), so that selection reads one row of memory a node.

Proofs are bounds: each node keeps a lower and an upper bound on its exact value, equal once the value is proven. That
is MCTS-Solver (Winands et al. 2008) in the score-bounded form of Cazenave & Saffidine, "Score Bounded Monte-Carlo Tree
Search", 2010, which proves draws as well as wins and losses. An action that cannot beat what is already sure is
hopeless: it is no longer selected, and its visits are taken out of the node's mean value (and so out of every mean
above), since the player to move would not choose it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from escalade.domains.base import KeyArray
from escalade.domains.errors import SettingsError
from escalade.domains.random_bits import GAMMA, mix

MAX_BYTES = 8 * 2**30
NONE = -1


class Trees(NamedTuple):
    """The arrays. A node's exact value is in [lower, upper]; a prior of -1 marks an illegal action."""

    prior: NDArray[np.float32]  # [B, N, A]
    edge_visits: NDArray[np.int32]  # [B, N, A]
    edge_value: NDArray[np.float32]  # [B, N, A]
    edge_lower: NDArray[np.float32]  # [B, N, A]
    edge_upper: NDArray[np.float32]  # [B, N, A]
    child: NDArray[np.int32]  # [B, N, A], node index or -1
    visits: NDArray[np.int32]  # [B, N]
    raw_value: NDArray[np.float32]  # [B, N], the evaluator's
    value: NDArray[np.float32]  # [B, N], what the search makes of it
    lower: NDArray[np.float32]  # [B, N]
    upper: NDArray[np.float32]  # [B, N]
    parent: NDArray[np.int32]  # [B, N], -1 at the root
    parent_action: NDArray[np.int32]  # [B, N]
    to_move: NDArray[np.int8]  # [B, N]
    size: NDArray[np.int32]  # [B], nodes in use


def new_trees(trees: int, nodes: int, actions: int) -> Trees:
    """Empty trees with room for `nodes` each. Raises SettingsError if they would not fit in memory."""
    needed = trees * nodes * (24 * actions + 29)
    if needed > MAX_BYTES:
        raise SettingsError(
            f"{trees} trees of {nodes} nodes with {actions} actions need {needed / 2**30:.1f} GiB, more than the "
            f"{MAX_BYTES / 2**30:.0f} GiB allowed: lower simulations or search fewer states at once"
        )
    return Trees(
        prior=np.full((trees, nodes, actions), NONE, np.float32),
        edge_visits=np.zeros((trees, nodes, actions), np.int32),
        edge_value=np.zeros((trees, nodes, actions), np.float32),
        edge_lower=np.full((trees, nodes, actions), -1.0, np.float32),
        edge_upper=np.full((trees, nodes, actions), 1.0, np.float32),
        child=np.full((trees, nodes, actions), NONE, np.int32),
        visits=np.zeros((trees, nodes), np.int32),
        raw_value=np.zeros((trees, nodes), np.float32),
        value=np.zeros((trees, nodes), np.float32),
        lower=np.full((trees, nodes), -1.0, np.float32),
        upper=np.full((trees, nodes), 1.0, np.float32),
        parent=np.full((trees, nodes), NONE, np.int32),
        parent_action=np.full((trees, nodes), NONE, np.int32),
        to_move=np.zeros((trees, nodes), np.int8),
        size=np.zeros(trees, np.int32),
    )


def grown(trees: Trees, nodes: int) -> Trees:
    """The same trees with room for `nodes` each."""
    count, used, actions = trees.prior.shape
    larger = new_trees(count, nodes, actions)
    pairs: zip[tuple[NDArray[Any], NDArray[Any]]] = zip(trees, larger, strict=True)
    for old, new in pairs:
        new[(slice(None), slice(used))[: old.ndim]] = old
    return larger


@njit(nogil=True, cache=True)
def select(trees, active, seeds, c_puct, fpu_reduction, parents, actions, keys):  # type: ignore[no-untyped-def]
    """Walk each active tree `[M]` from the root to an action not yet tried, by PUCT:

        Q(s, a) + c * P(s, a) * sqrt(N(s)) / (1 + n(s, a))

    Writes parents `[M]`, actions `[M]` int64 and the leaf's own random key `[M]` uint64. Roots must not be proven: then
    some action can still beat the node's lower bound, in every node on the way, and the walk ends in a new leaf.
    """
    for m in range(active.shape[0]):
        tree = active[m]
        node = 0
        while True:
            total = trees.visits[tree, node]
            exploration = c_puct * np.sqrt(np.float32(total))
            unvisited = trees.value[tree, node] - fpu_reduction
            best, best_score = -1, np.float32(-np.inf)
            for action in range(trees.prior.shape[2]):
                prior = trees.prior[tree, node, action]
                if prior < 0:
                    continue
                low, high = trees.edge_lower[tree, node, action], trees.edge_upper[tree, node, action]
                if high <= trees.lower[tree, node]:
                    continue  # hopeless
                n = trees.edge_visits[tree, node, action]
                q = trees.edge_value[tree, node, action] if n > 0 else unvisited
                score = min(max(q, low), high) + exploration * prior / (1 + n)
                if score > best_score:
                    best, best_score = action, score
            child = trees.child[tree, node, best]
            if child < 0:
                parents[m] = node
                actions[m] = best
                keys[m] = mix(seeds[tree] + GAMMA * np.uint64(trees.size[tree]))
                break
            node = child


@njit(nogil=True, cache=True)
def expand(trees, active, parents, actions, legal, terminal, outcome, to_move, ends, logits, nodes):  # type: ignore[no-untyped-def]
    """Add one node to each active tree and write its index to nodes `[M]`.

    legal `[M, A]`, terminal `[M]`, outcome `[M]`, to_move `[M]`; ends `[M, A]` are the outcomes of actions that end the
    game, NaN for others; logits `[M, A]` become priors by a softmax over the
    legal actions (rows of terminal nodes are ignored). A root has parent -1.
    """
    for m in range(active.shape[0]):
        tree = active[m]
        node = trees.size[tree]
        trees.size[tree] = node + 1
        nodes[m] = node
        trees.parent[tree, node] = parents[m]
        trees.parent_action[tree, node] = actions[m]
        trees.to_move[tree, node] = to_move[m]
        if parents[m] >= 0:
            trees.child[tree, parents[m], actions[m]] = node
        if terminal[m]:
            trees.lower[tree, node] = outcome[m]
            trees.upper[tree, node] = outcome[m]
            continue
        top = np.float32(-np.inf)
        for action in range(legal.shape[1]):
            if legal[m, action]:
                top = max(top, logits[m, action])
        total = np.float32(0.0)
        for action in range(legal.shape[1]):
            if legal[m, action]:
                weight = np.exp(logits[m, action] - top)
                trees.prior[tree, node, action] = weight
                total += weight
        for action in range(legal.shape[1]):
            if legal[m, action]:
                trees.prior[tree, node, action] /= total
                if not np.isnan(ends[m, action]):
                    trees.edge_value[tree, node, action] = ends[m, action]
                    trees.edge_lower[tree, node, action] = ends[m, action]
                    trees.edge_upper[tree, node, action] = ends[m, action]


@njit(nogil=True, cache=True)
def back_up(trees, active, nodes, values):  # type: ignore[no-untyped-def]
    """Carry each new leaf's value `[M]` and proof to the root, turning the sign where the player to move changes."""
    for m in range(active.shape[0]):
        tree, node = active[m], nodes[m]
        trees.raw_value[tree, node] = values[m]
        trees.visits[tree, node] = 1
        _settle(trees, tree, node)
        while trees.parent[tree, node] >= 0:
            parent, action = trees.parent[tree, node], trees.parent_action[tree, node]
            value, low, high = trees.value[tree, node], trees.lower[tree, node], trees.upper[tree, node]
            if trees.to_move[tree, parent] != trees.to_move[tree, node]:
                value, low, high = -value, -high, -low
            trees.edge_visits[tree, parent, action] += 1
            trees.edge_value[tree, parent, action] = value
            trees.edge_lower[tree, parent, action] = low
            trees.edge_upper[tree, parent, action] = high
            trees.visits[tree, parent] += 1
            _settle(trees, tree, parent)
            node = parent


@njit(nogil=True, cache=True)
def _settle(trees, tree, node):  # type: ignore[no-untyped-def]
    """A node's bounds are the best of its actions'; its value is the mean, by visits, of its own evaluation and of the
    actions that are not hopeless."""
    lower, upper = trees.lower[tree, node], trees.upper[tree, node]
    if lower < upper:
        lower, upper = np.float32(-1.0), np.float32(-1.0)
        for action in range(trees.prior.shape[2]):
            if trees.prior[tree, node, action] >= 0:
                lower = max(lower, trees.edge_lower[tree, node, action])
                upper = max(upper, trees.edge_upper[tree, node, action])
        trees.lower[tree, node] = lower
        trees.upper[tree, node] = upper
    total, visits = trees.raw_value[tree, node], 1
    for action in range(trees.prior.shape[2]):
        if trees.edge_visits[tree, node, action] > 0 and trees.edge_upper[tree, node, action] > lower:
            total += trees.edge_visits[tree, node, action] * trees.edge_value[tree, node, action]
            visits += trees.edge_visits[tree, node, action]
    trees.value[tree, node] = min(max(total / visits, lower), upper)


@njit(nogil=True, cache=True)
def unproven(trees, active):  # type: ignore[no-untyped-def]
    """`[M]` bool: whose root is still open."""
    found = np.empty(active.shape[0], np.bool_)
    for m in range(active.shape[0]):
        found[m] = trees.lower[active[m], 0] < trees.upper[active[m], 0]
    return found


@njit(nogil=True, cache=True)
def plies_to_end(trees, tree):  # type: ignore[no-untyped-def]
    """`[N]` int32: moves to the end of each proven node's line, the winner hurrying and the loser holding out as far
    as the tree knows; 0 for finished and for unproven nodes."""
    plies = np.zeros(trees.size[tree], np.int32)
    for node in range(trees.size[tree] - 1, -1, -1):  # children have larger indices than their parent
        if trees.lower[tree, node] < trees.upper[tree, node]:
            continue
        value = trees.lower[tree, node]
        found = -1
        for action in range(trees.prior.shape[2]):
            if trees.prior[tree, node, action] < 0 or trees.edge_lower[tree, node, action] != value:
                continue
            child = trees.child[tree, node, action]
            length = 1 + (plies[child] if child >= 0 else 0)
            if found < 0 or (length < found if value > 0 else length > found):
                found = length
        plies[node] = max(found, 0)
    return plies


def tree_seeds(seed: int, trees: int) -> KeyArray:
    """One random seed a tree, `[B]` uint64; the first depends on `seed` alone, not on how many trees there are."""
    return np.array([np.uint64(word) for word in np.random.SeedSequence(seed).generate_state(trees, np.uint64)])
