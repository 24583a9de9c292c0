"""A word on stderr while kernels are compiled, which takes half a minute on a machine that has none of them yet."""

from __future__ import annotations

import sys
from typing import Any

from numba.core import event


class _Announcement(event.Listener):  # type: ignore[misc]
    """Prints one line when the first kernel is compiled."""

    def __init__(self) -> None:
        self._announced = False

    def on_start(self, event: Any) -> None:
        if not self._announced:
            self._announced = True
            print("compiling kernels for this machine: once, about half a minute", file=sys.stderr, flush=True)

    def on_end(self, event: Any) -> None:
        pass


_ANNOUNCEMENT = _Announcement()


def announce_compiling() -> None:
    """Print a line as soon as a kernel is compiled in this process, and not read from Numba's cache."""
    event.register("numba:compile", _ANNOUNCEMENT)
