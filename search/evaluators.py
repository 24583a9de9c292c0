"""Evaluators that need no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from escalade.domains.base import ArrayDomain, BoolArray, Domain, FloatArray, IntArray, KeyArray
from escalade.domains.errors import SettingsError
from escalade.domains.evaluator import BatchHints, usable_cores


class UniformEvaluator:
    """Knows nothing: every legal action alike, every state worth 0. An `Evaluator`."""

    hints = BatchHints(rows=128, calls=usable_cores())

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        return np.zeros(legal.shape, np.float32), np.zeros(len(legal), np.float32)


class RolloutEvaluator:
    """Plays each state to its end by uniformly random moves and takes the mean outcome. A `StateEvaluator`.

    rollouts: games a state, at least 1. max_plies: a plain domain's game still open after so many moves counts as 0.
    """

    def __init__(self, domain: Domain[Any], rollouts: int = 8, max_plies: int = 1000) -> None:
        if rollouts < 1 or max_plies < 1:
            raise SettingsError("rollouts and max_plies must be at least 1")
        self.domain = domain
        self.rollouts = rollouts
        self.max_plies = max_plies
        self._array_domain = domain if isinstance(domain, ArrayDomain) else None
        # Kernels let go of the interpreter, so that several threads gain; Python does not.
        self.hints = BatchHints(rows=128, calls=usable_cores() if self._array_domain else 1)

    def evaluate_states(
        self, states: Sequence[Any] | IntArray, legal: BoolArray, keys: KeyArray
    ) -> tuple[FloatArray, FloatArray]:
        # Consecutive keys are as good as random ones: the kernels mix them.
        each = np.repeat(keys, self.rollouts) + np.tile(np.arange(self.rollouts, dtype=np.uint64), len(keys))
        if self._array_domain is not None:
            rows = np.repeat(np.asarray(states), self.rollouts, axis=0)
            outcomes = self._array_domain.playout_rows(rows, each)
        else:
            repeated = [state for state in states for _ in range(self.rollouts)]
            outcomes = np.array([self._play(s, int(k)) for s, k in zip(repeated, each, strict=True)], np.float32)
        values = outcomes.reshape(len(keys), self.rollouts).mean(axis=1, dtype=np.float32)
        return np.zeros(legal.shape, np.float32), values

    def _play(self, state: Any, key: int) -> float:
        random = np.random.default_rng(key)
        player = self.domain.to_move(state)
        for _ in range(self.max_plies):
            if self.domain.is_terminal(state):
                outcome = self.domain.outcome(state)
                return outcome if self.domain.to_move(state) == player else -outcome
            actions = self.domain.legal_actions(state)
            state = self.domain.step(state, actions[int(random.integers(len(actions)))])
        return 0.0
