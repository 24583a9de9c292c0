from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from escalade.training.acceptance_limit import acceptance_limit
from escalade.training.threshold_path import Answers, decide

alphas = st.sampled_from([0.01, 0.1, 0.25, 0.5])


def answers_of(right: np.ndarray[Any, Any], barred: np.ndarray[Any, Any], confidence: Any = None) -> Answers:
    rungs = ("policy", "search") if right.shape[1] == 2 else ("policy", "value", "search")
    if confidence is None:
        confidence = np.zeros(barred.shape)
    return Answers(rungs, confidence, right, barred, np.arange(1.0, len(rungs) + 1))


@given(st.integers(0, 10_000), st.integers(4, 40), alphas, st.sampled_from(["all", "own"]), st.integers(1, 2))
@settings(max_examples=150, deadline=None)
def test_no_thresholds_leave_more_to_the_networks(
    seed: int, count: int, alpha: float, covers: Any, networks: int
) -> None:
    random = np.random.default_rng(seed)
    right = random.random((count, networks + 1)) < random.uniform(0.3, 1.0, networks + 1)
    barred = np.logical_or.accumulate(random.random((count, networks)) < 0.1, axis=1)
    confidence = (random.random((count, networks)) + right[:, :-1] * random.choice([0.0, 1.0, 3.0])) / 4
    answers = answers_of(right, barred, confidence)
    limit = acceptance_limit(answers, alpha, covers)
    assert 0 <= limit.share <= 1
    for vector in itertools.product([0.0, *np.quantile(confidence, [0.2, 0.5, 0.8]), 1.0], repeat=networks):
        found = decide(answers, np.array(vector))
        own = found.source < networks
        loss = found.wrong[own].sum() / max(own.sum(), 1)
        if loss <= alpha and (covers == "own" or found.wrong.mean() <= alpha):
            assert own.mean() <= limit.share + 1e-9


@given(st.integers(0, 10_000), st.integers(1, 12), alphas, st.sampled_from(["all", "own"]))
@settings(max_examples=100, deadline=None)
def test_whoever_knows_what_is_right_comes_as_close_to_it_as_whole_states_allow(
    seed: int, count: int, alpha: float, covers: Any
) -> None:
    random = np.random.default_rng(seed)
    right = random.random((count, 2)) < 0.7
    answers = answers_of(right, random.random((count, 1)) < 0.1)
    best = -1
    for accepted in itertools.product([False, True], repeat=count):
        own = np.array(accepted)
        if (own & answers.barred[:, 0]).any():
            continue
        wrong = np.where(own, ~right[:, 0], ~right[:, 1])
        within = wrong[own].sum() <= alpha * own.sum() + 1e-9
        if within and (covers == "own" or wrong.mean() <= alpha + 1e-9):
            best = max(best, int(own.sum()))
    limit = acceptance_limit(answers, alpha, covers).share * count
    assert best <= limit + 1e-9
    assert limit < max(best, 0) + 1 or best == -1


@given(st.floats(0, 1), st.floats(0.01, 0.5))
def test_before_a_reference_it_is_what_one_network_gets_right_over_one_less_alpha(share: float, alpha: float) -> None:
    right = np.arange(1000) < round(1000 * share)
    answers = answers_of(np.stack([right, np.ones(1000, np.bool_)], axis=1), np.zeros((1000, 1), np.bool_))
    for covers in ("all", "own"):
        limit = acceptance_limit(answers, alpha, covers)
        assert limit.error == pytest.approx(1 - right.mean())
        assert limit.share == pytest.approx(min(1.0, right.mean() / (1 - alpha)))


def test_where_no_rung_knows_better_nothing_can_be_had_of_all() -> None:
    right = np.ones((100, 2), np.bool_)
    right[:10] = False
    answers = answers_of(right, np.zeros((100, 1), np.bool_))
    assert acceptance_limit(answers, 0.05, "all").share == 0
    assert acceptance_limit(answers, 0.05, "own").share == pytest.approx(0.9 / 0.95)
