"""Is the Connect Four solver right, and how fast? Solves every legal move of every position of a CSV with known scores.

Prints seconds per position by plies played, and how many positions have exactly the file's scores; exits 1 if any does
not. The file is as `../shared/data/connect_four/positions.csv`: `moves`, `score_1` … `score_7`, empty where illegal.
"""

from __future__ import annotations

import argparse
import csv
import json
import sys
import time
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from escalade.domains.connect_four import ConnectFour
from escalade.search.solve_connect_four import ConnectFourSolver

POSITIONS = Path(__file__).resolve().parents[2] / "shared" / "data" / "connect_four" / "positions.csv"
BANDS = ((0, 7), (8, 9), (10, 13), (14, 20), (21, 42))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--positions", type=Path, default=POSITIONS)
    parser.add_argument("--limit", type=int, help="only so many positions")
    parser.add_argument("--min-plies", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    if not options.positions.is_file():
        parser.error(f"--positions: there is no file '{options.positions}'")
    game, solver = ConnectFour(), ConnectFourSolver()
    with options.positions.open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if len(row["moves"]) >= options.min_plies][: options.limit]
    solver.scores(game.parse("11157411523147666"))  # compiles
    seconds, wrong = [], []
    for row in track(rows, description="solving", console=Console(stderr=True)):
        started = time.perf_counter()
        scores = solver.scores(game.parse(row["moves"]))
        seconds.append(time.perf_counter() - started)
        if scores != [float(row[f"score_{c}"]) if row[f"score_{c}"] else None for c in range(1, 8)]:
            wrong.append(row["moves"])
    plies = np.array([len(row["moves"]) for row in rows])
    taken = np.array(seconds)
    bands = []
    for low, high in BANDS:
        chosen = taken[(plies >= low) & (plies <= high)]
        if len(chosen):
            p50, p95 = np.quantile(chosen, (0.5, 0.95))
            bands.append(
                {"plies": f"{low}-{high}", "positions": len(chosen), "p50_s": p50, "p95_s": p95, "max_s": chosen.max()}
            )
    total = float(taken.sum())
    if options.json:
        print(json.dumps({"positions": len(rows), "equal": len(rows) - len(wrong), "total_s": total, "bands": bands}))
    else:
        table = Table(title=f"all legal moves of a position; {total:.0f} s in all")
        for column in ("plies", "positions", "p50 s", "p95 s", "max s"):
            table.add_column(column)
        for band in bands:
            numbers = (f"{band[name]:.4f}" for name in ("p50_s", "p95_s", "max_s"))
            table.add_row(str(band["plies"]), str(band["positions"]), *numbers)
        Console().print(table)
        print(f"{len(rows) - len(wrong)} of {len(rows)} positions have exactly the file's scores")
        for moves in wrong[:10]:
            print(f"differs: {moves}")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
