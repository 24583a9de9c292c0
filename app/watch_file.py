"""The watch's file: what audits have found of each certificate, which of them wait for an outcome, and which outcomes
came before their audit."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass, fields
from pathlib import Path

from escalade.app.sqlite_file import FileKind, open_file
from escalade.neural.e_detector import RISKS

_TABLES = """
CREATE TABLE IF NOT EXISTS detectors (
  certificate TEXT PRIMARY KEY, domain TEXT NOT NULL, alpha REAL NOT NULL, delta REAL NOT NULL, reference TEXT NOT NULL,
  bundle TEXT NOT NULL, alarm_limit REAL NOT NULL, wealth TEXT NOT NULL, audits INTEGER NOT NULL,
  wrong INTEGER NOT NULL, since REAL NOT NULL, alarm_at REAL, problem TEXT) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS pending (
  number INTEGER PRIMARY KEY, domain TEXT NOT NULL, decision TEXT NOT NULL, document TEXT NOT NULL,
  UNIQUE (domain, decision));
CREATE TABLE IF NOT EXISTS early (
  number INTEGER PRIMARY KEY, domain TEXT NOT NULL, decision TEXT NOT NULL, action INTEGER NOT NULL,
  UNIQUE (domain, decision));
CREATE TABLE IF NOT EXISTS taught (domain TEXT PRIMARY KEY, audits INTEGER NOT NULL) WITHOUT ROWID;
"""
WATCH = FileKind("watch", "ESCALADE_WATCH", _TABLES, version=3)


def problem_of(database: sqlite3.Connection, key: str) -> str | None:
    found: str | None = database.execute("SELECT problem FROM detectors WHERE certificate = ?", (key,)).fetchone()[0]
    return found


def problems_in(database: sqlite3.Connection) -> dict[str, str]:
    """Why certificates are not to be used any more, by key."""
    rows = database.execute("SELECT certificate, problem FROM detectors WHERE alarm_at IS NOT NULL").fetchall()
    return {key: problem or "the watch raised the alarm" for key, problem in rows}


@dataclass(frozen=True)
class Watched:
    """What the file says of one certificate. value, over limit: how near the alarm is."""

    domain: str
    alpha: float
    delta: float
    reference: str
    bundle: str
    audits: int
    wrong: int
    since: float
    limit: float
    problem: str | None
    value: float


def watched(path: Path, domain: str | None = None) -> list[Watched]:
    """All certificates in a watch's file."""
    with closing(open_watch_file(path)) as database:
        rows = database.execute(
            "SELECT wealth, domain, alpha, delta, reference, bundle, audits, wrong, since, alarm_limit, problem "
            "FROM detectors WHERE domain = coalesce(?, domain) ORDER BY domain, alpha, since",
            (domain,),
        ).fetchall()
    names = [field.name for field in fields(Watched) if field.name != "value"]
    return [
        Watched(**dict(zip(names, told, strict=True)), value=sum(json.loads(wealth)) / len(RISKS))
        for wealth, *told in rows
    ]


def pending(path: Path, domain: str | None = None) -> dict[str, int]:
    """How many audits wait for their outcome, by domain."""
    with closing(open_watch_file(path)) as database:
        rows = database.execute(
            "SELECT domain, count(*) FROM pending WHERE domain = coalesce(?, domain) GROUP BY domain", (domain,)
        ).fetchall()
    return dict(rows)


def count_left_out(database: sqlite3.Connection, domain: str, audits: int) -> None:
    """Add audits that were left out, since their states had taught the bundle."""
    if audits:
        statement = (
            "INSERT INTO taught VALUES (?, ?) ON CONFLICT (domain) DO UPDATE SET audits = audits + excluded.audits"
        )
        database.execute(statement, (domain, audits))


def left_out(path: Path, domain: str | None = None) -> dict[str, int]:
    """How many audits were left out, since their states had taught the bundle, by domain."""
    with closing(open_watch_file(path)) as database:
        rows = database.execute("SELECT domain, audits FROM taught WHERE domain = coalesce(?, domain)", (domain,))
        return dict(rows.fetchall())


def open_watch_file(path: Path) -> sqlite3.Connection:
    return open_file(path, WATCH)
