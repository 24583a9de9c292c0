"""A game as a user writes one: nobody here has a solver for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from escalade.domains.base import Domain, FloatArray
from escalade.domains.errors import ActionError, StateError

NIM = "nim:Nim"
"""How `load_domain` finds it."""


class Nim(Domain[tuple[int, int]]):
    """The README's: one to three sticks are taken, and whoever takes the last wins. (sticks, player to move)."""

    name = "nim"
    num_actions = 3
    observation_shape = (22,)

    def parse(self, source: Any) -> tuple[int, int]:
        if source not in [f"{sticks}/{player}" for sticks in range(22) for player in (0, 1)]:
            raise StateError("a nim state is sticks/player, such as 21/0: 0 to 21 sticks, player 0 or 1")
        sticks, player = source.split("/")
        return int(sticks), int(player)

    def format(self, state: tuple[int, int]) -> str:
        return f"{state[0]}/{state[1]}"

    def action_name(self, action: int) -> str:
        return str(action + 1)

    def initial_state(self) -> tuple[int, int]:
        return 21, 0

    def legal_actions(self, state: tuple[int, int]) -> range:
        return range(min(3, state[0]))

    def step(self, state: tuple[int, int], action: int) -> tuple[int, int]:
        if action not in self.legal_actions(state):
            raise ActionError(f"action {action} is not legal with {state[0]} sticks")
        return state[0] - action - 1, 1 - state[1]

    def is_terminal(self, state: tuple[int, int]) -> bool:
        return state[0] == 0

    def outcome(self, state: tuple[int, int]) -> float:
        return -1.0

    def to_move(self, state: tuple[int, int]) -> int:
        return state[1]

    def encode(self, states: Sequence[tuple[int, int]]) -> FloatArray:
        return np.eye(22, dtype=np.float32)[[sticks for sticks, _ in states]]
