"""The ledger: what decisions cost, and what they would have cost, by day and domain, in one SQLite file.

Only sums are kept, so it stays small however many decisions there are: of the cost of the ladder, of that of the
language model alone and of the search alone for the same decisions, of their squares and products (for intervals), and
of how many decisions each rung made. Many processes may write to one file. A decision counts once, whatever rungs it
climbed: one that fell back to the language model costs what the networks and the model cost together, so if all fall
back nothing is saved, or less than nothing.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from escalade.app.counterfactual import Alone, Averages, Counterfactuals, work_seconds
from escalade.app.ledger_file import AUDITS, AVERAGES, COLUMNS, FAILURES, LEDGER
from escalade.app.sqlite_file import WRITE_WAIT_S, FileBusy, open_file, written_later
from escalade.domains.decision import Decision, FailedDecision
from escalade.training.background import CLOSING_S, Background, OnFate

log = logging.getLogger("escalade")


@dataclass(frozen=True)
class AuditCost:
    """Of one audit. usd: None if it has no price."""

    usd: float | None
    seconds: float

    def sums(self) -> dict[str, float]:
        """What it adds to the sums of its day and domain."""
        return dict(zip(AUDITS, (1.0, float(self.usd is None), self.usd or 0.0, self.seconds), strict=True))


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
        wanted = f"SELECT {', '.join(AVERAGES)} FROM averages WHERE domain = ?"  # noqa: S608 -- names of ours
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

    def close(self, seconds: float = CLOSING_S) -> None:
        """Write what waits, as much as that time allows."""
        self._background.close(seconds)

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
                line = audits.setdefault(day, dict.fromkeys(AUDITS, 0.0))
                for name, value in decision.sums().items():
                    line[name] += value
                continue
            if isinstance(decision, FailedDecision):
                line = failures.setdefault(day, dict.fromkeys(FAILURES, 0.0))
                for name, value in failure_of(decision).items():
                    line[name] += value
                continue
            own = self._counterfactuals.learned(decision)
            self._counterfactuals.averages.add(own)
            learned.add(own)
            line = sums.setdefault((day, decision.domain, decision.source), dict.fromkeys(COLUMNS, 0.0))
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
    return dict(zip(FAILURES, values, strict=True))


def _pair(line: dict[str, float], kind: str, x: float, alone: Alone | None, y: float | None) -> None:
    if alone is None or y is None:
        return
    values = {"n": 1.0, "x": x, "y": y, "xx": x * x, "yy": y * y, "xy": x * y, "estimated": float(alone.estimated)}
    line.update({f"{kind}_{name}": value for name, value in values.items()})


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
