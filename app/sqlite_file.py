"""Our own SQLite files: made when first opened, shared by many processes, refused if they are something else."""

from __future__ import annotations

import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from escalade.domains.errors import SettingsError

WAIT_S = 30.0
"""For other processes that write, by who reads or opens a file first."""
WRITE_WAIT_S = 5.0
"""The same, by a background writer, which tries again later."""

PASSING = {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED, sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}
"""What is the matter with a locked file and with a full disk."""


class FileBusy(SettingsError):
    """The file is locked or the disk is full: later the same may work."""


@dataclass(frozen=True)
class FileKind:
    """One kind of file."""

    what: str
    """How it is called in errors."""
    setting: str
    """The setting that names the file."""
    tables: str
    """SQL that makes its tables, and may be run again."""
    version: int
    """Of the tables."""


def open_file(path: Path, kind: FileKind, wait_s: float = WAIT_S) -> sqlite3.Connection:
    """The database at `path`, made if there is none. Raises SettingsError for a file that is another's, or of another
    version, or cannot be used; FileBusy where that may pass."""
    try:
        return _opened(path, kind, wait_s)
    except sqlite3.DatabaseError as error:
        failure = FileBusy if getattr(error, "sqlite_errorcode", 0) & 0xFF in PASSING else SettingsError
        raise failure(f"{kind.what} '{path}' cannot be used: {error}") from None
    except OSError as error:
        raise SettingsError(f"{kind.what} '{path}' cannot be opened: {error.strerror or error}") from None


@contextmanager
def written_later(path: Path, kind: FileKind, wait_s: float = WRITE_WAIT_S) -> Iterator[sqlite3.Connection]:
    """One transaction of a background writer. Raises OSError, after which nothing was written and the writer tries the
    same again (`escalade.training.background`), where the file is locked for longer than `wait_s`, the disk full, or
    anything else the matter that may pass; SettingsError for a file that is another's."""
    try:
        with closing(_opened(path, kind, wait_s)) as database:
            database.execute("BEGIN IMMEDIATE")  # at once: a lock that is taken later cannot be waited for
            with database:
                yield database
    except sqlite3.OperationalError as error:
        raise OSError(f"{kind.what} '{path}': {error}") from None


def _opened(path: Path, kind: FileKind, wait_s: float) -> sqlite3.Connection:
    path.parent.mkdir(parents=True, exist_ok=True)
    database = sqlite3.connect(path, timeout=wait_s)
    try:
        known = database.execute("PRAGMA user_version").fetchone()[0]
        names = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        ours = set(re.findall(r"CREATE TABLE IF NOT EXISTS (\w+)", kind.tables))
        if known not in (0, kind.version) or (known == 0 and not names <= ours):
            raise SettingsError(f"{kind.what} '{path}' is not one of this version: give another file by {kind.setting}")
        if known == 0 or not ours <= names:
            _make(database, kind, wait_s)
    except BaseException:
        database.close()
        raise
    return database


def _make(database: sqlite3.Connection, kind: FileKind, wait_s: float) -> None:
    """The tables, while other processes may be making them too. The change to write-ahead logging does not wait for
    a lock as other statements do: SQLite says "busy" at once where two processes could wait for each other."""
    until = time.monotonic() + wait_s
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
            database.executescript(kind.tables)
            database.execute(f"PRAGMA user_version = {kind.version:d}")
            database.commit()
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > until:
                raise
            time.sleep(0.01)
