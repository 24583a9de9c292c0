"""A real small language model on this machine, end to end: tic-tac-toe positions and Banking77 texts through the
decision graph, to `escalade llm serve`; whether every answer is legal, how often it is right, how long a call takes.

    make local-llm
    python benchmarks/local_llm.py ../shared/data/intents/banking77 [--count 20]

So small a model knows neither the game nor the bank: what this shows is the wire.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import statistics
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any

from escalade import Decision, DecisionContext
from escalade.app.settings import Settings
from escalade.app.wiring import open_language_model
from escalade.domains.catalog import load_domain
from escalade.graph.decision import build_decision_graph
from escalade.search.solvers import exact_solver
from escalade.training.reference import acceptable_actions

STARTS_S = 120


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="with test.csv, columns text and category")
    parser.add_argument("--count", type=int, default=20, help="of positions, and of texts")
    parser.add_argument("--max-tokens", type=int, default=128)
    given = parser.parse_args()
    game: Any = load_domain("tic_tac_toe")
    solver = exact_solver(game)
    positions = [game.format(state) for state in solver.reachable_positions() if not game.is_terminal(state)]  # type: ignore[union-attr]
    positions = [text for text in positions if 1 <= len(text) <= 6]
    positions = positions[:: max(1, len(positions) // given.count)][: given.count]
    with (given.folder / "test.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    rows = rows[:: max(1, len(rows) // given.count)][: given.count]
    intents: Any = load_domain("intents", {"labels": sorted({row["category"] for row in rows})})
    right = {intents.format(intents.parse(row["text"])): {intents.parse_action(row["category"])} for row in rows}
    command = [str(Path(sys.executable).with_name("escalade")), "llm", "serve", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        told = dict(server.stdout.readline().strip().removeprefix("export ").split("=", 1) for _ in range(5))
        settings = Settings(
            llm_model=told["ESCALADE_LLM_MODEL"],
            llm_api_key=told["OPENAI_API_KEY"],
            llm_base_url=told["OPENAI_BASE_URL"],
            llm_at_once=1,
            llm_timeout_s=300,
            llm_max_tokens=given.max_tokens,
            llm_batch_ms=0,
        )
        wait_until_up(told["OPENAI_BASE_URL"], server)
        for domain, states, good in (
            (game, positions, lambda text: acceptable_actions(game, "exact", text)),
            (intents, list(right), right.get),
        ):
            began = time.perf_counter()
            decisions = asyncio.run(decided(settings, domain, states))
            report(domain, states, decisions, good, time.perf_counter() - began)
        server.terminate()


def wait_until_up(url: str, server: subprocess.Popen[str]) -> None:
    ends = time.monotonic() + STARTS_S
    while time.monotonic() < ends and server.poll() is None:
        try:
            with urllib.request.urlopen(f"{url}/models", timeout=5):  # noqa: S310 -- on this machine
                return
        except OSError:
            time.sleep(0.5)
    raise SystemExit("escalade llm serve did not come up; run it by itself to see why")


async def decided(settings: Settings, domain: Any, states: list[str]) -> list[Decision]:
    model = open_language_model(settings)
    graph = build_decision_graph(domain, language_model=model)
    ladder = ("reason", "search") if domain.has_simulator else ("reason",)
    context = DecisionContext(ladder=ladder, simulations=100)
    found = []
    for state in states:
        given: Any = {"state": state}
        found.append(Decision.model_validate((await graph.ainvoke(given, context=context))["decision"]))
    return found


def report(domain: Any, states: list[str], decisions: list[Decision], good: Any, seconds: float) -> None:
    legal = sum(one.action in domain.legal_actions(domain.parse(one.state)) for one in decisions)
    by_model = [one for one in decisions if one.source == "reason"]
    hits = sum(one.action in (good(one.state) or ()) for one in by_model)
    times = [one.latency_ms for decision in decisions for one in decision.rungs if one.rung == "reason"]
    tokens = [one.rungs[0].details["tokens"]["input_tokens"] for one in by_model]
    ends = Counter(one.rungs[0].reason for one in decisions)
    print(
        f"{domain.name}: {len(decisions)} of {len(states)} decided, {legal} legal; {len(by_model)} by the "
        f"model, {hits} of these right (chance: {chance(domain, by_model, good):.0%}); ended {dict(ends)}; "
        f"a call takes {statistics.median(times) / 1000:.2f} s (median; {max(times) / 1000:.2f} at most), with "
        f"{statistics.median(tokens) if tokens else 0:.0f} prompt tokens; {seconds:.1f} s in all"
    )


def chance(domain: Any, decisions: list[Decision], good: Any) -> float:
    """Share that a random legal action would have right."""
    shares = [len(good(one.state) or ()) / len(domain.legal_actions(domain.parse(one.state))) for one in decisions] or [
        0.0
    ]
    return statistics.mean(shares)


if __name__ == "__main__":
    main()
