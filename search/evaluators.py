"""Evaluators that need no network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from escalade.domains.base import (
    BoolArray,
    Domain,
    FloatArray,
    IntArray,
    KeyArray,
    array_domain,
    legal_mask,
)
from escalade.domains.errors import DomainFault, SettingsError
from escalade.domains.evaluator import BatchHints, Evaluator, StateEvaluator, hints_of, usable_cores
from escalade.domains.random_bits import GAMMA, uniforms
from escalade.search.config import whole


class UniformEvaluator:
    """Knows nothing: every legal action alike, every state worth 0. An `Evaluator`."""

    hints = BatchHints(rows=64, calls=usable_cores())

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        return np.zeros(legal.shape, np.float32), np.zeros(len(legal), np.float32)


class RolloutEvaluator:
    """Plays each state to its end by uniformly random moves and takes the mean outcome. A `StateEvaluator`.

    rollouts: games a state, at least 1. max_plies: a plain domain's game still open after so many moves counts as 0.
    """

    def __init__(self, domain: Domain[Any], rollouts: int = 8, max_plies: int = 1000) -> None:
        self.domain = domain
        self.rollouts = whole("rollouts", rollouts, 1)
        self.max_plies = whole("max_plies", max_plies, 1)
        self._array_domain = array_domain(domain)
        # Kernels let go of the interpreter, so that several threads gain; Python does not.
        self.hints = BatchHints(rows=64, calls=usable_cores() if self._array_domain else 1)

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
            if not len(actions):
                where = f"domain '{self.domain.name}', state '{self.domain.format(state)}'"
                raise DomainFault(f"{where}: it is not finished, but nothing is legal")
            state = self.domain.step(state, actions[int(random.integers(len(actions)))])
        return 0.0


class PolicyRolloutEvaluator:
    """Plays each state to its end by moves drawn from a policy, and takes the mean outcome. A `StateEvaluator`.

    policy: its logits are also the leaf's prior. rollouts: games a state. temperature: below 1 the policy's favourites
    are played more often. max_plies: a game still open after so many moves counts as the policy's own value there.
    """

    def __init__(
        self,
        domain: Domain[Any],
        policy: Evaluator,
        rollouts: int = 1,
        *,
        temperature: float = 1.0,
        max_plies: int = 1000,
    ) -> None:
        if not temperature > 0:
            raise SettingsError(f"temperature must be positive, not {temperature!r}")
        self.domain = domain
        self.policy = policy
        self.rollouts = whole("rollouts", rollouts, 1)
        self.temperature = temperature
        self.max_plies = whole("max_plies", max_plies, 1)
        self.hints = hints_of(policy) if array_domain(domain) else BatchHints()

    def evaluate_states(
        self, states: Sequence[Any] | IntArray, legal: BoolArray, keys: KeyArray
    ) -> tuple[FloatArray, FloatArray]:
        games = _RowGames(self.domain, states) if array_domain(self.domain) else _PlainGames(self.domain, states)
        logits, _ = self.policy.evaluate(games.encode(np.arange(len(keys))), legal)
        games.repeat(self.rollouts)
        each = np.repeat(keys, self.rollouts) + np.tile(np.arange(self.rollouts, dtype=np.uint64), len(keys))
        values = np.zeros(len(each), np.float32)
        first = games.to_move(np.arange(len(each)))
        running = np.arange(len(each))
        for ply in range(self.max_plies + 1):
            over, outcome, allowed = games.rules(running)
            sign = np.where(games.to_move(running) == first[running], np.float32(1), np.float32(-1))
            values[running[over]] = (sign * outcome)[over]
            running, sign, allowed = running[~over], sign[~over], allowed[~over]
            if not len(running):
                break
            chances, guess = self.policy.evaluate(games.encode(running), allowed)
            if ply == self.max_plies:
                values[running] = sign * guess
                break
            drawn = draw(chances / self.temperature, allowed, each[running] + np.uint64(int(GAMMA) * (ply + 1) % 2**64))
            games.step(running, drawn)
        return logits, values.reshape(len(keys), self.rollouts).mean(axis=1, dtype=np.float32)


class MixedEvaluator:
    """The network's value and a rollout's outcome, mixed: (1 - weight) * v + weight * z (D. Silver et al., "Mastering
    the game of Go with deep neural networks and tree search", Nature 529, 2016, Methods). The prior is the network's.
    A `StateEvaluator`."""

    def __init__(self, domain: Domain[Any], network: Evaluator, rollouts: StateEvaluator, weight: float = 0.5) -> None:
        if not 0 <= weight <= 1:
            raise SettingsError(f"weight must be in [0, 1], not {weight}")
        self.domain = domain
        self.network = network
        self.rollouts = rollouts
        self.weight = weight
        self.hints = hints_of(network) if array_domain(domain) else BatchHints()

    def evaluate_states(
        self, states: Sequence[Any] | IntArray, legal: BoolArray, keys: KeyArray
    ) -> tuple[FloatArray, FloatArray]:
        games = _RowGames(self.domain, states) if array_domain(self.domain) else _PlainGames(self.domain, states)
        logits, values = self.network.evaluate(games.encode(np.arange(len(keys))), legal)
        _, outcomes = self.rollouts.evaluate_states(states, legal, keys)
        return logits, ((1 - self.weight) * values + self.weight * outcomes).astype(np.float32)


class _RowGames:
    """Games of an `ArrayDomain` in lock-step."""

    def __init__(self, domain: Any, rows: Any) -> None:
        self._domain = domain
        self._rows = np.array(rows, np.int64)

    def repeat(self, times: int) -> None:
        self._rows = np.repeat(self._rows, times, axis=0)

    def encode(self, which: IntArray) -> FloatArray:
        return self._domain.encode_rows(self._rows[which])

    def to_move(self, which: IntArray) -> Any:
        return self._domain.rules_rows(self._rows[which])[3]

    def rules(self, which: IntArray) -> tuple[BoolArray, FloatArray, BoolArray]:
        """Whether each is over, its outcome, and what is legal."""
        legal, over, outcome, _ = self._domain.rules_rows(self._rows[which])
        return over, outcome, legal

    def step(self, which: IntArray, actions: IntArray) -> None:
        self._rows[which] = self._domain.step_rows(self._rows[which], actions)


class _PlainGames:
    """The same for any domain."""

    def __init__(self, domain: Domain[Any], states: Any) -> None:
        self._domain = domain
        self._states = list(states)

    def repeat(self, times: int) -> None:
        self._states = [state for state in self._states for _ in range(times)]

    def encode(self, which: IntArray) -> FloatArray:
        return self._domain.encode([self._states[game] for game in which])

    def to_move(self, which: IntArray) -> Any:
        return np.array([self._domain.to_move(self._states[game]) for game in which], np.int8)

    def rules(self, which: IntArray) -> tuple[BoolArray, FloatArray, BoolArray]:
        states = [self._states[game] for game in which]
        over = np.array([self._domain.is_terminal(state) for state in states], np.bool_)
        ends = [self._domain.outcome(state) if done else 0.0 for state, done in zip(states, over, strict=True)]
        return over, np.array(ends, np.float32), legal_mask(self._domain, states)

    def step(self, which: IntArray, actions: IntArray) -> None:
        for game, action in zip(which.tolist(), actions.tolist(), strict=True):
            self._states[game] = self._domain.step(self._states[game], action)


def draw(logits: FloatArray, legal: BoolArray, keys: KeyArray) -> IntArray:
    """One legal action a row, `[B]` int64, drawn from the softmax of logits `[B, A]`; keys `[B]` uint64 decide."""
    scores = np.where(legal, logits, -np.inf)
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    bounds = np.cumsum(weights, axis=1, dtype=np.float64)
    at = uniforms(keys, 1) * bounds[:, -1:]
    return np.minimum((bounds <= at).sum(axis=1), legal.shape[1] - 1 - legal[:, ::-1].argmax(axis=1)).astype(np.int64)
