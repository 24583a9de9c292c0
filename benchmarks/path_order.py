"""In which order should settings be tested? Orders fixed on tune, compared in simulation, with wrong labels as well.

    python benchmarks/path_order.py [--runs 200]

A ladder of one network or of two, and the rung behind them (the reference itself, or a search that is right in 99.2 %
of the states), answers states of a population of 20,000. Confidences rank the answers, imperfectly. For each of many
draws of a tune and a calibration set, every order tests settings of the same Pareto front by fixed-sequence testing:

`timid`: from the most accurate setting of the front to the cheapest.
`likely`: from the one that is most likely to pass to the cheapest: as `escalade certify` does (`path_order`).
`least p`: from the one of the least p-value on tune to the cheapest.
`earlier`: begun at the most accurate setting whose log p-value is at least 0.8 of the least one.
`later`: begun at the cheapest setting whose log p-value is at least half of the least one.
`two`: `likely` and `timid`, at delta / 2 each.
`three`: begun at three evenly spaced places of the front, at delta / 3 each.

A row sums up all networks and sizes at one alpha and share of wrong labels, where the oracle (the best setting of the
population) accepts half of the states or more: certificates found, broken ones, and the mean share of states decided,
of the oracle's.
"""

from __future__ import annotations

import argparse
import itertools
import json
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from promise_data import Losses, Oracle
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.special import expit, ndtr

from escalade.domains.base import IntArray
from escalade.neural.certificate import Covers
from escalade.neural.fixed_sequence import least_count, p_value
from escalade.training.threshold_path import HEADROOM, Answers, Front, decide, pareto_front, path_order, spaced

DELTA = 0.05
ACCURACIES = (0.75, 0.9, 0.97)
LADDERS: tuple[tuple[int, Covers], ...] = ((1, "all"), (2, "all"), (2, "own"))
NOISES = (0.0, 0.05, 0.1)
ALPHAS = (0.02, 0.05, 0.1, 0.15)
SIZES = (500, 1000, 2000, 5000)

Chain = tuple[IntArray, float]
"""Places on the front in the order of the test, and the share of delta at which they are tested."""


def population(accuracy: float, networks: int, noise: float, count: int, seed: int = 0) -> Answers:
    """One network that is right so often, or also a second one that is wrong about two thirds as often."""
    random = np.random.default_rng(seed)
    ease, luck = random.normal(size=count), random.normal(size=count)
    confidence, right = [], []
    for share in (accuracy, accuracy + 0.35 * (1 - accuracy))[:networks]:
        odds = 2.2 * ease + 0.8 * random.normal(size=count)
        low, high = -20.0, 40.0
        while high - low > 1e-6:  # the shift at which it is right so often
            middle = (low + high) / 2
            low, high = (middle, high) if expit(odds + middle).mean() < share else (low, middle)
        odds += low
        right.append(ndtr(0.6 * luck + 0.8 * random.normal(size=count)) < expit(odds))
        confidence.append(expit(odds + 0.5 * random.normal(size=count)).clip(1e-6, 1 - 1e-6))
    if networks == 2:
        right.append(random.random(count) < 0.992)
    answered = np.stack(right, axis=1)
    answered[random.random(count) < noise] = False
    if networks == 1:  # what is behind is the reference, wrong labels and all
        answered = np.concatenate((answered, np.ones((count, 1), np.bool_)), axis=1)
    rungs = ("policy", "reference") if networks == 1 else ("policy", "value", "search")
    cost = np.array([0.0002, 1.0] if networks == 1 else [0.0002, 0.0011, 0.018])
    return Answers(rungs, np.stack(confidence, axis=1), answered, np.zeros((count, networks), np.bool_), cost)


def _timid(front: Front, alpha: float) -> list[Chain]:
    within = np.flatnonzero(front.loss <= HEADROOM * alpha)
    return [(spaced(within) if len(within) else np.zeros(1, np.int64), DELTA)]


def _likely(front: Front, alpha: float) -> list[Chain]:
    return [(path_order(front, alpha, DELTA), DELTA)]


def _least(front: Front, alpha: float) -> list[Chain]:
    first = len(front) - 1 - int(front.p_values(alpha)[::-1].argmin())
    return [(spaced(np.arange(first, _last(front, alpha, first) + 1)), DELTA)]


def _begun(front: Front, alpha: float, part: float, which: int) -> list[Chain]:
    logs = np.log(np.maximum(front.p_values(alpha), 1e-300))
    first = int(np.flatnonzero(logs <= part * logs.min())[which])
    return [(spaced(np.arange(first, _last(front, alpha, first) + 1)), DELTA)]


def _two(front: Front, alpha: float) -> list[Chain]:
    return [(chain, DELTA / 2) for chain, _ in _likely(front, alpha) + _timid(front, alpha)]


