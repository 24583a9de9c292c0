"""The book of openings, against the solver without it, known scores and itself."""

from __future__ import annotations

import csv
from typing import Any

import numpy as np
import pytest

from escalade.domains.connect_four import ConnectFour
from escalade.search.opening_book import PLIES, OpeningBook, deduced, key_of, opening_book, openings
from escalade.search.solve_connect_four import ConnectFourSolver

GAME = ConnectFour()
WIDTH = 7


def test_the_first_player_wins_in_the_middle_only() -> None:
    """J. Allen 1988, V. Allis 1988; the numbers of plies are J. Tromp's."""
    assert ConnectFourSolver().score(GAME.initial_state()) == 1
    assert ConnectFourSolver().scores(GAME.initial_state()) == [-2, -1, 0, 1, 0, -1, -2]


def test_every_score_is_the_best_of_those_one_ply_on() -> None:
    book, levels = opening_book(), list(openings(PLIES - 1))
    assert [len(level) for level in levels] == [1, 4, 25, 121, 568, 2144, 8231, 27109]
    deepest = {key: book.score(state) for key, state in levels[-1].items()}
    assert None not in deepest.values()
    scores: Any = deduced(levels, deepest)  # type: ignore[arg-type]
    assert all(book.score(state) == scores[key] for level in levels for key, state in level.items())


@pytest.mark.parametrize("seed", range(3))
def test_scores_of_eight_plies_are_the_solvers(seed: int) -> None:
    random, state = np.random.default_rng(seed), GAME.initial_state()
    for _ in range(PLIES):
        state = GAME.step(state, int(random.choice(GAME.legal_actions(state))))
    assert not GAME.is_terminal(state)
    assert opening_book().score(state) == ConnectFourSolver(book=False).score(state)


def test_scores_of_eight_plies_are_those_of_the_shared_positions(shared_data: Any) -> None:
    with shared_data("connect_four/positions.csv").open() as file:
        lines = [line for line in csv.DictReader(file) if len(line["moves"]) == PLIES]
    assert len(lines) > 100
    for line in lines:
        best = max(int(line[f"score_{column}"]) for column in range(1, WIDTH + 1) if line[f"score_{column}"])
        mirrored = "".join(str(WIDTH + 1 - int(column)) for column in line["moves"])
        assert opening_book().score(GAME.parse(line["moves"])) == best
        assert opening_book().score(GAME.parse(mirrored)) == best


def test_what_is_not_in_the_book_has_no_score_there() -> None:
    assert opening_book().score(GAME.parse("444444333")) is None
    assert OpeningBook(np.empty(0, np.uint64)).score(GAME.initial_state()) is None
    book = OpeningBook.of({key_of(GAME.parse("44")): -7})
    assert book.score(GAME.parse("44")) == -7
    assert book.score(GAME.parse("45")) is None
