"""Where nothing is compiled yet, a graph compiles all that it calls when it is built, off the event loop."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from support import network_for

from escalade import write_bundle
from escalade.domains.intents import Intents

LABELS = ["card lost", "loan", "fees"]
SCRIPT = Path(__file__).with_name("cold_machine.py")


def run_cold(cache: Path, *arguments: str) -> dict[str, Any]:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(SCRIPT.parents[2] / "benchmarks")}
    done = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], env=environment, capture_output=True, text=True, timeout=500
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return report


def test_the_first_decisions_compile_nothing_and_block_no_loop(tmp_path: Path) -> None:
    texts = str(tmp_path / "texts")
    domain = Intents(LABELS)
    write_bundle(texts, domain=domain, network=network_for(domain))
    names = [texts, "tic_tac_toe", "connect_four", "rollouts"]
    report = run_cold(tmp_path / "cache", *names)
    assert list(report) == names
    for name, found in report.items():
        assert found["compiled"] == [], name
        assert found["failed"] == [], name
        assert ("policy" if name == texts else "search") in found["sources"], (name, found)
        assert found["first_hold_ms"] < 2000, name  # compiling takes longer; the benchmark has the figure
    assert any((tmp_path / "cache").rglob("*.nbc"))  # the cache was this one, and it was empty
