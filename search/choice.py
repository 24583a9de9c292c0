"""What a searched tree recommends: the move, the visit distribution, the line of best play."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from escalade.domains.base import FloatArray
from escalade.search.trees import NONE, Trees


def best_action(trees: Trees, tree: int, node: int, plies: NDArray[np.int32]) -> int:
    """The most visited of the actions that may still beat what is sure and of those that are sure to be as good.

    A sure action's visits stop when it is proven, so a more visited one is preferred only if it also looks better. Of
    proven wins the shortest is played (`plies`, from `plies_to_end`), of proven losses the longest, and of those
    the one that takes the most replies away from the winner, as a person would. Remaining ties go to the larger prior,
    then to the smaller index.
    """
    legal = trees.prior[tree, node] >= 0
    sure = trees.lower[tree, node]
    visits, child = trees.edge_visits[tree, node], trees.child[tree, node]
    hopeful = legal & (trees.edge_upper[tree, node] > sure)
    settled = legal & ~hopeful & (trees.edge_lower[tree, node] == sure)
    ranked = np.lexsort((-np.arange(len(legal)), trees.prior[tree, node], visits))[::-1]
    if not hopeful.any():
        lengths = np.where(child >= 0, plies[child], 0)
        if sure < 0:
            replies = [_refutation(trees, tree, int(child[action]), plies) for action in np.flatnonzero(settled)]
            return int(max(ranked[settled[ranked]], key=lambda action: (lengths[action], replies.count(action))))
        return int(min(ranked[settled[ranked]], key=lambda action: lengths[action] if sure > 0 else 0))
    if sure > -1 and settled.any():
        best_settled = ranked[settled[ranked]][0]
        rivals = hopeful & (visits > visits[best_settled]) & (trees.edge_value[tree, node] > sure)
        return int(ranked[rivals[ranked]][0] if rivals.any() else best_settled)
    return int(ranked[hopeful[ranked]][0])


def _refutation(trees: Trees, tree: int, node: int, plies: NDArray[np.int32]) -> int:
    """The action that wins soonest in a node proven won; NONE if there is no such node."""
    if node == NONE:
        return NONE
    winning = np.flatnonzero(trees.edge_lower[tree, node] == trees.lower[tree, node])
    child = trees.child[tree, node, winning]
    return int(winning[np.argmin(np.where(child >= 0, plies[child], 0))])


def visit_policy(trees: Trees, tree: int) -> FloatArray:
    """Visit distribution at the root, `[A]` float32, without weight on actions that are proven worse than another; once
    the root is proven, only over actions proven to be best."""
    kept = (trees.prior[tree, 0] >= 0) & (trees.edge_upper[tree, 0] >= trees.lower[tree, 0])
    if trees.lower[tree, 0] == trees.upper[tree, 0]:
        kept &= trees.edge_lower[tree, 0] == trees.lower[tree, 0]
    weights = np.where(kept, trees.edge_visits[tree, 0], 0).astype(np.float32)
    if not weights.any():
        weights = np.where(kept, np.maximum(trees.prior[tree, 0], 0), 0).astype(np.float32)
    return weights / weights.sum()


def principal_variation(trees: Trees, tree: int, action: int, plies: NDArray[np.int32]) -> tuple[int, ...]:
    """The line of best play found that begins with a root action."""
    line, node = [action], int(trees.child[tree, 0, action])
    while node != NONE and ((trees.edge_visits[tree, node] > 0).any() or plies[node]):
        line.append(best_action(trees, tree, node, plies))
        node = int(trees.child[tree, node, line[-1]])
    return tuple(line)
