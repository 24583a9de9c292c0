"""Certificates as tests need them; nothing in them was proven."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from escalade.neural.certificate import Certificate, Setting, Split, Tally

HASH = "ab" * 32


def certificate(alpha: float = 0.05, policy: float = 0.9, value: float = 0.8, **more: Any) -> Certificate:
    tally = Tally(n=10_000, k=10, bound=0.0017)
    setting = Setting(
        thresholds={"policy": policy, "value": value}, accepted=tally, all=tally, shares={"policy": 1.0}, cost_s=0.001
    )
    known: dict[str, Any] = {
        "bundle": HASH,
        "alpha": alpha,
        "delta": 0.05,
        "reference": "exact",
        "states": "made up",
        "ladder": ("policy", "value", "search"),
        "simulations": 600,
        "tune": Split(count=1000, sha256=HASH),
        "calibrate": Split(count=1000, sha256=HASH),
        "path": (setting,),
        "passed": 1,
        "chosen": 0,
        "behind": tally,
        "created": datetime(2026, 1, 1, tzinfo=UTC),
    }
    return Certificate(**known | more)
