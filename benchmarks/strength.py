"""How strong the search is at equal simulations: matches on Connect Four.

`mctsbot`: PUCT against OpenSpiel's C++ MCTSBot with its solver, 200 simulations and one random rollout a leaf each.
`proofs`: PUCT with exact results backed up against PUCT without, 200 simulations, one rollout a leaf.
`gumbel16`, `gumbel32`: Gumbel search without its chance against PUCT, 16 and 32 simulations, 8 rollouts a leaf.

Two games each begin from the same random opening of 0 to 4 plies, with sides swapped. The score is wins plus half of
the draws, by games; its 95 % interval is the normal one over the scores of such pairs, whose games are not independent.
`mctsbot` needs the extra `bench`.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table

from escalade import SearchConfig
from escalade.domains.connect_four import ConnectFour
from escalade.domains.errors import SettingsError
from escalade.domains.line_game import LineState
from escalade.search.engine import search
from escalade.search.evaluators import RolloutEvaluator

SIMULATIONS = 200
OPENING_PLIES = 4
MATCHES = ("mctsbot", "proofs", "gumbel16", "gumbel32")
TUNED = {name: getattr(SearchConfig(), name) for name in ("fpu_reduction", "c_visit", "c_scale")} | {"c_puct": 2.0}
"""Settings of the search that options of the same name replace, on every side that is ours, and what they are
otherwise: as the search has them, but for more exploration, as there are no priors and at times one rollout a leaf."""
BOT_MEGABYTES = 100
"""More than a tree of so few simulations can fill."""

Player = Callable[[Sequence[int], Sequence[LineState]], list[int]]
"""Takes the numbers of some games and their states, returns an action for each."""


def chance(*numbers: int) -> int:
    """A seed of its own for each list of numbers."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])


def escalade(domain: ConnectFour, config: SearchConfig, rollouts: int, seed: int) -> Player:
    evaluator = RolloutEvaluator(domain, rollouts=rollouts)

    def play(games: Sequence[int], states: Sequence[LineState]) -> list[int]:
        seeds = [chance(seed, game, len(state.moves)) for game, state in zip(games, states, strict=True)]
        return [result.action for result in search(domain, states, evaluator, config, seed=seeds)]

    return play


def mcts_bot(uct_c: float, seed: int) -> Player:
    import pyspiel

    rules = pyspiel.load_game("connect_four")

    def play(games: Sequence[int], states: Sequence[LineState]) -> list[int]:
        actions = []
        for game, state in zip(games, states, strict=True):
            root = rules.new_initial_state()
            for move in state.moves:
                root.apply_action(int(move) - 1)
            # The bot takes a C int; it and its rollouts must not draw the same numbers.
            first, second = (chance(seed, game, len(state.moves), part) % 2**31 for part in (1, 2))
            rollouts = pyspiel.RandomRolloutEvaluator(1, first)
            bot = pyspiel.MCTSBot(rules, rollouts, uct_c, SIMULATIONS, BOT_MEGABYTES, True, second, False)
            actions.append(int(bot.step(root)))
        return actions

    return play


def contestants(name: str, tuned: dict[str, float], uct_c: float, seed: int) -> tuple[Player, Player]:
    """Whose score is counted, and the other."""
    domain = ConnectFour()
    settings: dict[str, Any] = dict(tuned)
    if name.startswith("gumbel"):
        settings["simulations"] = int(name.removeprefix("gumbel"))
        gumbel = SearchConfig(algorithm="gumbel", gumbel_scale=0, **settings)
        return escalade(domain, gumbel, 8, seed), escalade(domain, SearchConfig(**settings), 8, seed)
    settings["simulations"] = SIMULATIONS
    ours = escalade(domain, SearchConfig(**settings), 1, seed)
    if name == "mctsbot":
        return ours, mcts_bot(uct_c, seed)
    return ours, escalade(domain, SearchConfig(proofs=False, **settings), 1, seed)


def opening(domain: ConnectFour, random: np.random.Generator) -> LineState:
    """So few plies that no one can have won, or win with the next move: that takes three discs."""
    state = domain.initial_state()
    for _ in range(int(random.integers(OPENING_PLIES + 1))):
        state = domain.step(state, int(random.choice(domain.legal_actions(state))))
    return state


