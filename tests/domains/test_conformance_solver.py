"""A domain's own exact solver: the kit checks it by playing out, and everything that asks for `exact` uses it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from in_process import escalade
from solved_games import SOLVED_NIM, NimSolver, Passing, SolvedNim, Twice

from escalade.domains.conformance import check_domain
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.search.solve_tic_tac_toe import TicTacToeSolver
from escalade.search.solvers import exact_solver, optimal_actions
from escalade.training.exact import open_positions, solved_plies
from escalade.training.exact_labels import exact_labels

LAW = "the exact solver agrees with playing out"


def verdict(domain: Any) -> Any:
    return next(one for one in check_domain(domain, games=40).results if one.law == LAW)


class Brings(SolvedNim):
    def __init__(self, **methods: Any) -> None:
        self.methods = methods

    def solver(self) -> Any:
        return type("Own", (NimSolver,), self.methods)()


def test_a_right_solver_passes_and_no_solver_is_skipped() -> None:
    report = check_domain(SolvedNim())
    assert report.passed, str(report)
    assert "positions were played out to their ends" in verdict(SolvedNim()).detail
    assert verdict(Passing()).outcome == "skipped"


class SolvedTicTacToe(TicTacToe):
    def solver(self) -> Any:
        return TicTacToeSolver()


def test_lists_of_all_positions_are_checked() -> None:
    assert verdict(SolvedTicTacToe()).outcome == "passed"
    lacking = verdict(Brings(reachable_positions=lambda _: [(21, 0)]))
    assert (lacking.outcome, "reachable_positions() lacks" in lacking.detail) == ("failed", True)


RIGHT = NimSolver()


@pytest.mark.parametrize(
    ("methods", "words"),
    [
        ({"value": lambda _, state: -RIGHT.value(state)}, "and by playing it out it is"),
        ({"value": lambda *_: 5.0}, "is 5.0; give 1, 0 or -1"),
        ({"value": lambda *_: 1 // 0}, "raised ZeroDivisionError"),
        ({"value": None}, "without a method value"),
        (
            {"scores": lambda _, state: [s or -1.0 for s in RIGHT.scores(state)]},
            "the score -1.0, but that action is illegal there; give None to illegal actions, and to no other",
        ),
        (
            {"scores": lambda _, state: [None if s is None else -s for s in RIGHT.scores(state)]},
            "by playing it out it is worth",
        ),
        ({"scores": lambda _, state: RIGHT.scores(state)[:2]}, "give a list of 3, a score or None for each action"),
        ({"scores": lambda *_: [1.0, 1.0, 1.0]}, "but that action is illegal there|by playing it out it is worth"),
        # Right from the view of the first player alone.
        ({"value": lambda _, state: RIGHT.value(state) * (1 - 2 * state[1])}, "by playing it out"),
    ],
)
def test_a_wrong_solver_is_refuted_by_an_example(methods: dict[str, Any], words: str) -> None:
    found = verdict(Brings(**methods))
    assert found.outcome == "failed"
    assert any(word in found.detail for word in words.split("|")), found.detail


def test_it_is_asked_for_once_and_used_by_whatever_asks_for_exact() -> None:
    domain = SolvedNim()
    assert exact_solver(domain) is exact_solver(domain)
    assert exact_solver(Passing()) is None
    first, last = solved_plies(domain)
    assert 0 <= first < last < 21
    positions = open_positions(domain, count=30)
    assert len(positions) > 10
    for state, worth in zip(positions.parsed(domain), positions.worth, strict=True):
        scores = RIGHT.scores(state)
        assert [None if np.isnan(one) else one for one in worth.tolist()] == scores
    labelled = exact_labels(domain, count=30)
    assert labelled.reference == "exact"
    for text, right in zip(labelled.states, labelled.acceptable, strict=True):
        assert np.flatnonzero(right).tolist() == optimal_actions(RIGHT.scores(domain.parse(text)))


def test_commands_use_it(tmp_path: Path) -> None:
    solved = escalade("solve", SOLVED_NIM, "7/0", "--json", cwd=tmp_path)
    assert json.loads(solved.stdout) == {"scores": [-1.0, -1.0, 1.0], "value": 1}
    options = ("--teacher", "solver", "--count", "5", "--store", "s", "--json")
    labelled = escalade("data", "label", SOLVED_NIM, *options, cwd=tmp_path)
    assert labelled.returncode == 0, labelled.stderr


def test_finished_games_are_shown_to_judge() -> None:
    report = check_domain(Twice(), games=40)
    assert report.passed, str(report)
    told = "\n".join(report.finished)
    assert "player 1 to move, outcome -1: player 0 has won, and player 1 has lost." in told
    assert "player 0 to move, outcome -1: player 1 has won, and player 0 has lost." in told
    assert "who moved last too: the other player has no turn between." in told
    assert "outcome +0: neither player has won." in "\n".join(check_domain(TicTacToe(), games=100).finished)


def test_a_value_from_the_wrong_side_shows_in_the_sentences() -> None:
    told = escalade("domains", "check", "solved_games:WrongSide", "--last-mover-loses")
    assert told.returncode == 0
    assert "For you to judge" in told.stdout
    assert "player 0 to move, outcome +1: player 0 has won" in " ".join(told.stdout.split())
