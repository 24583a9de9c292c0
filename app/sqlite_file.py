"""Our own SQLite files: made when first opened, shared by many processes, refused if they are something else."""

from __future__ import annotations

import re
import sqlite3
import time
from pathlib import Path

from escalade.domains.errors import SettingsError

WAIT_S = 30.0
"""For other processes that write."""


def open_file(path: Path, what: str, setting: str, tables: str, version: int) -> sqlite3.Connection:
    """The database at `path`, with `tables` (SQL that may be run again). what: it is called; setting: names it.
    Raises SettingsError for a file that is another's, or of another version, or cannot be used."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(path, timeout=WAIT_S)
        known = database.execute("PRAGMA user_version").fetchone()[0]
        names = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        ours = set(re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", tables))
        if known not in (0, version) or (known == 0 and not names <= ours):
            database.close()
            raise SettingsError(f"{what} '{path}' is not one of this version: give another file by {setting}")
        if known == 0 or not ours <= names:
            _make(database, tables, version)
    except sqlite3.DatabaseError as error:
        raise SettingsError(f"{what} '{path}' cannot be used: {error}") from None
    except OSError as error:
        raise SettingsError(f"{what} '{path}' cannot be opened: {error.strerror or error}") from None
    return database


def _make(database: sqlite3.Connection, tables: str, version: int) -> None:
    """The tables, while other processes may be making them too. The change to write-ahead logging does not wait for
    a lock as other statements do: SQLite says "busy" at once where two processes could wait for each other."""
    until = time.monotonic() + WAIT_S
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.executescript(tables)
            database.execute(f"PRAGMA user_version = {version:d}")
            database.commit()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
