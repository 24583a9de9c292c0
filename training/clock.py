"""How long a run has worked, over all of its sessions: what a budget of minutes is counted by.

The seconds stand in the run's folder (`clock.json`) and are written about every second, so that a run that was killed
has lost hardly any of them. Time in which nobody worked on the run does not count.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from escalade.neural.files import write_whole

TICK = 1.0
"""Seconds between two entries in the file."""
BETWEEN_STEPS = 2.0
"""Seconds without work that count as work: between two steps, checkpoints are written."""


class RunClock:
    """The clock of the run in a folder. began: when this session did, by `now`, if it worked before the clock was made
    (importing, compiling); None: now."""

    def __init__(self, folder: Path, *, began: float | None = None, now: Callable[[], float] = time.monotonic) -> None:
        self._path, self._now = folder / "clock.json", now
        self._lock = threading.Lock()
        self._seconds = self._read()
        self._last = now() if began is None else min(began, now())
        self.startup = now() - self._last
        """Seconds that this session took before there was a clock."""
        self._busy = 0
        self._first = True
        self._idle = threading.Event()

    @property
    def seconds(self) -> float:
        """Seconds of work by now."""
        with self._lock:
            self._advance()
            return self._seconds

    def at_least(self, seconds: float) -> None:
        """So many seconds of work are known of otherwise."""
        with self._lock:
            self._advance()
            self._seconds = max(self._seconds, seconds)

    @contextmanager
    def working(self) -> Iterator[None]:
        """Time within counts. Several threads may work at once."""
        with self._lock:
            self._advance()
            self._busy += 1
            if self._busy == 1:
                self._idle = threading.Event()
                threading.Thread(target=self._tick, args=(self._idle,), name="escalade-run-clock", daemon=True).start()
        try:
            yield
        finally:
            with self._lock:
                self._advance()
                self._busy -= 1
                if not self._busy:
                    self._idle.set()
                self._write()

    def _advance(self) -> None:
        now = self._now()
        passed = max(0.0, now - self._last)
        # What a session does before its first step is work too.
        if self._busy or self._first or passed <= BETWEEN_STEPS:
            self._seconds += passed
        self._last, self._first = now, False

    def _tick(self, idle: threading.Event) -> None:
        while not idle.wait(TICK):
            with self._lock:
                if idle.is_set():
                    return
                self._advance()
                self._write()

    def _read(self) -> float:
        try:
            found = json.loads(self._path.read_bytes())["seconds"]
            return max(0.0, float(found))
        except (OSError, ValueError, TypeError, KeyError):
            return 0.0  # a new run, or one that was begun before there were clocks

    def _write(self) -> None:
        document = json.dumps({"seconds": round(self._seconds, 3)}).encode()
        with suppress(OSError):  # a full disk: the steps themselves will say so
            write_whole(self._path, lambda file: file.write(document))


_clocks: dict[Path, RunClock] = {}
_making = threading.Lock()


def clock_of(folder: Path, *, began: float | None = None) -> RunClock:
    """The clock of the run in a folder, one in a process. began: as `RunClock`, where this is its first call."""
    with _making:
        path = folder.resolve()
        if path not in _clocks:
            _clocks[path] = RunClock(path, began=began)
        return _clocks[path]


def forget_clock(folder: Path) -> None:
    """A run has ended here: who goes on with it later, in this process too, reads the clock from its folder."""
    with _making:
        _clocks.pop(folder.resolve(), None)
