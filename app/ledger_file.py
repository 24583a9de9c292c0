"""The ledger's SQLite file: its tables, of which `escalade.app.ledger` is the writer."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from escalade.app.counterfactual import Averages
from escalade.app.sqlite_file import FileKind, open_file

SUMS = ("n", "x", "y", "xx", "yy", "xy", "estimated")
"""Of pairs: x what the ladder cost, y what the one rung would have."""
KINDS = ("llm_usd", "search_usd", "search_s")
_PAIRS = tuple(f"{kind}_{name}" for kind in KINDS for name in SUMS)
COLUMNS = ("decisions", "simulated", "best_effort", "unpriced", "usd", "seconds", *_PAIRS)
AUDITS = ("audits", "audits_unpriced", "audits_usd", "audits_seconds")
FAILURES = ("failures", "failures_unpriced", "failures_usd", "failures_seconds")
AVERAGES = tuple(vars(Averages()))
_TABLES = f"""
CREATE TABLE IF NOT EXISTS totals (
  day TEXT NOT NULL, domain TEXT NOT NULL, source TEXT NOT NULL,
  {", ".join(f"{name} REAL NOT NULL DEFAULT 0" for name in COLUMNS)},
  PRIMARY KEY (day, domain, source)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS audits (
  day TEXT NOT NULL, domain TEXT NOT NULL, {", ".join(f"{name} REAL NOT NULL DEFAULT 0" for name in AUDITS)},
  PRIMARY KEY (day, domain)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS failures (
  day TEXT NOT NULL, domain TEXT NOT NULL, {", ".join(f"{name} REAL NOT NULL DEFAULT 0" for name in FAILURES)},
  PRIMARY KEY (day, domain)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS averages (
  domain TEXT PRIMARY KEY, {", ".join(f"{name} REAL NOT NULL DEFAULT 0" for name in AVERAGES)}) WITHOUT ROWID;
"""
LEDGER = FileKind("ledger", "ESCALADE_LEDGER", _TABLES, version=2)


def open_ledger(path: Path) -> sqlite3.Connection:
    """The database, made if there is none. Raises SettingsError for a file that is no ledger of this version."""
    return open_file(path, LEDGER)
