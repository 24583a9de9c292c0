"""`escalade serve` in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx


@dataclass
class Served:
    url: str
    process: subprocess.Popen[str]

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])


@contextmanager
def served(*options: str, **environment: str) -> Iterator[Served]:
    """A server that answers, with these options of `escalade serve` and variables; its log is in `process.stderr`."""
    program = str(Path(sys.executable).with_name("escalade"))
    port = () if "--port" in options else ("--port", "0")
    command = [program, "serve", "tic_tac_toe", "connect_four", *port, *options]
    env = {**os.environ, **environment}
    with subprocess.Popen(command, env=env, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stderr is not None
            first = process.stderr.readline()
            assert first.startswith("listening on "), first + process.stderr.read()
            url = first.split()[-1]
            for _ in range(600):
                try:
                    httpx.get(f"{url}/health", timeout=60).raise_for_status()
                    break
                except httpx.ConnectError:
                    time.sleep(0.1)
            yield Served(url, process)
        finally:
            process.kill()
