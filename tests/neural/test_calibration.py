from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalade.domains.errors import BundleError
from escalade.neural.calibration import Calibrator, IdentityCalibrator, calibrator_from_json


@given(st.floats(allow_nan=False))
def test_identity_passes_on_what_could_be_a_probability(raw):
    confidence = IdentityCalibrator().confidence(raw)
    assert 0.0 <= confidence <= 1.0
    assert confidence == raw or not 0.0 <= raw <= 1.0


def test_it_survives_json():
    calibrator = IdentityCalibrator()
    assert isinstance(calibrator, Calibrator)
    assert calibrator_from_json(json.loads(json.dumps(calibrator.to_json()))) == calibrator


def test_nan_has_no_confidence():
    with pytest.raises(ValueError, match="NaN"):
        IdentityCalibrator().confidence(float("nan"))


@pytest.mark.parametrize("data", [{}, {"kind": "isotonic"}, {"kind": None}, {"kind": "identity", "scale": 2}])
def test_unknown_calibrators_are_refused(data):
    with pytest.raises(BundleError, match="calibrator"):
        calibrator_from_json(data)
