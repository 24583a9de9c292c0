"""A domain with one player, as a user writes one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from escalade.domains.base import Domain, FloatArray
from escalade.domains.errors import ActionError, StateError

CORRIDOR = "corridor:Corridor"
"""How `load_domain` finds it."""
END, STEPS = 8, 20


class Corridor(Domain[tuple[int, int]]):
    """A walk along a corridor: worth 1 at the right end, -1 at the left one, 0 after so many steps. (place, steps)."""

    name = "corridor"
    num_actions = 2
    observation_shape = (END + 1,)

    def parse(self, source: Any) -> tuple[int, int]:
        places = [f"{place}/{steps}" for place in range(END + 1) for steps in range(STEPS + 1)]
        if source not in places:
            raise StateError("a corridor state is place/steps, such as 3/0")
        place, steps = source.split("/")
        return int(place), int(steps)

    def format(self, state: tuple[int, int]) -> str:
        return f"{state[0]}/{state[1]}"

    def initial_state(self) -> tuple[int, int]:
        return END // 2, 0

    def legal_actions(self, state: tuple[int, int]) -> range:
        return range(0 if self.is_terminal(state) else 2)

    def step(self, state: tuple[int, int], action: int) -> tuple[int, int]:
        if action not in self.legal_actions(state):
            raise ActionError(f"action {action} is not legal at {state}")
        return state[0] + (1 if action else -1), state[1] + 1

    def is_terminal(self, state: tuple[int, int]) -> bool:
        return state[0] in (0, END) or state[1] >= STEPS

    def outcome(self, state: tuple[int, int]) -> float:
        return {0: -1.0, END: 1.0}.get(state[0], 0.0)

    def encode(self, states: Sequence[tuple[int, int]]) -> FloatArray:
        return np.eye(END + 1, dtype=np.float32)[[place for place, _ in states]].reshape(-1, END + 1)
