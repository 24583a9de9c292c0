"""The laws of choosing among legal actions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from escalade.domains.errors import ActionError, SettingsError
from escalade.neural.actions import action_probabilities, select_action

FINITE = st.floats(-(2.0**120), 2.0**120, width=32)
WHATEVER = st.floats(width=32)  # NaN and infinities included


@st.composite
def choices(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Logits `[B, A]`, finite where legal and anything elsewhere, and legal masks `[B, A]` with no empty row."""
    rows, actions = draw(st.integers(1, 4)), draw(st.integers(1, 8))
    legal = np.array(draw(st.lists(st.booleans(), min_size=rows * actions, max_size=rows * actions)), dtype=np.bool_)
    legal = legal.reshape(rows, actions)
    legal[np.arange(rows), draw(st.integers(0, actions - 1))] = True
    cells = [draw(FINITE if allowed else WHATEVER) for allowed in legal.ravel()]
    return np.array(cells, dtype=np.float32).reshape(rows, actions), legal


TEMPERATURES = st.floats(0.0, 1e6)


@given(choices(), TEMPERATURES, st.integers(1, 8))
def test_probabilities_are_a_distribution_over_legal_actions(case, temperature, k):
    logits, legal = case
    top_k = min(k, logits.shape[1])
    for chosen_k in (None, top_k):
        probabilities = action_probabilities(logits, legal, temperature, chosen_k)
        assert probabilities.dtype == np.float32
        assert probabilities.shape == logits.shape
        assert (probabilities[~legal] == 0.0).all()
        assert (probabilities >= 0.0).all()
        np.testing.assert_allclose(probabilities.sum(axis=1), 1.0, rtol=1e-5)
    assert ((probabilities > 0).sum(axis=1) <= top_k).all()


@given(choices(), st.floats(1e-3, 1e3))
def test_a_larger_logit_is_never_less_likely(case, temperature):
    logits, legal = case
    probabilities = action_probabilities(logits, legal, temperature)
    for row in range(len(logits)):
        order = np.flatnonzero(legal[row])[np.argsort(logits[row][legal[row]], kind="stable")]
        assert (np.diff(probabilities[row][order]) >= 0).all()


@given(choices(), TEMPERATURES, st.integers(1, 8), st.integers(0, 2**32))
def test_selected_actions_are_legal_and_likely(case, temperature, k, seed):
    logits, legal = case
    top_k = min(k, logits.shape[1])
    actions = select_action(logits, legal, temperature, top_k, np.random.default_rng(seed))
    rows = np.arange(len(logits))
    assert actions.dtype == np.int64
    assert actions.shape == rows.shape
    assert legal[rows, actions].all()
    # The k-th best legal logit of each row bounds what may be drawn.
    for row, action in zip(rows, actions, strict=True):
        best = np.sort(logits[row][legal[row]])[::-1][:top_k]
        assert logits[row, action] >= best[-1]
    again = select_action(logits, legal, temperature, top_k, np.random.default_rng(seed))
    assert (actions == again).all()


@given(choices())
def test_temperature_zero_is_argmax_without_chance(case):
    logits, legal = case
    best = np.where(legal, logits, -np.inf).argmax(axis=1)
    assert (select_action(logits, legal, 0.0) == best).all()
    assert (select_action(logits, legal, 0, top_k=1) == best).all()
    probabilities = action_probabilities(logits, legal, 0.0)
    assert (probabilities[np.arange(len(best)), best] == 1.0).all()
    assert probabilities.sum() == len(best)


@given(choices(), st.integers(0, 2**32))
def test_top_1_is_argmax_at_any_temperature(case, seed):
    logits, legal = case
    drawn = select_action(logits, legal, 5.0, 1, np.random.default_rng(seed))
    assert (drawn == select_action(logits, legal, 0.0)).all()


@given(choices(), st.floats(0.0, 2.0))
def test_rows_do_not_touch_each_other(case, temperature):
    logits, legal = case
    together = action_probabilities(logits, legal, temperature)
    alone = [action_probabilities(logits[r : r + 1], legal[r : r + 1], temperature)[0] for r in range(len(logits))]
    assert (together == np.array(alone)).all()


@pytest.mark.parametrize("number", [0.0, 1e-9, 0.5, np.nextafter(1.0, 0.0)])
@given(case=choices())
def test_every_random_number_draws_an_action_that_can_happen(case, number):
    class Loaded(np.random.Generator):
        def random(self, size):  # type: ignore[override]
            return np.full(size, number)

    logits, legal = case
    actions = select_action(logits, legal, 1.0, None, Loaded(np.random.PCG64()))
    rows = np.arange(len(actions))
    assert legal[rows, actions].all()
    # exp(-746) is 0 in float64: an action that far behind the best has no chance at all.
    behind = np.where(legal, logits, -np.inf).max(axis=1) - logits[rows, actions].astype(np.float64)
    assert (behind < 746).all()


