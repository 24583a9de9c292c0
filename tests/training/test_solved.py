"""Labels of the exact solver, and the games that positions to label come from."""

from __future__ import annotations

import csv
from typing import Any

import numpy as np
import pytest

from escalade.domains.connect_four import ConnectFour
from escalade.domains.errors import SettingsError
from escalade.domains.intents import Intents
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.training.solved import casual_states, solved_rows

TTT, C4 = TicTacToe(), ConnectFour()


def test_labels_are_those_of_the_shared_positions(shared_data: Any) -> None:
    with shared_data("connect_four/positions.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if len(line["moves"]) >= 14][:200]
    states = [C4.parse(line["moves"]) for line in lines]
    rows = solved_rows(C4, states, ["g"] * len(states), [len(state.moves) for state in states])
    rows.check()
    for line, policy, value in zip(lines, rows.policy, rows.outcome, strict=True):
        signs = [None if line[f"score_{k}"] == "" else np.sign(int(line[f"score_{k}"])) for k in range(1, 8)]
        best = max(sign for sign in signs if sign is not None)
        assert value == best
        assert np.flatnonzero(policy).tolist() == [k for k, sign in enumerate(signs) if sign == best]
        assert policy.sum() == pytest.approx(1)


def test_casual_games_take_wins_and_guard_against_them() -> None:
    plies = [11] * 150
    careful, careless = ([state for _, state in casual_states(C4, plies, seed=3, sense=sense)] for sense in (1.0, 0.0))
    # Nobody who takes every win in one leaves one to the next move, unless there are two at once.
    could_win = [
        sum(any(outcome == 1 for outcome in C4.ending_actions(state).values()) for state in states)
        for states in (careful, careless)
    ]
    assert could_win[0] < could_win[1] / 2
    assert {len(state.moves) for state in careful} == {11}
    assert len({state.moves for state in careful}) == 150


def test_a_state_depends_on_its_place_and_the_seed_alone() -> None:
    some = dict(casual_states(C4, [8, 12, 20], seed=1))
    assert some[1] == dict(casual_states(C4, [30, 12], seed=1))[1]
    assert some[1] != dict(casual_states(C4, [8, 12], seed=2))[1]


def test_plies_that_no_game_reaches_are_left_out() -> None:
    assert [place for place, _ in casual_states(TTT, [3, 9, 4], seed=0)] == [0, 2]


def test_a_domain_without_a_solver_is_named() -> None:
    with pytest.raises(SettingsError, match="no exact solver for domain 'intents'"):
        solved_rows(Intents(["a", "b"]), ["x"], ["g"], [0])
