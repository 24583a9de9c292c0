"""What tests share: domains and evaluators as users make them, and comparisons."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch

from escalade.domains.base import BoolArray, Domain, FloatArray
from escalade.domains.connect_four import ConnectFour
from escalade.domains.line_game import LineState
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.neural.batcher import Batcher
from escalade.neural.networks import PolicyValueNetwork
from escalade.neural.spec import NetworkSpec
from escalade.nodes.context import DecisionContext
from escalade.nodes.resources import Resources
from escalade.search.evaluators import UniformEvaluator
from escalade.search.results import SearchResult
from escalade.search.service import SearchService
from escalade.search.solvers import exact_solver, optimal_actions


class Plain:
    """A domain with its plain methods alone: what a user's own is to the search."""

    def __init__(self, domain: Any) -> None:
        for name in (*dir(Domain), "name", "num_actions", "observation_shape"):
            if not name.startswith("_"):
                setattr(self, name, getattr(domain, name))


class WithoutProofs(ConnectFour):
    """Connect Four as it was before anything was proven at sight."""

    kernels = ConnectFour.kernels._replace(proofs=None)

    def proven_actions(self, state: LineState) -> None:
        return None


class Weighing:
    """A fixed, arbitrary opinion of every state, which counts how often it is asked. An `Evaluator`."""

    def __init__(self, domain: Any, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.shape = (int(np.prod(domain.observation_shape)), domain.num_actions)
        self.rows = 0
        self.learn()

    def learn(self) -> None:
        # Powers of two: sums of these are exact, so a row's answer does not depend on its batch.
        self.to_logits = self.random.integers(-8, 9, self.shape) / 32
        self.to_value = self.random.integers(-8, 9, self.shape[0]) / 64

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        self.rows += len(legal)
        flat = observations.reshape(len(observations), -1)
        return (flat @ self.to_logits).astype(np.float32), np.tanh(flat @ self.to_value).astype(np.float32)


def network_for(domain: Any, seed: int = 11, **options: Any) -> PolicyValueNetwork:
    torch.manual_seed(seed)
    given = {"hidden": (32, 16), **options}
    spec = NetworkSpec(observation_shape=domain.observation_shape, num_actions=domain.num_actions, **given)
    return PolicyValueNetwork(spec).eval()


def same(left: SearchResult, right: SearchResult) -> None:
    for name, one, other in zip(SearchResult._fields, left, right, strict=True):
        np.testing.assert_array_equal(one, other, err_msg=name)


def random_states(domain: Any, count: int, seed: int) -> list[Any]:
    """Unfinished states on the way of random games."""
    random = np.random.default_rng(seed)
    states = []
    while len(states) < count:
        state = domain.initial_state()
        for _ in range(int(random.integers(0, domain.num_cells))):
            following = domain.step(state, int(random.choice(domain.legal_actions(state))))
            if domain.is_terminal(following):
                break
            state = following
        states.append(state)
    return states


@functools.cache
def solved_tic_tac_toe() -> list[tuple[LineState, set[int], float]]:
    """Every unfinished position with its optimal actions and value."""
    game = TicTacToe()
    solver = exact_solver(game)
    assert solver is not None
    states = [state for state in solver.reachable_positions() if not game.is_terminal(state)]
    return [(state, set(optimal_actions(solver.scores(state))), solver.value(state)) for state in states]


def uniform_resources(**more: Any) -> Resources:
    """What routing needs of tic-tac-toe, with networks that know nothing."""
    return Resources(
        domain=TicTacToe(),
        defaults=DecisionContext(),
        calibrators={},
        network=Batcher(UniformEvaluator()),
        value_network=Batcher(UniformEvaluator()),
        search=SearchService(TicTacToe(), UniformEvaluator()),
        **more,
    )