def test_draws_follow_the_probabilities():
    logits = np.tile(np.array([[0.3, 9.0, -1.0, 1.2, 0.0]], dtype=np.float32), (20_000, 1))
    legal = np.tile(np.array([[True, False, True, True, True]]), (20_000, 1))
    counts = np.bincount(select_action(logits, legal, 0.7, None, np.random.default_rng(3)), minlength=5)
    expected = action_probabilities(logits[:1], legal[:1], 0.7)[0].astype(np.float64)
    assert counts[1] == 0
    kept = legal[0]
    assert chisquare(counts[kept], 20_000 * expected[kept] / expected[kept].sum()).pvalue > 0.01


def test_known_probabilities():
    logits = np.log(np.array([[1.0, 2.0, 5.0, 2.0]], dtype=np.float32))
    everything = np.ones((1, 4), dtype=np.bool_)
    np.testing.assert_allclose(action_probabilities(logits, everything), [[0.1, 0.2, 0.5, 0.2]], rtol=1e-6)
    # Of equals the lower action is kept.
    np.testing.assert_allclose(action_probabilities(logits, everything, top_k=2), [[0, 2 / 7, 5 / 7, 0]], rtol=1e-6)
    np.testing.assert_allclose(
        action_probabilities(logits, everything, temperature=0.5), [[1 / 34, 4 / 34, 25 / 34, 4 / 34]], rtol=1e-6
    )


def test_minus_infinity_means_never():
    logits = np.array([[-np.inf, 0.0, 1.0]], dtype=np.float32)
    assert action_probabilities(logits, np.ones((1, 3), dtype=np.bool_))[0, 0] == 0.0


def test_no_rows_give_no_actions():
    nothing, legal = np.zeros((0, 3), dtype=np.float32), np.zeros((0, 3), dtype=np.bool_)
    assert action_probabilities(nothing, legal).shape == (0, 3)
    assert select_action(nothing, legal, 1.0, None, np.random.default_rng(0)).shape == (0,)


LOGITS = np.zeros((2, 3), dtype=np.float32)
LEGAL = np.ones((2, 3), dtype=np.bool_)


@pytest.mark.parametrize("function", [action_probabilities, select_action])
class TestRefusals:
    @pytest.mark.parametrize("temperature", [-1.0, -1e-9, np.nan, np.inf, -np.inf])
    def test_temperature(self, function, temperature):
        with pytest.raises(SettingsError, match="temperature"):
            function(LOGITS, LEGAL, temperature)

    @pytest.mark.parametrize("top_k", [0, -1, 4, True, 1.0, "2", 2**70])
    def test_top_k(self, function, top_k):
        for temperature in (0.0, 1.0):
            with pytest.raises(SettingsError, match="top_k must be an integer from 1 to 3"):
                function(LOGITS, LEGAL, temperature, top_k)

    def test_a_row_without_legal_actions(self, function):
        legal = np.array([[True, False, False], [False, False, False]])
        with pytest.raises(ActionError, match="row 1 has no legal action"):
            function(LOGITS, legal, 0.0)

    @pytest.mark.parametrize("bad", [np.nan, np.inf])
    def test_logits_that_are_not_numbers(self, function, bad):
        logits = np.array([[0.0, bad, 0.0]], dtype=np.float32)
        with pytest.raises(ValueError, match="logits of row 0"):
            function(logits, np.ones((1, 3), dtype=np.bool_), 0.0)
        legal = np.array([[True, False, True]])
        assert function(logits, legal, 0.0).ravel()[0] in (0, 1.0)

    def test_rows_that_are_never(self, function):
        with pytest.raises(ValueError, match="all -inf"):
            function(np.full((2, 3), -np.inf, dtype=np.float32), LEGAL)

    def test_shapes_and_dtypes(self, function):
        for logits, legal in (
            (LOGITS[0], LEGAL[0]),
            (LOGITS, LEGAL[:1]),
            (LOGITS.astype(np.float64), LEGAL),
            (LOGITS, LEGAL.astype(np.int64)),
        ):
            with pytest.raises(ValueError, match="logits"):
                function(logits, legal)


def test_a_draw_needs_a_generator():
    with pytest.raises(SettingsError, match="generator"):
        select_action(LOGITS, LEGAL, 1.0)
