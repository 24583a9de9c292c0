"""The rules of a plain Python domain, asked leaf by leaf between the kernels of a wave."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from escalade.domains.base import Domain
from escalade.domains.errors import DomainFault
from escalade.search.arrays import FAILED, NONE, PENDING
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
        a.leaf_ends[:count] = a.leaf_proofs[:count] = np.nan
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
        domain, num_actions = self.domain, self.domain.num_actions
        if parent == NONE:
            state = states[0]
        else:
            state = domain.step(states[parent], action)
            states.append(state)
        player = domain.to_move(state)
        if player not in (0, 1):
            raise self._fault(state, f"the player to move is {player!r}, not 0 or 1")
        if domain.is_terminal(state):
            return True, self._value(state, domain.outcome(state)), player
        legal = domain.legal_actions(state)
        if not len(legal) or not 0 <= min(legal) <= max(legal) < num_actions:
            raise self._fault(state, f"the legal actions are {legal!r}; some of 0 to {num_actions - 1} must be")
        self.arrays.leaf_legal[m, legal] = True
        for ending, outcome in (domain.ending_actions(state) or {}).items():
            if ending not in legal:
                raise self._fault(state, f"action {ending!r} would end the game, but is not legal")
            self.arrays.leaf_ends[m, ending] = self._value(state, outcome)
        for proven, worth in (domain.proven_actions(state) or {}).items():
            if proven not in legal:
                raise self._fault(state, f"action {proven!r} is proven, but is not legal")
            self.arrays.leaf_proofs[m, proven] = self._value(state, worth, "a proven value")
        return False, 0.0, player

    def _value(self, state: Any, value: Any, what: str = "an outcome") -> float:
        if not isinstance(value, int | float | np.number) or not -1 <= value <= 1:
            raise self._fault(state, f"{what} is {value!r}, not a number in [-1, 1]")
        return float(value)

    def _fault(self, state: Any, what: str) -> DomainFault:
        return DomainFault(f"domain '{self.domain.name}', state '{self.domain.format(state)}': {what}")

    def asked(self, rows: slice) -> list[Any]:
        """The states to ask about, in these rows of the questions."""
        trees, nodes = self.arrays.asked[rows].tolist(), self.arrays.asked_node[rows].tolist()
        return [self.states[tree][node] for tree, node in zip(trees, nodes, strict=True)]
