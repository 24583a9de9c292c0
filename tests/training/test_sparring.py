"""Games against the exact solver, positions of good players, and openings."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from escalade.domains.connect_four import ConnectFour
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.search.evaluators import UniformEvaluator
from escalade.search.solvers import exact_solver
from escalade.training.arena import Moves, Player, RandomPlayer, play_match
from escalade.training.lockstep import Turn, lockstep
from escalade.training.rows import Rows
from escalade.training.skilled import skilled_states
from escalade.training.solved import SolvedConfig, opening_rows
from escalade.training.sparring import SolverPlayer, sparring_games

TTT, C4 = TicTacToe(), ConnectFour()
SOLVER: Any = exact_solver(TTT)
CONFIG = SolvedConfig(game_depth=0, careless=2)


def played(learner: Player, count: int, seed: int = 1, **options: Any) -> list[Rows]:
    games = sparring_games(TTT, learner, SolverPlayer(SOLVER), range(count), CONFIG, seed=seed, **options)
    return [rows for rows in games if rows is not None]


def test_the_solver_never_loses_and_wins_as_soon_as_it_can() -> None:
    match = play_match(TTT, SolverPlayer(SOLVER), RandomPlayer(), 60)
    assert (match.losses, match.wins > 30) == (0, True)
    won = TTT.parse("12357")
    assert [action for action, score in enumerate(SOLVER.scores(won)) if (score or 0) > 0] == [3, 7]  # 7 wins at once
    for by_score, actions in ((True, {7}), (False, {3, 7})):
        player = SolverPlayer(SOLVER, by_score)
        assert {player.choose(TTT, [won], [seed]).actions[0] for seed in range(20)} == actions


def test_the_opponent_gives_nothing_away_after_its_careless_moves() -> None:
    for number, rows in enumerate(played(RandomPlayer(), 40)):
        rows.check()
        order = np.argsort(rows.ply)
        values = rows.value[order]
        assert rows.ply[order].tolist() == list(range(len(rows)))
        for ply in range(len(rows) - 1):
            of_opponent = ply % 2 != number % 2
            if of_opponent and ply // 2 >= CONFIG.careless:
                assert values[ply] == -values[ply + 1]


def test_games_are_their_own_and_sides_alternate() -> None:
    class Watched(RandomPlayer):
        def choose(self, domain: Any, states: Any, seeds: Any) -> Moves:
            seen.update(len(state.moves) % 2 for state in states)
            return super().choose(domain, states, seeds)

    for number in (0, 1):
        seen: set[int] = set()
        list(sparring_games(TTT, Watched(), SolverPlayer(SOLVER), [number], CONFIG, seed=1))
        assert seen == {number}
    one, many = played(RandomPlayer(), 1), played(RandomPlayer(), 8)
    assert one[0].state.tolist() == many[0].state.tolist()
    assert {rows.game[0] for rows in many} == {f"sparring/sparring-{number:08d}" for number in range(8)}
    assert many[0].state.tolist() != played(RandomPlayer(), 1, seed=2)[0].state.tolist()


def test_games_that_are_stopped_are_labelled_as_far_as_they_went() -> None:
    asked: list[None] = []

    def over() -> bool:
        asked.append(None)
        return len(asked) >= 3

    assert [sorted(rows.ply.tolist()) for rows in played(RandomPlayer(), 2, until=over)] == [[0, 1, 2, 3]] * 2


def test_in_lockstep_each_player_is_asked_once_a_ply() -> None:
    class Counting(RandomPlayer):
        def choose(self, domain: Any, states: Any, seeds: Any) -> Moves:
            asked.append(len(states))
            return super().choose(domain, states, seeds)

    asked: list[int] = []
    players = [Counting(), Counting()]
    randoms = [np.random.default_rng(seed) for seed in range(6)]

    def player(turn: Turn) -> Player:
        return players[turn.game % 2]

    games = next(lockstep(TTT, randoms, player))
    assert asked == [3, 3]
    assert [len(states) for states in games] == [2] * 6


def test_positions_of_good_players() -> None:
    found = skilled_states(C4, UniformEvaluator(), 12, seed=4)
    assert len(found) == 12
    assert not any(C4.is_terminal(state) for state in found)
    assert found[:5] == skilled_states(C4, UniformEvaluator(), 5, seed=4)
    assert found != skilled_states(C4, UniformEvaluator(), 12, seed=5)
    late = skilled_states(C4, UniformEvaluator(), 12, seed=4, first_ply=9)
    assert late
    assert all(len(state.moves) >= 9 for state in late)


@pytest.mark.parametrize(("plies", "counts"), [(0, [1]), (2, [1, 3, 12]), (3, [1, 3, 12, 38])])
def test_all_openings_are_labelled_symmetric_ones_once(plies: int, counts: list[int]) -> None:
    parts = list(opening_rows(TTT, plies))
    for ply, rows in enumerate(parts):
        rows.check()
        assert set(rows.ply.tolist()) == {ply}
        assert rows.value.tolist() == [SOLVER.value(TTT.parse(text)) for text in rows.state.tolist()]
    assert [len(rows) for rows in parts] == counts
    assert len({game for rows in parts for game in rows.game.tolist()}) == sum(counts)
