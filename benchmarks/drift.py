"""What the watch does when the states of production become others: real decisions of a certified bundle, real audits.

First the positions are as those were that the certificates are about, one of each of many casual games. Then come
critical ones, of a file of exactly solved positions: early, and with some moves worse than others. Positions are drawn
with replacement, so that any number of decisions can be made; the networks, their certificates, the router, the audits
and the file that keeps them are those that serve. Audits look up the exact scores that are known of all positions.

A row for each time: before, after the change until the first alarm, and as many decisions again after that alarm.
`certified`: share that networks decide under a certificate. `wrong`: share of those that is wrong, with its 95 %
interval. The drawing has the wrong share of the last 1000 certified decisions and what the detector made of it.
"""

from __future__ import annotations

import argparse
import asyncio
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from escalade.app.auditor import Auditor
from escalade.app.watch import Watch, WatchConfig
from escalade.app.watch_file import watched
from escalade.domains.catalog import load_domain
from escalade.graph.decision import decided, make_resources, wire
from escalade.neural.bundle import read_bundle
from escalade.neural.sources import bundle_folder
from escalade.nodes.context import DecisionContext
from escalade.training.drawing import COLOURS, new_figure, save_figure
from escalade.training.exact import read_positions
from escalade.training.exact_labels import exact_labels
from escalade.training.intervals import share_of
from escalade.training.reference import Labelled, of_positions

AT_ONCE = 10
"""Decisions under way together; their audits are made before the next ones begin."""
LOOK_BACK = 1000


@dataclasses.dataclass
class Lived:
    """What was seen so far, an entry a decision: who decided, whether a certificate let it, whether it was wrong; and
    the detector's value after it, for each alpha."""

    source: list[str] = dataclasses.field(default_factory=list)
    certified: list[bool] = dataclasses.field(default_factory=list)
    wrong: list[bool] = dataclasses.field(default_factory=list)
    detector: dict[float, list[float]] = dataclasses.field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.source)

    def row(self, when: str, part: slice, audits: int) -> dict[str, Any]:
        certified = np.array(self.certified[part], np.bool_)
        wrong = np.array(self.wrong[part], np.bool_)
        return {
            "when": when,
            "decisions": len(certified),
            "certified": float(certified.mean()),
            "wrong": dataclasses.asdict(share_of(wrong[certified])),
            "wrong_of_all": dataclasses.asdict(share_of(wrong)),
            "audits": audits,
        }


class Production:
    """A decision graph with a watch, and the positions whose worth is known."""

    def __init__(self, bundle: str, alpha: float, config: WatchConfig, known: dict[str, set[int]], file: Path) -> None:
        self.domain = load_domain("connect_four")
        resources = make_resources(self.domain, bundle=bundle)
        reports = Auditor(resources, "labels").neural_reports
        self.watch = Watch(file, self.domain, resources.certificates, known.get, reports, config)
        self.resources = dataclasses.replace(resources, sinks=(self.watch,), watch=self.watch)
        self.graph = wire(self.resources).compile()
        self.context = DecisionContext(alpha=alpha)
        self.file, self.known, self.lived = file, known, Lived()

    @property
    def alarms(self) -> list[float]:
        """Alphas of the certificates that are not used any more."""
        return sorted(one.alpha for one in self.resources.certificates if self.watch.problem(one) is not None)

    @property
    def audits(self) -> int:
        return max((one.audits for one in watched(self.file)), default=0)

    async def decide(self, texts: list[str]) -> None:
        """Decide some states, and make the audits among them."""
        first = len(self.lived)
        asked = (
            self.graph.ainvoke({"state": text, "decision_id": f"{first + place}"}, context=self.context)
            for place, text in enumerate(texts)
        )
        for text, answer in zip(texts, await asyncio.gather(*asked), strict=True):
            decision = decided(answer)
            self.lived.source.append(decision["source"])
            self.lived.certified.append(decision["certified"])
            self.lived.wrong.append(decision["action"] not in self.known[text])
        self.watch.flush()
        for one in watched(self.file):
            self.lived.detector.setdefault(one.alpha, [0.0] * first).extend([one.value] * len(texts))

    def close(self) -> None:
        self.watch.close()
        for network in {self.resources.network, self.resources.value_network}:
            if network is not None:
                network.close()
        if self.resources.search is not None:
            self.resources.search.close()


