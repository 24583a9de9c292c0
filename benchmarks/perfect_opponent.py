"""Connect Four from the empty board against a perfect opponent: how often the win of who moves first is given away.

Escalade moves first and decides as in production (the decision graph with its networks, certificates and search); the
opponent plays 0 to 4 random moves and then, by the exact solver, one of the moves that put off its defeat longest, win
soonest or draw. The first player wins every such game under perfect play.

    python benchmarks/perfect_opponent.py --games 200 --mode auto
    python benchmarks/perfect_opponent.py --games 200 --mode search_only --simulations 600

Prints, of all games, in how many a move turned the win into less, after how many plies, and which rung made it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from collections import Counter
from contextlib import closing
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track

from escalade.app.measured import percent
from escalade.app.settings import read_settings
from escalade.app.wiring import open_decider
from escalade.domains.connect_four import ConnectFour
from escalade.domains.decision import Decision
from escalade.graph.decision import decided
from escalade.nodes.context import make_context
from escalade.search.solvers import exact_solver
from escalade.training.intervals import share_of
from escalade.training.sparring import SolverPlayer

MOST_RANDOM = 4


async def play(graph: Any, context: Any, seed: int) -> dict[str, Any] | None:
    """A game; the first move that gave the win away, None if none did."""
    game, solver, random = ConnectFour(), exact_solver(ConnectFour()), np.random.default_rng((0xF0E, seed))
    assert solver is not None
    state, careless = game.initial_state(), seed % (MOST_RANDOM + 1)
    while not game.is_terminal(state):
        if len(state.moves) % 2 == 0:
            text = game.format(state)
            answer = await graph.ainvoke({"state": text}, context=context)
            decision = Decision.model_validate(decided(answer))
            reached = game.step(state, decision.action)
            worth = game.outcome(reached) if game.is_terminal(reached) else solver.value(reached)
            if -worth < 1:  # it was won before
                kept = {"state": text, "played": decision.action_name, "source": decision.source}
                return {**kept, "certified": decision.certified, "plies": len(state.moves), "left": -worth}
            state = reached
        elif len(state.moves) // 2 < careless:
            state = game.step(state, int(random.choice(list(game.legal_actions(state)))))
        else:
            perfect = SolverPlayer(solver).choose(game, [state], [int(random.integers(2**63))])
            state = game.step(state, perfect.actions[0])
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", type=int, default=200)
    parser.add_argument("--mode", default="auto")
    parser.add_argument("--simulations", type=int, default=600)
    parser.add_argument("--alpha", type=float, default=0.05, help="which of the bundle's certificates decides")
    parser.add_argument("--bundle", default=None)
    parser.add_argument("--seed", type=int, default=0, help="of the first game; the others follow")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    context = make_context({"mode": given.mode, "simulations": given.simulations, "alpha": given.alpha})
    numbers = range(given.seed, given.seed + given.games)
    console = Console(stderr=True)
    with closing(open_decider(read_settings(), "connect_four", bundle=given.bundle)) as decider:

        async def games() -> list[dict[str, Any] | None]:
            return [await play(decider.graph, context, number) for number in track(numbers, console=console)]

        found = asyncio.run(games())
        version = decider.resources.bundle_version
    lost = [one for one in found if one is not None]
    share = share_of(np.array([one is not None for one in found], np.bool_))
    report = {
        "bundle": version,
        "mode": given.mode,
        "simulations": given.simulations,
        "alpha": given.alpha,
        "games": len(found),
        "given_away": len(lost),
        "low": share.low,
        "high": share.high,
        "by": dict(Counter(f"{one['source']}{' certified' if one['certified'] else ''}" for one in lost)),
        "moves": lost,
    }
    if given.json:
        print(json.dumps(report))
        return
    print(
        f"bundle {version}, {given.mode}, {given.simulations} simulations, alpha {given.alpha:g}, first against a "
        f"perfect opponent after 0 to {MOST_RANDOM} random moves of his, seeds {numbers.start} to {numbers.stop - 1}: "
        f"{len(lost)} of {len(found)} wins given away (95 %: {percent(share)})"
    )
    for one in lost:
        source = f"{one['source']}{', certified' if one['certified'] else ''}"
        print(f"  {one['state'] or 'empty board'}: {one['played']} by {source}, leaves {one['left']:+.0f}")


if __name__ == "__main__":
    main()
