"""Does a certificate keep its promise, and does it dare enough? Many certifications from recorded decisions.

A bundle's rungs answer N states whose exact worth is known (real network outputs, real searches, an exact reference).
These N decisions are taken for the whole population, so that every setting's true loss is known exactly. Then, many
times: a tune set and a calibration set are drawn from it, a path is laid on the one and walked on the other, as
`escalade certify` does, and the true losses of the result are looked up: of the networks' own decisions and of all;
only of the former for promises that cover no more.

`broken`: share of certificates with a true loss beyond alpha; allowed is delta, and its binomial error.
`naive`: the same for the boldest setting of the path whose loss on the calibration set is at most alpha.
`of oracle`: mean share of states that the certified networks decide, over that of the boldest setting on the
path whose true loss is at most alpha (the oracle).
`mapie`: certificates for which MAPIE's Learn-then-Test passes the same settings. It needs the extra `bench`.

The calibrators are fitted once, to states outside of the population: they have no part in the promise.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress, track
from rich.table import Table
from scipy.stats import binomtest

from escalade.domains.catalog import load_domain
from escalade.neural.bundle import read_bundle
from escalade.neural.certificate import Covers, promise_name
from escalade.neural.fixed_sequence import least_count, p_value, passed
from escalade.neural.novelty import fit_novelty
from escalade.neural.sources import bundle_folder
from escalade.training.calibrate import fit_calibrator
from escalade.training.certify import HEADROOM
from escalade.training.recorded import Recorded, record
from escalade.training.reference import exact_labels
from escalade.training.threshold_path import Answers, decide, pareto_path

PROMISES: tuple[tuple[float, float, Covers], ...] = (
    (0.05, 0.05, "all"),
    (0.02, 0.05, "all"),
    (0.10, 0.10, "all"),
    (0.02, 0.05, "own"),
    (0.01, 0.05, "own"),
)


def recorded_decisions(name: str, bundle: str, states: int, simulations: int, seed: int, folder: Path) -> Recorded:
    """So many decisions of each rung; the solver's answers are kept in `folder`."""
    import torch

    torch.set_num_threads(1)
    domain = load_domain(name)
    opened = read_bundle(bundle_folder(bundle), domain)
    with Progress(console=Console(stderr=True)) as progress:
        bars: dict[str, Any] = {}

        def tell(what: str, done: int, of: int) -> None:
            if what not in bars:
                bars[what] = progress.add_task(what, total=of)
            progress.update(bars[what], completed=done)

        labelled = exact_labels(
            domain, count=states, seed=seed, folder=folder, on_progress=lambda done, of: tell("solver", done, of)
        )
        return record(domain, opened, labelled, simulations=simulations, seed=seed, on_progress=tell)


def population(recorded: Recorded, fit: int, seed: int) -> Answers:
    """The decisions with the confidences that calibrators, fitted to so many others, make of them."""
    order = np.random.default_rng(seed).permutation(len(recorded))
    fitted, rest = recorded.take(order[:fit]), recorded.take(order[fit:])
    calibrators = {
        rung: fit_calibrator(rung, fitted.features[rung], fitted.right[:, place], seed=seed)
        for place, rung in enumerate(recorded.rungs[:-1])
    }
    return rest.answers(calibrators, fit_novelty(fitted.observations, fitted.states))


@dataclasses.dataclass
class Tried:
    """What one certification came to. worst: the larger of its two true losses. alone: share of states that its
    networks decide; None: nothing was proven."""

    worst: float | None
    alone: float
    naive_worst: float | None
    oracle_alone: float
    as_mapie: bool


class Losses:
    """Counts of a set of decisions for each setting of a path: networks' own and wrong ones, all and wrong ones."""

    def __init__(self, answers: Answers, path: NDArray[np.float64], covers: Covers) -> None:
        neural, self.covers = len(answers.rungs) - 1, covers
        rows = []
        for vector in path:
            found = decide(answers, vector)
            own = found.source < neural
            rows.append((own.sum(), found.wrong[own].sum(), len(own), found.wrong.sum()))
        self.counts = np.array(rows, np.int64).reshape(-1, 4)

    @property
    def worst(self) -> NDArray[np.float64]:
        """The larger of both shares, for each setting; of the networks' own where only they are covered."""
        own, wrong_own, every, wrong = self.counts.T
        alone = wrong_own / np.maximum(own, 1)
        return alone if self.covers == "own" else np.maximum(alone, wrong / every)

    def doubts(self, alpha: float) -> list[float]:
        """The p-value of each setting."""
        own = [p_value(b, a, alpha) for a, b, _, _ in self.counts.tolist()]
        every = [p_value(d, c, alpha) for _, _, c, d in self.counts.tolist()]
        return own if self.covers == "own" else list(map(max, own, every))


def certification(
    everything: Answers,
    random: np.random.Generator,
    tune: int,
    calibrate: int,
    alpha: float,
    delta: float,
    covers: Covers,
) -> Tried:
    tuning, proving = (everything.take(random.integers(len(everything), size=size)) for size in (tune, calibrate))
    at_least = int(np.ceil(2 * least_count(alpha, delta) * tune / calibrate))
    path = pareto_path(tuning, at_least=at_least, most_loss=HEADROOM * alpha, covers=covers)
    truth, seen = Losses(everything, path, covers), Losses(proving, path, covers)
    doubts = seen.doubts(alpha)
    proven = passed(doubts, delta)
    alone = truth.counts[:, 0] / len(everything)
    good, naive = np.flatnonzero(truth.worst <= alpha), np.flatnonzero(seen.worst <= alpha)
    return Tried(
        worst=float(truth.worst[proven - 1]) if proven else None,
        alone=float(alone[proven - 1]) if proven else 0.0,
        naive_worst=float(truth.worst[naive[-1]]) if len(naive) else None,
        oracle_alone=float(alone[good].max()) if len(good) else 0.0,
        as_mapie=mapie_passes(seen, alpha, delta) in (None, proven),
    )


