"""Does a certificate hold, how often is one found, and how much do its thresholds leave to the networks?

    python benchmarks/promise.py                                            # Connect Four, exact labels
    python benchmarks/promise.py --positions positions.csv                  # the same on a file of solved positions
    python benchmarks/promise.py --texts ../shared/data/intents/banking77   # texts, labels by people

Quickly: `--domain tic_tac_toe --bundle builtin:tic_tac_toe --simulations 4 --certifications 20`.

N recorded decisions (real networks, real searches, true labels; see `promise_data.py`) are taken for the whole
population, so that every setting's true loss is known exactly. Then, many times: a tune set and a calibration set are
drawn from it, with replacement; the order of the test is fixed on the one and tested on the other, as `escalade
certify` does; and the true losses of the result are looked up: of the networks' own decisions and of all; only of the
former for promises that cover no more. The same with some of the labels wrong at random (`--noise`), which count as
loss everywhere: the networks' calibrators, the oracle and the promise know those labels only.

`found`: re-splits in which a certificate is found. `one setting`: those in which the single setting that is most likely
to pass, chosen by who knows the population, passes: little more can be expected of any order.
`broken`: re-splits with a certificate whose true loss exceeds alpha; allowed is a share of delta.
`naive`: the same for the boldest setting tested whose loss on the calibration set is at most alpha.
`oracle`: share of states that the best thresholds leave to the networks, were the true losses known.
`of oracle`: mean share of states that the certified networks decide, over that; 0 where none is found.
`limit`: (1 - mu) / (1 - alpha), which no thresholds can exceed.
`mapie`: re-splits in which MAPIE's fixed-sequence test passes the same settings. It needs the package `mapie`.

The calibrators are fitted once, to states outside of the population: they have no part in the promise.
"""

from __future__ import annotations

import argparse
import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from promise_data import Losses, Oracle, Source, classified, mislabelled, played, population
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import binomtest

from escalade.neural.certificate import Covers, promise_name
from escalade.neural.fixed_sequence import least_count, passed
from escalade.training.acceptance_limit import acceptance_limit
from escalade.training.threshold_path import Answers, pareto_front, path_order

PROMISES: tuple[tuple[float, float, Covers], ...] = (
    (0.05, 0.05, "all"),
    (0.02, 0.05, "all"),
    (0.10, 0.10, "all"),
    (0.02, 0.05, "own"),
    (0.01, 0.05, "own"),
)
NOISY: tuple[tuple[float, float, Covers], ...] = (
    (0.05, 0.05, "all"),
    (0.10, 0.05, "all"),
    (0.10, 0.05, "own"),
    (0.15, 0.05, "all"),
    (0.15, 0.05, "own"),
)
"""Where labels are wrong: an alpha below the share of those can hardly be had."""
FOUND, OF_ORACLE = 0.95, 0.85
"""Aims: certificates found where the oracle accepts half of the states or more; share of the oracle's without noise."""


@dataclass
class Tried:
    """What one certification came to. worst: the larger of its two true losses; None: nothing was proven. alone: share
    of states that its networks decide."""

    worst: float | None
    alone: float
    naive_worst: float | None
    best_passes: bool
    as_mapie: bool