def critical(path: Path, before_ply: int) -> Labelled:
    """The positions of a file with fewer plies, where some moves are worse than others."""
    positions = read_positions(path, load_domain("connect_four"))
    differ = (positions.optimal != positions.legal).any(axis=1)
    return of_positions(positions, path.name).take(np.flatnonzero(differ & (positions.ply < before_ply)))


def known_actions(*parts: Labelled) -> dict[str, set[int]]:
    return {
        text: set(np.flatnonzero(right).tolist())
        for part in parts
        for text, right in zip(part.states, part.acceptable, strict=True)
    }


async def live(
    production: Production, usual: Labelled, changed: Labelled, decisions: int, most: int, seed: int
) -> tuple[list[dict[str, Any]], int, int | None]:
    """Rows, the place of the change, and that of the first alarm after it, if it comes within `most` decisions."""
    random, lived = np.random.default_rng(seed), production.lived

    def drawn(part: Labelled) -> list[str]:
        return [part.states[place] for place in random.integers(len(part), size=AT_ONCE).tolist()]

    rows = []
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("usual", total=decisions)
        while len(lived) < decisions:
            await production.decide(drawn(usual))
            progress.update(bar, completed=len(lived))
        change, audits = len(lived), production.audits
        rows.append(lived.row("usual", slice(0, change), audits))
        early = len(production.alarms)
        bar = progress.add_task("critical", total=most)
        while len(production.alarms) == early and len(lived) < change + most:
            await production.decide(drawn(changed))
            progress.update(bar, completed=len(lived) - change)
        alarm, audited = len(lived), production.audits
        rows.append(lived.row("critical", slice(change, alarm), audited - audits))
        if len(production.alarms) == early:
            return rows, change, None
        bar = progress.add_task("after the alarm", total=alarm - change)
        while len(lived) < 2 * alarm - change:
            await production.decide(drawn(changed))
            progress.update(bar, completed=len(lived) - alarm)
        rows.append(lived.row("after the alarm", slice(alarm, None), production.audits - audited))
    return rows, change, alarm


