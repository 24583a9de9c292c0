"""How soon audits notice that accepted decisions have become worse, and how often they cry without cause. Simulated:
the losses are drawn, the audits and the detector are those that serve.

`drift`: the risk of accepted decisions jumps from 2 % to 15 % after so many good ones; decisions until the alarm.
`boundary`: the risk is exactly alpha; share of runs of 100,000 decisions with an alarm, which is to be at most what is
stated. The detector looks at the audited decisions alone.
"""

from __future__ import annotations

import argparse
import json

import numpy as np
from rich.console import Console
from rich.progress import track
from rich.table import Table
from scipy.stats import binomtest

from escalade.app.watch import HORIZON, WatchConfig
from escalade.neural.e_detector import EDetector

ALPHA, GOOD, BAD = 0.05, 0.02, 0.15


def audits_to_alarm(random: np.random.Generator, risks: np.ndarray, limit: float) -> int | None:
    """The audit, from 0, at which the alarm comes; None if it does not."""
    detector = EDetector(ALPHA, limit)
    for place, wrong in enumerate((random.random(len(risks)) < risks).tolist()):
        if detector.update(wrong):
            return place
    return None


def drift(config: WatchConfig, good: int, runs: int, seed: int) -> dict[str, float]:
    """good: accepted decisions before the jump."""
    random, before = np.random.default_rng((seed, good)), round(good * config.share)
    after = round(HORIZON * config.share)
    risks = np.concatenate((np.full(before, GOOD), np.full(after, BAD)))
    found = []
    for _ in track(range(runs), description=f"drift after {good}", console=Console(stderr=True)):
        alarm = audits_to_alarm(random, risks, config.limit)
        # Between two audits lie as many decisions as a geometric draw says.
        audits = after if alarm is None else alarm - before + 1
        found.append(float(random.negative_binomial(audits, config.share) + audits) if audits > 0 else 0.0)
    return {
        "good_decisions": good,
        "median": float(np.median(found)),
        "p90": float(np.quantile(found, 0.9)),
        "early": sum(delay == 0 for delay in found),
    }


def boundary(config: WatchConfig, runs: int, seed: int) -> dict[str, float]:
    random = np.random.default_rng((seed, 1))
    alarms = 0
    for _ in track(range(runs), description="boundary", console=Console(stderr=True)):
        audits = int(random.binomial(HORIZON, config.share))
        alarms += audits_to_alarm(random, np.full(audits, ALPHA), config.limit) is not None
    low, high = binomtest(alarms, runs).proportion_ci(0.95, "wilson")
    return {"runs": runs, "alarms": alarms, "rate": alarms / runs, "low": float(low), "high": float(high)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--share", type=float, default=0.05, help="of decisions that are audited")
    parser.add_argument("--false-alarms", type=float, default=0.05, help="stated chance within 100,000 decisions")
    parser.add_argument("--runs", type=int, default=400)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="print the rows instead of a table")
    options = parser.parse_args()
    config = WatchConfig(options.share, options.false_alarms)
    drifts = [drift(config, good, options.runs, options.seed) for good in (0, 10_000, 50_000)]
    still = boundary(config, options.runs, options.seed)
    if options.json:
        print(json.dumps({"simulated": True, "drift": drifts, "boundary": still}))
        return
    table = Table(
        title=f"simulated: {options.runs} runs each, audits {config.share:.0%}, alpha {ALPHA}, seed {options.seed}"
    )
    for column in ("accepted risk", "after", "median decisions to alarm", "90 %", "alarms before"):
        table.add_column(column, justify="right")
    for row in drifts:
        cells = (f"{row['good_decisions']:,}", f"{row['median']:,.0f}", f"{row['p90']:,.0f}", f"{row['early']}")
        table.add_row(f"{GOOD:.0%} to {BAD:.0%}", *cells)
    Console().print(table)
    Console().print(
        f"at the boundary ({ALPHA:.0%}), within {HORIZON:,} decisions: {still['alarms']} alarms in {still['runs']} "
        f"runs, {still['rate']:.1%} ({still['low']:.1%} to {still['high']:.1%}); stated: at most "
        f"{config.false_alarms:.0%}"
    )


if __name__ == "__main__":
    main()
