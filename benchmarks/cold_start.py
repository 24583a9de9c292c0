"""The first decision of a process, on a machine where nothing is compiled yet (cold) and where everything is (warm).

    python benchmarks/cold_start.py [--domain tic_tac_toe] [--state 51] [--runs 3] [--without-server] [--warm]

Prints the seconds from the start of `langgraph dev` to the first decision through its API, which must be one that the
exact solver holds for right; the seconds that building the graph takes in a fresh process; and the milliseconds for
which the first and the second `ainvoke` hold the event loop at most, so that nothing else runs on it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
PATIENCE_S = 300.0


async def longest_hold_ms(work: Awaitable[Any]) -> tuple[Any, float]:
    """What `work` returns, and the longest time in ms for which nothing else could run on the loop meanwhile."""
    longest, done = 0.0, False

    async def tick() -> None:
        nonlocal longest
        last = time.perf_counter()
        while not done:
            await asyncio.sleep(0)
            now = time.perf_counter()
            longest, last = max(longest, now - last), now

    ticking = asyncio.create_task(tick())
    await asyncio.sleep(0)
    result = await work
    done = True
    await ticking
    return result, longest * 1000


def in_this_process(domain: str, state: str) -> None:
    """Build a graph and let it decide twice; print what that took as JSON."""
    began = time.perf_counter()
    from escalade import build_decision_graph

    graph = build_decision_graph(domain, bundle=f"builtin:{domain}")
    built = time.perf_counter() - began

    async def decide() -> list[float]:
        given: Any = {"state": state}
        return [(await longest_hold_ms(graph.ainvoke(given)))[1] for _ in range(2)]

    holds = asyncio.run(decide())
    print(json.dumps({"built_s": built, "first_hold_ms": holds[0], "second_hold_ms": holds[1]}))


def in_a_fresh_process(domain: str, state: str, cache: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--domain", domain, "--state", state, "--in-this-process"]
    done = subprocess.run(
        command, env={**os.environ, "NUMBA_CACHE_DIR": str(cache)}, stdout=subprocess.PIPE, check=True
    )
    measured: dict[str, float] = json.loads(done.stdout)
    return measured


def server_s(domain: str, state: str, cache: dict[str, str]) -> float:
    """Seconds from the start of `langgraph dev` to the first decision, which must be right."""
    import httpx

    from escalade import exact_solver, load_domain
    from escalade.search.solvers import optimal_actions

    game = load_domain(domain)
    solver = exact_solver(game)
    assert solver is not None
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = {
        **os.environ,
        **cache,
        "ESCALADE_DOMAINS": json.dumps([domain]),
        "LANGGRAPH_CLI_NO_ANALYTICS": "1",
        "LANGSMITH_TRACING": "false",
    }
    program = Path(sys.executable).with_name("langgraph")
    command = [str(program), "dev", "--no-browser", "--no-reload", "--port", str(port)]
    question = {"assistant_id": "decision", "input": {"state": state}}
    with tempfile.TemporaryFile() as log:
        began = time.perf_counter()
        server = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=log, stderr=subprocess.STDOUT)
        try:
            while time.perf_counter() - began < PATIENCE_S and server.poll() is None:
                try:
                    answer = httpx.post(f"http://127.0.0.1:{port}/runs/wait", json=question, timeout=PATIENCE_S)
                except httpx.ConnectError:
                    time.sleep(0.05)
                    continue
                action = answer.json()["decision"]["action"]
                assert action in optimal_actions(solver.scores(game.parse(state))), answer.text
                return time.perf_counter() - began
        finally:
            server.terminate()
            server.wait()
    raise SystemExit("the server did not start")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domain", default="tic_tac_toe", help="one that comes with a trained bundle and a solver")
    parser.add_argument("--state", default="51")
    parser.add_argument("--runs", type=int, default=3, help="fresh processes, cold and warm each")
    parser.add_argument("--without-server", action="store_true", help="leave `langgraph dev` out")
    parser.add_argument("--warm", action="store_true", help="nothing cold: with what is compiled already")
    parser.add_argument("--in-this-process", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.in_this_process:
        in_this_process(options.domain, options.state)
        return
    rows: dict[str, dict[str, list[float]]] = {"warm": {}} if options.warm else {"cold": {}, "warm": {}}
    for _ in range(options.runs):
        with tempfile.TemporaryDirectory() as folder:
            cache = {} if options.warm else {"NUMBA_CACHE_DIR": folder}
            for row in rows.values():
                for name, value in in_a_fresh_process(options.domain, options.state, cache).items():
                    row.setdefault(name, []).append(value)
        if options.without_server:
            continue
        with tempfile.TemporaryDirectory() as folder:
            cache = {} if options.warm else {"NUMBA_CACHE_DIR": folder}
            for row in rows.values():
                row.setdefault("langgraph_dev_s", []).append(server_s(options.domain, options.state, cache))
    print(f"{options.domain} {options.state}, {options.runs} fresh processes each; minimum to maximum")
    for kind, row in rows.items():
        figures = ", ".join(f"{name} {min(values):.2f} to {max(values):.2f}" for name, values in row.items())
        print(f"{kind}: {figures}")


if __name__ == "__main__":
    main()