def certification(
    everything: Answers,
    random: np.random.Generator,
    sizes: tuple[int, int],
    promise: tuple[float, float, Covers],
    oracle: Oracle,
) -> Tried:
    alpha, delta, covers = promise
    tuning, proving = (everything.take(random.integers(len(everything), size=size)) for size in sizes)
    at_least = int(np.ceil(least_count(alpha, delta) * sizes[0] / sizes[1]))
    front = pareto_front(tuning, at_least=at_least, covers=covers)
    path = front.thresholds[path_order(front, alpha, delta, proving=sizes[1] / sizes[0])]
    seen = Losses(proving, path, covers)
    proven = passed(seen.p_values(alpha), delta)
    naive = np.flatnonzero(seen.worst <= alpha)
    kept = [proven - 1] * bool(proven) + naive[-1:].tolist()
    truth = Losses(everything, path[kept], covers)
    return Tried(
        worst=float(truth.worst[0]) if proven else None,
        alone=truth.counts[0, 0] / len(everything) if proven else 0.0,
        naive_worst=float(truth.worst[-1]) if len(naive) else None,
        best_passes=Losses(proving, oracle.best[None], covers).p_values(alpha)[0] <= delta,
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


def row_of(
    noise: float, promise: tuple[float, float, Covers], everything: Answers, oracle: Oracle, tried: list[Tried]
) -> dict[str, Any]:
    """The figures of many certifications."""
    alpha, delta, covers = promise
    made = [one.worst for one in tried if one.worst is not None]
    naive = [one.naive_worst for one in tried if one.naive_worst is not None]
    alone = float(np.mean([one.alone for one in tried]))
    broken = sum(worst > alpha for worst in made)
    return {
        "noise": noise,
        "alpha": alpha,
        "delta": delta,
        "covers": covers,
        "certifications": len(tried),
        "certificates": len(made),
        "found_95": interval(len(made), len(tried)),
        "one_setting": sum(one.best_passes for one in tried),
        "broken": broken,
        "broken_95": interval(broken, len(tried)),
        "naive_broken": sum(worst > alpha for worst in naive),
        "networks_decide": alone,
        "oracle": oracle.share,
        "of_oracle": alone / oracle.share if oracle.share else None,
        "limit": acceptance_limit(everything, alpha, covers).share,
        "as_mapie": sum(one.as_mapie for one in tried),
    }


def interval(hits: int, count: int) -> list[float]:
    """95 %, Wilson's."""
    found = binomtest(hits, count).proportion_ci(0.95, "wilson")
    return [float(found.low), float(found.high)]


def verdicts(rows: list[dict[str, Any]]) -> list[str]:
    """The aims, and in how many rows they are met."""
    reachable = [row for row in rows if row["oracle"] >= 0.5]
    exact = [row for row in rows if row["noise"] == 0 and row["oracle"] > 0]

    def line(aim: str, judged: list[dict[str, Any]], met: list[bool]) -> str:
        missed = [name_of(row) for row, good in zip(judged, met, strict=True) if not good]
        return f"{aim}: {sum(met)} of {len(judged)} rows" + (f"; not {'; '.join(missed)}" if missed else "")

    return [
        line("broken at most delta", rows, [row["broken"] <= row["delta"] * row["certifications"] for row in rows]),
        line(
            f"a certificate in at least {FOUND:.0%} where the oracle accepts half or more",
            reachable,
            [row["certificates"] >= FOUND * row["certifications"] for row in reachable],
        ),
        line(
            f"at least {OF_ORACLE:.0%} of the oracle's share without noise",
            exact,
            [row["of_oracle"] >= OF_ORACLE for row in exact],
        ),
    ]


def name_of(row: dict[str, Any]) -> str:
    noise = f", {row['noise']:.0%} wrong" if row["noise"] else ""
    return f"alpha {promise_name(row['alpha'], row['covers'])}{noise}"


def table_of(rows: list[dict[str, Any]]) -> Table:
    heads = ("wrong", "alpha", "delta", "found", "one setting", "broken", "95 %", "naive", "decide", "oracle")
    table = Table(*heads, "of oracle", "limit", "mapie")
    for row in rows:
        low, high = row["broken_95"]
        count = row["certifications"]
        table.add_row(
            f"{row['noise']:.0%}",
            promise_name(row["alpha"], row["covers"]),
            f"{row['delta']:g}",
            f"{row['certificates']} of {count}",
            f"{row['one_setting']}",
            f"{row['broken']}",
            f"{low:.1%} to {high:.1%}",
            f"{row['naive_broken']}",
            f"{row['networks_decide']:.1%}",
            f"{row['oracle']:.1%}",
            "" if row["of_oracle"] is None else f"{row['of_oracle']:.1%}",
            f"{row['limit']:.1%}",
            f"{row['as_mapie']}",
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--domain", default="connect_four", help="one with a simulator and an exact solver")
    parser.add_argument("--bundle", default="builtin:connect_four", help="builtin:NAME or a folder")
    parser.add_argument("--positions", type=Path, help="solved positions (moves, score_1 ...) instead of casual games")
    parser.add_argument("--texts", type=Path, help="a folder of labelled texts instead: train.csv and test.csv")
    parser.add_argument("--teach", type=int, default=5000, help="of the train texts, those for the text classifier")
    parser.add_argument("--states", type=int, default=20_000, help="recorded decisions, those for calibrators included")
    parser.add_argument("--fit", type=int, help="of these, those for calibrators; by default a fifth")
    parser.add_argument("--simulations", type=int, default=600, help="of the search behind the networks")
    parser.add_argument("--noise", type=float, nargs="+", default=[0.0, 0.05, 0.1], help="shares of wrong labels")
    parser.add_argument("--certifications", type=int, default=500)
    parser.add_argument("--tune", type=int, default=3000, help="states of each tune set")
    parser.add_argument("--calibrate", type=int, default=3000, help="states of each calibration set")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, default=Path("out/promise"), help="where solved states are kept")
    parser.add_argument("--json", action="store_true", help="print the rows instead of a table")
    options = parser.parse_args()
    if options.texts is not None:
        source = classified(options.texts, options.teach, options.seed)
    else:
        asked = (options.domain, options.bundle, options.states, options.simulations, options.seed, options.folder)
        source = played(*asked, options.positions)
    count = len(source.recorded)
    fit = count // 5 if options.fit is None else options.fit
    if not 100 <= fit <= count - 500:
        parser.error(f"--fit: from 100 to {count - 500} of {count} states, so that 500 are left")
    rows = []
    for noise in options.noise:
        rows += rows_at(noise, source, fit, options)
    if options.json:
        print(json.dumps(rows))
        return
    Console(width=160).print(table_of(rows))
    for told in verdicts(rows):
        print(told)


def rows_at(noise: float, source: Source, fit: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All promises at one share of wrong labels."""
    everything = population(mislabelled(source, noise, options.seed), fit, options.seed)
    losses = zip(everything.rungs, (~everything.right).mean(axis=0).tolist(), strict=True)
    wrong = ", ".join(f"{rung} {share:.2%}" for rung, share in losses)
    stream = Console(stderr=True) if options.json else Console()
    stream.print(
        f"{noise:.0%} of the labels wrong: {options.certifications} certifications from {len(everything)} decisions, "
        f"{options.tune} to tune and {options.calibrate} to prove, seed {options.seed}; wrong alone: {wrong}",
        highlight=False,
        soft_wrap=True,
    )
    rows = []
    for promise in NOISY if noise else PROMISES:
        alpha, _, covers = promise
        oracle = Oracle(everything, alpha, covers)
        random = np.random.default_rng((options.seed, int(alpha * 1000)))
        numbers = track(
            range(options.certifications), f"alpha {promise_name(alpha, covers)}", console=Console(stderr=True)
        )
        sizes = options.tune, options.calibrate
        tried = [certification(everything, random, sizes, promise, oracle) for _ in numbers]
        rows.append(row_of(noise, promise, everything, oracle, tried))
    return rows


if __name__ == "__main__":
    main()
