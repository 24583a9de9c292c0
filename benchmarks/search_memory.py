"""What the search holds in memory: the arrays of 1024 Connect Four trees with 800 simulations each, and whether the
process grows over 1000 searches (trees of their own, a session that follows the moves, and a service)."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.progress import track

from escalade.domains.connect_four import ConnectFour
from escalade.search.config import SearchConfig
from escalade.search.engine import search
from escalade.search.evaluators import UniformEvaluator
from escalade.search.service import SearchService
from escalade.search.session import Searcher


def resident_bytes() -> int:
    """Of this process, now (Linux)."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--searches", type=int, default=1000)
    arguments.add_argument("--trees", type=int, default=1024, help="whose arrays are measured")
    arguments.add_argument("--simulations", type=int, default=800, help="of each of these trees")
    arguments.add_argument("--json", action="store_true")
    options = arguments.parse_args()
    domain, evaluator = ConnectFour(), UniformEvaluator()
    start = domain.initial_state()

    session = Searcher(domain, evaluator, SearchConfig(simulations=options.simulations), options.trees)
    arrays = session.array_bytes
    session.start(range(options.trees), [start] * options.trees)
    session.search()
    del session

    config = SearchConfig(simulations=64)
    games = Searcher(domain, evaluator, config, 16)
    games.start(range(16), [start] * 16)
    sizes = []
    with SearchService(domain, evaluator) as service:
        for turn in track(range(options.searches), description="searching", console=Console(stderr=True)):
            search(domain, [start] * 16, evaluator, config, seed=turn)
            tickets = [service.submit(start, config, seed=turn) for _ in range(4)]
            for ticket in tickets:
                ticket.result()
            for game, result in enumerate(games.search(seed=turn)):
                if domain.is_terminal(domain.step(games.state(game), result.action)):
                    games.start([game], [start])
                else:
                    games.play([game], [result.action])
            sizes.append(resident_bytes())
    tenth = max(len(sizes) // 10, 1)
    figures = {
        f"arrays_mib_{options.trees}_trees_{options.simulations}_simulations": arrays / 2**20,
        "searches": options.searches,
        "resident_mib_after_a_tenth": float(np.median(sizes[tenth : 2 * tenth])) / 2**20,
        "resident_mib_at_the_end": float(np.median(sizes[-tenth:])) / 2**20,
    }
    if options.json:
        print(json.dumps(figures))
        return
    asked = " (asked: at most 256)" if (options.trees, options.simulations) == (1024, 800) else ""
    print(f"arrays of {options.trees} trees of {options.simulations} simulations: {arrays / 2**20:.0f} MiB{asked}")
    print(
        f"resident after {2 * tenth} and after {options.searches} rounds of searches: "
        f"{figures['resident_mib_after_a_tenth']:.1f} and {figures['resident_mib_at_the_end']:.1f} MiB"
    )


if __name__ == "__main__":
    main()
