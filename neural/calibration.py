"""From a rung's raw score to a confidence: the probability that its action is as good as the reference's.

A raw score (a softmax value, a margin) is not a probability of being right until data say so. `IdentityCalibrator`
stands in until then: it passes the score on unproven, which is why no rung accepts by default without a certificate.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from escalade.domains.errors import BundleError


@runtime_checkable
class Calibrator(Protocol):
    """A monotone map from raw score to confidence. Immutable; equal parameters, equal answers."""

    @property
    def kind(self) -> str:
        """The name under which `calibrator_from_json` finds it."""
        ...

    def confidence(self, raw: float) -> float:
        """The confidence in [0, 1] of a finite raw score. Raises ValueError for NaN."""
        ...

    def to_json(self) -> dict[str, Any]:
        """`kind` and parameters, the inverse of `calibrator_from_json`."""
        ...


@dataclass(frozen=True)
class IdentityCalibrator:
    """The raw score itself, cut to [0, 1]. Proves nothing."""

    kind: str = "identity"

    def confidence(self, raw: float) -> float:
        if math.isnan(raw):
            raise ValueError("the raw score is NaN, so it has no confidence")
        return min(1.0, max(0.0, float(raw)))

    def to_json(self) -> dict[str, Any]:
        return {"kind": self.kind}


def calibrator_from_json(data: Mapping[str, Any]) -> Calibrator:
    """The calibrator of a JSON object with `kind` and its parameters. Raises BundleError for anything else."""
    if dict(data) == {"kind": "identity"}:
        return IdentityCalibrator()
    if data.get("kind") == "identity":
        raise BundleError("calibrator of kind 'identity' takes no parameters")
    raise BundleError(f"calibrator kind {data.get('kind')!r} is not known: this version knows 'identity'")
