"""The positions of many games as one array, whatever the domain: rows of integers that kernels step all at once, or the
states themselves where the rules are Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from escalade.domains.base import ArrayDomain, BoolArray, Domain, FloatArray, IntArray, array_domain, legal_mask

Judgement = tuple[BoolArray, FloatArray, NDArray[np.int8]]
"""Of M positions: finished `[M]`, outcome `[M]` float32 (0 where not finished), player to move `[M]`."""


class Positions(Protocol):
    """What is done with M positions at once. An array of them can be indexed along its first axis, and be laid in a
    larger array, such as `room` makes."""

    def room(self, *shape: int) -> NDArray[Any]:
        """An array for so many positions, not filled."""
        ...

    def initial(self, count: int) -> NDArray[Any]: ...

    def legal(self, states: NDArray[Any]) -> BoolArray:
        """`[M, A]`, of unfinished positions."""
        ...

    def step(self, states: NDArray[Any], actions: IntArray) -> NDArray[Any]:
        """After legal actions `[M]`."""
        ...

    def judge(self, states: NDArray[Any]) -> Judgement: ...

    def encode(self, states: NDArray[Any]) -> FloatArray: ...

    def texts(self, states: NDArray[Any], opening: list[int], actions: list[int]) -> list[str]:
        """The texts of a game's positions `[M]`: those reached by the moves of the opening, and then by all actions but
        the last."""
        ...


def positions_of(domain: Domain[Any]) -> Positions:
    fast = array_domain(domain)
    return PlainPositions(domain) if fast is None else RowPositions(fast)


class RowPositions:
    """Positions of an `ArrayDomain`: int64 `[M, W]`."""

    def __init__(self, domain: ArrayDomain[Any]) -> None:
        self.domain = domain

    def room(self, *shape: int) -> NDArray[Any]:
        return np.empty((*shape, self.domain.row_width), np.int64)

    def initial(self, count: int) -> NDArray[Any]:
        return np.repeat(self.domain.to_rows([self.domain.initial_state()]), count, axis=0)

    def legal(self, states: NDArray[Any]) -> BoolArray:
        return self.domain.rules_rows(states)[0]

    def step(self, states: NDArray[Any], actions: IntArray) -> NDArray[Any]:
        return self.domain.step_rows(states, actions)

    def judge(self, states: NDArray[Any]) -> Judgement:
        return self.domain.rules_rows(states)[1:]

    def encode(self, states: NDArray[Any]) -> FloatArray:
        return self.domain.encode_rows(states)

    def texts(self, states: NDArray[Any], opening: list[int], actions: list[int]) -> list[str]:
        """A row has no text: the game is played once more by the plain rules."""
        domain, state = self.domain, self.domain.initial_state()
        for action in opening:
            state = domain.step(state, action)
        found = [domain.format(state)]
        for action in actions[:-1]:
            state = domain.step(state, action)
            found.append(domain.format(state))
        return found


class PlainPositions:
    """Positions of any domain: objects `[M]`, its states."""

    def __init__(self, domain: Domain[Any]) -> None:
        self.domain = domain

    def room(self, *shape: int) -> NDArray[Any]:
        return np.empty(shape, np.object_)

    def initial(self, count: int) -> NDArray[Any]:
        return _objects((self.domain.initial_state() for _ in range(count)), count)

    def legal(self, states: NDArray[Any]) -> BoolArray:
        return legal_mask(self.domain, states.tolist())

    def step(self, states: NDArray[Any], actions: IntArray) -> NDArray[Any]:
        return _objects(map(self.domain.step, states.tolist(), actions.tolist()), len(states))

    def judge(self, states: NDArray[Any]) -> Judgement:
        domain, found = self.domain, states.tolist()
        over = [domain.is_terminal(state) for state in found]
        outcome = [domain.outcome(state) if ended else 0.0 for state, ended in zip(found, over, strict=True)]
        to_move = [domain.to_move(state) for state in found]
        return np.array(over, np.bool_), np.array(outcome, np.float32), np.array(to_move, np.int8)

    def encode(self, states: NDArray[Any]) -> FloatArray:
        return self.domain.encode(states.tolist())

    def texts(self, states: NDArray[Any], opening: list[int], actions: list[int]) -> list[str]:
        format_one: Callable[[Any], str] = self.domain.format
        return [format_one(state) for state in states.tolist()]


def _objects(states: Iterable[Any], count: int) -> NDArray[Any]:
    """States as an array `[count]`; NumPy would make an array of numbers of tuples of numbers."""
    return np.fromiter(states, np.object_, count)
