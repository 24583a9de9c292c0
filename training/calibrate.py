"""Fitting calibrators: which answers of a rung turned out right, and what could be seen of them before."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from escalade.domains.base import BoolArray
from escalade.neural.calibration import FARTHEST, LogisticCalibrator, LogisticParameters
from escalade.neural.confidence import FEATURES, Features

FOLDS = 5
STRENGTH = 0.1
"""Inverse weight of the L2 penalty, as scikit-learn has it."""
FEWEST = 10
"""Right and wrong answers that a fit needs of each kind; with fewer every answer gets the one share there is."""


def fit_calibrator(rung: str, features: Features, right: BoolArray, *, seed: int = 0) -> LogisticCalibrator:
    """The calibrator of a rung from N answers: features `[N, F]`, in the order of FEATURES, and whether each was right
    `[N]` bool. A logistic regression on the standardised features and their products, whose penalty makes it too timid
    or too bold; so its log-odds are scaled and shifted by two numbers fitted to what it says of answers it has not
    seen (C. Guo et al., "On calibration of modern neural networks", ICML 2017, with Platt's shift)."""
    count = features.shape[1]
    mean, scale = features.mean(axis=0), features.std(axis=0)
    scale = np.where(scale > 1e-9, scale, 1.0)
    rows, columns = np.triu_indices(count)
    if min(int(right.sum()), int((~right).sum())) < FEWEST:
        share = (right.sum() + 1) / (len(right) + 2)
        weights, bias = np.zeros(count + len(rows)), float(np.log(share / (1 - share)))
    else:
        standard = ((features - mean) / scale).clip(-FARTHEST, FARTHEST)
        terms = np.concatenate((standard, standard[:, rows] * standard[:, columns]), axis=1)
        weights, bias = _fitted(terms, right, seed)
    return LogisticCalibrator(
        LogisticParameters(
            features=FEATURES[rung],
            mean=tuple(mean.tolist()),
            scale=tuple(scale.tolist()),
            weights=tuple(weights.tolist()),
            bias=bias,
        )
    )


def _fitted(terms: NDArray[np.float64], right: BoolArray, seed: int) -> tuple[NDArray[np.float64], float]:
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict

    # Products of standardised features have sizes of their own; the penalty is to treat all alike.
    centre, spread = terms.mean(axis=0), terms.std(axis=0)
    spread = np.where(spread > 1e-9, spread, np.inf)
    equal = (terms - centre) / spread

    def model(strength: float) -> Any:
        return LogisticRegression(C=strength, max_iter=2000)

    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=seed)
    unseen = cross_val_predict(model(STRENGTH), equal, right, cv=folds, method="decision_function")
    whole = model(STRENGTH).fit(equal, right)
    scaled = model(1e6).fit(unseen[:, None], right)
    slope, shift = max(float(scaled.coef_[0, 0]), 1e-3), float(scaled.intercept_[0])
    weights: NDArray[np.float64] = slope * whole.coef_[0] / spread
    bias = slope * float(whole.intercept_[0]) + shift - float(weights @ np.where(np.isfinite(spread), centre, 0.0))
    return weights, bias
