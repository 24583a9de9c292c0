"""The file of answers of a long run: it appears whole, in the order of the input, and survives the run's end."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from escalade.domains.errors import SettingsError

FORMAT = 2
"""Of the hidden file."""


class ResultFile:
    """A JSON-lines file that appears whole. Until then lines go, in whatever order they are done, to a hidden file
    beside it, each after its number and a space; it is named for the work it belongs to, and the same work takes up
    what it holds, after a crash too. Only one process may write it."""

    def __init__(self, path: Path, work: Any) -> None:
        """work: a JSON value that stands for the input and all options; other work gets another hidden file."""
        target = path.resolve()  # a link is followed, not replaced
        if target.is_dir() or (target.exists() and not target.is_file()):
            raise SettingsError(f"--output '{path}' is not a file that can be replaced")
        self.path = target
        fingerprint = hashlib.sha256(json.dumps([FORMAT, work], sort_keys=True).encode()).hexdigest()[:12]
        self.partial = target.with_name(f".{target.name}.{fingerprint}.partial")
        try:
            self._file = self.partial.open("a+b")
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._file.close()
            raise SettingsError(f"--output '{path}': another process is at the same work") from None
        except OSError as error:
            raise SettingsError(f"--output '{path}' cannot be written: {error.strerror}") from None
        self._places: dict[int, tuple[int, int]] = {}  # of each line: where it begins, and its length
        self._size = 0
        self._read()

    def __contains__(self, number: int) -> bool:
        """Whether the line of this number, from 0, is done."""
        return number in self._places

    def __len__(self) -> int:
        """Lines that are done."""
        return len(self._places)

    def lines(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Those that are done, with their numbers, in order."""
        for number in sorted(self._places):
            yield number, json.loads(self._line(number))

    def write(self, number: int, line: dict[str, Any]) -> None:
        """Add the line of this number."""
        self._keep(number, json.dumps(line, allow_nan=False).encode() + b"\n")
        self._file.flush()

    def finish(self) -> None:
        """Put the file in its place, its lines in the order of their numbers."""
        whole = self.partial.with_suffix(".whole")
        with whole.open("wb") as file:
            for number in sorted(self._places):
                file.write(self._line(number))
            file.flush()
            os.fsync(file.fileno())
        whole.replace(self.path)
        self.partial.unlink()
        self.close()

    def close(self) -> None:
        """Leave what there is for another time."""
        self._file.close()

    def _read(self) -> None:
        """Find the lines that an earlier run finished; what follows the first that is not whole is dropped."""
        self._file.seek(0)
        for record in self._file:
            number, _, line = record.partition(b" ")
            try:
                json.loads(line)
                place = int(number)
            except ValueError:
                break
            if not line.endswith(b"\n"):
                break
            self._places[place] = (self._size + len(number) + 1, len(line))
            self._size += len(record)
        self._file.truncate(self._size)

    def _keep(self, number: int, line: bytes) -> None:
        before = b"%d " % number
        self._file.write(before + line)
        self._places[number] = (self._size + len(before), len(line))
        self._size += len(before) + len(line)

    def _line(self, number: int) -> bytes:
        start, length = self._places[number]
        return os.pread(self._file.fileno(), length, start)
