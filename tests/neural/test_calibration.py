from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalade.domains.errors import BundleError
from escalade.neural.calibration import (
    Calibrator,
    IdentityCalibrator,
    LogisticCalibrator,
    LogisticParameters,
    calibrator_from_json,
)
from escalade.neural.confidence import FEATURES


@given(st.floats(allow_nan=False))
def test_identity_passes_on_what_could_be_a_probability(raw: float) -> None:
    confidence = IdentityCalibrator().confidences(np.array([[raw, 0.3]]))
    assert confidence.shape == (1,)
    assert 0.0 <= confidence[0] <= 1.0
    assert confidence[0] == raw or not 0.0 <= raw <= 1.0


def logistic(rung: str = "search", seed: int = 0) -> LogisticCalibrator:
    random, names = np.random.default_rng(seed), FEATURES[rung]
    count = len(names)
    return LogisticCalibrator(
        LogisticParameters(
            features=names,
            mean=tuple(random.normal(size=count).tolist()),
            scale=tuple(random.uniform(0.1, 2, size=count).tolist()),
            weights=tuple(random.normal(size=count + count * (count + 1) // 2).tolist()),
            bias=0.5,
        )
    )


@pytest.mark.parametrize("calibrator", [IdentityCalibrator(), logistic()])
def test_it_survives_json(calibrator: Calibrator) -> None:
    assert isinstance(calibrator, Calibrator)
    read = calibrator_from_json(json.loads(json.dumps(calibrator.to_json())))
    assert read == calibrator
    features = np.random.default_rng(1).normal(size=(50, 9))
    assert (read.confidences(features) == calibrator.confidences(features)).all()


@given(st.lists(st.floats(-1e6, 1e6), min_size=9, max_size=9))
def test_logistic_confidences_are_probabilities_however_far_the_features(row: list[float]) -> None:
    confidence = logistic().confidences(np.array([row]))
    assert 0.0 < confidence[0] < 1.0


def test_logistic_is_the_formula_written_out() -> None:
    calibrator = logistic()
    p, row = calibrator.parameters, np.random.default_rng(2).normal(size=9)
    x = [min(5.0, max(-5.0, (row[i] - p.mean[i]) / p.scale[i])) for i in range(9)]
    terms = x + [x[i] * x[j] for i in range(9) for j in range(i, 9)]
    height = p.bias + sum(weight * term for weight, term in zip(p.weights, terms, strict=True))
    assert calibrator.confidences(row[None])[0] == pytest.approx(1 / (1 + np.exp(-min(30, max(-30, height)))))


def test_a_state_has_the_same_confidence_alone_as_among_others() -> None:
    features = np.random.default_rng(2).normal(size=(100, 9))
    together = logistic().confidences(features)
    assert [logistic().confidences(features[row : row + 1])[0] for row in range(100)] == together.tolist()
    with pytest.raises(ValueError, match=r"must be \[B, 9\], not \[100, 8\]"):
        logistic().confidences(features[:, 1:])


@pytest.mark.parametrize("calibrator", [IdentityCalibrator(), logistic()])
def test_nan_has_no_confidence(calibrator: Calibrator) -> None:
    with pytest.raises(ValueError, match="NaN"):
        calibrator.confidences(np.full((1, 9), np.nan))


@pytest.mark.parametrize("data", [{}, {"kind": "isotonic"}, {"kind": None}, {"kind": "identity", "scale": 2}])
def test_unknown_calibrators_are_refused(data: dict[str, Any]) -> None:
    with pytest.raises(BundleError, match="calibrator"):
        calibrator_from_json(data)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"mean": [0.0]}, "mean"),
        ({"scale": [0.0] * 9}, "scale"),
        ({"weights": [1.0]}, "weights"),
        ({"bias": float("nan")}, "bias"),
        ({"features": []}, "features"),
        ({"code": "x"}, "code"),
    ],
)
def test_broken_parameters_are_refused_by_name(change: dict[str, Any], named: str) -> None:
    with pytest.raises(BundleError, match=named):
        calibrator_from_json(logistic().to_json() | change)


def test_a_calibrator_for_other_features_is_refused() -> None:
    with pytest.raises(BundleError, match="other features"):
        calibrator_from_json(logistic("search").to_json(), "policy")
