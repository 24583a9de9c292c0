"""What the ledger adds up to: totals by domain and day, and what was saved against one rung alone."""

from __future__ import annotations

import math
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from escalade.app.ledger_file import AUDITS, COLUMNS, FAILURES, KINDS, SUMS, open_ledger
from escalade.training.intervals import NORMAL


@dataclass(frozen=True)
class Saving:
    """1 - cost / cost of one rung alone, over `count` decisions of which `estimated` did not ask that rung, with its
    95 % interval (a ratio of means, by the delta method); None where nothing was spent. cost: that of audits, which
    would not be made without networks, included."""

    count: int
    estimated: int
    cost: float
    alone: float
    saved: float | None
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Totals:
    """Of one domain over some days. simulated: decisions that a simulated language model had a part in. usd: of the
    priced decisions; seconds: of work; audits, and failures (runs that ended without a decision), cost that much more.
    shares: of decisions, by the rung that made them.
    llm, search: money against that rung alone; search_work: seconds of this machine against the search alone."""

    domain: str
    day: str
    decisions: int
    simulated: int
    best_effort: int
    unpriced: int
    usd: float
    seconds: float
    audits: int
    audits_unpriced: int
    audits_usd: float
    audits_seconds: float
    failures: int
    failures_unpriced: int
    failures_usd: float
    failures_seconds: float
    shares: dict[str, float]
    llm: Saving | None
    search: Saving | None
    search_work: Saving | None


def totals(path: Path, *, domain: str | None = None, since: str | None = None, by_day: bool = False) -> list[Totals]:
    """What the file says of each domain, over all days from `since` (YYYY-MM-DD) on together or each by itself."""
    day = "day" if by_day else "'all'"
    columns = ", ".join(f"sum({name})" for name in COLUMNS)
    where, given = ["1"], []
    for clause, value in (("domain = ?", domain), ("day >= ?", since)):
        if value is not None:
            where.append(clause)
            given.append(value)
    with closing(open_ledger(path)) as database:
        rows = database.execute(
            f"SELECT domain, {day} AS d, source, {columns} FROM totals WHERE {' AND '.join(where)} "  # noqa: S608
            "GROUP BY domain, d, source ORDER BY domain, d, source",
            given,
        ).fetchall()
        beside = [_by_domain_and_day(database, day, where, given, *one) for one in _BESIDE]
    groups: dict[tuple[str, str], dict[str, dict[str, float]]] = {}
    for name, told_day, source, *values in rows:
        groups.setdefault((name, told_day), {})[source] = dict(zip(COLUMNS, values, strict=True))
    for key in beside[1]:  # where nothing but failures was there
        groups.setdefault(key, {})
    audits, failures = beside
    no_audits, no_failures = dict.fromkeys(AUDITS, 0.0), dict.fromkeys(FAILURES, 0.0)
    return [
        _totals(*key, groups[key], audits.get(key, no_audits) | failures.get(key, no_failures))
        for key in sorted(groups)
    ]


_BESIDE = (("audits", AUDITS), ("failures", FAILURES))
"""Tables of what is spent beside decisions, with their columns."""


def _by_domain_and_day(
    database: sqlite3.Connection, day: str, where: list[str], given: list[str], table: str, columns: tuple[str, ...]
) -> dict[tuple[str, str], dict[str, float]]:
    rows = database.execute(
        f"SELECT domain, {day} AS d, {', '.join(f'sum({name})' for name in columns)} FROM {table} "  # noqa: S608
        f"WHERE {' AND '.join(where)} GROUP BY domain, d",
        given,
    ).fetchall()
    return {(name, told): dict(zip(columns, values, strict=True)) for name, told, *values in rows}


def _totals(domain: str, day: str, sources: dict[str, dict[str, float]], beside: dict[str, float]) -> Totals:
    whole = {name: sum(line[name] for line in sources.values()) for name in COLUMNS}
    count = whole["decisions"]
    audits = {"llm_usd": beside["audits_usd"], "search_usd": beside["audits_usd"], "search_s": beside["audits_seconds"]}
    savings = [saving_of({name: whole[f"{kind}_{name}"] for name in SUMS}, audits[kind]) for kind in KINDS]
    return Totals(
        domain=domain,
        day=day,
        decisions=int(count),
        simulated=int(whole["simulated"]),
        best_effort=int(whole["best_effort"]),
        unpriced=int(whole["unpriced"]),
        usd=whole["usd"],
        seconds=whole["seconds"],
        audits=int(beside["audits"]),
        audits_unpriced=int(beside["audits_unpriced"]),
        audits_usd=beside["audits_usd"],
        audits_seconds=beside["audits_seconds"],
        failures=int(beside["failures"]),
        failures_unpriced=int(beside["failures_unpriced"]),
        failures_usd=beside["failures_usd"],
        failures_seconds=beside["failures_seconds"],
        shares={source: line["decisions"] / count for source, line in sources.items()},
        llm=savings[0],
        search=savings[1],
        search_work=savings[2],
    )


def saving_of(sums: dict[str, float], beside: float = 0.0) -> Saving | None:
    """From the sums of pairs; None where there were none. beside: spent for all of them together."""
    n = sums["n"]
    if n == 0:
        return None
    x, y = sums["x"] / n, sums["y"] / n
    known = (int(n), int(sums["estimated"]), sums["x"] + beside, sums["y"])
    if y <= 0:
        return Saving(*known, None, None, None)
    ratio = x / y
    saved = 1 - ratio - beside / sums["y"]
    if n < 2:
        return Saving(*known, saved, None, None)
    # Of x - ratio * y, whose mean is 0 (W. Cochran, Sampling Techniques, 1977, section 2.11).
    variance = (sums["xx"] - 2 * ratio * sums["xy"] + ratio**2 * sums["yy"]) / (n - 1)
    margin = NORMAL * math.sqrt(max(variance, 0.0) / n) / y
    return Saving(*known, saved, saved - margin, min(saved + margin, 1.0))
