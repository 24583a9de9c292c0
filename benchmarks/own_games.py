"""What a game of one's own, in plain Python, has learned after some minutes of `escalade train`, from nothing.

    python benchmarks/own_games.py --minutes 5

Each game of `tests/` is trained by the command line with its default recipe, in a process of its own. Then the network
alone (its policy, 0 simulations) plays a one-ply player, and with 64 simulations a search with 200 rollouts a move. The
one-ply player takes a win in one, blocks one, and else plays at random; in Othello it takes the move after which it has
the largest lead in discs. A balanced pole counts by its steps, of 200. Games begin with up to two random moves, and
come in pairs with sides swapped. Besides: how long the command took, and the longest time between two shards.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
GAMES = ROOT / "tests"
NAMES = ("othello6:Othello6", "hex5:Hex5", "cart_pole:CartPole")
OPENING = 2


@dataclass(frozen=True)
class GreedyDiscs:
    """Othello's one-ply player: the largest lead in discs after the move, ties at random."""

    name: str = "one ply, discs"

    def choose(self, domain: Any, states: Sequence[Any], seeds: Sequence[int]) -> Any:
        from escalade.training.arena import Moves

        return Moves([self._move(domain, state, seed) for state, seed in zip(states, seeds, strict=True)], 0)

    def _move(self, domain: Any, state: Any, seed: int) -> int:
        mine, legal = state[1] + 1, list(domain.legal_actions(state))
        leads = []
        for action in legal:
            board = domain.step(state, action)[0]
            leads.append(board.count(mine) - board.count(3 - mine))
        best = [action for action, lead in zip(legal, leads, strict=True) if lead == max(leads)]
        return int(np.random.default_rng(seed).choice(best))


def train(name: str, minutes: float, seed: int, root: Path, recipe: str = "default") -> dict[str, Any]:
    """Train by the command line. Returns what is to be said of the run itself."""
    run = f"{name.partition(':')[0]}-{seed}"
    command = [str(Path(sys.executable).parent / "escalade"), "train", name, "--minutes", str(minutes)]
    command += ["--seed", str(seed), "--root", str(root), "--run", run, "--recipe", recipe]
    began, load = time.time(), os.getloadavg()[0]
    environment = {**os.environ, "PYTHONPATH": str(GAMES)}
    subprocess.run(
        command, check=True, cwd=GAMES, env=environment, stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    took = time.time() - began
    shards = sorted(path.stat().st_mtime for path in (root / run / "experience" / "shards").glob("*.parquet"))
    gaps = np.diff([began, *shards])
    metrics = [json.loads(line) for line in (root / run / "metrics.jsonl").read_text().splitlines()]
    return {
        "game": name,
        "minutes": minutes,
        "seed": seed,
        "load": round(load, 1),
        "seconds": round(took, 1),
        "longest_without_shard": round(float(gaps.max()), 1),
        "iterations": len({line["iteration"] for line in metrics}),
        "bundle": str(root / run / "champion"),
    }


def judge(name: str, bundle: Path, alone: int, searching: int, seed: int) -> dict[str, Any]:
    """The figures of a bundle. alone, searching: games against the one-ply player, and against the search."""
    from escalade.domains.catalog import load_domain
    from escalade.neural.bundle import read_bundle
    from escalade.training.arena import OnePlyPlayer, SearchPlayer, openings, play_match, rollout_player

    domain = load_domain(name)
    network = read_bundle(bundle, domain).network
    policy = SearchPlayer("policy", network, 0)
    if name.startswith("cart_pole"):
        steps = []
        for state in openings(domain, alone // 2, seed=seed, plies=OPENING):
            while not domain.is_terminal(state):
                state = domain.step(state, policy.choose(domain, [state], [0]).actions[0])
            steps.append(state[0])
        return {"episodes": len(steps), "steps_mean": float(np.mean(steps)), "steps_least": min(steps)}
    greedy: Any = GreedyDiscs() if name.startswith("othello6") else OnePlyPlayer()
    found: dict[str, Any] = {}
    for label, player, other, games in (
        ("alone_against_one_ply", policy, greedy, alone),
        ("with_64_against_200_rollouts", SearchPlayer("64", network, 64), rollout_player(domain, 200), searching),
    ):
        result = play_match(domain, player, other, games, seed=seed, opening_plies=OPENING)
        found[label] = {"won": result.wins, "drawn": result.draws, "lost": result.losses, "games": result.games}
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--games", nargs="+", default=list(NAMES), metavar="MODULE:CLASS")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--recipe", default="default", help="a name, or the path of a file")
    parser.add_argument("--alone", type=int, default=40, help="games against the one-ply player")
    parser.add_argument("--searching", type=int, default=20, help="games against the search with 200 rollouts")
    parser.add_argument("--root", type=Path, default=None, help="folder of the runs; a temporary one if left out")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    sys.path.insert(0, str(GAMES))
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name in given.games:
            for seed in given.seeds:
                row = train(name, given.minutes, seed, (given.root or Path(folder)).absolute(), given.recipe)
                row |= judge(name, Path(row["bundle"]), given.alone, given.searching, seed + 1)
                rows.append(row)
                if not given.json:
                    print(", ".join(f"{key} {value}" for key, value in row.items() if key != "bundle"), flush=True)
    if given.json:
        print(json.dumps(rows, indent=1))


if __name__ == "__main__":
    main()
