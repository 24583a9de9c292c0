"""The ledger: what decisions cost, and what they would have cost, by day and domain, in one SQLite file.

Only sums are kept, so it stays small however many decisions there are: of the cost of the ladder, of that of the
language model alone and of the search alone for the same decisions, of their squares and products (for intervals), and
of how many decisions each rung made. Many processes may write to one file. A decision counts once, whatever rungs it
climbed: one that fell back to the language model costs what the networks and the model cost together, so if all fall
back nothing is saved, or less than nothing.
"""

from __future__ import annotations

import logging
import math
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from escalade.app.counterfactual import Alone, Averages, Counterfactuals, work_seconds
from escalade.app.sqlite_file import WRITE_WAIT_S, FileBusy, FileKind, open_file, written_later
from escalade.domains.decision import Decision, FailedDecision
from escalade.training.background import Background, OnFate
from escalade.training.intervals import NORMAL

_SUMS = ("n", "x", "y", "xx", "yy", "xy", "estimated")
"""Of pairs: x what the ladder cost, y what the one rung would have."""
_KINDS = ("llm_usd", "search_usd", "search_s")
_PAIRS = tuple(f"{kind}_{name}" for kind in _KINDS for name in _SUMS)
_COLUMNS = ("decisions", "simulated", "best_effort", "unpriced", "usd", "seconds", *_PAIRS)
_AUDITS = ("audits", "audits_unpriced", "audits_usd", "audits_seconds")
_FAILURES = ("failures", "failures_unpriced", "failures_usd", "failures_seconds")
_AVERAGES = tuple(vars(Averages()))
_TABLES = f"""
CREATE TABLE IF NOT EXISTS totals (
  day TEXT NOT NULL, domain TEXT NOT NULL, source TEXT NOT NULL,
  {", ".join(f"{name} REAL NOT NULL DEFAULT 0" for name in _COLUMNS)},
  PRIMARY KEY (day, domain, source)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS audits (
  day TEXT NOT NULL, domain TEXT NOT NULL, {", ".join(f"{name} REAL NOT NULL DEFAULT 0" for name in _AUDITS)},
  PRIMARY KEY (day, domain)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failures (
  day TEXT NOT NULL, domain TEXT NOT NULL, {", ".join(f"{name} REAL NOT NULL DEFAULT 0" for name in _FAILURES)},
  PRIMARY KEY (day, domain)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS averages (
  domain TEXT PRIMARY KEY, {", ".join(f"{name} REAL NOT NULL DEFAULT 0" for name in _AVERAGES)}) WITHOUT ROWID;
"""
LEDGER = FileKind("ledger", "ESCALADE_LEDGER", _TABLES, version=2)

log = logging.getLogger("escalade")


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


@dataclass(frozen=True)
class AuditCost:
    """Of one audit. usd: None if it has no price."""

    usd: float | None
    seconds: float

    def sums(self) -> dict[str, float]:
        """What it adds to the sums of its day and domain."""
        return dict(zip(_AUDITS, (1.0, float(self.usd is None), self.usd or 0.0, self.seconds), strict=True))


Entry = Decision | FailedDecision | AuditCost


class Ledger:
    """A sink of decisions, and by `failed` of failed ones, that adds to the file from a thread of its own. Close it;
    what it holds when the process ends is written, a killed process loses at most `seconds`. Entries wait while the
    file is locked by others (each try waits `wait_s` for it) or the disk is full, and are tried again after
    `retry_seconds`; see `Background`.
    Raises SettingsError for a file that is none."""

    def __init__(
        self,
        path: Path,
        counterfactuals: Counterfactuals,
        *,
        clock: Callable[[], float] = time.time,
        on_fate: OnFate | None = None,
        seconds: float = 2.0,
        retry_seconds: float = 5.0,
        most: int = 16_384,
        wait_s: float = WRITE_WAIT_S,
    ) -> None:
        self.path, self._counterfactuals, self._clock, self._wait_s = path, counterfactuals, clock, wait_s
        self._begun = False
        try:
            with closing(open_file(path, LEDGER, wait_s)) as database:
                self._begin(database)
        except FileBusy as error:
            log.error("%s; it will be tried again", error)
        self._background: Background[tuple[str, Entry]] = Background(
            self._write,
            what="ledger entries",
            on_fate=on_fate,
            seconds=seconds,
            retry_seconds=retry_seconds,
            most=most,
        )

    def _begin(self, database: sqlite3.Connection) -> None:
        """Read what calls have cost before this process."""
        wanted = f"SELECT {', '.join(_AVERAGES)} FROM averages WHERE domain = ?"  # noqa: S608 -- names of ours
        row = database.execute(wanted, (self._counterfactuals.domain.name,)).fetchone()
        if row is not None:
            self._counterfactuals.averages.add(Averages(*row))
        self._begun = True

    @property
    def written(self) -> int:
        """Entries in the file."""
        return self._background.written

    @property
    def shed(self) -> int:
        """Entries that were given up."""
        return self._background.shed

    def __call__(self, decision: Decision) -> None:
        """Take it in, if there is room."""
        self._background.offer((self._today(), decision))

    def audited(self, usd: float | None, seconds: float) -> None:
        """Take in what an audit cost; None: unpriced."""
        self._background.offer((self._today(), AuditCost(usd, seconds)))

    def failed(self, failed: FailedDecision) -> None:
        """Take in what a run without a decision has cost. One that was refused has cost nothing."""
        if failed.outcome != "refused":
            self._background.offer((self._today(), failed))

    def close(self) -> None:
        self._background.close()

    def _today(self) -> str:
        return time.strftime("%Y-%m-%d", time.gmtime(self._clock()))

    def _write(self, entries: list[tuple[str, Entry]]) -> int:
        if not self._begun:
            with written_later(self.path, LEDGER, self._wait_s) as database:
                self._begin(database)
        before = replace(self._counterfactuals.averages)
        try:
            self._enter(entries)
        except BaseException:
            self._counterfactuals.averages = before  # the same entries may come again
            raise
        return len(entries)

    def _enter(self, entries: list[tuple[str, Entry]]) -> None:
        learned = Averages()
        audits: dict[str, dict[str, float]] = {}
        failures: dict[str, dict[str, float]] = {}
        sums: dict[tuple[str, str, str], dict[str, float]] = {}
        for day, decision in entries:
            if isinstance(decision, AuditCost):
                line = audits.setdefault(day, dict.fromkeys(_AUDITS, 0.0))
                for name, value in decision.sums().items():
                    line[name] += value
                continue
            if isinstance(decision, FailedDecision):
                line = failures.setdefault(day, dict.fromkeys(_FAILURES, 0.0))
                for name, value in failure_of(decision).items():
                    line[name] += value
                continue
            own = self._counterfactuals.learned(decision)
            self._counterfactuals.averages.add(own)
            learned.add(own)
            line = sums.setdefault((day, decision.domain, decision.source), dict.fromkeys(_COLUMNS, 0.0))
            for name, value in entry_of(decision, self._counterfactuals).items():
                line[name] += value
        with written_later(self.path, LEDGER, self._wait_s) as database:
            for key, line in sums.items():
                _upsert(database, "totals", ("day", "domain", "source"), key, line)
            for table, lines in (("audits", audits), ("failures", failures)):
                for day, line in lines.items():
                    _upsert(database, table, ("day", "domain"), (day, self._counterfactuals.domain.name), line)
            _upsert(database, "averages", ("domain",), (self._counterfactuals.domain.name,), vars(learned))


