"""From what can be seen of an answer to a confidence: the probability that its action is as good as the reference's.

A raw score (a softmax value, a margin) is not a probability of being right until data say so. `IdentityCalibrator`
stands in until then: it passes the score on unproven, which is why no rung accepts by default without a certificate.
`LogisticCalibrator` weighs all features of a rung (`escalade.neural.confidence`) as `escalade.training.calibrate`
fitted it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numba import njit
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError, model_validator

from escalade.domains.errors import BundleError
from escalade.neural.confidence import FEATURES, Features

FARTHEST = 5.0
"""Features are cut to so many standard deviations: squares must not run away with what was hardly ever seen."""
HIGHEST = 30.0
"""Log odds are cut there: beyond it a float's confidence is hardly told from 1."""


@runtime_checkable
class Calibrator(Protocol):
    """A map from features to confidence. Immutable; equal parameters, equal answers."""

    @property
    def kind(self) -> str:
        """The name under which `calibrator_from_json` finds it."""
        ...

    def confidences(self, features: Features) -> NDArray[np.float64]:
        """Confidences `[B]` in [0, 1] of features `[B, F]`. Raises ValueError for NaN."""
        ...

    def to_json(self) -> dict[str, Any]:
        """`kind` and parameters, the inverse of `calibrator_from_json`."""
        ...


@dataclass(frozen=True)
class IdentityCalibrator:
    """The first feature, which is the raw score, cut to [0, 1]. Proves nothing."""

    kind: str = "identity"

    def confidences(self, features: Features) -> NDArray[np.float64]:
        raw: NDArray[np.float64] = features[:, 0]
        if np.isnan(raw).any():
            raise ValueError("the raw score is NaN, so it has no confidence")
        return raw.clip(0.0, 1.0)

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind}


class LogisticParameters(BaseModel):
    """mean, scale: of each of F features. weights: of the F standardised features, and of the products of each two of
    them, itself included, in the order of `numpy.triu_indices(F)`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    features: tuple[str, ...]
    mean: tuple[FiniteFloat, ...]
    scale: tuple[FiniteFloat, ...]
    weights: tuple[FiniteFloat, ...]
    bias: FiniteFloat

    @model_validator(mode="after")
    def _whole(self) -> LogisticParameters:
        count = len(self.features)
        if not count:
            raise ValueError("features must name at least one")
        for name, wanted in (("mean", count), ("scale", count), ("weights", count + count * (count + 1) // 2)):
            if len(getattr(self, name)) != wanted:
                raise ValueError(f"{name} must have {wanted} numbers for {count} features")
        if min(self.scale) <= 0:
            raise ValueError("scale must be positive")
        return self


@dataclass(frozen=True)
class LogisticCalibrator:
    """A logistic function of the standardised features, their squares and products (J. Platt, "Probabilistic outputs
    for support vector machines", 1999, over more than one score)."""

    parameters: LogisticParameters
    kind: str = "logistic"
    _arrays: tuple[NDArray[Any], ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        p = self.parameters
        arrays = (np.array(p.mean), 1 / np.array(p.scale), np.array(p.weights))
        object.__setattr__(self, "_arrays", arrays)

    def confidences(self, features: Features) -> NDArray[np.float64]:
        heights = self.log_odds(features)
        if np.isnan(heights).any():
            raise ValueError("a feature is NaN, so there is no confidence")
        return 1 / (1 + np.exp(-heights))

    def log_odds(self, features: Features) -> NDArray[np.float64]:
        """`[B]`: log(confidence / (1 - confidence)), between -HIGHEST and HIGHEST. Raises ValueError for features
        that are not `[B, F]`."""
        if features.ndim != 2 or features.shape[1] != len(self.parameters.features):
            raise ValueError(f"features must be [B, {len(self.parameters.features)}], not {list(features.shape)}")
        heights = np.empty(len(features))
        _log_odds(np.asarray(features, np.float64), *self._arrays, self.parameters.bias, heights)
        return heights

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind, **self.parameters.model_dump(mode="json")}


@njit(nogil=True, cache=True)
def _log_odds(features: Any, mean: Any, inverse: Any, weights: Any, bias: float, out: Any) -> None:
    # A row at a time, so that a state has the same confidence alone as among others, to the last bit.
    count = len(mean)
    standard = np.empty(count)
    for row in range(len(features)):
        height = bias
        for one in range(count):
            scaled = (features[row, one] - mean[one]) * inverse[one]
            # NaN passes both comparisons, and so reaches the height
            scaled = FARTHEST if scaled > FARTHEST else (-FARTHEST if scaled < -FARTHEST else scaled)
            standard[one] = scaled
            height += weights[one] * scaled
        place = count
        for one in range(count):
            for other in range(one, count):
                height += weights[place] * (standard[one] * standard[other])
                place += 1
        out[row] = HIGHEST if height > HIGHEST else (-HIGHEST if height < -HIGHEST else height)


def calibrator_from_json(data: Mapping[str, Any], rung: str | None = None) -> Calibrator:
    """The calibrator of a JSON object with `kind` and its parameters. rung: whose features it must be for, if given.
    Raises BundleError for anything else."""
    kind, parameters = data.get("kind"), {name: value for name, value in data.items() if name != "kind"}
    if kind == "identity":
        if parameters:
            raise BundleError("calibrator of kind 'identity' takes no parameters")
        return IdentityCalibrator()
    if kind != "logistic":
        raise BundleError(f"calibrator kind {kind!r} is not known: this version knows 'identity' and 'logistic'")
    try:
        calibrator = LogisticCalibrator(LogisticParameters.model_validate(parameters))
    except ValidationError as error:
        fault = error.errors(include_url=False)[0]
        where = ".".join(map(str, fault["loc"]))
        raise BundleError(f"calibrator of kind 'logistic': {where}{': ' if where else ''}{fault['msg']}") from None
    if rung is not None and calibrator.parameters.features != FEATURES.get(rung):
        raise BundleError(f"calibrator of rung '{rung}' is for other features than this version has")
    return calibrator
