"""What tracing costs a decision: milliseconds with LangSmith's switch off, with it on and every decision traced, and
with it on and none traced (`ESCALADE_TRACE_SHARE=0`), as ratios to off. A server on loopback takes the traces.

Three processes, one of each kind, decide in turns of some dozen decisions. A ratio is the median of those of the turns,
its interval of 95 % by resampling them. Those that trace do so in threads of theirs, which then hold up whatever else
the process does: hence one process for each.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from escalade.app.settings import read_settings
from escalade.app.tracing import sampled
from escalade.app.wiring import open_decider
from escalade.domains.tic_tac_toe import TicTacToe

STATES = [TicTacToe().format(TicTacToe().parse(f"{first}{second}")) for first in "13579" for second in "2468"]


class Drops(BaseHTTPRequestHandler):
    """Speaks as much of LangSmith's wire as it takes to be sent traces."""

    def do_GET(self) -> None:
        limits = {"scale_up_qsize_trigger": 1000, "scale_up_nthreads_limit": 16, "scale_down_nempty_trigger": 4}
        config = {"use_multipart_endpoint": True, "size_limit": 100, "size_limit_bytes": 20_971_520, **limits}
        self._say({"instance_flags": {"zstd_compression_enabled": True}, "batch_ingest_config": config})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self._say({})

    def _say(self, told: dict[str, Any]) -> None:
        body = json.dumps(told).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: Any) -> None: ...


def work() -> None:
    """Lines of share and count in, milliseconds a decision out."""
    decider = open_decider(read_settings(), "tic_tac_toe")

    async def turn(share: float, count: int) -> float:
        began = time.perf_counter()
        for number in range(count):
            given: Any = {"state": STATES[number % len(STATES)]}
            with sampled(share):
                await decider.graph.ainvoke(given)
        return (time.perf_counter() - began) / count * 1000

    with asyncio.Runner() as runner:
        for line in sys.stdin:
            share, count = line.split()
            print(runner.run(turn(float(share), int(count))), flush=True)
    decider.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--turns", type=int, default=40)
    parser.add_argument("--decisions", type=int, default=50, help="of one turn")
    parser.add_argument("--json", action="store_true", help="print the row instead of a table")
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        work()
        return
    server = ThreadingHTTPServer(("127.0.0.1", 0), Drops)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    plain = {name: value for name, value in os.environ.items() if not name.startswith(("LANGSMITH", "LANGCHAIN"))}
    switched = {"LANGSMITH_TRACING": "true", "LANGSMITH_API_KEY": "none"}
    switched["LANGSMITH_ENDPOINT"] = f"http://127.0.0.1:{server.server_port}"
    command = [sys.executable, __file__, "--worker"]

    def worker(environment: dict[str, str]) -> subprocess.Popen[str]:
        return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    on = {**plain, **switched}
    kinds = {"off": (worker(plain), 1.0), "none traced": (worker(on), 0.0), "all traced": (worker(on), 1.0)}
    found: dict[str, list[float]] = {name: [] for name in kinds}
    for turn in range(options.turns + 2):
        for name, (process, share) in kinds.items():
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write(f"{share} {options.decisions}\n")
            process.stdin.flush()
            taken = float(process.stdout.readline())
            if turn >= 2:  # the first turns warm up
                found[name].append(taken)
            if name == "all traced":
                time.sleep(0.5)  # until what was traced is sent, which takes a core
    for process, _ in kinds.values():
        process.communicate(timeout=30)
    row: dict[str, Any] = {"turns": options.turns, "decisions": options.decisions}
    table = Table("tracing", "ms a decision", "of off", title=f"{options.turns} turns of {options.decisions} decisions")
    random = np.random.default_rng(0)
    for name, values in found.items():
        ratios = np.array(values) / np.array(found["off"])
        resampled = np.median(random.choice(ratios, (1000, len(ratios))), axis=1)
        low, high = np.quantile(resampled, (0.025, 0.975)).tolist()
        milliseconds, ratio = statistics.median(values), float(np.median(ratios))
        row |= {f"{name}_ms": milliseconds, f"{name}_ratio": ratio, f"{name}_ratio_95": [low, high]}
        table.add_row(name, f"{milliseconds:.2f}", f"{ratio:.2f} ({low:.2f} to {high:.2f})")
    if options.json:
        print(json.dumps(row))
    else:
        Console().print(table)


if __name__ == "__main__":
    main()
