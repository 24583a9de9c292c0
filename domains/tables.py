"""Tables in users' files: states, labels, scores. One reader for all of them.

- Delimited text: a header line, then a row a record. The separator is the comma, semicolon or tab with which the header
  names the most known columns. Cells may be quoted, and hold separators and line breaks then (RFC 4180).
- JSON Lines: an object a row, with one key a column; its texts may hold line breaks, escaped or not.
- JSON: a list of such objects; a list of `[text, label]`, or an object of such lists by split, as in CLINC150; a list
  of states.

Names of columns are compared without regard to case and to white space around them. Faults are FileErrors that name
the file, the place in it, and what was found there; `domains/text_file.py` has the encodings.
"""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from escalade.domains.errors import FileError
from escalade.domains.text_file import read_text

STATE_COLUMNS = ("state", "moves", "text")
LABEL_COLUMNS = ("label", "category", "intent")
ACTION_COLUMNS = ("action", *LABEL_COLUMNS)
GAME_COLUMNS = ("game", "conversation")
DELIMITED = (".csv", ".tsv", ".tab")
JSON_LINES = (".jsonl", ".ndjson")
JSON = (".json", *JSON_LINES)
"""How names of files end that are read as JSON; a `.json` file may also hold JSON Lines."""
SEPARATORS = (",", ";", "\t")
_SEPARATOR_NAMES = {",": "a comma", ";": "a semicolon", "\t": "a tab"}
_NO_SEPARATOR = ("\x1f", *map(chr, range(0xE000, 0xE100)))
"""Stand in for the separator of a table of one column: the first that is not in the text."""
_SPACE = re.compile(r"[ \t\n\r]*")


@dataclass(frozen=True)
class Row:
    """One row of a table."""

    place: str
    """Where it begins: "line 3", or in JSON "entry 3"."""
    cells: tuple[Any, ...]
    """A value a column, None where the row has none: texts, or whatever JSON holds."""

    @property
    def blank(self) -> bool:
        """Whether it is an empty line. Only tables of one column have such rows: there it may be an empty cell."""
        return self.cells == ("",)


@dataclass(frozen=True)
class Table:
    """A table as it was read."""

    path: Path
    columns: tuple[str, ...]
    """Their names as the file writes them, without white space around them."""
    rows: tuple[Row, ...]
    is_json: bool = False

    def find(self, names: Sequence[str]) -> int | None:
        """The place of the one of these columns that the table has. Raises FileError if it has it twice, or another of
        them too."""
        known = [column.casefold() for column in self.columns]
        found = [name for name in names if name in known]
        for name in found:
            if known.count(name) > 1:
                raise FileError(f"{self._head} of '{self.path}' names the column '{name}' twice; rename one")
        if len(found) > 1:
            both = " and ".join(f"'{name}'" for name in found)
            raise FileError(
                f"{self._head} of '{self.path}' names the columns {both}, any of which may be what is wanted here; "
                "rename all but the one that is"
            )
        return known.index(found[0]) if found else None

    def column(self, names: Sequence[str], advice: str = "name it there") -> int:
        """As `find`, of a column that is needed: raises FileError if none of them is there. advice: what to do then."""
        place = self.find(names)
        if place is None:
            wanted = " or ".join(f"'{name}'" for name in names)
            shown = ", ".join(repr(column) for column in self.columns)
            shown = shown if len(shown) <= 200 else f"{shown[:197]}..."
            raise FileError(
                f"{self._head} of '{self.path}' names no column {wanted}; it reads {shown or 'nothing'}: {advice}"
            )
        return place

    @property
    def _head(self) -> str:
        return "the first object" if self.is_json else "the first line"


def read_table(path: Path, known: Iterable[str]) -> Table:
    """The table in a file: JSON if its name ends so or it begins with a bracket, else delimited text. known: names of
    columns that may be in it, in small letters, by which the separator is found. Raises FileError."""
    text = read_text(path)
    if is_json(text, path):
        return json_table(text, path)
    return delimited_table(text, path, known)


def is_json(text: str, path: Path) -> bool:
    """Whether a file is to be read as JSON, by its name or by how it begins."""
    suffix = path.suffix.lower()
    return suffix in JSON or (suffix not in DELIMITED and text.lstrip()[:1] in ("{", "["))


def delimited_table(text: str, path: Path, known: Iterable[str]) -> Table:
    """The table in a delimited text, whose first line that is not empty is the header. Empty lines are left out, but
    not in a table of one column. Raises FileError naming the line."""
    separator, columns = header_of(text, known)
    # Not split into lines here: a quoted cell may hold line breaks.
    unused = separator or next(character for character in _NO_SEPARATOR if character not in text)
    records = csv.reader(io.StringIO(text, newline=""), delimiter=unused, strict=True)
    rows: list[Row] = []
    line, begun = 1, False
    try:
        for record in records:
            if begun and (cells := _cells(record, columns, separator, line, path)) is not None:
                rows.append(Row(f"line {line}", cells))
            line, begun = records.line_num + 1, begun or bool(record)
    except csv.Error as error:
        if "unexpected end of data" in str(error):
            raise FileError(
                f"line {line} of '{path}' is not CSV: a quotation mark that opens there is never closed"
            ) from None
        raise FileError(f"line {line} of '{path}' is not CSV: {error}") from None
    return Table(path, columns, tuple(rows))


