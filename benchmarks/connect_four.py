"""How well the search plays Connect Four on positions with exact scores.

Counts, over the positions of a CSV (as `../shared/data/connect_four/positions.csv`: `moves`, `score_1` … `score_7`):
wins in one that were taken; single threats that were blocked (positions without a win in one where the opponent would
win in exactly one column); and the share of moves that keep the best of win, draw and loss, over all positions and over
those where legal moves differ in that, with Wilson intervals.
"""

from __future__ import annotations

import argparse
import csv
import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest

from escalade import SearchConfig
from escalade.domains.connect_four import ConnectFour
from escalade.search.engine import search
from escalade.search.evaluators import RolloutEvaluator
from escalade.search.solvers import optimal_actions

POSITIONS = Path(__file__).resolve().parents[2] / "shared" / "data" / "connect_four" / "positions.csv"


def share(hits: int, count: int) -> dict[str, Any]:
    if not count:
        return {"hits": 0, "count": 0}
    interval = binomtest(hits, count).proportion_ci(method="wilson")
    return {"hits": hits, "count": count, "share": hits / count, "interval_95": [interval.low, interval.high]}


def measure(path: Path, simulations: int, seed: int) -> dict[str, Any]:
    game = ConnectFour()
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    states = [game.parse(row["moves"]) for row in rows]
    started = time.perf_counter()
    config = SearchConfig(simulations=simulations)
    results = search(game, states, RolloutEvaluator(game), config, seed=[seed] * len(states))
    seconds = time.perf_counter() - started
    hits = dict.fromkeys(("wins", "blocks", "optimal", "optimal_where_moves_differ"), 0)
    counts = dict(hits)
    for row, state, result in zip(rows, states, results, strict=True):
        scores = [float(row[f"score_{c}"]) if row[f"score_{c}"] else None for c in range(1, 8)]
        occupied, legal = state.mine | state.theirs, game.legal_actions(state)
        wins = [a for a in legal if game.has_line(state.mine | game.landing(occupied, a))]
        threats = [a for a in legal if game.has_line(state.theirs | game.landing(occupied, a))]
        optimal = optimal_actions(scores)
        seen = {"optimal": optimal}
        if wins:
            seen["wins"] = wins
        elif len(threats) == 1:
            seen["blocks"] = threats
        if len(optimal) < len(legal):
            seen["optimal_where_moves_differ"] = optimal
        for name, good in seen.items():
            counts[name] += 1
            hits[name] += result.action in good
    figures = {name: share(hits[name], counts[name]) for name in hits}
    return {"positions": len(rows), "simulations": simulations, "seed": seed, "seconds": round(seconds, 2), **figures}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--positions", type=Path, default=POSITIONS)
    parser.add_argument("--simulations", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.positions.is_file():
        parser.error(f"--positions: there is no file '{options.positions}'")
    figures = measure(options.positions, options.simulations, options.seed)
    if options.json:
        print(json.dumps(figures))
        return
    title = f"{figures['positions']} positions, {figures['simulations']} simulations, rollouts, seed {figures['seed']}"
    table = Table(title=f"{title}, {figures['seconds']} s")
    for column in ("", "hits", "of", "share", "95 % interval"):
        table.add_column(column)
    for name in ("wins", "blocks", "optimal", "optimal_where_moves_differ"):
        row = figures[name]
        if row["count"]:
            low, high = row["interval_95"]
            numbers = (f"{row['share']:.1%}", f"{low:.1%} to {high:.1%}")
            table.add_row(name.replace("_", " "), str(row["hits"]), str(row["count"]), *numbers)
    Console().print(table)


if __name__ == "__main__":
    main()
