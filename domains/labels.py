"""Files of labels, as people have them.

- CSV with a header; the labels are the distinct values of the column `label`, `category` or `intent`. Rows of
  examples (text and label) will do as well as a bare list.
- JSON: a list of labels; an object `{label: description}`; a list of objects with one of those three keys; or, as in
  CLINC150, an object of splits, each a list of `[text, label]`.

Every fault is a CatalogError that names the file and the place. Labels are kept in Unicode's normal form C, in which an
accented letter is one character however a file writes it. Two other spellings of one label (`Refund`, `refund `) are
refused rather than merged or kept apart: either would be a silent mistake in everything learned later.
"""

from __future__ import annotations

import csv
import io
import json
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from escalade.domains.errors import CatalogError

LABEL_COLUMNS = ("label", "category", "intent")
MAX_LABEL_CHARACTERS = 200
MAX_FILE_BYTES = 256 * 2**20
# Control characters, line and paragraph separators, halves of surrogate pairs.
_UNSHOWABLE = {"Cc", "Zl", "Zp", "Cs"}


def read_labels(path: Path) -> tuple[list[str], dict[str, str]]:
    """The label of every row, repeats included, and descriptions by label where given. Raises CatalogError."""
    text = _read(path)
    if path.suffix.lower() != ".json":
        return _csv_labels(text, path), {}
    try:
        data = json.loads(text)
    except RecursionError:
        raise CatalogError(f"option labels: '{path}' is nested too deeply to be a list of labels") from None
    except ValueError as error:
        raise CatalogError(f"option labels: '{path}' is not valid JSON: {error}") from None
    if isinstance(data, dict) and all(isinstance(value, str) for value in data.values()):
        return list(data), data
    rows: Any = data
    if isinstance(data, dict) and all(isinstance(value, list) for value in data.values()):
        rows = [row for split in data.values() for row in split]
    if not isinstance(rows, list):
        raise CatalogError(
            f"option labels: '{path}' holds neither a list of labels nor an object of labels and descriptions"
        )
    return [_json_label(row, number, path) for number, row in enumerate(rows, start=1)], {}


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
            raise CatalogError(f"option labels: a label is a text, and {source} holds {_short(label)}")
        label = composed(label).strip()
        if label in labels:
            continue
        if not label:
            raise CatalogError(f"option labels: {source} holds an empty label")
        if len(label) > MAX_LABEL_CHARACTERS:
            raise CatalogError(
                f"option labels: {source} holds a label of {len(label)} characters, {_short(label)}; "
                f"at most {MAX_LABEL_CHARACTERS} are allowed"
            )
        if any(unicodedata.category(character) in _UNSHOWABLE for character in label):
            raise CatalogError(
                f"option labels: {source} holds the label {_short(label)}, with a line break or another character "
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
                f"option labels: {source} describes '{label}' by {_short(description)}; a description is a text"
            )
    lines = {
        composed(label).strip(): " ".join(composed(description).split()) for label, description in described.items()
    }
    return {label: line for label, line in lines.items() if line}


def _read(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():
            raise CatalogError(f"option labels: cannot read '{path}': it is not a file")
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise CatalogError(f"option labels: cannot read '{path}': {error.strerror or error}") from None
    except ValueError as error:  # a NUL in the name
        raise CatalogError(f"option labels: {str(path)!r} is not the name of a file: {error}") from None
    if len(content) > MAX_FILE_BYTES:
        raise CatalogError(f"option labels: '{path}' is larger than {MAX_FILE_BYTES >> 20} MiB")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise CatalogError(f"option labels: '{path}' is not UTF-8 text (byte {error.start + 1})") from None


def _csv_labels(text: str, path: Path) -> list[str]:
    named = " or ".join(f"'{name}'" for name in LABEL_COLUMNS)
    # Not split into lines here: a quoted cell may hold line breaks.
    rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        header = [cell.strip().lower() for cell in next(rows, [])]
        column = next((header.index(name) for name in LABEL_COLUMNS if name in header), None)
        if column is None:
            raise CatalogError(
                f"option labels: the first line of '{path}' names no column {named}; "
                f"it reads {_short(text.splitlines()[0]) if text else 'nothing'}"
            )
        labels = []
        for row in rows:
            if not row:  # a blank line
                continue
            if column >= len(row) or not row[column].strip():
                raise CatalogError(f"option labels: line {rows.line_num} of '{path}' has no {header[column]}")
            labels.append(row[column])
    except csv.Error as error:
        raise CatalogError(f"option labels: line {rows.line_num} of '{path}' is not CSV: {error}") from None
    return labels


def _json_label(row: object, number: int, path: Path) -> str:
    label = row
    if isinstance(row, dict):
        label = next((row[key] for key in LABEL_COLUMNS if key in row), None)
    elif isinstance(row, list):
        label = row[1] if len(row) == 2 else None
    if not isinstance(label, str) or not label.strip():
        raise CatalogError(
            f"option labels: entry {number} of '{path}' is {_short(row)}; it should be a label, [text, label], or an "
            f"object with the key {' or '.join(repr(key) for key in LABEL_COLUMNS)}"
        )
    return label


def _short(value: object) -> str:
    """A value for a message, on one line and cut to 60 characters."""
    shown = repr(value)
    return shown if len(shown) <= 60 else f"{shown[:57]}..."
