"""How often the search errs in tic-tac-toe: every unfinished reachable position, against the solver's whole table.

The search is what `escalade decide tic_tac_toe STATE --mode search_only --seed S` runs without a bundle: random
rollouts as evaluator. Prints the count of positions whose move is not optimal, per number of simulations and seed.
"""

from __future__ import annotations

import argparse
import json
import time

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from escalade import SearchConfig, exact_solver
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.search.engine import search
from escalade.search.evaluators import RolloutEvaluator
from escalade.search.solvers import optimal_actions


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--simulations", type=int, nargs="+", default=[200, 800])
    parser.add_argument("--seeds", type=int, default=5, help="seeds 0 to this, exclusive")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()

    domain = TicTacToe()
    solver = exact_solver(domain)
    assert solver is not None
    states = [state for state in solver.reachable_positions() if not domain.is_terminal(state)]
    best = [set(optimal_actions(solver.scores(state))) for state in states]
    rows = []
    with Progress(console=Console(stderr=True)) as progress:
        for simulations in progress.track(options.simulations, description="searching"):
            for seed in range(options.seeds):
                started = time.perf_counter()
                config = SearchConfig(simulations=simulations)
                results = search(domain, states, RolloutEvaluator(domain), config, seed=[seed] * len(states))
                wrong = [s.moves for s, good, r in zip(states, best, results, strict=True) if r.action not in good]
                seconds = time.perf_counter() - started
                rows.append({"simulations": simulations, "seed": seed, "wrong": wrong, "seconds": round(seconds, 2)})
    if options.json:
        print(json.dumps({"positions": len(states), "rows": rows}))
        return
    table = Table(title=f"{len(states)} positions, rollouts, proofs on")
    for column in ("simulations", "seed", "not optimal", "which", "seconds"):
        table.add_column(column)
    for row in rows:
        which = " ".join(row["wrong"][:8])
        table.add_row(str(row["simulations"]), str(row["seed"]), str(len(row["wrong"])), which, str(row["seconds"]))
    Console().print(table)


if __name__ == "__main__":
    main()
