"""What the decision graph costs: one decision on the fast path against an empty graph of as many nodes and edges.

The fast path: the policy network accepts, its forward pass included. The empty graph has the same nodes, edges and
conditional edges, the same walk through them, and functions that do nothing. Both are run in turns in one process, so
that whatever else the machine does hits both. Prints p50, p95 and the ratio with a bootstrap interval.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from langgraph.graph import END, START, StateGraph
from rich.console import Console
from rich.progress import track
from rich.table import Table
from typing_extensions import TypedDict

from escalade import DecisionContext, build_decision_graph, load_domain, write_bundle
from escalade.domains.base import RUNGS
from escalade.neural.networks import PolicyValueNetwork
from escalade.neural.spec import NetworkSpec


class Empty(TypedDict, total=False):
    state: Any
    next_rung: str


def empty_graph() -> Any:
    """As many nodes and edges as the decision graph, on the same walk: parse, router, policy, router, conclude."""

    async def nothing(state: Empty) -> Empty:
        return {"state": state["state"]}

    async def router(state: Empty) -> Empty:
        return {"next_rung": "conclude" if "next_rung" in state else "policy"}

    graph = StateGraph(Empty)
    graph.add_node("parse", nothing)
    graph.add_node("router", router)
    for name in RUNGS:
        graph.add_node(name, nothing)
        graph.add_edge(name, "router")
    graph.add_node("conclude", nothing)
    graph.add_edge(START, "parse")
    graph.add_edge("parse", "router")
    graph.add_conditional_edges("router", lambda s: s["next_rung"], {name: name for name in (*RUNGS, "conclude")})
    graph.add_edge("conclude", END)
    return graph.compile()


async def measure(decisions: int, warm_up: int) -> tuple[np.ndarray, np.ndarray]:
    """Seconds of each run, (ours, empty), `[decisions]` each."""
    domain = load_domain("connect_four")
    spec = NetworkSpec(observation_shape=domain.observation_shape, num_actions=domain.num_actions)
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        # The time of a forward pass does not depend on what was learned.
        bundle = write_bundle(Path(folder) / "bundle", domain=domain, network=PolicyValueNetwork(spec))
        ours, empty = build_decision_graph(domain, bundle=bundle), empty_graph()
    context = DecisionContext(policy_threshold=0.0)
    times = np.empty((2, decisions))
    for turn in track(range(-warm_up, decisions), description="deciding", console=Console(stderr=True)):
        for row, (graph, options) in enumerate(((ours, {"context": context}), (empty, {}))):
            started = time.perf_counter()
            result = await graph.ainvoke({"state": "4455"}, **options)
            seconds = time.perf_counter() - started
            if row == 0 and result["decision"]["source"] != "policy":
                raise SystemExit("the policy did not accept: this is not the fast path")
            if turn >= 0:
                times[row, turn] = seconds
    return times[0], times[1]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--decisions", type=int, default=2000)
    arguments.add_argument("--warm-up", type=int, default=200, help="decisions before those that count")
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    ours, empty = asyncio.run(measure(options.decisions, options.warm_up))
    random = np.random.default_rng(0)
    draws = random.integers(options.decisions, size=(1000, options.decisions))
    ratios = np.median(ours[draws], axis=1) / np.median(empty[draws], axis=1)
    low, high = np.quantile(ratios, (0.025, 0.975))
    figures = {
        "decisions": options.decisions,
        "decision_p50_ms": float(np.median(ours) * 1000),
        "decision_p95_ms": float(np.quantile(ours, 0.95) * 1000),
        "empty_p50_ms": float(np.median(empty) * 1000),
        "empty_p95_ms": float(np.quantile(empty, 0.95) * 1000),
        "ratio_p50": float(np.median(ours) / np.median(empty)),
        "ratio_interval_95": [float(low), float(high)],
    }
    if options.json:
        print(json.dumps(figures))
        return
    table = Table(title=f"{options.decisions} decisions, fast path, one torch thread")
    for column in ("", "p50 ms", "p95 ms"):
        table.add_column(column)
    for name in ("decision", "empty"):
        table.add_row(name, f"{figures[f'{name}_p50_ms']:.2f}", f"{figures[f'{name}_p95_ms']:.2f}")
    Console().print(table)
    print(f"decision p50 / empty p50: {figures['ratio_p50']:.2f} (95 % interval {low:.2f} to {high:.2f}); at most 2.0")


if __name__ == "__main__":
    main()
