"""How fast games are played for training: simulations per second of self-play over the rows per second of the bare
network, in one run.

Connect Four, networks with random weights, self-play as `escalade.training.self_play` does it, rows included, with all
games under way: neither their common beginning nor the end, when there are fewer of them, is in the figure.

- simulations: those that searches say they ran, which is fewer than they were allowed, as proofs end some early. A leaf
  whose outcome is known is a simulation too, though no network is asked; a figure above 1 is thus possible.
- bare network: `evaluate` in calls of the size that the search prefers, from as many threads as it uses, on
  observations that lie ready, and nothing else.

Each slice of self-play lies between two of the bare network, half as long, in the same process, and is compared with
their mean; the settings take turns. Figures are medians over the turns, with the least and the greatest.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table

from escalade.domains.connect_four import ConnectFour
from escalade.neural.networks import PolicyValueNetwork
from escalade.neural.spec import NetworkSpec
from escalade.search.config import SearchConfig
from escalade.training.rows import Rows
from escalade.training.self_play import AHEAD, SelfPlay, SelfPlayConfig

ASKED = 0.7
SIMULATIONS = (16, 32, 64)
NETWORKS: dict[str, dict[str, Any]] = {
    "perceptron 256, 256, 128": {},
    "residual 384, 384, 384": {"kind": "residual", "hidden": (384, 384, 384)},
}
SEARCHES: dict[str, dict[str, Any]] = {
    "gumbel": {"algorithm": "gumbel"},
    "puct": {"noise_fraction": 0.25, "temperature": 1.0},
}


def random_network(domain: ConnectFour, options: dict[str, Any]) -> PolicyValueNetwork:
    spec = NetworkSpec(observation_shape=domain.observation_shape, num_actions=domain.num_actions, **options)
    return PolicyValueNetwork(spec).eval()


def bare(network: PolicyValueNetwork, seconds: float) -> float:
    """Rows per second of the evaluator alone, called as the search calls it."""
    rows, threads = network.hints.rows or 64, network.hints.calls
    shape = (rows, *network.observation_shape)
    observations = np.random.default_rng(0).integers(0, 2, shape).astype(np.float32)
    legal = np.ones((rows, network.num_actions), np.bool_)
    calls = [0] * threads
    started = time.perf_counter()

    def work(thread: int) -> None:
        while time.perf_counter() < started + seconds:
            network.evaluate(observations, legal)
            calls[thread] += 1

    helpers = [threading.Thread(target=work, args=(thread,)) for thread in range(threads)]
    for helper in helpers:
        helper.start()
    for helper in helpers:
        helper.join()
    return sum(calls) * rows / (time.perf_counter() - started)


def until_quiet() -> None:
    """Wait until what self-play does ahead is done."""
    while True:
        before = time.process_time()
        time.sleep(0.05)
        if time.process_time() - before < 0.005:
            return


class Contestant:
    """Self-play that goes on from slice to slice, and the bare network beside it."""

    def __init__(self, name: str, domain: ConnectFour, network: PolicyValueNetwork, simulations: int, **more: Any):
        self.name, self.network, self.simulations = name, network, simulations
        self._search = SearchConfig(simulations=simulations, **more)
        self._domain = domain
        self.figures: list[dict[str, float]] = []

    def begin(self, games: int, seed: int) -> None:
        """Play until as many games have ended as are played at once: then they are at all stages."""
        config = SelfPlayConfig(search=self._search, at_once=games)
        self._player = SelfPlay(self._domain, self.network, config, seed=seed)
        self._rows: Iterator[Rows] = self._player.play(itertools.count())
        while self._player.stats.games < games:
            next(self._rows)

    def slice(self, seconds: float) -> None:
        until_quiet()
        before = bare(self.network, seconds / 2)
        for _ in range(AHEAD + 1):  # of these some were played before the clock starts
            next(self._rows)
        stats = self._player.stats
        positions, simulations, started = stats.positions, stats.simulations, time.perf_counter()
        while (taken := time.perf_counter() - started) < seconds:
            next(self._rows)
        positions, simulations = stats.positions - positions, stats.simulations - simulations
        until_quiet()
        rows = (before + bare(self.network, seconds / 2)) / 2
        self.figures.append(
            {
                "positions_per_second": positions / taken,
                "simulations_per_position": simulations / positions,
                "simulations_per_second": simulations / taken,
                "network_rows_per_second": rows,
                "ratio": simulations / taken / rows,
            }
        )

    def row(self) -> dict[str, Any]:
        """Medians, and the ratio's least and greatest."""
        medians = {name: float(np.median([each[name] for each in self.figures])) for name in self.figures[0]}
        ratios = [each["ratio"] for each in self.figures]
        about = {"network": self.name, "search": self._search.algorithm, "simulations": self.simulations}
        return {**about, **medians, "ratio_least": min(ratios), "ratio_greatest": max(ratios)}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    arguments.add_argument("--seconds", type=float, default=1.0, help="of one slice of self-play")
    arguments.add_argument("--repeats", type=int, default=7, help="turns; at least 5 for a median worth the name")
    arguments.add_argument("--games", type=int, default=512, help="played at once")
    arguments.add_argument("--seed", type=int, default=0, help="of the games and of the network's weights")
    arguments.add_argument("--json", action="store_true", help="print the rows instead of a table")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    domain = ConnectFour()
    networks = {name: random_network(domain, given) for name, given in NETWORKS.items()}
    contestants = [
        Contestant(name, domain, network, simulations, **search)
        for name, network in networks.items()
        for search in SEARCHES.values()
        for simulations in SIMULATIONS
    ]
    errors = Console(stderr=True)
    for contestant in track(contestants, description="getting all games under way", console=errors):
        contestant.begin(options.games, options.seed)
    for _ in track(range(options.repeats), description="taking turns", console=errors):
        for contestant in contestants:
            contestant.slice(options.seconds)
    rows = [contestant.row() for contestant in contestants]
    if options.json:
        print(json.dumps(rows))
        return
    cores, load = next(iter(networks.values())).hints.calls, os.getloadavg()[1]
    title = (
        f"{options.games} games at once, {cores} cores, {options.repeats} turns; load of the last 5 minutes {load:.1f}"
    )
    table = Table(title=title)
    for name in ("network", "search"):
        table.add_column(name, no_wrap=True)
    for name in ("simulations", "run", "positions/s", "simulations/s", "network rows/s", "ratio", "least to greatest"):
        table.add_column(name, justify="right")
    for row in rows:
        missed = "" if row["ratio"] >= ASKED else f"  ({ASKED} asked)"
        table.add_row(
            *(row["network"], row["search"], str(row["simulations"]), f"{row['simulations_per_position']:.1f}"),
            *(f"{row[f'{name}_per_second']:,.0f}" for name in ("positions", "simulations", "network_rows")),
            *(f"{row['ratio']:.2f}{missed}", f"{row['ratio_least']:.2f} to {row['ratio_greatest']:.2f}"),
        )
    Console(width=max(Console().width, 150)).print(table)


if __name__ == "__main__":
    main()
