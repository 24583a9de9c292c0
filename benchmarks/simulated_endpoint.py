"""A simulated language model in a process of its own, for benchmarks."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    return port


@contextmanager
def simulated_endpoint(port: int, domain: str, latency_ms: float, *options: str) -> Iterator[str]:
    """The address of `escalade llm simulate` on a port, once it listens. options: more of its arguments."""
    program = str(Path(sys.executable).with_name("escalade"))
    command = [program, "llm", "simulate", domain, "--latency-ms", str(latency_ms), "--port", str(port), *options]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None:
                    raise SystemExit("the simulated model did not start") from None
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.kill()
        process.wait()
