"""Files of labels, as people have them.

- A table (`domains/tables.py`): the labels are the distinct values of the column `label`, `category` or `intent`. Rows
  of examples (text and label) will do as well as a bare list.
- JSON: a list of labels; an object `{label: description}`; a list of objects with one of those three keys, or JSON
  Lines of them; or, as in CLINC150, an object of splits, each a list of `[text, label]`.

Every fault is a CatalogError that names the file and the place. Labels are kept in Unicode's normal form C, in which an
accented letter is one character however a file writes it. Two other spellings of one label (`Refund`, `refund `) are
refused rather than merged or kept apart: either would be a silent mistake in everything learned later.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from escalade.domains.errors import CatalogError, FileError
from escalade.domains.tables import (
    JSON_LINES,
    LABEL_COLUMNS,
    STATE_COLUMNS,
    Table,
    delimited_table,
    is_json,
    json_entries,
    json_values,
    short,
)
from escalade.domains.text_file import read_text

MAX_LABEL_CHARACTERS = 200
MAX_FILE_BYTES = 256 * 2**20
# Control characters, line and paragraph separators, halves of surrogate pairs.
_UNSHOWABLE = {"Cc", "Zl", "Zp", "Cs"}


def read_labels(path: Path) -> tuple[list[str], dict[str, str]]:
    """The label of every row, repeats included, and descriptions by label where given. Raises CatalogError."""
    try:
        if path.exists() and not (path.is_file() or path.is_dir()):
            raise FileError(f"'{path}' cannot be read: it is not a file")
        text = read_text(path, MAX_FILE_BYTES)
        if is_json(text, path):
            return _json_labels(json_values(text, path), path)
        return _delimited_labels(delimited_table(text, path, (*LABEL_COLUMNS, *STATE_COLUMNS))), {}
    except FileError as error:
        raise CatalogError(f"option labels: {error}") from None
    except ValueError as error:  # a NUL in the name
        raise CatalogError(f"option labels: {str(path)!r} is not the name of a file: {error}") from None


def composed(text: str) -> str:
    """A text in Unicode's normal form C."""
    return unicodedata.normalize("NFC", text)


def tidy_labels(found: Iterable[Any], source: str) -> tuple[str, ...]:
    """The distinct labels in order of first appearance, composed, white space around them removed. Raises CatalogError
    if there are fewer than two, or one could not be shown on a line and typed back."""
    labels: dict[str, None] = {}
    spelled: dict[str, str] = {}
    for label in found:
        if not isinstance(label, str):
            raise CatalogError(f"option labels: a label is a text, and {source} holds {short(label)}")
        label = composed(label).strip()
        if label in labels:
            continue
        if not label:
            raise CatalogError(f"option labels: {source} holds an empty label")
        if len(label) > MAX_LABEL_CHARACTERS:
            raise CatalogError(
                f"option labels: {source} holds a label of {len(label)} characters, {short(label)}; "
                f"at most {MAX_LABEL_CHARACTERS} are allowed"
            )
        if any(unicodedata.category(character) in _UNSHOWABLE for character in label):
            raise CatalogError(
                f"option labels: {source} holds the label {short(label)}, with a line break or another character "
                "that cannot be shown"
            )
        folded = " ".join(unicodedata.normalize("NFKC", label).casefold().split())
        if folded in spelled:
            raise CatalogError(
                f"option labels: {source} holds both '{spelled[folded]}' and '{label}', which differ in spelling only; "
                "write them alike, or rename one"
            )
        labels[label] = None
        spelled[folded] = label
    if len(labels) < 2:
        raise CatalogError(f"option labels: {source} holds {len(labels)} label(s); at least two are needed")
    return tuple(labels)


def tidy_descriptions(described: Mapping[str, Any], source: str) -> dict[str, str]:
    """Descriptions on one line each, by label; empty ones left out. Raises CatalogError if one is not a text."""
    for label, description in described.items():
        if not isinstance(description, str):
            raise CatalogError(
                f"option labels: {source} describes '{label}' by {short(description)}; a description is a text"
            )
    lines = {
        composed(label).strip(): " ".join(composed(description).split()) for label, description in described.items()
    }
    return {label: line for label, line in lines.items() if line}


def _delimited_labels(table: Table) -> list[str]:
    column = table.column(LABEL_COLUMNS)
    labels: list[str] = []
    for row in table.rows:
        if row.blank:
            continue
        label = row.cells[column]
        if label is None or not label.strip():
            raise FileError(f"{row.place} of '{table.path}' has no {table.columns[column].casefold()}")
        labels.append(label)
    return labels


def _json_labels(values: list[tuple[int, Any]], path: Path) -> tuple[list[str], dict[str, str]]:
    if not values:
        raise FileError(f"'{path}' is not valid JSON: it is empty")
    if len(values) == 1 and path.suffix.lower() not in JSON_LINES:
        document = values[0][1]
        if isinstance(document, dict) and all(isinstance(value, str) for value in document.values()):
            return list(document), document
        if not isinstance(document, list) and not (
            isinstance(document, dict) and all(isinstance(value, list) for value in document.values())
        ):
            raise FileError(f"'{path}' holds neither a list of labels nor an object of labels and descriptions")
    entries = json_entries(values, path) or []
    return [_json_label(row, place, path) for place, row in entries], {}


def _json_label(row: object, place: str, path: Path) -> str:
    label = row
    if isinstance(row, dict):
        by_name = {key.strip().casefold(): value for key, value in row.items()}
        label = next((by_name[key] for key in LABEL_COLUMNS if key in by_name), None)
    elif isinstance(row, list):
        label = row[1] if len(row) == 2 else None
    if not isinstance(label, str) or not label.strip():
        raise FileError(
            f"{place} of '{path}' is {short(row)}; it should be a label, [text, label], or an "
            f"object with the key {' or '.join(repr(key) for key in LABEL_COLUMNS)}"
        )
    return label
