"""One ply ahead: every legal action tried in the simulator, finished results exact, the others left for a value network
to estimate."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from escalade.domains.base import BoolArray, Domain, FloatArray, legal_mask


class Lookahead:
    """The children of one state. `values` `[A]` float64, from the view of the state's player to move: NaN where
    illegal, exact where the action ends the game, else to be filled in for `open_actions`. `exact` `[A]` bool: the
    actions that end the game. `observations` `[k, *O]` and `legal` `[k, A]` of the k children to be valued."""

    def __init__(self, domain: Domain[Any], state: Any) -> None:
        player = domain.to_move(state)
        self.values: NDArray[np.float64] = np.full(domain.num_actions, np.nan)
        self.exact: BoolArray = np.zeros(domain.num_actions, np.bool_)
        self.open_actions: list[int] = []
        self.signs: list[float] = []
        children = []
        for action in domain.legal_actions(state):
            child = domain.step(state, action)
            sign = 1.0 if domain.to_move(child) == player else -1.0
            if domain.is_terminal(child):
                self.values[action] = sign * domain.outcome(child)
                self.exact[action] = True
            else:
                self.open_actions.append(action)
                self.signs.append(sign)
                children.append(child)
        self.observations: FloatArray = (
            domain.encode(children) if children else np.zeros((0, *domain.observation_shape), np.float32)
        )
        self.legal: BoolArray = legal_mask(domain, children)

    def fill_in(self, values: FloatArray) -> None:
        """Values `[k]` of the open children, each from the view of its own player to move."""
        self.values[self.open_actions] = np.multiply(self.signs, values)
