"""Games as users write them, with what is not in every game: an exact solver of their own, passes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from nim import Nim

from escalade.domains.base import Domain, FloatArray
from escalade.domains.errors import ActionError, StateError

SOLVED_NIM = "solved_games:SolvedNim"
PASSING = "solved_games:Passing"
"""How `load_domain` finds them."""


class NimSolver:
    """Whoever faces a multiple of four sticks loses."""

    def value(self, state: tuple[int, int]) -> float:
        return 1.0 if state[0] % 4 else -1.0

    def scores(self, state: tuple[int, int], on_progress: Callable[[int], None] | None = None) -> list[float | None]:
        left = state[0]
        return [(1.0 if (left - taken) % 4 == 0 else -1.0) if taken <= left else None for taken in (1, 2, 3)]


class SolvedNim(Nim):
    name = "solved_nim"

    def solver(self) -> Any:
        return NimSolver()


class Passing(Domain[tuple[int, int, int]]):
    """Each takes one or two of their own three sticks, and passes when none are left. Whoever takes the last one of all
    wins. (own sticks of player 0, of player 1, player to move)."""

    name = "passing"
    num_actions = 3
    observation_shape = (8,)

    def parse(self, source: Any) -> tuple[int, int, int]:
        if (
            not isinstance(source, str)
            or len(source) != 3
            or not set(source[:2]) <= set("0123")
            or source[2] not in "01"
        ):
            raise StateError("a state is three digits, such as 330: sticks of player 0, of player 1, player to move")
        return int(source[0]), int(source[1]), int(source[2])

    def format(self, state: tuple[int, int, int]) -> str:
        return "".join(map(str, state))

    def action_name(self, action: int) -> str:
        return ("one", "two", "pass")[action]

    def initial_state(self) -> tuple[int, int, int]:
        return 3, 3, 0

    def legal_actions(self, state: tuple[int, int, int]) -> Sequence[int]:
        if self.is_terminal(state):
            return []
        own = state[state[2]]
        return list(range(min(2, own))) if own else [2]

    def step(self, state: tuple[int, int, int], action: int) -> tuple[int, int, int]:
        if action not in self.legal_actions(state):
            raise ActionError(f"action {action} is not legal")
        sticks = [state[0], state[1]]
        sticks[state[2]] -= 0 if action == 2 else action + 1
        return sticks[0], sticks[1], 1 - state[2]

    def is_terminal(self, state: tuple[int, int, int]) -> bool:
        return state[0] == state[1] == 0

    def outcome(self, state: tuple[int, int, int]) -> float:
        return -1.0

    def to_move(self, state: tuple[int, int, int]) -> int:
        return state[2]

    def encode(self, states: Sequence[tuple[int, int, int]]) -> FloatArray:
        own = np.array([state[state[2]] for state in states], np.int64)
        other = np.array([state[1 - state[2]] for state in states], np.int64)
        return np.hstack([np.eye(4, dtype=np.float32)[own], np.eye(4, dtype=np.float32)[other]])


class Twice(Passing):
    """The same without an action that passes: who has no sticks left is not to move."""

    name = "twice"
    num_actions = 2

    def legal_actions(self, state: tuple[int, int, int]) -> Sequence[int]:
        return list(range(min(2, state[state[2]])))

    def parse(self, source: Any) -> tuple[int, int, int]:
        state = super().parse(source)
        if not self.is_terminal(state) and state[state[2]] == 0:
            raise StateError("who has no sticks left is not to move")
        return state

    def step(self, state: tuple[int, int, int], action: int) -> tuple[int, int, int]:
        first, second, player = super().step(state, action)
        return first, second, player if (first, second)[player] or first == second else 1 - player


class WrongSide(Passing):
    """Consistent in itself, and wrong: whoever takes the last one loses."""

    name = "wrong_side"

    def outcome(self, state: tuple[int, int, int]) -> float:
        return 1.0
