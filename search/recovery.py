"""What is left of a wave after a domain's kernel has raised in it: the trees at fault are found and fail, the others go
on from where they were."""

from __future__ import annotations

from typing import Any

import numpy as np

from escalade.domains.base import ArrayDomain
from escalade.domains.isolation import failures_by_row
from escalade.search.arrays import ASKED, FAILED, PENDING
from escalade.search.forest import Forest
from escalade.search.waves import abandon, absorb_round, advance_round


def advance_again(forest: Forest) -> dict[int, Exception]:
    """Make the pending leaves nodes, by parts, after `advance_round` has raised. Returns the errors by tree; trees that
    have one are stopped."""
    a = forest.arrays
    count = int(a.counts[PENDING])
    lists = (a.pending, a.leaf_parent, a.leaf_action, a.leaf_node)
    leaves = [array[:count].copy() for array in lists]

    def put(first: int, last: int) -> None:
        for array, kept in zip(lists, leaves, strict=True):
            array[: last - first] = kept[first:last]
        a.counts[PENDING] = last - first

    def advance(first: int, last: int) -> None:
        put(first, last)
        advance_round(forest.handle, forest.rules)
        absorb_round(forest.handle)

    failures = failures_by_row(advance, count)
    for row in failures:
        # A leaf that is finished needs no one's estimate, so that the tree is ready again, and then reported as failed.
        put(row, row + 1)
        a.stopped[a.pending[0]] = FAILED
        a.leaf_terminal[0], a.leaf_outcome[0], a.leaf_to_move[0] = True, 0, 0
        a.leaf_legal[0], a.leaf_ends[0], a.leaf_proofs[0] = False, np.nan, np.nan
        absorb_round(forest.handle)
    return {int(leaves[0][row]): error for row, error in failures.items()}


def encode_again(forest: Forest, domain: ArrayDomain[Any]) -> dict[int, Exception]:
    """Encode the leaves that wait for an estimate, by parts, after a wave was broken off. Returns the errors by tree;
    trees that have one are stopped, and ask no more."""
    a = forest.arrays
    count = int(a.counts[ASKED])

    def encode(first: int, last: int) -> None:
        a.observations[first:last] = domain.encode_rows(a.asked_rows[first:last]).reshape(last - first, -1)

    failures = {int(a.asked[row]): error for row, error in failures_by_row(encode, count).items()}
    for tree in failures:
        a.stopped[tree] = FAILED
    abandon(forest.handle)
    return failures
