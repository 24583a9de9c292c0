"""The exact solvers, against known scores, brute force and each other."""

from __future__ import annotations

import csv
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from escalade.domains.connect_four import ConnectFour
from escalade.domains.intents import Intents
from escalade.domains.line_game import LineGame, LineState
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.search.solve_connect_four import ConnectFourSolver
from escalade.search.solve_tic_tac_toe import TicTacToeSolver
from escalade.search.solvers import exact_solver, optimal_actions

TTT, C4 = TicTacToe(), ConnectFour()
SOLVER = ConnectFourSolver()


def brute_force(game: LineGame, state: LineState, winners_cells: Callable[[int], int]) -> int:
    """Plain minimax, without a table or a bound. winners_cells: the score of a win after so many plies."""
    if game.is_terminal(state):
        return -winners_cells(len(state.moves)) if game.outcome(state) else 0
    return max(-brute_force(game, game.step(state, action), winners_cells) for action in game.legal_actions(state))


def connect_four_win(plies: int) -> int:
    return 22 - (plies + 1) // 2


def tic_tac_toe_win(plies: int) -> int:
    return (5 if plies % 2 else 4) + 1 - (plies + 1) // 2


def random_position(game: LineGame, seed: int, plies: int) -> LineState:
    """An unfinished position of up to so many plies of random play."""
    random = np.random.default_rng(seed)
    state = game.initial_state()
    for _ in range(plies):
        following = game.step(state, int(random.choice(game.legal_actions(state))))
        if game.is_terminal(following):
            break
        state = following
    return state


def late_position(seed: int) -> LineState:
    """A random unfinished Connect Four position of at least 32 plies."""
    while True:
        seed += 1_000_003
        state = random_position(C4, seed, 34)
        if len(state.moves) >= 32:
            return state


@pytest.mark.parametrize(
    ("moves", "scores"),
    [
        ("11157411523147666", [None, -9, -10, 1, -9, -9, -9]),
        ("111725164", [-16, -16, -4, -16, -16, -16, -16]),
    ],
)
def test_golden_scores(moves: str, scores: list[float | None]) -> None:
    assert SOLVER.scores(C4.parse(moves)) == scores


def test_a_win_with_the_fourth_disc_scores_18() -> None:
    assert SOLVER.scores(C4.parse("121212"))[0] == 22 - 4


@settings(max_examples=60)
@given(st.integers(0, 2**31))
def test_equals_brute_force_late_in_the_game(seed: int) -> None:
    state = late_position(seed)
    scores = SOLVER.scores(state)
    for action in range(7):
        if action in C4.legal_actions(state):
            assert scores[action] == -brute_force(C4, C4.step(state, action), connect_four_win)
        else:
            assert scores[action] is None


@settings(max_examples=40)
@given(st.integers(0, 2**31), st.integers(14, 30))
def test_a_mirrored_position_has_mirrored_scores_and_the_best_is_the_positions_own(seed: int, plies: int) -> None:
    state = random_position(C4, seed, plies)
    if len(state.moves) < 14:
        return
    scores = SOLVER.scores(state)
    mirrored = C4.parse("".join(str(8 - int(column)) for column in state.moves))
    assert ConnectFourSolver().scores(mirrored) == scores[::-1]
    best = max(score for score in scores if score is not None)
    assert SOLVER.value(state) == np.sign(best)


def test_equals_the_shared_file(shared_data: Callable[[str], Path]) -> None:
    with shared_data("connect_four/positions.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if len(row["moves"]) >= 12][::5]
    assert len(rows) > 200
    for row in rows:
        known = [float(row[f"score_{c}"]) if row[f"score_{c}"] else None for c in range(1, 8)]
        assert SOLVER.scores(C4.parse(row["moves"])) == known, row["moves"]


def test_threads_may_share_it() -> None:
    states = [random_position(C4, seed, 22) for seed in range(24)]
    alone = [ConnectFourSolver().scores(state) for state in states]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(SOLVER.scores, states)) == alone


def test_progress_is_told_action_by_action() -> None:
    heard: list[int] = []
    SOLVER.scores(C4.parse("11157411523147666"), heard.append)
    assert heard == [1, 2, 3, 4, 5, 6]


def test_finished_positions_have_their_outcome() -> None:
    for game, solver, moves in (
        (C4, SOLVER, "1212121"),
        (TTT, TicTacToeSolver(), "14253"),
        (TTT, TicTacToeSolver(), "123546879"),
    ):
        state = game.parse(moves)
        assert solver.value(state) == game.outcome(state)
        assert solver.scores(state) == [None] * game.num_actions


def test_the_table_of_tic_tac_toe_is_whole() -> None:
    solver = TicTacToeSolver()
    states = solver.reachable_positions()
    assert len(states) == len({(state.mine, state.theirs) for state in states}) == 5478
    assert sum(not TTT.is_terminal(state) for state in states) == 4520
    assert solver.value(TTT.initial_state()) == 0
    assert solver.scores(TTT.initial_state()) == [0.0] * 9


def test_tic_tac_toe_equals_brute_force() -> None:
    solver = TicTacToeSolver()
    value = functools.cache(lambda state: brute_force(TTT, state, tic_tac_toe_win))
    for state in solver.reachable_positions()[::7]:
        if len(state.moves) >= 3:
            for action in TTT.legal_actions(state):
                assert solver.scores(state)[action] == -value(TTT.step(state, action))


def test_optimal_keeps_the_best_of_win_draw_and_loss() -> None:
    assert optimal_actions([None, 3, 1, 0, -2]) == [1, 2]
    assert optimal_actions([0.0, -1, 0, None]) == [0, 2]
    assert optimal_actions([-5, -1]) == [0, 1]


def test_not_every_domain_has_a_solver() -> None:
    assert exact_solver(Intents(["a", "b"])) is None
    assert isinstance(exact_solver(C4), ConnectFourSolver)
    assert exact_solver(C4) is exact_solver(ConnectFour())