def draw(lived: Lived, change: int, alarm: int | None, alpha: float, limit: float, path: Path) -> None:
    figure = new_figure((8.0, 5.5))
    upper, lower = figure.subplots(2, sharex=True)
    certified = np.flatnonzero(lived.certified)
    wrong = np.cumsum(np.concatenate(([0], np.array(lived.wrong, np.float64)[certified])))
    ends = np.arange(LOOK_BACK, len(certified) + 1)
    shares: NDArray[np.float64] = (wrong[ends] - wrong[ends - LOOK_BACK]) / LOOK_BACK
    upper.plot(certified[ends - 1], 100 * shares, color=COLOURS[0])
    upper.axhline(100 * alpha, color=COLOURS[1], linestyle="--", label=f"promised: at most {alpha:.0%}")
    upper.set_ylabel(f"wrong, %, of the last\n{LOOK_BACK} certified decisions")
    upper.set_ylim(bottom=0)
    for colour, (each, values) in zip(COLOURS[2:], sorted(lived.detector.items(), reverse=True), strict=False):
        lower.plot(np.arange(len(values)), np.maximum(values, 0.1), color=colour, label=f"alpha {each:g}")
    lower.axhline(limit, color=COLOURS[1], linestyle="--", label="alarm")
    lower.set(yscale="log", xlabel="decisions", ylabel="detector")
    for axes in (upper, lower):
        axes.axvline(change, color="gray", linestyle=":", label="positions change")
        if alarm is not None:
            axes.axvline(alarm, color="black", linestyle=":", label="first alarm")
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    save_figure(figure, path)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("positions", type=Path, help="CSV of solved positions: moves, score_1 … score_7")
    parser.add_argument("--bundle", default="builtin:connect_four", help="builtin:NAME or a folder; certified")
    parser.add_argument("--alpha", type=float, default=0.05, help="that decisions ask for")
    parser.add_argument("--share", type=float, default=0.2, help="of certified decisions that are audited")
    parser.add_argument("--false-alarms", type=float, default=0.05, help="stated chance within 100,000 decisions")
    parser.add_argument("--before-ply", type=int, default=12, help="critical positions have fewer plies")
    parser.add_argument("--usual", type=int, default=2000, help="games that usual positions are drawn from")
    parser.add_argument("--decisions", type=int, default=10_000, help="before the change")
    parser.add_argument("--most", type=int, default=50_000, help="decisions after the change until the alarm, at most")
    parser.add_argument("--seed", type=int, default=17, help="other than the certificate's")
    parser.add_argument("--out", type=Path, default=Path("out/drift"), help="for the drawing, and solved positions")
    parser.add_argument("--json", action="store_true", help="print the rows instead of a table")
    options = parser.parse_args()
    torch.set_num_threads(1)
    changed = critical(options.positions, options.before_ply)
    if not len(changed):
        parser.error(f"positions: none of {options.positions} is critical before ply {options.before_ply}")
    with Progress(console=Console(stderr=True)) as progress:
        bar = progress.add_task("solving usual positions", total=options.usual)
        domain = load_domain("connect_four")
        usual = exact_labels(
            domain,
            count=options.usual,
            seed=options.seed,
            bundle=read_bundle(bundle_folder(options.bundle), domain),
            folder=options.out,
            on_progress=lambda done, _: progress.update(bar, completed=done),
        )
    config = WatchConfig(options.share, options.false_alarms)
    with tempfile.TemporaryDirectory() as folder:
        production = Production(
            options.bundle, options.alpha, config, known_actions(usual, changed), Path(folder, "watch.sqlite")
        )
        if not production.resources.certificates:
            parser.error(f"--bundle: {options.bundle} has no certificate")
        try:
            lived = live(production, usual, changed, options.decisions, options.most, options.seed)
            rows, change, alarm = asyncio.run(lived)
            told = {one.alpha: one.problem for one in watched(production.file)}
        finally:
            production.close()
    draw(production.lived, change, alarm, options.alpha, config.limit, options.out / "drift.png")
    if options.json:
        late = None if alarm is None else alarm - change
        print(json.dumps({"rows": rows, "to_alarm": late, "problems": told}))
        return
    title = f"{len(usual)} usual and {len(changed)} critical positions, audits {options.share:.0%}, seed {options.seed}"
    table = Table(title=title)
    for column in ("positions", "decisions", "certified", "wrong of those", "wrong of all", "audits"):
        table.add_column(column, justify="right")
    for row in rows:
        wrong = row["wrong"]
        own = f"{wrong['share']:.1%} ({wrong['low']:.1%}–{wrong['high']:.1%})" if wrong["count"] else ""
        cells = (f"{row['decisions']:,}", f"{row['certified']:.1%}", own, f"{row['wrong_of_all']['share']:.1%}")
        table.add_row(row["when"], *cells, f"{row['audits']:,}")
    Console().print(table)
    if alarm is None:
        Console().print(f"no alarm within {options.most:,} decisions after the change")
    for alpha, problem in sorted(told.items(), reverse=True):
        Console().print(f"alpha {alpha:g}: {problem or 'holds'}", highlight=False, soft_wrap=True)
    Console().print(f"drawn: {options.out / 'drift.png'}", highlight=False)


if __name__ == "__main__":
    main()
