"""Noticing that a promise no longer holds: an e-detector on the losses of audited decisions.

While every loss has an expectation of at most alpha given the past, M <- (1 + M) * (1 + b * (L - alpha)) satisfies
E[M_n] <= n: it is the sum of the wealths of bets begun at every time so far, each worth 1 at first (Shiryaev-Roberts;
J. Shin, A. Ramdas, A. Rinaldo, "E-detectors: a nonparametric framework for sequential change detection", New England
Journal of Statistics in Data Science 2024). So an alarm at M >= A comes within n audits with chance n / A at most, and
on average not before A audits, whenever people look. Wealth begun long ago has decayed in good times; that begun lately
has not, which is why this form notices soon.

How much to bet is right for one size of the change; a few bets side by side, each with a share, are nearly as good for
all sizes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

RISKS = (1.5, 2.0, 3.0, 6.0)
"""The changes it is to notice soonest, as multiples of alpha."""


@dataclass
class EDetector:
    """alpha: the loss that was promised. limit: of M, where it raises the alarm. wealth: M of each bet."""

    alpha: float
    limit: float
    wealth: list[float] = field(default_factory=lambda: [0.0] * len(RISKS))
    audits: int = 0
    wrong: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 1 or not self.limit > 0 or len(self.wealth) != len(RISKS):
            raise ValueError("an e-detector needs alpha in (0, 1), a positive limit and a wealth for each bet")

    def update(self, wrong: bool) -> bool:
        """Take in one audit; whether the alarm is raised now."""
        for place, bet in enumerate(bets(self.alpha)):
            grown = (1 + self.wealth[place]) * (1 + bet * (float(wrong) - self.alpha))
            self.wealth[place] = min(grown, 1e300)  # JSON knows no infinity
        self.audits += 1
        self.wrong += wrong
        return self.value >= self.limit

    @property
    def value(self) -> float:
        """M: the mean of all bets."""
        return sum(self.wealth) / len(self.wealth)


def bets(alpha: float) -> Sequence[float]:
    """b of each bet: what grows fastest if the risk is so many alphas (J. Kelly, 1956), at most 1 / alpha."""
    found = []
    for multiple in RISKS:
        risk = min(multiple * alpha, (1 + alpha) / 2)
        found.append(min((risk - alpha) / (alpha * (1 - alpha)), 1 / alpha))
    return found


def limit_for(false_alarms: float, audits: float) -> float:
    """The limit with which, while the promise holds, the chance of an alarm within so many audits is at most
    `false_alarms`."""
    if not 0 < false_alarms <= 1 or not audits > 0 or math.isinf(audits):
        raise ValueError("false_alarms must be in (0, 1], and audits positive")
    return audits / false_alarms
