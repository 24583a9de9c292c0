"""The rules of a plain Python domain, asked leaf by leaf between the kernels of a wave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from escalade.domains.base import Domain
from escalade.search.arrays import ASKED, FAILED, NONE, PENDING
from escalade.search.forest import Forest


class PlainLeaves:
    """States of any `Domain`, one list a tree; the nodes of a tree are numbered in the order they are made."""

    def __init__(self, domain: Domain[Any], forest: Forest) -> None:
        self.domain = domain
        self.arrays = forest.arrays
        self.errors: dict[int, Exception] = {}
        self.states: list[list[Any]] = [[] for _ in range(len(forest.arrays.start))]

    def plant(self, tree: int, state: Any) -> None:
        self.states[tree] = [state]

    def keep(self, tree: int, nodes: Sequence[int]) -> None:
        """Only these nodes remain, renumbered in this order."""
        self.states[tree] = [self.states[tree][node] for node in nodes]

    def advance(self) -> None:
        """The states of the pending leaves, and what the rules say of them, as `waves.advance_round` does. A tree in
        which the domain fails stops, with its error kept in `errors`."""
        a = self.arrays
        count = int(a.counts[PENDING])
        a.leaf_legal[:count] = False
        a.leaf_ends[:count] = np.nan
        pairs = zip(
            *(a.pending[:count].tolist(), a.leaf_parent[:count].tolist(), a.leaf_action[:count].tolist()), strict=True
        )
        said = []
        for m, (tree, parent, action) in enumerate(pairs):
            try:
                said.append(self._leaf(m, self.states[tree], parent, action))
            except Exception as error:  # noqa: BLE001 - of the user's domain; it goes to whoever asked
                self.errors[tree] = error
                a.stopped[tree] = FAILED
                said.append((True, 0.0, 0))
        a.leaf_terminal[:count], a.leaf_outcome[:count], a.leaf_to_move[:count] = zip(*said, strict=True)

    def _leaf(self, m: int, states: list[Any], parent: int, action: int) -> tuple[bool, float, int]:
        """Keep the new leaf's state and write its legal actions. Returns whether it is finished, the outcome, and the
        player to move."""
        domain = self.domain
        if parent == NONE:
            state = states[0]
        else:
            state = domain.step(states[parent], action)
            states.append(state)
        if domain.is_terminal(state):
            return True, domain.outcome(state), domain.to_move(state)
        self.arrays.leaf_legal[m, domain.legal_actions(state)] = True
        ends = domain.ending_actions(state)
        if ends:
            for ending, outcome in ends.items():
                self.arrays.leaf_ends[m, ending] = outcome
        return False, 0.0, domain.to_move(state)

    def asked(self) -> list[Any]:
        """The states to ask about."""
        count = int(self.arrays.counts[ASKED])
        trees, nodes = self.arrays.asked[:count].tolist(), self.arrays.asked_node[:count].tolist()
        return [self.states[tree][node] for tree, node in zip(trees, nodes, strict=True)]
