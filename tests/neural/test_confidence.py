from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalade.domains.catalog import load_domain
from escalade.neural.confidence import (
    POLICY_FEATURES,
    SEARCH_FEATURES,
    VALUE_FEATURES,
    policy_features,
    search_features,
    value_features,
)
from escalade.neural.lookahead import Lookahead


def named(names: tuple[str, ...], row: np.ndarray) -> dict[str, float]:
    return dict(zip(names, row.tolist(), strict=True))


def test_policy_features_of_one_answer_by_hand() -> None:
    chances = np.array([[0.7, 0.0, 0.2, 0.1]], np.float32)
    legal = np.array([[True, False, True, True]])
    found = named(POLICY_FEATURES, policy_features(chances, legal, np.array([-0.4], np.float32))[0])
    spread = -sum(p * math.log(p) for p in (0.7, 0.2, 0.1))
    assert found == pytest.approx(
        {
            "top": 0.7,
            "margin": 0.5,
            "entropy": spread / math.log(3),
            "top_against_spread": 0.7 * math.exp(spread),
            "decidedness": 0.4,
            "value": -0.4,
            "legal_share": 0.75,
            "log_ratio": math.log(3.5),
            "log_second": math.log(0.2),
        },
        rel=1e-5,
    )


def test_value_features_of_one_answer_by_hand() -> None:
    chances = np.array([[0.7, 0.0, 0.2, 0.1]], np.float32)
    legal = np.array([[True, False, True, True]])
    ahead = np.array([[-0.1, np.nan, 0.5, 0.2]])
    found = named(
        VALUE_FEATURES,
        value_features(chances, legal, np.array([0.3], np.float32), ahead, np.zeros((1, 4), np.bool_))[0],
    )
    assert found["lead"] == pytest.approx(0.5 + 0.3 / 4)
    assert found["top"] == pytest.approx(0.7)
    wanted = {"best": 0.5, "gap": 0.3, "policy_choice": -0.1, "regret": 0.6, "surprise": -0.2, "prior": 0.2}
    assert {name: found[name] for name in wanted} == pytest.approx(wanted)
    assert found["agreement"] == 0.0


def test_a_win_at_once_and_an_only_move_are_certain() -> None:
    legal = np.ones((2, 2), np.bool_)
    chances = np.full((2, 2), 0.5, np.float32)
    ahead = np.array([[1.0, 0.9], [np.nan, -0.9]])
    exact = np.array([[True, False], [False, False]])
    found = value_features(chances, legal, np.zeros(2, np.float32), ahead, exact)
    assert found[:, 0].tolist() == [1.0, 1.0]


def test_search_features_of_one_answer_by_hand() -> None:
    policy = np.array([[0.75, 0.25, 0.0]], np.float32)
    prior = np.array([[0.3, 0.6, 0.1]], np.float32)
    values = np.array([[0.4, 0.1, np.nan]], np.float32)
    found = named(
        SEARCH_FEATURES,
        search_features(
            policy,
            prior,
            values,
            np.ones((1, 3), np.bool_),
            np.array([0]),
            np.array([0.3], np.float32),
            np.array([False]),
        )[0],
    )
    wanted = {"share": 0.75, "margin": 0.5, "gap": 0.3, "prior": 0.3, "agreement": 0.0, "value": 0.3, "proven": 0.0}
    assert {name: found[name] for name in wanted} == pytest.approx(wanted)


@given(st.integers(0, 2**32 - 1), st.integers(1, 9), st.integers(1, 5))
def test_features_are_finite_and_the_raw_score_is_a_share(seed: int, actions: int, rows: int) -> None:
    random = np.random.default_rng(seed)
    legal = random.random((rows, actions)) < 0.6
    legal[np.arange(rows), random.integers(actions, size=rows)] = True
    chances = np.where(legal, random.random((rows, actions)) ** 8, 0)
    chances = (chances / chances.sum(axis=1, keepdims=True)).astype(np.float32)
    values = random.uniform(-1, 1, rows).astype(np.float32)
    ahead = np.where(legal, random.uniform(-1, 1, legal.shape), np.nan)
    exact = legal & (random.random(legal.shape) < 0.2)
    actions_chosen = chances.argmax(axis=1)
    for found in (
        policy_features(chances, legal, values),
        value_features(chances, legal, values, ahead, exact),
        search_features(
            chances, chances, ahead.astype(np.float32), legal, actions_chosen, values, random.random(rows) < 0.5
        ),
    ):
        assert np.isfinite(found).all()
        assert ((found[:, 0] >= 0) & (found[:, 0] <= 1)).all()


def test_a_lookahead_values_children_from_the_mover_s_view() -> None:
    domain = load_domain("tic_tac_toe")
    state = domain.parse("1425")
    ahead = Lookahead(domain, state)
    assert ahead.exact.sum() == 1
    assert ahead.values[2] == 1.0
    ahead.fill_in(np.linspace(0.1, 0.4, len(ahead.open_actions)).astype(np.float32))
    assert np.isnan(ahead.values).sum() == 4
    assert (ahead.values[ahead.open_actions] < 0).all()
