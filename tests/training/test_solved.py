"""Labels of the exact solver, and the games that positions to label come from."""

from __future__ import annotations

import csv
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from escalade.domains.connect_four import ConnectFour
from escalade.domains.errors import SettingsError
from escalade.domains.intents import Intents
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.search.solvers import exact_solver
from escalade.training.rows import Rows, joined
from escalade.training.solved import (
    SolvedConfig,
    casual_actions,
    casual_families,
    casual_states,
    exact_labels,
    solved_rows,
)

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


CONFIG = SolvedConfig(first_ply=18, last_ply=24, branches=2, depth=2)


def family(number: int, seed: int = 3, config: SolvedConfig = CONFIG) -> Rows:
    (rows,) = casual_families(C4, [number], config, seed=seed, run="r")
    return rows


def test_a_family_is_a_root_and_what_its_moves_lead_to() -> None:
    for number in range(8):
        rows = family(number)
        rows.check()
        root = rows.state[-1]
        assert 18 <= len(root) <= 24
        assert set(rows.game) == {f"r/casual-{number:08d}"}
        assert len(set(rows.state)) == len(rows) <= 1 + 2 + 4
        for state, ply in zip(rows.state.tolist(), rows.ply.tolist(), strict=True):
            assert state.startswith(root)
            assert len(state) == ply <= len(root) + 2
        # The root's label is that of the solver asked about it alone.
        alone = solved_rows(C4, [C4.parse(str(root))], ["x"], [0])
        np.testing.assert_array_equal(rows.policy[-1], alone.policy[0])
        assert rows.outcome[-1] == alone.outcome[0]


def test_a_family_depends_on_its_number_and_the_seed_alone() -> None:
    both = list(casual_families(C4, [5, 2], CONFIG, seed=3, run="r"))
    assert both[1].state.tolist() == family(2).state.tolist()
    assert family(2).state.tolist() != family(2, seed=4).state.tolist()


def test_the_solver_takes_over_games_from_a_ply_on() -> None:
    states = [C4.parse(moves) for moves in ("4", "44", "4455", "112255", "1122556")]
    games = solved_rows(C4, states[3:], ["g"] * 2, [6, 7])
    count = len(states)
    rows = joined([games.take(np.zeros(count, np.int64))])
    rows = replace(
        rows,
        state=np.array([state.moves for state in states]),
        ply=np.array([len(state.moves) for state in states], np.int32),
        source=np.full(count, "self_play"),
        value=np.full(count, 0.25, np.float32),
        observation=C4.encode(states),
    )
    config = SolvedConfig(first_ply=6, branches=1, game_depth=1)
    found = exact_labels(C4, rows, config, seed=(1, 2))
    found.check()
    assert found.state[:3].tolist() == ["4", "44", "4455"]
    assert set(found.source[:3]) == {"self_play"}
    assert set(found.source[3:]) == {"solver"}
    assert set(found.game) == {"g"}
    assert {"112255", "1122556"} <= set(found.state[3:].tolist())
    assert len(found) <= 3 + 4
    solver = exact_solver(C4)
    assert solver is not None
    for state, value in zip(found.state[3:].tolist(), found.outcome[3:].tolist(), strict=True):
        assert solver.value(C4.parse(state)) == value


@settings(max_examples=50, deadline=None)
@given(moves=st.lists(st.integers(0, 6), max_size=30), seed=st.integers(0, 2**32 - 1))
def test_sensible_players_win_at_once_or_leave_no_win_in_one(moves: list[int], seed: int) -> None:
    state = C4.initial_state()
    for move in moves:
        if move in C4.legal_actions(state) and not C4.is_terminal(after := C4.step(state, move)):
            state = after
    legal = list(C4.legal_actions(state))
    random = np.random.default_rng(seed)
    assert casual_actions(C4, state, random, 0.0) == legal
    found = casual_actions(C4, state, random, 1.0)

    def wins(state: Any) -> list[int]:
        ended = {move: C4.step(state, move) for move in C4.legal_actions(state)}
        return [move for move, after in ended.items() if C4.is_terminal(after) and C4.outcome(after) == -1]

    if wins(state):
        assert found == wins(state)
    else:
        safe = [m for m in legal if C4.is_terminal(C4.step(state, m)) or not wins(C4.step(state, m))]
        assert found == (safe or legal)


@pytest.mark.parametrize("options", [{"branches": 0}, {"first_ply": -1}, {"first_ply": 9, "last_ply": 8}, {"sense": 2}])
def test_impossible_families_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(SettingsError):
        SolvedConfig(**options)
