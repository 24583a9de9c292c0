"""Games of a network against an exact solver: what it comes to where no mistake is forgiven, and every loss is put off
as long as can be.

Such an opponent steers for the positions that are hardest to get right, which casual games and games of equals hardly
ever reach. Every position of a game is labelled by the solver, with a family of its neighbours (`solved_family`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from escalade.domains.base import Domain
from escalade.domains.solver import Solver
from escalade.search.solvers import optimal_actions
from escalade.training.arena import Moves, Player, RandomPlayer
from escalade.training.lockstep import Turn, lockstep
from escalade.training.rows import Rows, joined
from escalade.training.solved import SolvedConfig, solved_family


@dataclass(frozen=True)
class SolverPlayer:
    """Plays, at random, one of the moves of the greatest exact score: it wins soonest and loses latest. by_score:
    False, one of all moves that keep the best of win, draw and loss."""

    solver: Solver
    by_score: bool = True
    name: str = "exact solver"

    def choose(self, domain: Domain[Any], states: Sequence[Any], seeds: Sequence[int]) -> Moves:
        return Moves([self._move(domain, state, seed) for state, seed in zip(states, seeds, strict=True)], 0)

    def _move(self, domain: Domain[Any], state: Any, seed: int) -> int:
        random = np.random.default_rng(seed)
        if not self.by_score:
            return int(random.choice(self._keeping(domain, state)))
        scores = {action: score for action, score in enumerate(self.solver.scores(state)) if score is not None}
        best = max(scores.values())
        return int(random.choice([action for action, score in scores.items() if score == best]))

    def _keeping(self, domain: Domain[Any], state: Any) -> list[int]:
        values: list[float | None] = [None] * domain.num_actions
        for action in domain.legal_actions(state):
            reached = domain.step(state, action)
            same = domain.to_move(reached) == domain.to_move(state)
            values[action] = self.solver.value(reached) * (1 if same else -1)
        return optimal_actions(values)


def sparring_games(
    domain: Domain[Any],
    learner: Player,
    opponent: SolverPlayer,
    numbers: Sequence[int],
    config: SolvedConfig,
    *,
    seed: int,
    run: str = "sparring",
    until: Callable[[], bool] = lambda: False,
) -> Iterator[Rows | None]:
    """The labelled rows of each of these games, in which the learner has the first move where the number is even. The
    opponent's first moves are any legal ones, 0 to `config.careless`. Yields None after every ply before. until: asked
    before every ply; once it is true, the games end where they are, and it is for the caller to stop asking for rows.
    """
    randoms = [np.random.default_rng((seed, number)) for number in numbers]
    careless = [int(random.integers(config.careless + 1)) for random in randoms]
    sides, anyone = [number % 2 for number in numbers], RandomPlayer()

    def player(turn: Turn) -> Player:
        if domain.to_move(turn.state) == sides[turn.game]:
            return learner
        return anyone if turn.ply // 2 < careless[turn.game] else opponent

    games: list[list[Any]] = []
    for games in lockstep(domain, randoms, player):  # noqa: B007 -- the last ones
        yield None
        if until():
            break
    for number, random, states in zip(numbers, randoms, games, strict=True):
        name = f"{run}/sparring-{number:08d}"
        yield joined(
            [
                solved_family(domain, state, ply, config.game_depth, config, random, name)
                for ply, state in enumerate(states)
                if not domain.is_terminal(state)
            ]
        )
