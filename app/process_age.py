"""How long this process has run: what a person who waits for it has waited before its first line of code."""

from __future__ import annotations

import os
import time
from pathlib import Path


def process_age() -> float:
    """Seconds since this process was started; where the system does not say, at least those that it has computed."""
    computed = time.process_time()
    try:
        # Field 22 of the line, counted after the name, which may hold spaces (proc(5)).
        ticks = int(Path("/proc/self/stat").read_text(encoding="ascii", errors="replace").rsplit(")", 1)[1].split()[19])
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, AttributeError):
        return computed
    return max(computed, age)