def mapie_passes(seen: Losses, alpha: float, delta: float) -> int | None:
    """How many settings MAPIE passes; None where it is not installed."""
    try:
        from mapie.risk_control._base_controller import ltt_procedure
    except ImportError:
        return None
    own, wrong_own, every, wrong = seen.counts.T
    risks = 1 if seen.covers == "own" else 2
    if not len(own) or (own == 0).any():
        return None
    # MAPIE counts losses by ceil(n x share), which finds one too many where 6 / 1277 x 1277 is a little more than 6
    shares = np.nextafter(np.stack([wrong_own / own, wrong / every]), 0.0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        valid, _ = ltt_procedure(
            shares[:risks],
            np.full((risks, 1), alpha),
            delta,
            np.stack([own, every][:risks]),
            binary=True,
            fwer_method="split_fixed_sequence",
        )
    return len(valid[0])


def row_of(alpha: float, delta: float, covers: Covers, tried: list[Tried]) -> dict[str, Any]:
    """The figures of many certifications."""
    made = [one.worst for one in tried if one.worst is not None]
    broken = sum(worst > alpha for worst in made)
    naive = [one.naive_worst for one in tried if one.naive_worst is not None]
    interval = binomtest(broken, len(tried)).proportion_ci(0.95, "wilson")
    of_oracle = [one.alone / one.oracle_alone for one in tried if one.oracle_alone > 0]
    return {
        "alpha": alpha,
        "delta": delta,
        "covers": covers,
        "certifications": len(tried),
        "certificates": len(made),
        "broken": broken / len(tried),
        "broken_95": [interval.low, interval.high],
        "naive_broken": sum(worst > alpha for worst in naive) / len(tried),
        "networks_decide": float(np.mean([one.alone for one in tried])),
        "of_oracle": float(np.mean(of_oracle)) if of_oracle else None,
        "as_mapie": sum(one.as_mapie for one in tried) / len(tried),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domain", default="connect_four", help="one with a simulator and an exact solver")
    parser.add_argument("--bundle", default="builtin:connect_four", help="builtin:NAME or a folder")
    parser.add_argument("--states", type=int, default=20_000, help="recorded decisions, those for calibrators included")
    parser.add_argument("--fit", type=int, default=4000, help="of these, those for calibrators")
    parser.add_argument("--simulations", type=int, default=600, help="of the search behind the networks")
    parser.add_argument("--certifications", type=int, default=500)
    parser.add_argument("--tune", type=int, default=3000, help="states of each tune set")
    parser.add_argument("--calibrate", type=int, default=3000, help="states of each calibration set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("out/promise"), help="where solved states are kept")
    parser.add_argument("--json", action="store_true", help="print the rows instead of a table")
    options = parser.parse_args()
    if not 200 <= options.fit <= options.states - 1000:
        parser.error(f"--fit: from 200 to {options.states - 1000}, so that a thousand states are left")
    asked = (options.domain, options.bundle, options.states, options.simulations, options.seed, options.folder)
    recorded = recorded_decisions(*asked)
    everything = population(recorded, options.fit, options.seed)
    rows = []
    sizes = options.tune, options.calibrate
    for alpha, delta, covers in PROMISES:
        random = np.random.default_rng((options.seed, int(alpha * 1000)))
        told = f"alpha {promise_name(alpha, covers)}"
        numbers = track(range(options.certifications), description=told, console=Console(stderr=True))
        tried = [certification(everything, random, *sizes, alpha, delta, covers) for _ in numbers]
        rows.append(row_of(alpha, delta, covers, tried))
    if options.json:
        print(json.dumps(rows))
        return
    losses = (~everything.right).mean(axis=0).tolist()
    wrong = ", ".join(f"{rung} {share:.2%}" for rung, share in zip(everything.rungs, losses, strict=True))
    title = (
        f"{options.certifications} certifications from {len(everything)} decisions, {options.tune} to tune and "
        f"{options.calibrate} to prove, seed {options.seed}\nwrong alone: {wrong}"
    )
    table = Table(title=title)
    for column in (
        "alpha",
        "delta",
        "proven",
        "broken",
        "95 %",
        "naive",
        "networks decide",
        "of the oracle's",
        "mapie",
    ):
        table.add_column(column, justify="right")
    for row in rows:
        low, high = row["broken_95"]
        table.add_row(
            promise_name(row["alpha"], row["covers"]),
            f"{row['delta']:g}",
            f"{row['certificates']}",
            f"{row['broken']:.1%}",
            f"{low:.1%} to {high:.1%}",
            f"{row['naive_broken']:.1%}",
            f"{row['networks_decide']:.1%}",
            "" if row["of_oracle"] is None else f"{row['of_oracle']:.1%}",
            f"{row['as_mapie']:.0%}",
        )
    Console().print(table)


if __name__ == "__main__":
    main()