def header_of(text: str, known: Iterable[str]) -> tuple[str, tuple[str, ...]]:
    """The separator of a delimited text, "" if its header has one cell alone, and the names of its columns."""
    names = set(known)
    found: list[tuple[int, int, str, tuple[str, ...]]] = []
    for separator in SEPARATORS:
        try:
            first = next(filter(None, csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)), [])
        except csv.Error:
            continue
        cells = tuple(cell.strip() for cell in first)
        found.append((len(names.intersection(cell.casefold() for cell in cells)), len(cells), separator, cells))
    if not found:  # a quotation mark spoils it, whatever the separator
        return "", (text.partition("\n")[0].strip(),)
    _, count, separator, cells = max(found, key=lambda one: one[:2])
    return (separator if count > 1 else ""), cells


def json_table(text: str, path: Path) -> Table:
    """The table in JSON or JSON Lines. Raises FileError naming the entry."""
    values = json_values(text, path)
    entries = json_entries(values, path)
    if entries is None:
        raise FileError(f"'{path}' holds neither a list of rows nor JSON Lines")
    if all(isinstance(value, str) for _, value in entries):
        return Table(path, ("state",), tuple(Row(place, (value,)) for place, value in entries), is_json=True)
    columns: dict[str, str] = {}
    for place, value in entries:
        if isinstance(value, dict):
            for key in value:
                columns.setdefault(key.strip().casefold(), key.strip())
        elif isinstance(value, list) and len(value) == 2:
            columns |= {"text": "text", "label": "label"}
        else:
            raise FileError(
                f"{place} of '{path}' is {short(value)}; it should be an object such as "
                '{"text": "…", "label": "…"}, or [text, label]'
            )
    rows = []
    for place, value in entries:
        by_name = (
            {key.strip().casefold(): cell for key, cell in value.items()}
            if isinstance(value, dict)
            else {"text": value[0], "label": value[1]}
        )
        rows.append(Row(place, tuple(by_name.get(name) for name in columns)))
    return Table(path, tuple(columns.values()), tuple(rows), is_json=True)


def json_values(text: str, path: Path) -> list[tuple[int, Any]]:
    """The JSON values that a text holds one after another, each with the line on which it begins. Line breaks within a
    text need not be escaped. Raises FileError naming the line."""
    decoder = json.JSONDecoder(strict=False)
    values: list[tuple[int, Any]] = []
    place, line, counted = 0, 1, 0
    while True:
        space = _SPACE.match(text, place)
        assert space is not None
        place = space.end()
        if place == len(text):
            return values
        line, counted = line + text.count("\n", counted, place), place
        try:
            value, place = decoder.raw_decode(text, place)
        except RecursionError:
            raise FileError(f"'{path}' is nested too deeply") from None
        except json.JSONDecodeError as error:
            if error.pos >= len(text.rstrip()):
                raise FileError(f"line {line} of '{path}' is not valid JSON: what begins there breaks off") from None
            raise FileError(
                f"line {error.lineno} of '{path}' is not valid JSON: {error.msg} at character {error.colno}"
            ) from None
        except ValueError as error:  # a number of thousands of digits
            raise FileError(f"line {line} of '{path}' is not valid JSON: {error}") from None
        values.append((line, value))


def json_entries(values: Sequence[tuple[int, Any]], path: Path) -> list[tuple[str, Any]] | None:
    """The rows that JSON values stand for, and where each is; None if one document holds no rows."""
    if path.suffix.lower() in JSON_LINES or len(values) != 1:
        return [(f"line {line}", value) for line, value in values]
    document: Any = values[0][1]
    if isinstance(document, dict) and document and all(isinstance(part, list) for part in document.values()):
        document = [row for part in document.values() for row in part]
    elif isinstance(document, dict):
        document = [document]
    if not isinstance(document, list):
        return None
    return [(f"entry {number}", value) for number, value in enumerate(document, start=1)]


def text_of(value: Any) -> str | None:
    """A cell as a text: a number of JSON is written out, anything else that is no text is None."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        return None
    return str(int(value)) if isinstance(value, float) and value.is_integer() else str(value)


def short(value: object) -> str:
    """A value for a message, on one line and cut to 60 characters."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."


def _cells(
    record: Sequence[str], columns: Sequence[str], separator: str, line: int, path: Path
) -> tuple[str | None, ...] | None:
    """The cells of a record, one a column; None for an empty line. Raises FileError for one with more."""
    if len(columns) == 1 and len(record) <= 1:
        return (record[0] if record else "",)
    if len(record) <= 1 and not "".join(record).strip():
        return None
    if any(cell.strip() for cell in record[len(columns) :]):
        what = f"put a cell that holds {_SEPARATOR_NAMES[separator]} in quotation marks"
        raise FileError(
            f"line {line} of '{path}' has {len(record)} cells, and the first line names {len(columns)} columns: {what}"
        )
    missing = len(columns) - len(record)
    return (*record[: len(columns)], *(None for _ in range(missing)))
