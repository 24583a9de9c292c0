"""Every Connect Four opening, decided as in production: how many decisions keep the best of win, draw and loss.

All unfinished positions of at most `--plies` plies, mirror images once (38,203 of 7 plies), are decided by the decision
graph with its networks, certificates and search. The champion was taught all of them, so this is a count, no estimate:
nothing is inferred from it for other positions.

    python benchmarks/openings.py --mode auto --simulations 600
    python benchmarks/openings.py --plies 4 --mode search_only

Prints, by number of plies, how many decisions give something away, and how many of those were certified.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from contextlib import closing
from typing import Any

from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from escalade.app.settings import read_settings
from escalade.app.wiring import open_decider
from escalade.domains.connect_four import ConnectFour
from escalade.domains.decision import Decision
from escalade.graph.decision import decided
from escalade.nodes.context import make_context
from escalade.search.opening_book import PLIES, openings
from escalade.training.exact import solved

AT_ONCE = 64
"""Decisions under way together."""


async def decide_all(graph: Any, context: Any, texts: list[str], progress: Progress) -> list[Decision]:
    """The decision in each state."""
    turns, bar = asyncio.Semaphore(AT_ONCE), progress.add_task("deciding", total=len(texts))

    async def one(text: str) -> Decision:
        async with turns:
            answer = await graph.ainvoke({"state": text}, context=context)
        progress.advance(bar)
        return Decision.model_validate(decided(answer))

    return list(await asyncio.gather(*map(one, texts)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--plies", type=int, default=PLIES - 1, help=f"of the longest openings, below {PLIES}")
    parser.add_argument("--mode", default="auto")
    parser.add_argument("--simulations", type=int, default=600)
    parser.add_argument("--bundle", default=None)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    if not 0 <= given.plies < PLIES:
        parser.error(f"--plies must be from 0 to {PLIES - 1}")
    game, context = ConnectFour(), make_context({"mode": given.mode, "simulations": given.simulations})
    states = [state for level in openings(given.plies) for state in level.values()]
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("solving", total=len(states))
        exact = solved(game, states, "openings", on_progress=lambda done, _: progress.update(bar, completed=done))
        with closing(open_decider(read_settings(), "connect_four", bundle=given.bundle)) as decider:
            decisions = asyncio.run(decide_all(decider.graph, context, list(exact.states), progress))
            version = decider.resources.bundle_version
    rows, optimal = [], exact.optimal
    for ply in [*range(given.plies + 1), None]:
        chosen = [place for place in range(len(states)) if ply is None or exact.ply[place] == ply]
        wrong = [place for place in chosen if not optimal[place, decisions[place].action]]
        by = Counter(decision.source for decision in (decisions[place] for place in wrong))
        rows.append(
            {
                "plies": "all" if ply is None else ply,
                "positions": len(chosen),
                "moves_differ": int(exact.differing[chosen].sum()),
                "certified": sum(decisions[place].certified for place in chosen),
                "wrong": len(wrong),
                "wrong_certified": sum(decisions[place].certified for place in wrong),
                "wrong_by": dict(by),
            }
        )
    if given.json:
        print(json.dumps({"bundle": version, "mode": given.mode, "simulations": given.simulations, "rows": rows}))
        return
    title = f"bundle {version}, {given.mode}, {given.simulations} simulations"
    table = Table("plies", "positions", "moves differ in", "certified", "wrong", "wrong, certified", title=title)
    for row in rows:
        names = ("plies", "positions", "moves_differ", "certified", "wrong", "wrong_certified")
        table.add_row(*(str(row[name]) for name in names))
    Console().print(table)


if __name__ == "__main__":
    main()
