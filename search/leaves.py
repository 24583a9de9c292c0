"""The rules of a plain Python domain, asked leaf by leaf between the kernels of a wave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from escalade.domains.base import Domain
from escalade.search.forest import ASKED, NONE, PENDING, Forest


class PlainLeaves:
    """States of any `Domain`, one list a tree; the nodes of a tree are numbered in the order they are made."""

    def __init__(self, domain: Domain[Any], forest: Forest) -> None:
        self.domain = domain
        self.arrays = forest.arrays
        self.states: list[list[Any]] = [[] for _ in range(len(forest.arrays.start))]

    def plant(self, tree: int, state: Any) -> None:
        self.states[tree] = [state]

    def keep(self, tree: int, nodes: Sequence[int]) -> None:
        """Only these nodes remain, renumbered in this order."""
        self.states[tree] = [self.states[tree][node] for node in nodes]

    def advance(self) -> None:
        """The states of the pending leaves, and what the rules say of them, as `waves.advance_round` does."""
        a, domain = self.arrays, self.domain
        count = int(a.counts[PENDING])
        a.leaf_legal[:count] = False
        a.leaf_ends[:count] = np.nan
        pairs = zip(
            a.pending[:count].tolist(), a.leaf_parent[:count].tolist(), a.leaf_action[:count].tolist(), strict=True
        )
        terminal, outcome, to_move = [], [], []
        for m, (tree, parent, action) in enumerate(pairs):
            if parent == NONE:
                state = self.states[tree][0]
            else:
                state = domain.step(self.states[tree][parent], action)
                self.states[tree].append(state)
            to_move.append(domain.to_move(state))
            over = domain.is_terminal(state)
            terminal.append(over)
            outcome.append(domain.outcome(state) if over else 0.0)
            if not over:
                a.leaf_legal[m, domain.legal_actions(state)] = True
                ends = domain.ending_actions(state)
                if ends:
                    a.leaf_ends[m, list(ends)] = list(ends.values())
        a.leaf_terminal[:count], a.leaf_outcome[:count], a.leaf_to_move[:count] = terminal, outcome, to_move

    def asked(self) -> list[Any]:
        """The states to ask about."""
        count = int(self.arrays.counts[ASKED])
        trees, nodes = self.arrays.asked[:count].tolist(), self.arrays.asked_node[:count].tolist()
        return [self.states[tree][node] for tree, node in zip(trees, nodes, strict=True)]
