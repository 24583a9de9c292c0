"""What calls to a model really cost, against what was estimated before them. Thinking that no cap counts, and texts of
more tokens than their length lets expect, are known only by their bill."""

from __future__ import annotations

import threading

FADES = 0.99
"""Of the largest excess, from call to call."""


class CallCosts:
    """In USD. Shared by all who ask one model."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._excess, self._calls = 0.0, 0

    @property
    def are_bounded(self) -> bool:
        """Whether calls are known to cost no more than was estimated by their length and caps."""
        return self._calls > 0 and self._excess == 0.0

    def estimate(self, usd: float) -> float:
        """What a call may cost of which so much is estimated: with the largest excess of late."""
        return usd + self._excess

    def learn(self, estimated: float, usd: float) -> None:
        """What a call has cost, and what was estimated by its length and caps alone."""
        with self._lock:
            self._calls += 1
            excess = max(0.0, usd - estimated, FADES * self._excess)
            self._excess = excess if excess > 0.01 * estimated else 0.0
