from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalade.neural.e_detector import RISKS, EDetector, bets, limit_for


@given(st.floats(0.001, 0.6))
def test_no_bet_can_lose_more_than_all(alpha: float) -> None:
    for bet in bets(alpha):
        assert 0 < bet <= 1 / alpha
        assert 1 + bet * (0 - alpha) >= 0


@given(st.lists(st.booleans(), max_size=60), st.sampled_from([0.01, 0.05, 0.2]))
def test_it_is_the_sum_of_bets_begun_at_every_time(losses: list[bool], alpha: float) -> None:
    detector = EDetector(alpha, 1e9)
    for loss in losses:
        detector.update(loss)
    for place, bet in enumerate(bets(alpha)):
        factors = [1 + bet * (loss - alpha) for loss in losses]
        wanted = sum(float(np.prod(factors[begun:])) for begun in range(len(losses)))
        assert detector.wealth[place] == pytest.approx(wanted)
    assert (detector.audits, detector.wrong) == (len(losses), sum(losses))


def alarm_at(random: np.random.Generator, risks: np.ndarray, alpha: float, limit: float) -> int | None:
    detector = EDetector(alpha, limit)
    for place, wrong in enumerate(random.random(len(risks)) < risks):
        if detector.update(bool(wrong)):
            return place
    return None


def test_false_alarms_at_the_boundary_are_as_rare_as_stated() -> None:
    random, audits, trials = np.random.default_rng(0), 500, 400
    alarms = [alarm_at(random, np.full(audits, 0.05), 0.05, limit_for(0.2, audits)) for _ in range(trials)]
    rate = np.mean([alarm is not None for alarm in alarms])
    assert 0 < rate <= 0.2


def test_it_notices_soon_also_after_long_good_times() -> None:
    random = np.random.default_rng(1)
    delays = []
    for good in (0, 3000):
        found = []
        for _ in range(60):
            risks = np.concatenate((np.full(good, 0.02), np.full(3000, 0.15)))
            alarm = alarm_at(random, risks, 0.05, limit_for(0.05, 5000))
            found.append(3000 if alarm is None else alarm - good)
        delays.append(np.median(found))
    assert 0 < delays[1] < 1.3 * delays[0] + 20
    assert delays[1] < 400


def test_what_it_knows_goes_through_json() -> None:
    detector = EDetector(0.05, 100.0)
    for wrong in (True, False, True):
        detector.update(wrong)
    again = EDetector(0.05, 100.0, list(detector.wealth), detector.audits, detector.wrong)
    assert again.update(True) == detector.update(True)
    assert again.value == detector.value


def test_wealth_stays_a_number() -> None:
    detector = EDetector(0.01, 1e9)
    for _ in range(2000):
        detector.update(True)
    assert np.isfinite(detector.value)


@pytest.mark.parametrize("wrong", [{"alpha": 0.0}, {"alpha": 1.0}, {"limit": 0.0}, {"wealth": [0.0]}])
def test_what_is_no_detector_is_refused(wrong: dict) -> None:
    with pytest.raises(ValueError, match="e-detector"):
        EDetector(**{"alpha": 0.05, "limit": 10.0, "wealth": [0.0] * len(RISKS)} | wrong)
