"""`make run`: decides a file of Connect Four positions through the graph and measures the answers against the solver.

The positions come from games in which players took most of the obvious wins and blocks and were random otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from scipy.stats import binomtest

from escalade import Decision, DecisionContext, exact_solver
from escalade.app.batch import decide_many, read_states
from escalade.app.render import decision_view, money
from escalade.app.settings import read_settings
from escalade.app.wiring import Decider, open_decider
from escalade.search.solvers import optimal_actions

POSITIONS = Path(__file__).with_name("connect_four_positions.txt")
SHOWN = 0


async def decide(decider: Decider, states: list[str], context: DecisionContext, progress: Progress) -> list[Decision]:
    """One decision a state, in order."""
    bar = progress.add_task("deciding", total=len(states))
    decisions = []
    async for line in decide_many(decider.graph, states, context, concurrency=2):
        if "error" in line:
            raise SystemExit(f"'{line['state']}': {line['error']}")
        decisions.append(Decision.model_validate(line))
        progress.advance(bar)
    return decisions


def agreement(decider: Decider, decisions: list[Decision], progress: Progress) -> int:
    """How many decisions keep the best of win, draw and loss."""
    solver = exact_solver(decider.domain)
    assert solver is not None
    hits = 0
    for decision in progress.track(decisions, description="solving "):
        scores = solver.scores(decider.domain.parse(decision.state))
        hits += decision.action in optimal_actions(scores)
    return hits


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--positions", type=Path, default=POSITIONS)
    parser.add_argument("--simulations", type=int, default=400)
    parser.add_argument("--threshold", type=float, default=0.15, help="of the policy network, by hand, uncertified")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    console = Console()
    states = read_states(options.positions)
    decider = open_decider(read_settings(), "connect_four")
    context = DecisionContext(simulations=options.simulations, seed=options.seed, policy_threshold=options.threshold)
    with console.status("compiling the kernels (only the first time)"):
        decider.graph.invoke({"state": states[0]}, context=context)

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        decisions = asyncio.run(decide(decider, states, context, progress))
        hits = agreement(decider, decisions, progress)

    count = len(decisions)
    rungs = Counter(decision.source for decision in decisions)
    latencies = np.array([decision.latency_ms for decision in decisions])
    interval = binomtest(hits, count).proportion_ci(method="wilson")
    skipped: Any = Counter(f"{r.rung} ({r.reason})" for d in decisions for r in d.rungs if r.outcome == "skipped")
    costs = [decision.cost_usd for decision in decisions]
    console.print(f"\n{count} positions of {options.positions.name}, seed {options.seed}", highlight=False)
    console.print(f"decided by      {', '.join(f'{rung} {number}' for rung, number in rungs.most_common())}")
    console.print(
        f"policy accepts  from {options.threshold:g}, a threshold given by hand and not certified", highlight=False
    )
    console.print(
        f"skipped         {', '.join(f'{what} {number}' for what, number in skipped.most_common()) or 'none'}"
    )
    console.print(
        f"optimal moves   {hits} of {count} by the exact solver: {hits / count:.1%} "
        f"(95 % interval {interval.low:.1%} to {interval.high:.1%})"
    )
    console.print(f"latency         p50 {np.median(latencies):.1f} ms, p95 {np.quantile(latencies, 0.95):.1f} ms")
    console.print(f"cost            {money(None if None in costs else sum(cost or 0 for cost in costs))}")
    console.print("\n[bold]One decision in full[/]")
    console.print(decider.domain.describe(decider.domain.parse(decisions[SHOWN].state)), highlight=False)
    console.print(decision_view(decider.domain, decisions[SHOWN]))
    console.print_json(json.dumps(decisions[SHOWN].model_dump(mode="json")))
    console.print("\nPlay against it:  .venv/bin/escalade play connect_four")
    console.print("Serve it:         .venv/bin/escalade serve", highlight=False)


if __name__ == "__main__":
    main()