def play(players: tuple[Player, Player], games: int, seed: int) -> list[float]:
    """The first player's points by game: 1, 1/2 or 0. All games go on in step, so that a search sees many at once."""
    domain, random = ConnectFour(), np.random.default_rng(seed)
    states = [state for _ in range(games // 2) for state in [opening(domain, random)] * 2]
    # Which of LineState's players the first one is: the one to move in games with an even number.
    seats = [state.to_move ^ game % 2 for game, state in enumerate(states)]
    running = list(range(games))
    while running:
        for side, player in enumerate(players):
            turns = [game for game in running if states[game].to_move == seats[game] ^ side]
            actions = player(turns, [states[game] for game in turns])
            for game, action in zip(turns, actions, strict=True):
                states[game] = domain.step(states[game], action)
            running = [game for game in running if not domain.is_terminal(states[game])]
    outcomes = [
        domain.outcome(state) * (1 if state.to_move == seat else -1) for state, seat in zip(states, seats, strict=True)
    ]
    return [(1 + outcome) / 2 for outcome in outcomes]


def figures(name: str, points: Sequence[float], seconds: float) -> dict[str, Any]:
    pairs = np.array(points).reshape(-1, 2).mean(axis=1)
    margin = 1.96 * float(pairs.std(ddof=1)) / len(pairs) ** 0.5
    score = float(pairs.mean())
    return {
        "match": name,
        "games": len(points),
        "wins": points.count(1),
        "draws": points.count(0.5),
        "losses": points.count(0),
        "score": score,
        "interval_95": [max(score - margin, 0.0), min(score + margin, 1.0)],
        "seconds": round(seconds, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--match", choices=MATCHES, action="append", help="may be repeated; all if not given")
    parser.add_argument("--games", type=int, default=400, help="of each match; an even number, at least 4")
    parser.add_argument("--seed", type=int, default=0, help="of the openings and of everything in the games")
    parser.add_argument("--uct-c", type=float, default=2.0, help="of OpenSpiel's bot; sqrt(2) is customary too")
    for name, usual in TUNED.items():
        text = f"of all our sides; {usual:g} if not given"
        option = f"--{name.replace('_', '-')}"
        parser.add_argument(option, type=float, default=usual, help=text)
    parser.add_argument("--json", action="store_true", help="print the rows instead of a table")
    options = parser.parse_args()
    names = [name for name in MATCHES if name in (options.match or MATCHES)]
    if options.games < 4 or options.games % 2:
        parser.error(f"--games: an even number, at least 4, not {options.games}")
    if options.seed < 0:
        parser.error(f"--seed: not negative, as {options.seed} is")
    if "mctsbot" in names and importlib.util.find_spec("pyspiel") is None:
        parser.error('the match `mctsbot` needs OpenSpiel: pip install "escalade[bench]"')
    tuned = {name: getattr(options, name) for name in TUNED}
    try:
        SearchConfig(**tuned)
    except SettingsError as error:
        parser.error(str(error))
    rows = []
    for name in track(names, description="playing", console=Console(stderr=True)):
        started = time.perf_counter()
        points = play(contestants(name, tuned, options.uct_c, options.seed), options.games, options.seed)
        rows.append(figures(name, points, time.perf_counter() - started))
    if options.json:
        print(json.dumps(rows))
        return
    table = Table(title=f"{options.games} games a match, seed {options.seed}, seen from the side named first")
    for column in ("match", "wins", "draws", "losses", "score", "95 % interval", "seconds"):
        table.add_column(column, justify="left" if column == "match" else "right")
    title = {
        "mctsbot": "PUCT : MCTSBot, 200",
        "proofs": "proofs : none, 200",
        "gumbel16": "Gumbel : PUCT, 16",
        "gumbel32": "Gumbel : PUCT, 32",
    }
    for row in rows:
        low, high = row["interval_95"]
        counts = (str(row[key]) for key in ("wins", "draws", "losses"))
        numbers = (f"{row['score']:.1%}", f"{low:.1%} to {high:.1%}", str(row["seconds"]))
        table.add_row(title[row["match"]], *counts, *numbers)
    Console().print(table)


if __name__ == "__main__":
    main()
