"""Which texts are novel to a network that knows others, and what it costs to tell.

Novelty is fitted to texts of `--known`, as `escalade certify` fits it to the half of its states that tunes. What it
then finds novel is counted

- of `--fresh`, texts drawn as the known ones, of which the limit is to leave out 1 - quantile; also mistyped, in upper
  case and with emojis;
- of `--other`, texts of other subjects in CLINC150's form: its out-of-scope queries, what else is not about money, and
  what is, which is near;
- of texts in other languages, code, and noise (`benchmarks/novelty_texts.json`).

Shares are means over the draws of known texts, with 95 % Wilson intervals for so many texts; AUROC is of each set
against the fresh texts. For Banking77 and CLINC150 in `data`:

    python benchmarks/novelty.py --known data/banking77/train.csv --fresh data/banking77/test.csv \\
        --other data/clinc150/data_full.json
"""

from __future__ import annotations

import argparse
import csv
import json
import random
import time
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from scipy.stats import binomtest, rankdata

from escalade.domains.base import FloatArray
from escalade.domains.intents import Intents
from escalade.neural.novelty import Novelty, fit_novelty

# fmt: off
MONEY = frozenset((
    "account_blocked", "application_status", "apr", "balance", "bill_balance", "bill_due", "card_declined",
    "credit_limit", "credit_limit_change", "credit_score", "damaged_card", "direct_deposit", "exchange_rate",
    "expiration_date", "freeze_account", "improve_credit_score", "interest_rate", "international_fees",
    "min_payment", "new_card", "order_checks", "pay_bill", "pin_change", "redeem_rewards",
    "replacement_card_duration", "report_fraud", "report_lost_card", "rewards_balance", "routing",
    "spending_history", "transactions", "transfer",
))
# fmt: on
"""CLINC150's intents that a bank's customers may well mean."""
LETTERS = "abcdefghijklmnopqrstuvwxyz"


def mistyped(text: str, draw: random.Random) -> str:
    """With a letter swapped, left out or put in, once for every 25 characters."""
    letters = list(text)
    for _ in range(max(1, len(text) // 25)):
        place = draw.randrange(max(len(letters) - 1, 1))
        match draw.randrange(3):
            case 0:
                letters[place : place + 2] = letters[place : place + 2][::-1]
            case 1 if len(letters) > 1:
                del letters[place]
            case _:
                letters.insert(place, draw.choice(LETTERS))
    return "".join(letters)


def column(path: Path) -> list[str]:
    with path.open(newline="", encoding="utf-8") as file:
        return [row["text"] for row in csv.DictReader(file)]


def sets_of(fresh: list[str], other: Path | None) -> dict[str, list[str]]:
    draw = random.Random(0)
    sets = {
        "fresh": fresh,
        "mistyped": [mistyped(text, draw) for text in fresh],
        "upper case": [text.upper() for text in fresh],
        "with emojis": [f"{text} 🙏😊" for text in fresh],
    }
    if other is not None:
        data = json.loads(other.read_text(encoding="utf-8"))
        sets["out of scope"] = [text for text, _ in data["oos_test"]]
        sets["other subjects"] = [text for text, label in data["test"] if label not in MONEY]
        sets["about money"] = [text for text, label in data["test"] if label in MONEY]
    strange = json.loads(Path(__file__).with_name("novelty_texts.json").read_text(encoding="utf-8"))
    return sets | strange


def auroc(usual: NDArray[np.float64], strange: NDArray[np.float64]) -> float:
    """How often a strange text is farther than a usual one, ties counted half."""
    ranks = rankdata(np.concatenate((strange, usual)))[: len(strange)]
    return float((ranks.mean() - (len(strange) + 1) / 2) / len(usual))


def microseconds(novelty: Novelty, observations: FloatArray, texts: list[str]) -> float:
    """Of one text at a time, the median of the best of 20."""
    best = np.full(len(texts), np.inf)
    for _ in range(20):
        for place, text in enumerate(texts):
            one = observations[place : place + 1]
            began = time.perf_counter()
            novelty.distances(one, (text,))
            best[place] = min(best[place], time.perf_counter() - began)
    return float(np.median(best)) * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--known", type=Path, required=True, help="CSV file with a column text")
    parser.add_argument("--fresh", type=Path, required=True, help="CSV file with a column text")
    parser.add_argument("--other", type=Path, help="JSON file in the form of CLINC150")
    parser.add_argument("--fit", type=int, nargs="+", default=[500, 1500, 5000, 10000], help="known texts to fit to")
    parser.add_argument("--draws", type=int, default=5, help="of known texts")
    parser.add_argument("--quantile", type=float, nargs="+", default=[None])
    parser.add_argument("--smoothing", type=float, nargs="+", default=[4.0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the rows instead of tables")
    options = parser.parse_args()
    domain = Intents(["a", "b"])  # texts are encoded alike whatever the labels

    def read(texts: list[str]) -> tuple[list[str], FloatArray]:
        states = [domain.parse(text) for text in texts]
        return states, domain.encode(states)

    known, known_seen = read(column(options.known))
    sets = {name: read(texts) for name, texts in sets_of(column(options.fresh), options.other).items()}
    rows: list[dict[str, Any]] = []
    sizes = sorted({min(size, len(known)) for size in options.fit})
    for size, quantile, smoothing in product(sizes, options.quantile, options.smoothing):
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in sets}
        draws = 1 if size == len(known) else options.draws
        for turn in range(draws):
            taken = np.random.default_rng((options.seed, size, turn)).permutation(len(known))[:size]
            texts = [known[place] for place in taken]
            novelty = fit_novelty(
                known_seen[taken], texts, bag_of_features=True, quantile=quantile, smoothing=smoothing
            )
            far = {name: novelty.distances(seen, states) for name, (states, seen) in sets.items()}
            for name, distances in far.items():
                found[name].append((float((distances > novelty.spec.limit).mean()), auroc(far["fresh"], distances)))
        states, seen = sets["fresh"]
        row: dict[str, Any] = {
            "fit": size,
            "draws": draws,
            "quantile": novelty.spec.quantile,
            "smoothing": smoothing,
            "microseconds": microseconds(novelty, seen[:50], states[:50]),
        }
        for name, (states, _) in sets.items():
            share, area = np.mean(found[name], axis=0).tolist()
            ends = binomtest(round(share * len(states)), len(states)).proportion_ci(0.95, "wilson")
            row[name] = {
                "count": len(states),
                "share": share,
                "low": float(ends.low),
                "high": float(ends.high),
                "auroc": area,
            }
        rows.append(row)
    if options.json:
        print(json.dumps(rows))
        return
    console = Console()
    for row in rows:
        table = Table(
            title=f"novel to {row['fit']} known texts ({row['draws']} draws), quantile {row['quantile']:g}, smoothing "
            f"{row['smoothing']:g}: {row['microseconds']:.1f} microseconds a text"
        )
        for title in ("texts", "count", "novel", "95 %", "AUROC"):
            table.add_column(title, justify="left" if title == "texts" else "right")
        for name in sets:
            one = row[name]
            table.add_row(
                name,
                str(one["count"]),
                f"{one['share']:.1%}",
                f"{one['low']:.1%} to {one['high']:.1%}",
                f"{one['auroc']:.3f}",
            )
        console.print(table)


if __name__ == "__main__":
    main()