def _three(front: Front, alpha: float) -> list[Chain]:
    last = _last(front, alpha, 0)
    return [(spaced(np.arange(last * third // 3, last + 1)), DELTA / 3) for third in range(3)]


def _last(front: Front, alpha: float, first: int) -> int:
    return int(max(np.flatnonzero(front.loss <= HEADROOM * alpha).max(initial=0), first))


ORDERS: dict[str, Callable[[Front, float], list[Chain]]] = {
    "timid": _timid,
    "likely": _likely,
    "least p": _least,
    "earlier": lambda front, alpha: _begun(front, alpha, 0.8, 0),
    "later": lambda front, alpha: _begun(front, alpha, 0.5, -1),
    "two": _two,
    "three": _three,
}


class Tested:
    """p-values of a front's settings on a calibration set, each worked out once."""

    def __init__(self, front: Front, proving: Answers, alpha: float) -> None:
        self.front, self.proving, self.alpha = front, proving, alpha
        self._known: dict[int, float] = {}

    def p_value(self, place: int) -> float:
        if place not in self._known:
            found = decide(self.proving, self.front.thresholds[place])
            own = found.source < len(self.proving.rungs) - 1
            value = p_value(int(found.wrong[own].sum()), int(own.sum()), self.alpha)
            if self.front.covers == "all":
                value = max(value, p_value(int(found.wrong.sum()), len(own), self.alpha))
            self._known[place] = value
        return self._known[place]

    def proven(self, chains: list[Chain]) -> int | None:
        """The cheapest setting that one of the chains proves."""
        found: list[int] = []
        for places, delta in chains:
            passing = itertools.takewhile(lambda place, level=delta: self.p_value(place) <= level, places.tolist())
            found += passing
        return max(found, default=None)


def compared(everything: Answers, oracle: Oracle, size: int, alpha: float, covers: Covers, runs: int) -> dict[str, Any]:
    """By order: certificates found and broken, and the sum of the shares decided, of the oracle's."""
    random = np.random.default_rng((size, round(1000 * alpha)))
    sums = {name: np.zeros(3) for name in ORDERS}
    truths: dict[bytes, NDArray[np.float64]] = {}
    for _ in range(runs):
        tune, proving = (everything.take(random.integers(len(everything), size=size)) for _ in range(2))
        front = pareto_front(tune, at_least=least_count(alpha, DELTA), covers=covers)
        if not len(front):
            continue
        tested = Tested(front, proving, alpha)
        for name, order in ORDERS.items():
            place = tested.proven(order(front, alpha))
            if place is None:
                continue
            vector = front.thresholds[place]
            if vector.tobytes() not in truths:
                truth = Losses(everything, vector[None], covers)
                share = truth.counts[0, 0] / len(everything) / oracle.share
                truths[vector.tobytes()] = np.array([1.0, float(truth.worst[0] > alpha), share])
            sums[name] += truths[vector.tobytes()]
    return sums


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100, help="draws for each network, size and alpha")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="states to tune, and as many to calibrate")
    parser.add_argument("--population", type=int, default=20_000, help="states in each population")
    parser.add_argument("--json", action="store_true", help="print the rows instead of a table")
    options = parser.parse_args()
    totals: dict[tuple[float, float], dict[str, NDArray[np.float64]]] = {}
    cases = list(itertools.product(ACCURACIES, LADDERS, NOISES))
    for accuracy, (networks, covers), noise in track(cases, "populations", console=Console(stderr=True)):
        everything = population(accuracy, networks, noise, options.population)
        for alpha in ALPHAS:
            oracle = Oracle(everything, alpha, covers)
            if oracle.share < 0.5:
                continue
            for size in options.sizes:
                found = compared(everything, oracle, size, alpha, covers, options.runs)
                total = totals.setdefault((noise, alpha), {name: np.zeros(4) for name in ORDERS})
                for name, sums in found.items():
                    total[name] += [*sums, options.runs]
    rows = [
        {"noise": noise, "alpha": alpha, "order": name, "draws": int(draws)}
        | {"found": found / draws, "broken": broken / draws, "of_oracle": share / draws}
        for (noise, alpha), by_order in sorted(totals.items())
        for name, (found, broken, share, draws) in by_order.items()
    ]
    if options.json:
        print(json.dumps(rows))
        return
    table = Table("wrong", "alpha", "draws", *ORDERS, title=f"found / broken / of the oracle's share, %, delta {DELTA}")
    for (noise, alpha), group in itertools.groupby(rows, lambda row: (row["noise"], row["alpha"])):
        told = list(group)
        cells = [f"{100 * row['found']:.1f} / {100 * row['broken']:.1f} / {100 * row['of_oracle']:.1f}" for row in told]
        table.add_row(f"{noise:.0%}", f"{alpha:g}", f"{told[0]['draws']}", *cells)
    Console(width=170).print(table)


if __name__ == "__main__":
    main()
