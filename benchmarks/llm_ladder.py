"""The ladder under load with a simulated language model: decisions that fail, their latency, and the circuit breaker.

    python benchmarks/llm_ladder.py [--count 1000] [--deadline-ms 1000] [--at-once 16]

Four endpoints one after another, each a process of `escalade llm simulate` with 100 ms a call: one that works, one with
30 % errors and 10 % hangs, one that is down (all errors), and the same address once it works again. Decisions are of
tic-tac-toe states that are no foregone conclusion, without networks: the language model, then a search of 100
simulations. One decision that is not counted comes first, so that what a process imports for its first call is no
decision's. Everything is on this machine, the simulation included; nothing that is printed is a real model's.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import time
from collections import Counter
from typing import Any

import numpy as np
from simulated_endpoint import free_port, simulated_endpoint

from escalade import Decision, DecisionContext
from escalade.app.settings import Settings
from escalade.app.simulated_llm import MODEL
from escalade.app.wiring import open_language_model
from escalade.domains.catalog import load_domain
from escalade.domains.errors import EscaladeError
from escalade.graph.decision import build_decision_graph
from escalade.nodes.language_model import LanguageModel
from escalade.search.solvers import exact_solver, optimal_actions

LATENCY_MS = 100

PHASES: dict[str, list[str]] = {
    "works": [],
    "30 % errors, 10 % hangs": ["--error-rate", "0.3", "--hang-rate", "0.1"],
    "down": ["--error-rate", "1"],
    "works again": [],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="decisions an endpoint")
    parser.add_argument("--deadline-ms", type=float, default=1000)
    parser.add_argument("--at-once", type=int, default=16)
    parser.add_argument("--endpoint", choices=PHASES, action="append", help="may be repeated; all if not given")
    given = parser.parse_args()
    logging.getLogger("escalade").setLevel(logging.ERROR)  # each failed call is a warning
    port = free_port()
    model = open_language_model(Settings(llm_model=MODEL, llm_base_url=f"http://127.0.0.1:{port}/v1"))
    assert model is not None
    changes: list[str] = []
    model.endpoint.breaker.on_change = changes.append
    print(f"deadline {given.deadline_ms:g} ms, {given.at_once} decisions at once, {given.count} an endpoint; simulated")
    asyncio.run(run(given, model, port, changes))


async def run(given: Any, model: LanguageModel, port: int, changes: list[str]) -> None:
    graph = build_decision_graph("tic_tac_toe", language_model=model)
    context = DecisionContext(deadline_ms=given.deadline_ms, simulations=100)
    states = undecided(400)
    for name, options in PHASES.items():
        if name not in (given.endpoint or PHASES):
            continue
        with simulated_endpoint(port, "tic_tac_toe", LATENCY_MS, *options):
            if name == "works":
                await graph.ainvoke({"state": states[0]}, context=DecisionContext(simulations=100))
            if name == "works again":  # as long as the breaker may rest
                await asyncio.sleep(model.endpoint.breaker.rest_s + 0.5)
            turns = asyncio.Semaphore(given.at_once)
            took: list[float] = []
            ends: Counter[str] = Counter()
            failed = 0

            async def one(number: int, took: list[float] = took, turns: asyncio.Semaphore = turns) -> Decision | None:
                async with turns:
                    state: Any = {"state": states[number % len(states)]}
                    began = time.perf_counter()
                    try:
                        result = await graph.ainvoke(state, context=context)
                    except EscaladeError:
                        return None
                    took.append((time.perf_counter() - began) * 1000)
                    return Decision.model_validate(result["decision"])

            before = len(changes)
            for decision in await asyncio.gather(*map(one, range(given.count))):
                failed += decision is None
                reports = [] if decision is None else decision.rungs
                ends.update(report.reason for report in reports if report.rung == "reason")
            p50, p95, most = np.percentile(took, [50, 95, 100])
            told = ", ".join(f"{count} {reason}" for reason, count in ends.most_common())
            breaker = f"; breaker: {changed(changes[before:])}" if changes[before:] else ""
            print(f"{name}: {failed} failed; ms p50 {p50:.0f}, p95 {p95:.0f}, max {most:.0f}; reason: {told}{breaker}")


def changed(states: list[str]) -> str:
    """What the breaker went through, counted."""
    return ", ".join(f"{count} times {state}" for state, count in Counter(states).items())


def undecided(count: int) -> list[str]:
    """States in which some moves are better than others."""
    domain, solver = load_domain("tic_tac_toe"), exact_solver(load_domain("tic_tac_toe"))
    assert solver is not None
    random, found = np.random.default_rng(0), []
    while len(found) < count:
        state: Any = domain.initial_state()
        for _ in range(int(random.integers(1, 6))):
            if not domain.is_terminal(state):
                state = domain.step(state, int(random.choice(list(domain.legal_actions(state)))))
        if not domain.is_terminal(state):
            scores = solver.scores(state)
            if len(optimal_actions(scores)) < len(domain.legal_actions(state)):
                found.append(domain.format(state))
    return found


if __name__ == "__main__":
    main()
