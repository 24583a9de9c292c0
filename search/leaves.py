"""Where the states of tree nodes are kept, so that nothing is ever replayed from the root."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from escalade.domains.base import ArrayDomain, BoolArray, Domain, FloatArray, IntArray, legal_mask


class Rules(NamedTuple):
    """What the rules say of M states."""

    legal: BoolArray  # [M, A]
    terminal: BoolArray  # [M]
    outcome: FloatArray  # [M], 0 where not finished
    to_move: NDArray[np.int8]  # [M]


class StateStore(Protocol):
    """States by tree and node."""

    def put_roots(self, states: Sequence[Any]) -> Rules: ...

    def advance(self, trees: IntArray, parents: IntArray, actions: IntArray, nodes: IntArray) -> Rules:
        """Step from `parents` by `actions` and keep the results at `nodes`, all `[M]`."""
        ...

    def finished_children(self, trees: IntArray, nodes: IntArray, rules: Rules) -> FloatArray:
        """Outcomes of the actions that end the game, `[M, A]` from the view of the node's player to move; NaN for all
        other actions."""
        ...

    def at(self, trees: IntArray, nodes: IntArray) -> Sequence[Any] | IntArray:
        """The states themselves, `[M]` of them or rows `[M, W]`."""
        ...

    def encode(self, trees: IntArray, nodes: IntArray) -> FloatArray:
        """Observations `[M, *O]`."""
        ...

    def grow(self, nodes: int) -> None: ...


class RowStore:
    """States of an `ArrayDomain` as rows `[B, N, W]`."""

    def __init__(self, domain: ArrayDomain[Any], trees: int, nodes: int) -> None:
        self.domain = domain
        self.rows = np.zeros((trees, nodes, domain.row_width), np.int64)

    def put_roots(self, states: Sequence[Any]) -> Rules:
        self.rows[:, 0] = self.domain.to_rows(states)
        return Rules(*self.domain.rules_rows(np.ascontiguousarray(self.rows[:, 0])))

    def advance(self, trees: IntArray, parents: IntArray, actions: IntArray, nodes: IntArray) -> Rules:
        rows = self.domain.step_rows(self.rows[trees, parents], actions)
        self.rows[trees, nodes] = rows
        return Rules(*self.domain.rules_rows(rows))

    def finished_children(self, trees: IntArray, nodes: IntArray, rules: Rules) -> FloatArray:
        which, actions = np.nonzero(rules.legal)
        children = Rules(*self.domain.rules_rows(self.domain.step_rows(self.rows[trees[which], nodes[which]], actions)))
        return _outcomes(rules, which, actions, children)

    def at(self, trees: IntArray, nodes: IntArray) -> IntArray:
        return self.rows[trees, nodes]

    def encode(self, trees: IntArray, nodes: IntArray) -> FloatArray:
        return self.domain.encode_rows(self.rows[trees, nodes])

    def grow(self, nodes: int) -> None:
        larger = np.zeros((self.rows.shape[0], nodes, self.rows.shape[2]), np.int64)
        larger[:, : self.rows.shape[1]] = self.rows
        self.rows = larger


class ObjectStore:
    """States of any `Domain`, one list a tree."""

    def __init__(self, domain: Domain[Any], trees: int) -> None:
        self.domain = domain
        self.states: list[list[Any]] = [[] for _ in range(trees)]

    def put_roots(self, states: Sequence[Any]) -> Rules:
        for tree, state in zip(self.states, states, strict=True):
            tree.append(state)
        return self._rules(states)

    def advance(self, trees: IntArray, parents: IntArray, actions: IntArray, nodes: IntArray) -> Rules:
        stepped = []
        for tree, parent, action in zip(trees.tolist(), parents.tolist(), actions.tolist(), strict=True):
            state = self.domain.step(self.states[tree][parent], action)
            self.states[tree].append(state)  # nodes are numbered in the order they are made
            stepped.append(state)
        return self._rules(stepped)

    def finished_children(self, trees: IntArray, nodes: IntArray, rules: Rules) -> FloatArray:
        which, actions = np.nonzero(rules.legal)
        states = self.at(trees[which], nodes[which])
        stepped = [self.domain.step(state, action) for state, action in zip(states, actions.tolist(), strict=True)]
        return _outcomes(rules, which, actions, self._rules(stepped))

    def at(self, trees: IntArray, nodes: IntArray) -> Sequence[Any]:
        return [self.states[tree][node] for tree, node in zip(trees.tolist(), nodes.tolist(), strict=True)]

    def encode(self, trees: IntArray, nodes: IntArray) -> FloatArray:
        return self.domain.encode(self.at(trees, nodes))

    def grow(self, nodes: int) -> None:
        pass  # lists grow by themselves

    def _rules(self, states: Sequence[Any]) -> Rules:
        terminal = np.array([self.domain.is_terminal(state) for state in states], np.bool_)
        outcome = np.zeros(len(states), np.float32)
        for index in np.flatnonzero(terminal).tolist():
            outcome[index] = self.domain.outcome(states[index])
        to_move = np.array([self.domain.to_move(state) for state in states], np.int8)
        return Rules(legal_mask(self.domain, states), terminal, outcome, to_move)


def _outcomes(rules: Rules, which: IntArray, actions: IntArray, children: Rules) -> FloatArray:
    outcomes = np.full(rules.legal.shape, np.nan, np.float32)
    ended = children.terminal
    which, actions = which[ended], actions[ended]
    turned = children.to_move[ended] != rules.to_move[which]
    outcomes[which, actions] = np.where(turned, -children.outcome[ended], children.outcome[ended])
    return outcomes


def state_store(domain: Domain[Any], trees: int, nodes: int) -> StateStore:
    """The fastest store the domain allows."""
    if isinstance(domain, ArrayDomain):
        return RowStore(domain, trees, nodes)
    return ObjectStore(domain, trees)
