"""Figures and their intervals: known values, and that they hold the truth as often as they say."""

from __future__ import annotations

import math

import numpy as np
import pytest

from escalade.training.intervals import calibration_of, elo_of, mean_of, share_of


def test_wilsons_interval_is_the_textbooks() -> None:
    share = share_of(np.array([True] * 9 + [False]))
    assert (share.hits, share.count, share.share) == (9, 10, 0.9)
    assert share.low == pytest.approx(0.5958, abs=1e-4)
    assert share.high == pytest.approx(0.9821, abs=1e-4)
    assert share_of(np.zeros(0, np.bool_)).share is None


def test_a_mean_has_the_normal_interval() -> None:
    mean = mean_of(np.array([0.0, 1.0, 2.0, 3.0]))
    assert mean.mean == 1.5
    assert mean.high == pytest.approx(1.5 + 1.96 * np.std([0, 1, 2, 3], ddof=1) / 2, abs=1e-3)
    assert (mean_of(np.ones(1)).mean, mean_of(np.ones(1)).low, mean_of(np.ones(0)).mean) == (1.0, None, None)


def test_the_elo_of_known_results() -> None:
    # Ten thousand pairs: the one pair won and the one lost that are added do not show.
    for score, expected in ((0.5, 0.0), (0.75, 190.85), (10 / 11, 400.0)):
        pairs = [1.0] * round(10000 * score) + [0.0] * round(10000 * (1 - score))
        assert elo_of(pairs).elo == pytest.approx(expected, abs=0.5)
    assert elo_of([1.0] * 3 + [0.0]).elo == pytest.approx(400 * math.log10(4 / 2))


def test_elo_is_finite_when_every_game_was_won() -> None:
    few, many = elo_of([1.0] * 10), elo_of([1.0] * 100)
    for elo in (few, many):
        assert 0 < elo.low < elo.elo < elo.high < math.inf
        assert 0 < elo.score_low < elo.score_high < 1
    assert few.elo < many.elo
    assert elo_of([0.0] * 10).elo == pytest.approx(-few.elo)


def test_pairs_that_end_alike_tell_more_than_their_games_would() -> None:
    # Each pair one won and one lost game: the openings decided, not the players.
    tied, apart = elo_of([0.5] * 100), elo_of([1.0, 0.0] * 50)
    assert tied.elo == apart.elo == 0
    assert tied.high < apart.high / 3


@pytest.mark.parametrize("chance", [0.5, 0.8, 0.95])
def test_the_elo_interval_holds_the_truth_as_often_as_it_says(chance: float) -> None:
    random = np.random.default_rng(4)
    truth = 400 * math.log10(chance / (1 - chance))
    held = 0
    for _ in range(1000):
        # Games of one pair are alike: with chance 1/2 the second only repeats the first.
        games = random.random((100, 2)) < chance
        games[:, 1] = np.where(random.random(100) < 0.5, games[:, 0], games[:, 1])
        elo = elo_of(games.mean(axis=1).tolist())
        held += elo.low <= truth <= elo.high
    assert 0.93 <= held / 1000 <= 0.985


def test_true_confidences_have_a_small_calibration_error_and_false_ones_theirs() -> None:
    random = np.random.default_rng(0)
    confidence = random.random(6000)
    true = calibration_of(confidence, random.random(6000) < confidence, seed=1)
    boast = calibration_of(np.full(6000, 0.9), random.random(6000) < 0.6, seed=1)
    assert true.error < 0.025
    assert boast.error == pytest.approx(0.3, abs=0.02)
    assert boast.low < 0.3 < boast.high
    assert [part.optimal.count for part in true.bins] == [400] * 15
    gaps = [part.optimal.count * abs(part.confidence - (part.optimal.share or 0)) for part in true.bins]
    assert sum(gaps) / 6000 == pytest.approx(true.error)
    assert calibration_of(np.array([0.7]), np.array([True]), seed=0).error == pytest.approx(0.3)
