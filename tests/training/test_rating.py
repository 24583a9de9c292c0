"""Elo on a fixed scale, and mean returns: intervals that hold what they promise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from corridor import Corridor
from hypothesis import given, settings
from hypothesis import strategies as st
from nim import Nim

from escalade.domains.base import Domain
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.training.arena import Moves, RandomPlayer
from escalade.training.rating import Games, expected, rating_of
from escalade.training.returns import is_one_player, mean_return, play_episodes, return_of

PAIRS = st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.75, 1.0]), min_size=1, max_size=30)
OPPONENTS = st.lists(st.tuples(st.floats(-500, 1500), PAIRS), min_size=1, max_size=4)


@settings(max_examples=30, deadline=None)
@given(OPPONENTS, st.integers(-400, 400))
def test_a_rating_is_on_the_scale_of_the_opponents(played: list[tuple[float, list[float]]], shift: int) -> None:
    rating = rating_of([Games(elo, pairs) for elo, pairs in played])
    assert rating.low <= rating.elo <= rating.high
    moved = rating_of([Games(elo + shift, pairs) for elo, pairs in played])
    assert moved.elo == pytest.approx(rating.elo + shift, abs=2)
    turned = rating_of([Games(-elo, [1 - pair for pair in pairs]) for elo, pairs in played])
    assert turned.elo == pytest.approx(-rating.elo, abs=2)


@settings(max_examples=30, deadline=None)
@given(OPPONENTS)
def test_one_more_win_never_lowers_a_rating(played: list[tuple[float, list[float]]]) -> None:
    before = rating_of([Games(elo, pairs) for elo, pairs in played])
    (elo, pairs), *rest = played
    better = rating_of([Games(elo, [1.0 for _ in pairs]), *(Games(*one) for one in rest)])
    assert better.elo >= before.elo - 1


def test_who_won_every_game_has_a_rating_and_an_open_end() -> None:
    few, many = (rating_of([Games(0, [1.0] * count)]) for count in (3, 30))
    assert 0 < few.low < many.low
    assert few.high - few.elo > 400
    level = rating_of([Games(100, [0.5] * 20)])
    assert level.elo == pytest.approx(100, abs=1)
    with pytest.raises(ValueError, match="at least one pair"):
        rating_of([Games(0, [])])


@pytest.mark.parametrize("alike", [False, True])
def test_intervals_hold_the_true_rating_as_often_as_they_promise(alike: bool) -> None:
    """alike: both games of a pair always end alike, so that there are half as many independent ones."""
    random, true, opponents, held = np.random.default_rng(1), 250.0, (0.0, 300.0, 500.0), 0
    for _ in range(200):
        played = []
        for opponent in opponents:
            wins = random.random((20, 2)) < expected(true, opponent)
            played.append(Games(opponent, (wins[:, [0, 0]] if alike else wins).mean(axis=1).tolist()))
        rating = rating_of(played)
        held += rating.low <= true <= rating.high
    assert held >= 180


@settings(deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=1, max_size=50))
def test_a_mean_return_lies_in_its_interval(outcomes: list[float]) -> None:
    mean, low, high = return_of(outcomes)
    assert mean == pytest.approx(np.mean(outcomes), abs=1e-9)
    assert -1 <= low <= mean <= high <= 1
    assert high > low


def test_intervals_of_returns_hold_the_true_mean_as_often_as_they_promise() -> None:
    random = np.random.default_rng(2)
    for true, draw in (
        (0.8, lambda: random.choice([-1.0, 1.0], 30, p=[0.1, 0.9])),
        (0.1, lambda: random.uniform(-0.5, 0.7, 30)),
    ):
        found = [return_of(draw()) for _ in range(200)]
        assert sum(low <= true <= high for _, low, high in found) >= 180


class RightPlayer:
    """Goes right."""

    name = "right"

    def choose(self, domain: Domain[object], states: Sequence[object], seeds: Sequence[int]) -> Moves:
        return Moves([1] * len(states), 0)


def test_one_player_is_known_by_who_moves() -> None:
    assert is_one_player(Corridor())
    assert not is_one_player(Nim())
    assert not is_one_player(TicTacToe())


def test_episodes_are_played_to_their_end() -> None:
    domain = Corridor()
    found = mean_return(domain, RightPlayer(), 5)
    assert (found.mean, found.episodes, found.cut_short, found.high) == (1.0, 5, 0, 1.0)
    again = [mean_return(domain, RandomPlayer(), 9, seed=3) for _ in range(2)]
    assert again[0] == again[1]
    cut = play_episodes(domain, RightPlayer(), [domain.initial_state()], seed=0, max_plies=2)
    assert cut is not None
    assert (cut.outcomes, cut.cut_short) == ([0.0], 1)
    assert play_episodes(domain, RightPlayer(), [domain.initial_state()], seed=0, stop=lambda: True) is None
