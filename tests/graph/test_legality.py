"""No rung decides an illegal action, whatever the language model says: FAULTS, row 3, as far as a test's time goes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "legality.py"


def test_no_decision_is_illegal() -> None:
    command = [sys.executable, str(SCRIPT), "--decisions", "1200", "--processes", "1", "--seed", "5", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["illegal"] == 0
    assert found["legal"] + found["undecided"] == 1200
    assert min(found[f"by {rung}"] for rung in ("policy", "value", "reason", "search")) > 10
