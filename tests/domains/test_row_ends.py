"""`ends_rows` of a domain without the kernel `ends`, found by step and rules instead."""

from __future__ import annotations

import numpy as np
import pytest
from numba import njit

from escalade.domains.base import ArrayDomain, IntArray
from escalade.domains.conformance import check_domain
from escalade.domains.connect_four import ConnectFour
from escalade.domains.tic_tac_toe import TicTacToe

GAMES = [TicTacToe, ConnectFour]


def without_ends(game: type) -> ArrayDomain:
    return type("Without", (game,), {"kernels": game.kernels._replace(ends=None)})()


def rows_of_random_games(game: ArrayDomain, games: int) -> IntArray:
    """Of every state on the way, the finished ones included."""
    rng = np.random.default_rng(4)
    rows = np.repeat(game.to_rows([game.initial_state()]), games, axis=0)
    reached = [rows]
    while len(rows):
        legal, *_ = game.rules_rows(rows)
        rows, legal = rows[legal.any(axis=1)], legal[legal.any(axis=1)]
        rows = game.step_rows(rows, np.where(legal, rng.random(legal.shape), -1.0).argmax(axis=1))
        reached.append(rows)
    return np.concatenate(reached)


@pytest.mark.parametrize("game", GAMES)
def test_ends_are_the_same_with_and_without_their_kernel(game):
    rows = rows_of_random_games(game(), games=3000)
    kept = rows.copy()
    expected, found = game().ends_rows(rows), without_ends(game).ends_rows(rows)
    assert found.dtype == expected.dtype == np.float32
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(rows, kept)
    assert {1.0, 0.0} == set(expected[~np.isnan(expected)].tolist())
    assert np.isnan(expected[game().rules_rows(rows)[1]]).all()


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("domain_of", [lambda game: game(), without_ends], ids=["with", "without"])
def test_ends_of_rows_of_any_number_and_memory_layout(game, domain_of):
    domain = domain_of(game)
    rows = rows_of_random_games(game(), games=20)
    expected = domain.ends_rows(rows)
    assert domain.ends_rows(rows[:0]).shape == (0, domain.num_actions)
    np.testing.assert_array_equal(domain.ends_rows(rows[-1:]), expected[-1:])
    read_only = rows.copy()
    read_only.flags.writeable = False
    for same in (read_only, np.asfortranarray(rows)):
        np.testing.assert_array_equal(domain.ends_rows(same), expected)
    np.testing.assert_array_equal(domain.ends_rows(rows[::-2]), expected[::-2])


@pytest.mark.parametrize("game", GAMES)
def test_a_game_without_the_kernel_keeps_every_law(game):
    report = check_domain(without_ends(game), games=20)
    assert report.passed
    untold = {result.law for result in report.results if result.outcome != "passed"}
    proofs = {"proven_actions agrees with what follows", "proofs_rows agrees with proven_actions"}
    assert untold - {"the exact solver agrees with playing out"} == (
        set() if game.kernels.proofs else proofs
    )  # none for want of the kernel


def test_ends_are_not_turned_round_where_the_same_player_moves_next():
    game = TicTacToe()
    own = game.kernels.rules

    @njit
    def rules(rows, legal, terminal, outcome, to_move):
        own(rows, legal, terminal, outcome, to_move)
        to_move[:] = 0

    alone = type("Alone", (TicTacToe,), {"kernels": game.kernels._replace(rules=rules, ends=None)})()
    rows = game.to_rows([game.parse("1425")])
    assert game.ends_rows(rows)[0, 2] == 1.0
    assert alone.ends_rows(rows)[0, 2] == -1.0
