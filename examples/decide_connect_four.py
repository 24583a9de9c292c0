"""`make run`: decides a file of Connect Four positions through the graph and measures the answers against the solver.

The positions are one of each of 200 casual games, whose players mostly take a win in one, avoid giving one and are
random otherwise, from the ninth move on: drawn as those of the champion's certificate were, but from other games.
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
from escalade.app.batch import decide_many
from escalade.app.counterfactual import work_seconds
from escalade.app.prices import Prices
from escalade.app.render import decision_view, money
from escalade.app.settings import read_settings
from escalade.app.state_file import read_states
from escalade.app.wiring import Decider, counterfactuals_of, open_decider
from escalade.search.solvers import optimal_actions

POSITIONS = Path(__file__).with_name("connect_four_positions.txt")
SHOWN = 0


async def decide(decider: Decider, states: list[str], context: DecisionContext, progress: Progress) -> list[Decision]:
    """One decision a state, in order."""
    bar = progress.add_task("deciding", total=len(states))
    decisions: dict[int, Decision] = {}
    async for one in decide_many(decider.graph, states, context, concurrency=2):
        if "error" in one.line:
            raise SystemExit(f"'{one.line['state']}': {one.line['error']}")
        decisions[one.number] = Decision.model_validate(one.line)
        progress.advance(bar)
    return [decisions[number] for number in range(len(states))]


def optimal(decider: Decider, decisions: list[Decision], progress: Progress) -> list[bool]:
    """Whether each decision keeps the best of win, draw and loss."""
    solver = exact_solver(decider.domain)
    assert solver is not None
    return [
        decision.action in optimal_actions(solver.scores(decider.domain.parse(decision.state)))
        for decision in progress.track(decisions, description="solving ")
    ]


def told(hits: int, count: int) -> str:
    """A share with its 95 % interval (Wilson)."""
    interval = binomtest(hits, count).proportion_ci(method="wilson")
    return f"{hits} of {count}: {hits / count:.1%} (95 % interval {interval.low:.1%} to {interval.high:.1%})"


def saved(decider: Decider, decisions: list[Decision]) -> str:
    """Work against always searching: its seconds here are those of the searches that ran."""
    counterfactuals = counterfactuals_of(decider.resources, Prices())
    for decision in decisions:
        counterfactuals.averages.add(counterfactuals.learned(decision))
    alone = [counterfactuals.search_alone(decision) for decision in decisions]
    known = [one.seconds for one in alone if one is not None]
    work = sum(work_seconds(decision) for decision in decisions)
    if len(known) < len(decisions):
        return f"{work:.2f} s; what searching always would take is not known"
    return f"{work:.2f} s, about {1 - work / sum(known):.0%} less than the {sum(known):.2f} s of always searching"


def promised(decisions: list[Decision], options: argparse.Namespace) -> str:
    """By what leave the networks decide."""
    if options.threshold is not None:
        return f"from {options.threshold:g} on, a threshold given by hand and not certified"
    for report in (report for decision in decisions for report in decision.rungs if report.rung == "policy"):
        if "certificate" in report.details:
            one = report.details["certificate"]
            return (
                f"at most {one['alpha']:.0%} worse than {one['reference']}, with confidence {1 - one['delta']:.0%} "
                f"(bound for what was seen: {one['bound']:.2%})"
            )
        if "no_certificate" in report.details:
            return f"nothing: {report.details['no_certificate']}"
    return "nothing"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--positions", type=Path, default=POSITIONS)
    parser.add_argument("--simulations", type=int, default=600)
    parser.add_argument("--alpha", type=float, default=0.05, help="share of the networks' decisions that may be worse")
    parser.add_argument("--threshold", type=float, help="of the policy network, by hand and so uncertified")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    console = Console()
    context = DecisionContext(
        simulations=options.simulations, seed=options.seed, alpha=options.alpha, policy_threshold=options.threshold
    )
    with console.status("loading the networks and the search"):
        decider = open_decider(read_settings(), "connect_four")
    states = read_states(options.positions, decider.domain).values

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as progress:
        decisions = asyncio.run(decide(decider, states, context, progress))
        right = optimal(decider, decisions, progress)

    count = len(decisions)
    own = [hit for hit, decision in zip(right, decisions, strict=True) if decision.source in ("policy", "value")]
    rungs = Counter(decision.source for decision in decisions)
    latencies = np.array([decision.latency_ms for decision in decisions])
    skipped: Any = Counter(f"{r.rung} ({r.reason})" for d in decisions for r in d.rungs if r.outcome == "skipped")
    costs = [decision.cost_usd for decision in decisions]
    console.print(f"\n{count} positions of {options.positions.name}, seed {options.seed}", highlight=False)
    console.print(f"decided by      {', '.join(f'{rung} {number}' for rung, number in rungs.most_common())}")
    console.print(f"certified       {promised(decisions, options)}", highlight=False)
    if own:
        console.print(f"networks wrong  {told(len(own) - sum(own), len(own))}", highlight=False)
    console.print(
        f"skipped         {', '.join(f'{what} {number}' for what, number in skipped.most_common()) or 'none'}"
    )
    console.print(f"optimal moves   {told(sum(right), count)}, by the exact solver", highlight=False)
    console.print(f"work            {saved(decider, decisions)}", highlight=False)
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
