"""Files of states to decide or to label: plain lines, a table, or JSON."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from escalade.domains.base import Domain
from escalade.domains.errors import FileError, SettingsError
from escalade.domains.tables import (
    ACTION_COLUMNS,
    DELIMITED,
    GAME_COLUMNS,
    JSON,
    STATE_COLUMNS,
    Table,
    delimited_table,
    header_of,
    json_entries,
    json_values,
    short,
)
from escalade.domains.text_file import FileWarning, read_text

FORMATS = ("auto", "lines", "table", "json")
OTHER_COLUMNS = (*ACTION_COLUMNS, *GAME_COLUMNS)
"""Columns that are not read here, and by which a header is known."""

InputFormatOption = Annotated[
    str,
    typer.Option(
        "--input-format",
        metavar="FORMAT",
        help="Format of the input: lines (a state a line), table (a header with the column state, text or moves), json "
        "(JSON or JSON Lines), or auto: by the name and the first line.",
    ),
]


@dataclass(frozen=True)
class GivenStates:
    """The states of a file, in its order; nothing in it is left out."""

    values: tuple[Any, ...]
    """Texts, or values of JSON, as they stand there."""
    places: tuple[str, ...]
    """Where each is, such as "line 3"."""


def read_states(path: Path, domain: Domain[Any], kind: str = "auto") -> GivenStates:
    """The states of a file.

    - lines: one state a line; an empty line is the empty text.
    - table: the column `state`, `moves` or `text` of delimited text (`domains/tables.py`).
    - json: an object a state with one of these keys, or the state itself; JSON Lines, or a list.
    - auto: a table or JSON by the name of the file (`.csv`, `.tsv`, `.tab`; `.json`, `.jsonl`, `.ndjson`); any other
      file is plain lines, unless its first line is a header. It is one if it names a column of states, and either
      another known column too, or is no state of the domain. Where a line such as `text` may be both, and the others
      have as many cells, the file is refused: one of its states could be lost.

    Raises SettingsError for a file that is not of the kind, naming the line at fault.
    """
    if kind not in FORMATS:
        raise SettingsError(f"--input-format must be one of {', '.join(FORMATS)}, not '{kind}'")
    try:
        text = read_text(path)
        if kind == "auto":
            kind = _kind_of(text, path, domain)
        if kind == "json":
            return _from_json(text, path)
        if kind == "table":
            return _from_table(delimited_table(text, path, (*STATE_COLUMNS, *OTHER_COLUMNS)))
    except FileError as error:
        raise SettingsError(f"--input: {error}") from None
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    values = tuple(line.removesuffix("\r") for line in lines)
    return GivenStates(values, tuple(f"line {number}" for number in range(1, len(values) + 1)))


def _kind_of(text: str, path: Path, domain: Domain[Any]) -> str:
    """lines, table or json. Raises SettingsError where the first line may be a header as well as a state."""
    suffix = path.suffix.lower()
    if suffix in DELIMITED:
        return "table"
    if suffix in JSON:
        return "json"
    first = text.partition("\n")[0].removesuffix("\r")
    _, columns = header_of(first, (*STATE_COLUMNS, *OTHER_COLUMNS))
    known = [column for column in columns if column.casefold() in STATE_COLUMNS]
    if not known:
        return "lines"
    other = any(column.casefold() in OTHER_COLUMNS for column in columns)
    if not other and len(columns) > 1 and not _is_even(text, path):
        return "lines"
    if other or not _is_state(domain, first):
        warnings.warn(
            f"'{path}' is read as a table: its first line names the column '{known[0]}' (--input-format lines decides "
            "that line too)",
            FileWarning,
            stacklevel=3,
        )
        return "table"
    raise SettingsError(
        f"--input: the first line of '{path}', {short(first)}, may be a header or a state: give --input-format table "
        "if it is a header, --input-format lines if it is a state"
    )


def _is_even(text: str, path: Path) -> bool:
    """Whether every row of a delimited text has as many cells as its header."""
    try:
        table = delimited_table(text, path, STATE_COLUMNS)
    except FileError:
        return False
    return not any(None in row.cells for row in table.rows)


def _is_state(domain: Domain[Any], text: str) -> bool:
    try:
        domain.parse(text)
    except Exception:  # noqa: BLE001 -- whatever a domain raises, it does not read this
        return False
    return True


def _from_table(table: Table) -> GivenStates:
    advice = "name it there, or give --input-format lines if each line is a state"
    column = table.column(STATE_COLUMNS, advice)
    values = tuple(row.cells[column] for row in table.rows)
    return GivenStates(values, tuple(row.place for row in table.rows))


def _from_json(text: str, path: Path) -> GivenStates:
    values = json_values(text, path)
    entries = json_entries(values, path)
    if entries is None:  # one document that is no list: a state by itself
        entries = [(f"line {line}", value) for line, value in values]
    states = tuple(_state_in(place, value, path) for place, value in entries)
    return GivenStates(states, tuple(place for place, _ in entries))


def _state_in(place: str, value: Any, path: Path) -> Any:
    if not isinstance(value, dict):
        return value
    by_name = {key.strip().casefold(): cell for key, cell in value.items()}
    found = [name for name in STATE_COLUMNS if name in by_name]
    if len(found) > 1:
        both = " and ".join(f"'{name}'" for name in found)
        raise FileError(f"{place} of '{path}' has the keys {both}, any of which may be the state; name one so")
    if found:
        return by_name[found[0]]
    keys = ", ".join(repr(key) for key in value) or "none"
    wanted = " or ".join(f"'{name}'" for name in STATE_COLUMNS)
    raise FileError(f"{place} of '{path}' has no key {wanted}; its keys are {keys}: name one so")
