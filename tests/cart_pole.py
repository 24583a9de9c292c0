"""The cart with a pole as a user writes it, in plain Python: pushed left or right fifty times a second, 200 times."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from escalade.domains.base import Domain, FloatArray
from escalade.domains.errors import ActionError, StateError

STEPS = 200
FARTHEST, STEEPEST = 2.4, 12 * math.pi / 180
State = tuple[int, float, float, float, float]
"""Steps made; where the cart is and how fast, metres; how far the pole leans and how fast, radians."""


class CartPole(Domain[State]):
    """Balance a pole on a cart (A. Barto, R. Sutton, C. Anderson, 1983; the numbers are Gymnasium's CartPole-v0)."""

    name = "cart_pole"
    num_actions = 2
    observation_shape = (5,)

    def initial_state(self) -> State:
        return 0, 0.0, 0.0, 0.02, 0.0

    def parse(self, source: Any) -> State:
        parts = str(source).split()
        try:
            steps, numbers = int(parts[0]), [float(part) for part in parts[1:]]
        except (ValueError, IndexError):
            steps, numbers = -1, []
        if not 0 <= steps <= STEPS or len(numbers) != 4 or not all(math.isfinite(number) for number in numbers):
            raise StateError("a cart_pole state is five numbers: steps made (0 to 200), place, speed, angle, its speed")
        return steps, numbers[0], numbers[1], numbers[2], numbers[3]

    def format(self, state: State) -> str:
        return " ".join(map(repr, state))

    def action_name(self, action: int) -> str:
        return ("left", "right")[action]

    def legal_actions(self, state: State) -> list[int]:
        return [] if self.is_terminal(state) else [0, 1]

    def step(self, state: State, action: int) -> State:
        if action not in (0, 1) or self.is_terminal(state):
            raise ActionError(f"action {action} is not legal in '{self.format(state)}'")
        steps, place, speed, angle, turning = state
        force = 10.0 if action else -10.0
        pushed = (force + 0.05 * turning**2 * math.sin(angle)) / 1.1
        falling = (9.8 * math.sin(angle) - math.cos(angle) * pushed) / (
            0.5 * (4 / 3 - 0.1 * math.cos(angle) ** 2 / 1.1)
        )
        moving = pushed - 0.05 * falling * math.cos(angle) / 1.1
        return (
            steps + 1,
            place + 0.02 * speed,
            speed + 0.02 * moving,
            angle + 0.02 * turning,
            turning + 0.02 * falling,
        )

    def is_terminal(self, state: State) -> bool:
        return state[0] >= STEPS or abs(state[1]) > FARTHEST or abs(state[3]) > STEEPEST

    def outcome(self, state: State) -> float:
        """The share of the steps that were made, on a scale from -1 to 1."""
        return 2 * state[0] / STEPS - 1

    def encode(self, states: Sequence[State]) -> FloatArray:
        return np.array(states, np.float32).reshape(-1, 5) / np.array([STEPS, FARTHEST, 2, STEEPEST, 2], np.float32)
