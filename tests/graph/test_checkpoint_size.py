"""The benchmark of checkpoints runs, and what docs/embedding.md concludes from it holds."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

BENCHMARK = Path(__file__).resolve().parents[2] / "benchmarks" / "checkpoint_size.py"


def test_what_a_host_saves_by_writing_less() -> None:
    command = [sys.executable, "-W", "error", str(BENCHMARK), "--decisions", "4", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = {(row["checkpointer"], row["durability"]): row for row in json.loads(done.stdout)}
    assert len(rows) == 6
    assert rows[None, "sync"]["checkpoints"] == rows[None, "async"]["checkpoints"] == 3 + 11
    assert rows[False, "sync"]["checkpoints"] == 3
    assert rows[False, "exit"]["checkpoints"] == 1
    assert rows[None, "exit"]["checkpoints"] <= 2
    assert rows[False, "sync"]["bytes"] < rows[None, "sync"]["bytes"] / 2
    assert rows[None, "exit"]["bytes"] < rows[None, "sync"]["bytes"] / 2
