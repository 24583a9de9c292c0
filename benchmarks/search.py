"""How fast the search is: simulations per second against its peers and against the limit, in one run.

Everything searches the same Connect Four openings with 64 simulations and the same perceptron (84-256-256-128, a policy
and a value head, random weights): Escalade (its kernels, and a plain Python domain), DeepMind's mctx with pgx,
OpenSpiel's Python MCTS. The limit is the bare network: the same evaluator asked for as many rows in calls of the same
size from as many threads, without any search; and the plain torch module on whole batches, whichever is faster.
Contestants take turns, and each figure is the median over the turns. The peers need the extra `bench`.
"""

from __future__ import annotations

import argparse
import json
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from rich.table import Table
from search_peers import SIMULATIONS, mctx_search, open_spiel_search

from escalade.domains.base import Domain
from escalade.domains.connect_four import ConnectFour
from escalade.domains.evaluator import AnyEvaluator
from escalade.domains.kernels import RowKernels
from escalade.domains.line_game import LineState
from escalade.neural.networks import PolicyValueNetwork
from escalade.neural.spec import NetworkSpec
from escalade.search.config import SearchConfig
from escalade.search.engine import search
from escalade.search.evaluators import UniformEvaluator
from escalade.search.service import SearchService

PEERS = ("mctx", "openspiel")
Contestants = dict[tuple[str, int], Callable[[], float]]
"""By engine and trees: runs once and returns simulations per second."""