def entry_of(decision: Decision, counterfactuals: Counterfactuals) -> dict[str, float]:
    """What one decision adds to the sums of its day, domain and source, by column."""
    seconds = work_seconds(decision)
    line = {"decisions": 1.0, "best_effort": float(decision.best_effort), "seconds": seconds}
    line["simulated"] = float(decision.simulated)
    if decision.cost_usd is None:
        line["unpriced"] = 1.0
    else:
        line["usd"] = decision.cost_usd
    llm, search = counterfactuals.llm_alone(decision), counterfactuals.search_alone(decision)
    if decision.cost_usd is not None:
        _pair(line, "llm_usd", decision.cost_usd, llm, None if llm is None else llm.usd)
        _pair(line, "search_usd", decision.cost_usd, search, None if search is None else search.usd)
    _pair(line, "search_s", seconds, search, None if search is None else search.seconds)
    return line


def failure_of(failed: FailedDecision) -> dict[str, float]:
    """What one run without a decision adds to the sums of its day and domain, by column."""
    values = (1.0, float(failed.cost_usd is None), failed.cost_usd or 0.0, work_seconds(failed))
    return dict(zip(_FAILURES, values, strict=True))


def _pair(line: dict[str, float], kind: str, x: float, alone: Alone | None, y: float | None) -> None:
    if alone is None or y is None:
        return
    values = {"n": 1.0, "x": x, "y": y, "xx": x * x, "yy": y * y, "xy": x * y, "estimated": float(alone.estimated)}
    line.update({f"{kind}_{name}": value for name, value in values.items()})


def open_ledger(path: Path) -> sqlite3.Connection:
    """The database, made if there is none. Raises SettingsError for a file that is no ledger of this version."""
    return open_file(path, LEDGER)


def _upsert(
    database: sqlite3.Connection, table: str, keys: Sequence[str], key: Sequence[str], values: dict[str, float]
) -> None:
    names = (*keys, *values)
    added = ", ".join(f"{name} = {name} + excluded.{name}" for name in values)
    database.execute(
        f"INSERT INTO {table} ({', '.join(names)}) VALUES ({', '.join('?' * len(names))}) "  # noqa: S608 -- as above
        f"ON CONFLICT ({', '.join(keys)}) DO UPDATE SET {added}",
        (*key, *values.values()),
    )


# Reading


def totals(path: Path, *, domain: str | None = None, since: str | None = None, by_day: bool = False) -> list[Totals]:
    """What the file says of each domain, over all days from `since` (YYYY-MM-DD) on together or each by itself."""
    day = "day" if by_day else "'all'"
    columns = ", ".join(f"sum({name})" for name in _COLUMNS)
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
        groups.setdefault((name, told_day), {})[source] = dict(zip(_COLUMNS, values, strict=True))
    for key in beside[1]:  # where nothing but failures was there
        groups.setdefault(key, {})
    audits, failures = beside
    no_audits, no_failures = dict.fromkeys(_AUDITS, 0.0), dict.fromkeys(_FAILURES, 0.0)
    return [
        _totals(*key, groups[key], audits.get(key, no_audits) | failures.get(key, no_failures))
        for key in sorted(groups)
    ]


_BESIDE = (("audits", _AUDITS), ("failures", _FAILURES))
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
    whole = {name: sum(line[name] for line in sources.values()) for name in _COLUMNS}
    count = whole["decisions"]
    audits = {"llm_usd": beside["audits_usd"], "search_usd": beside["audits_usd"], "search_s": beside["audits_seconds"]}
    savings = [saving_of({name: whole[f"{kind}_{name}"] for name in _SUMS}, audits[kind]) for kind in _KINDS]
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
