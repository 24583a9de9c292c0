"""`escalade play`: what a person can ask, take back and see."""

from __future__ import annotations

from typing import Any

import pytest
from in_process import escalade
from solved_games import PASSING


def played(domain: str, *lines: str, options: tuple[str, ...] = ()) -> Any:
    done = escalade("play", domain, "--simulations", "30", *options, stdin="".join(f"{line}\n" for line in lines))
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_refused_move_lists_the_legal_ones() -> None:
    told = played("tic_tac_toe", "5", "5", "x", options=("--state", "12"))
    assert "'5' is not legal now; legal moves: " in told
    assert "'x' is not an action of tic_tac_toe; legal moves: " in told
    listed = played("tic_tac_toe", "moves", options=("--state", "12"))
    assert "legal moves: 3, 4, 5, 6, 7, 8, 9" in listed


def test_moves_are_taken_back() -> None:
    told = played("tic_tac_toe", "undo", "5", "undo", "5", options=("--state", "12"))
    assert "there is no move of yours to take back" in told
    board = "X O 3"
    boards = [part for part in told.split("your move: ") if board in part]
    assert len(boards) >= 3  # at first, after it was taken back, and after the same move again


def test_a_hint_is_a_decision_and_moves_nothing() -> None:
    told = played("tic_tac_toe", "hint", "rungs", options=("--state", "1425"))
    assert "hint: 3  by " in told  # the win in one
    assert "threshold" in told
    assert "Final state" not in told


def test_the_rung_table_is_shown_on_request_only() -> None:
    assert "threshold" not in played("tic_tac_toe", "5")
    assert "the graph has decided nothing yet" in played("tic_tac_toe", "rungs")
    assert "threshold" in played("tic_tac_toe", "5", "rungs")
    assert "threshold" in played("tic_tac_toe", "5", options=("--rungs",))


def test_a_forced_pass_is_mentioned_for_either_side() -> None:
    assert "pass is your only legal move, so it is made" in played(PASSING, options=("--state", "020"))
    told = played(PASSING, "one", "one", options=("--state", "200"))
    assert "pass was its only legal move" in told


def test_who_moves_twice_running_is_told_so() -> None:
    told = played("solved_games:Twice", "one", "one", options=("--state", "310"))
    assert "it is your turn again: the other side has no turn here" in told


@pytest.mark.parametrize("options", [(), ("--second",)])
def test_every_game_comes_to_its_end(options: tuple[str, ...]) -> None:
    told = played(PASSING, *(["two", "one"] * 6), options=options)
    assert "Final state: 00" in told
    assert "You win." in told or "You lose." in told