def _two_planes() -> RowKernels:
    from numba import njit

    shifts = np.array([7 * (p % 7) + 5 - p // 7 for p in range(42)], np.int64)

    @njit(nogil=True)
    def encode(rows, out):  # type: ignore[no-untyped-def]
        for b in range(rows.shape[0]):
            for place in range(42):
                out[b, place] = np.int32((rows[b, 0] >> shifts[place]) & 1)
            for place in range(42):
                out[b, 42 + place] = np.int32((rows[b, 1] >> shifts[place]) & 1)

    return ConnectFour.kernels._replace(encode=encode)


class TwoPlanes(ConnectFour):
    """Connect Four as pgx shows it: the mover's discs and the other's, 84 numbers."""

    observation_shape = (2, 6, 7)
    kernels = _two_planes()


class Plain:
    """The same rules as a plain Python domain: nothing but the methods every domain has."""

    def __init__(self) -> None:
        rules = TwoPlanes()
        for name in (*Domain.__annotations__, *vars(Domain)):
            if not name.startswith("_"):
                setattr(self, name, getattr(rules, name))


def openings(domain: ConnectFour, count: int, seed: int) -> list[LineState]:
    """Positions after 0 to 12 random moves, in which no one can win at once."""
    random = np.random.default_rng(seed)
    found: list[LineState] = []
    while len(found) < count:
        state = domain.initial_state()
        for _ in range(int(random.integers(13))):
            state = domain.step(state, int(random.choice(domain.legal_actions(state))))
            if domain.is_terminal(state):
                break
        if not domain.is_terminal(state) and not domain.ending_actions(state):
            found.append(state)
    return found


class InPython:
    """A network that no search can compile: only its `evaluate` is to be had, as with any evaluator of one's own."""

    def __init__(self, network: PolicyValueNetwork) -> None:
        self.evaluate = network.evaluate
        self.hints = network.hints


def service(
    evaluator: AnyEvaluator, states: Sequence[LineState], together: bool, domain: ConnectFour
) -> Callable[[], float]:
    """As many requests as states to one search service, all at once or one after another."""
    config = SearchConfig(simulations=SIMULATIONS)
    server = SearchService(domain, evaluator)

    def run() -> float:
        started = time.perf_counter()
        if together:
            tickets = [server.submit(state, config) for state in states]
            results = [ticket.result() for ticket in tickets]
        else:
            results = [server.search(state, config) for state in states]
        return sum(result.simulations for result in results) / (time.perf_counter() - started)

    return run


def escalade(
    domain: Domain[Any], network: AnyEvaluator, states: Sequence[LineState], config: SearchConfig
) -> Callable[[], float]:
    def run() -> float:
        started = time.perf_counter()
        results = search(domain, states, network, config)
        return sum(result.simulations for result in results) / (time.perf_counter() - started)

    return run


def bare(network: PolicyValueNetwork, trees: int, threads: int) -> Callable[[], float]:
    """The evaluator alone, in calls of as many rows as the search makes."""
    rows = max(1, min(network.hints.rows or trees, trees // threads))
    observations = np.random.default_rng(0).integers(0, 2, (rows, 2, 6, 7)).astype(np.float32)
    legal = np.ones((rows, 7), np.bool_)
    calls = max(SIMULATIONS * trees // (rows * threads), 1)

    def work() -> None:
        for _ in range(calls):
            network.evaluate(observations, legal)

    def run() -> float:
        helpers = [threading.Thread(target=work) for _ in range(threads - 1)]
        started = time.perf_counter()
        for helper in helpers:
            helper.start()
        work()
        for helper in helpers:
            helper.join()
        return calls * rows * threads / (time.perf_counter() - started)

    return run


def module(network: PolicyValueNetwork, trees: int, threads: int) -> Callable[[], float]:
    """The torch module on the whole batch, its products spread over so many threads."""
    observations = torch.from_numpy(np.random.default_rng(0).integers(0, 2, (trees, 2, 6, 7)).astype(np.float32))

    def run() -> float:
        torch.set_num_threads(threads)
        with torch.inference_mode():
            started = time.perf_counter()
            for _ in range(SIMULATIONS):
                network(observations)
            taken = time.perf_counter() - started
        torch.set_num_threads(1)
        return SIMULATIONS * trees / taken

    return run


def mctx_engine(network: PolicyValueNetwork, states: Sequence[LineState], gumbel: bool) -> Callable[[], float]:
    call, difference = mctx_search(network, states, gumbel)
    assert difference < 1e-3, f"mctx searches with another network: logits differ by {difference}"
    call()  # compiles

    def run() -> float:
        started = time.perf_counter()
        call()
        return SIMULATIONS * len(states) / (time.perf_counter() - started)

    return run


def open_spiel_engine(network: PolicyValueNetwork, states: Sequence[LineState]) -> Callable[[], float]:
    call, difference = open_spiel_search(network, states, TwoPlanes().encode(states))
    assert difference == 0, "OpenSpiel shows the network another board"
    turns = iter(range(10**9))

    def run() -> float:
        started = time.perf_counter()
        for _ in range(4):
            call(next(turns) % len(states))
        return 4 * SIMULATIONS / (time.perf_counter() - started)

    return run


def contestants(
    network: PolicyValueNetwork, cores: int, counts: Sequence[int], requests: int, peers: Sequence[str], seed: int
) -> Contestants:
    """counts: of trees, from few to many. requests: to a search service."""
    domain = TwoPlanes()
    plain: Any = Plain()
    states = openings(domain, max(*counts, requests, 64), seed)
    puct = SearchConfig(simulations=SIMULATIONS)
    gumbel = SearchConfig(simulations=SIMULATIONS, algorithm="gumbel")
    found: Contestants = {}
    for trees in counts:
        some = states[:trees]
        found["escalade", trees] = escalade(domain, network, some, puct)
        found["escalade_gumbel", trees] = escalade(domain, network, some, gumbel)
        found["escalade_without_network", trees] = escalade(domain, UniformEvaluator(), some, puct)
        threads = min(cores, max(1, trees // 4))
        found["network_evaluator", trees] = bare(network, trees, threads)
        found["network_module", trees] = module(network, trees, 1)
        if cores > 1:
            found["network_module_threads", trees] = module(network, trees, cores)
        if "mctx" in peers:
            found["mctx_gumbel", trees] = mctx_engine(network, some, gumbel=True)
            found["mctx_puct", trees] = mctx_engine(network, some, gumbel=False)
    for name, evaluator in (("service", network), ("service_python_evaluator", InPython(network))):
        found[name, requests] = service(evaluator, states[:requests], True, domain)
        found[f"{name}_one_by_one", 1] = service(evaluator, states[:requests], False, domain)
    found["escalade_python", 64] = escalade(plain, network, states[:64], puct)
    if "openspiel" in peers:
        found["openspiel", 1] = open_spiel_engine(network, states)
    return found


def measure(found: Contestants, repeats: int, turn: float) -> dict[tuple[str, int], list[float]]:
    """Rates of each contestant, one a turn: the median of as many runs as fit into `turn` seconds, after one that does
    not count, in which caches forget the contestant before and its idle threads go to sleep."""
    rates: dict[tuple[str, int], list[float]] = {key: [] for key in found}
    for run in found.values():
        run()  # compiles
    for _ in track(range(repeats), description="taking turns", console=Console(stderr=True)):
        for key, run in found.items():
            run()
            some: list[float] = []
            end = time.perf_counter() + turn
            while not some or time.perf_counter() < end:
                some.append(run())
            rates[key].append(float(np.median(some)))
    return rates


def summary(times: dict[tuple[str, int], list[float]]) -> list[dict[str, Any]]:
    """One row an engine and number of trees. `mctx` and `network` are the faster of their variants."""
    rows = []
    for (engine, trees), rates in times.items():
        low, high = np.quantile(rates, (0.25, 0.75))
        rows.append(
            {
                "engine": engine,
                "trees": trees,
                "simulations_per_second": float(np.median(rates)),
                "quartiles": [float(low), float(high)],
            }
        )
    for engine in ("mctx", "network"):
        of_engine = [row for row in rows if row["engine"].startswith(f"{engine}_")]
        for trees in sorted({row["trees"] for row in of_engine}):
            variants = [row for row in of_engine if row["trees"] == trees]
            best = max(variants, key=lambda row: row["simulations_per_second"])
            rows.append({**best, "engine": engine, "variant": best["engine"]})
    return rows


def ratios(rows: list[dict[str, Any]], requests: int) -> list[tuple[str, int, float, float]]:
    """What is asked of the search: (what, trees, measured, at least)."""
    rate = {(row["engine"], row["trees"]): row["simulations_per_second"] for row in rows}
    asked = []
    for trees, least in ((1, 1.0), (16, 1.2), (64, 1.2), (256, 1.5), (1024, 1.5)):
        asked.append(("escalade / mctx", ("escalade", trees), ("mctx", trees), trees, least))
    for trees in (64, 256, 1024):
        asked.append(("escalade / bare network", ("escalade", trees), ("network", trees), trees, 0.85))
    asked.append(("escalade / OpenSpiel", ("escalade", 1), ("openspiel", 1), 1, 2.0))
    asked.append(("escalade / OpenSpiel", ("escalade", 64), ("openspiel", 1), 64, 20.0))
    asked.append(("plain Python domain / OpenSpiel", ("escalade_python", 64), ("openspiel", 1), 64, 3.0))
    for name in ("service", "service_python_evaluator"):
        what = f"{name.replace('_', ', ', 1).replace('_', ' ')}: together / one by one"
        asked.append((what, (name, requests), (f"{name}_one_by_one", 1), requests, 5.0))
    return [
        (what, trees, rate[over] / rate[under], least)
        for what, over, under, trees, least in asked
        if over in rate and under in rate
    ]


def plot(rows: list[dict[str, Any]], counts: Sequence[int], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(8, 5))
    for engine in ("network", "escalade", "escalade_gumbel", "mctx", "escalade_python", "openspiel"):
        points = sorted((row["trees"], row["simulations_per_second"]) for row in rows if row["engine"] == engine)
        if points:
            axes.plot(*zip(*points, strict=True), marker="o", label=engine.replace("_", ", "))
    axes.set(xscale="log", yscale="log", xlabel="trees searched at once", ylabel="simulations per second")
    axes.set_xticks(counts, [str(trees) for trees in counts])
    axes.grid(alpha=0.3, which="both")
    axes.legend()
    axes.set_title(f"Connect Four, {SIMULATIONS} simulations, the same perceptron for all")
    figure.tight_layout()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=120)
    pyplot.close(figure)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    arguments.add_argument("--repeats", type=int, default=7, help="turns; at least 5 for a median worth the name")
    arguments.add_argument("--seed", type=int, default=0, help="of the openings and of the network's weights")
    arguments.add_argument("--turn", type=float, default=0.1, help="seconds of one contestant's turn")
    arguments.add_argument("--trees", type=int, nargs="+", default=[1, 16, 64, 256, 1024], help="searched at once")
    arguments.add_argument("--requests", type=int, default=100, help="to a search service, together and one by one")
    arguments.add_argument("--peer", choices=PEERS, action="append", help="may be repeated; all if not given")
    arguments.add_argument("--no-peers", action="store_true", help="without mctx and OpenSpiel")
    arguments.add_argument("--json", action="store_true", help="print the rows instead of tables")
    arguments.add_argument("--plot", type=Path, default=Path("out/search.png"), help="where to draw it")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    network = PolicyValueNetwork(NetworkSpec(observation_shape=(2, 6, 7), num_actions=7, norm=False))
    cores = network.hints.calls
    peers = () if options.no_peers else options.peer or PEERS
    found = contestants(network, cores, sorted(options.trees), options.requests, peers, options.seed)
    rows = summary(measure(found, options.repeats, options.turn))
    plot(rows, options.trees, options.plot)
    print(f"plot: {options.plot}", file=sys.stderr)
    if options.json:
        print(json.dumps(rows))
        return
    console = Console(width=max(Console().width, 130))  # no shortened names in a log
    table = Table(title=f"simulations per second, {SIMULATIONS} simulations, {cores} cores, {options.repeats} turns")
    table.add_column("engine")
    columns = sorted({row["trees"] for row in rows})
    for trees in columns:
        table.add_column(f"{trees} trees", justify="right")
    for engine in dict.fromkeys(row["engine"] for row in rows):
        cells = {row["trees"]: row["simulations_per_second"] for row in rows if row["engine"] == engine}
        table.add_row(engine, *(f"{cells[trees]:,.0f}" if trees in cells else "" for trees in columns))
    console.print(table)
    table = Table("ratio", "trees", "measured", "asked")
    for what, trees, measured, least in ratios(rows, options.requests):
        table.add_row(what, str(trees), f"{measured:.2f}", f"{least:.2f}{'' if measured >= least else '  missed'}")
    console.print(table)


if __name__ == "__main__":
    main()
