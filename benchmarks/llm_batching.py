"""Prompt tokens a decision: questions about Banking77 texts batched against one by one, to the simulated model.

    python benchmarks/llm_batching.py ../shared/data/intents/banking77 [--count 500] [--accuracy 0.9]

Both runs ask about the same texts of the test split through the decision graph and a real loopback server. Tokens are
the server's own count, a token being about three characters. Nothing is trained; the answers are simulated.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import socket
import threading
import time
from pathlib import Path
from typing import Any

import uvicorn

from escalade import Decision
from escalade.app.settings import Settings
from escalade.app.simulated_llm import MODEL, SimulatedModel, Simulation, simulated_app
from escalade.app.wiring import open_language_model
from escalade.domains.catalog import load_domain
from escalade.graph.decision import build_decision_graph


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with train.csv and test.csv, columns text and category")
    parser.add_argument("--count", type=int, default=500)
    parser.add_argument("--accuracy", type=float, default=0.9)
    parser.add_argument("--at-once", type=int, default=64, help="decisions under way at once")
    given = parser.parse_args()
    with (given.folder / "test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    step = max(1, len(rows) // given.count)  # the file is sorted by label
    chosen = rows[::step][: given.count]
    domain: Any = load_domain("intents", {"labels": sorted({row["category"] for row in rows})})
    right = {domain.format(domain.parse(row["text"])): {domain.parse_action(row["category"])} for row in chosen}
    texts = list(right)
    print(f"{len(texts)} texts of the test split, {domain.num_actions} labels, {given.at_once} at once; simulated")
    each = {}
    for name, batch_ms in (("one by one", 0.0), ("batched", 5.0)):
        simulated = SimulatedModel(domain, right.get, Simulation(accuracy=given.accuracy, latency_ms=100))
        began = time.perf_counter()
        decisions = served(simulated, domain, texts, batch_ms, given.at_once)
        seconds = time.perf_counter() - began
        bill = simulated.bill
        correct = sum(decision.action in right[decision.state] for decision in decisions)
        each[name] = bill.input_tokens / len(texts)
        print(
            f"{name:>10}: {bill.calls.total()} calls, {each[name]:.1f} prompt and "
            f"{bill.output_tokens / len(texts):.1f} answer tokens a decision, {correct / len(texts):.1%} right, "
            f"{seconds:.1f} s"
        )
    print(f"prompt tokens saved: {1 - each['batched'] / each['one by one']:.1%}")


def served(simulated: SimulatedModel, domain: Any, texts: list[str], batch_ms: float, at_once: int) -> list[Decision]:
    """The decisions about all texts."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(simulated_app(simulated), log_level="error"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    url = f"http://127.0.0.1:{listener.getsockname()[1]}/v1"
    model = open_language_model(Settings(llm_model=MODEL, llm_base_url=url, llm_batch_ms=batch_ms))
    graph = build_decision_graph(domain, language_model=model)

    async def run() -> list[Decision]:
        turns = asyncio.Semaphore(at_once)

        async def one(text: str) -> Decision:
            async with turns:
                state: Any = {"state": text}
                return Decision.model_validate((await graph.ainvoke(state))["decision"])

        return list(await asyncio.gather(*map(one, texts)))

    found = asyncio.run(run())
    server.should_exit = True
    thread.join(timeout=10)
    return found


if __name__ == "__main__":
    main()
