from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mapie.risk_control._base_controller import ltt_procedure
from scipy.stats import binomtest

from escalade.neural.fixed_sequence import count_for, least_count, p_value, passed, upper_bound

rates = st.sampled_from([0.01, 0.02, 0.05, 0.1, 0.3])


@given(st.integers(1, 3000), st.floats(0, 1), rates)
def test_p_values_are_those_of_the_exact_binomial_test(count: int, share: float, alpha: float) -> None:
    wrong = int(share * count)
    assert p_value(wrong, count, alpha) == pytest.approx(binomtest(wrong, count, alpha, "less").pvalue, abs=1e-12)


@given(st.integers(1, 3000), st.floats(0, 1), rates)
def test_a_setting_passes_exactly_if_its_bound_is_at_most_alpha(count: int, share: float, delta: float) -> None:
    """The bound and the test are two views of one thing."""
    wrong = int(share * count)
    bound = upper_bound(wrong, count, delta)
    if wrong < count:
        assert p_value(wrong, count, bound) == pytest.approx(delta, rel=1e-6)
    for alpha in (bound * 0.99, min(bound * 1.01, 1.0)):
        if 0 < alpha < 1:
            assert (p_value(wrong, count, alpha) <= delta) == (bound <= alpha)


def test_nothing_seen_proves_nothing() -> None:
    assert p_value(0, 0, 0.05) == 1.0
    assert upper_bound(0, 0, 0.05) == 1.0


@pytest.mark.filterwarnings("ignore:Fixed sequence testing requires a monotonic risk")
@given(
    st.lists(st.tuples(st.integers(1, 2000), st.integers(0, 100)), min_size=1, max_size=30),
    st.integers(0, 200),
    rates,
    rates,
)
def test_it_passes_what_mapie_passes_with_two_risks(
    accepted: list[tuple[int, int]], wrong: int, alpha: float, delta: float
) -> None:
    """The oracle: MAPIE's Learn-then-Test over a sequence whose order was fixed before, a setting's p-value being the
    larger of its two risks'."""
    settings = [(count, min(bad, count), 2000, min(bad + wrong, 2000)) for count, bad in accepted]
    doubts = [max(p_value(k, n, alpha), p_value(k_all, n_all, alpha)) for n, k, n_all, k_all in settings]
    theirs, p_values = ltt_procedure(
        np.array([[k / n for n, k, _, _ in settings], [k / n for _, _, n, k in settings]]),
        np.full((2, 1), alpha),
        delta,
        np.array([[n for n, _, _, _ in settings], [n for _, _, n, _ in settings]]),
        binary=True,
        fwer_method="split_fixed_sequence",
    )
    assert p_values[:, 0] == pytest.approx(doubts, abs=1e-9)
    assert theirs[0] == list(range(passed(doubts, delta)))


@pytest.mark.parametrize(("alpha", "delta", "count"), [(0.05, 0.05, 59), (0.01, 0.05, 299), (0.1, 0.1, 22)])
def test_the_least_count_is_the_least_that_can_pass(alpha: float, delta: float, count: int) -> None:
    assert least_count(alpha, delta) == count
    assert p_value(0, count, alpha) <= delta < p_value(0, count - 1, alpha)


@given(st.floats(0, 0.09), rates)
def test_the_count_for_a_loss_is_one_with_which_it_passes(loss: float, alpha: float) -> None:
    count = count_for(loss, alpha, 0.05)
    if loss >= alpha:
        assert count is None
    elif count is not None:
        assert p_value(int(loss * count), count, alpha) <= 0.05


def test_the_promise_holds_for_a_sequence_that_the_data_did_not_choose() -> None:
    """20 settings of true risk 0.02 to 0.08, alpha 0.05: how often does one pass that should not?"""
    random, risks, broken = np.random.default_rng(7), np.linspace(0.02, 0.08, 20), 0
    trials = 2000
    for _ in range(trials):
        uniform = random.random(800)
        wrong = [(uniform < risk).sum() for risk in risks]
        last = passed([p_value(int(k), 800, 0.05) for k in wrong], 0.05) - 1
        broken += last >= 0 and risks[last] > 0.05
    assert 0 < broken / trials <= 0.05 + 3 * (0.05 * 0.95 / trials) ** 0.5
