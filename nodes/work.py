"""This machine's time, shared among the decisions that are under way: what each of them costs.

Latency would count a minute as often as decisions wait through it. So each moment is split evenly among the visits to
rungs of this machine's own (networks and searches) that are under way, and all of them together cost what the machine
was busy.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class WorkMeter:
    """clock: in seconds."""

    def __init__(self, clock: Callable[[], float] = time.perf_counter) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._visits, self._since, self._each = 0, clock(), 0.0

    def enter(self) -> float:
        """A visit begins. Returns what `leave` is to be given."""
        with self._lock:
            self._advance()
            self._visits += 1
            return self._each

    def leave(self, entered: float) -> float:
        """It ends. Returns its share of the time, in seconds."""
        with self._lock:
            self._advance()
            self._visits -= 1
            return self._each - entered

    def _advance(self) -> None:
        now = self._clock()
        if self._visits:
            self._each += max(0.0, now - self._since) / self._visits
        self._since = now


METER = WorkMeter()
"""Of this process."""
