"""Decisions in a process that finds nothing compiled, with a detector of blocking calls on the event loop. Run by
`test_cold_machine.py` with an empty `NUMBA_CACHE_DIR`; prints one JSON object. Nothing that compiles is imported above:
graphs are built as by a factory of somebody's module that begins with `import escalade`."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

from cold_start import longest_hold_ms
from langgraph_runtime_inmem.queue import _enable_blockbuster  # the detector of `langgraph dev`, as set up there
from numba.core import event

import escalade

LABELS = ["card lost", "loan", "fees"]
ASKED = {"policy_threshold": 1.0, "value_threshold": 1.0}
"""So that every rung is visited."""
CONTEXTS: tuple[dict[str, Any], ...] = (
    {},
    {"alpha": 1e-9},
    ASKED,
    {**ASKED, "simulations": 20_000, "deadline_ms": 150.0},
)


class Compilations(event.Listener):
    """Names of the kernels that are compiled while it listens."""

    def __init__(self) -> None:
        self.kernels: list[str] = []

    def on_start(self, event: Any) -> None:
        self.kernels.append(str(event.data["dispatcher"]))

    def on_end(self, event: Any) -> None:
        pass


def graph_of(name: str) -> Any:
    """A graph by what it decides with: a champion, random games, or the network for texts in a folder."""
    if name == "rollouts":
        return escalade.build_decision_graph("tic_tac_toe")
    if name in ("tic_tac_toe", "connect_four"):
        return escalade.build_decision_graph(name, bundle=f"builtin:{name}")
    domain = escalade.load_domain("intents", {"labels": LABELS})
    return escalade.build_decision_graph(domain, bundle=name)


async def decisions(name: str) -> dict[str, Any]:
    graph = graph_of(name)
    compilations = Compilations()
    event.register("numba:compile", compilations)
    state = {"tic_tac_toe": "51", "rollouts": "51", "connect_four": "4455"}.get(name, "my card is gone")
    sources, holds, failed = [], [], []
    for context in CONTEXTS:
        result, hold = await longest_hold_ms(graph.ainvoke({"state": state}, context=context))
        decision = result["decision"]
        sources.append(decision["source"])
        holds.append(hold)
        failed += [report for report in decision["rungs"] if report["outcome"] == "failed"]
    event.unregister("numba:compile", compilations)
    return {"sources": sources, "failed": failed, "first_hold_ms": holds[0], "compiled": compilations.kernels}


async def main(names: list[str]) -> None:
    detector = _enable_blockbuster()
    report = {name: await decisions(name) for name in names}
    detector.deactivate()
    print(json.dumps(report))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1:]))
