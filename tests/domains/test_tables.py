"""A table is read back as it was meant, whatever program wrote it; what cannot be is refused by name and place."""

from __future__ import annotations

import codecs
import csv
import io
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from escalade.domains.errors import FileError
from escalade.domains.intents import Intents
from escalade.domains.tables import read_table, text_of
from escalade.domains.text_file import FileWarning, read_text
from escalade.training.reference import file_labels

KNOWN = ("state", "text", "label", "game")
CODECS = {
    "utf-8": b"",
    "utf-8-sig": b"",  # writes its mark itself
    "utf-16-le": codecs.BOM_UTF16_LE,
    "utf-16-be": codecs.BOM_UTF16_BE,
    "utf-32-le": codecs.BOM_UTF32_LE,
}
ANY_TEXT = st.text(st.characters(exclude_characters="\0\r", exclude_categories=["Cs"]), max_size=20)
LINES = st.sampled_from(["\n", "\r\n"])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


def delimited(rows: list[list[str]], separator: str, line_end: str, quoting: Any) -> str:
    text = io.StringIO()
    csv.writer(text, delimiter=separator, lineterminator=line_end, quoting=quoting).writerows(rows)
    return text.getvalue()


def quietly(path: Path) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FileWarning)
        return read_table(path, KNOWN)


@settings(max_examples=150)
@given(
    rows=st.lists(st.tuples(ANY_TEXT, ANY_TEXT), min_size=1, max_size=5),
    header=st.sampled_from([("text", "label"), ("Text", "LABEL"), (" State ", "Game"), ("n", "text")]),
    separator=st.sampled_from([",", ";", "\t"]),
    line_end=LINES,
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    codec=st.sampled_from(list(CODECS)),
)
def test_any_table_is_read_back(
    folder: Path, rows: Any, header: Any, separator: str, line_end: str, quoting: Any, codec: str
) -> None:
    path = folder / "table.csv"
    text = delimited([list(header), *map(list, rows)], separator, line_end, quoting)
    path.write_bytes(CODECS[codec] + text.encode(codec))
    table = quietly(path)
    assert table.columns == tuple(name.strip() for name in header)
    assert [row.cells for row in table.rows] == rows


@settings(max_examples=50)
@given(cells=st.lists(ANY_TEXT, min_size=1, max_size=6), quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]))
def test_a_table_of_one_column_needs_no_separator(folder: Path, cells: list[str], quoting: Any) -> None:
    path = folder / "one.csv"
    path.write_text(delimited([["text"], *([cell] for cell in cells)], ",", "\n", quoting), newline="")
    assert [row.cells[0] for row in quietly(path).rows] == cells
    unquoted = [cell.replace("\n", " ").replace('"', "'") for cell in cells]
    path.write_text("text\n" + "".join(f"{cell}\n" for cell in unquoted), newline="")
    assert [row.cells[0] for row in quietly(path).rows] == unquoted


WESTERN = st.text(st.characters(codec="cp1252", exclude_characters="\0\r", exclude_categories=["Cc"]), max_size=20)


@settings(max_examples=50)
@given(
    rows=st.lists(st.tuples(WESTERN, WESTERN), min_size=1, max_size=5), codec=st.sampled_from(["cp1252", "utf-16-le"])
)
def test_what_has_no_mark_is_known_by_its_bytes(folder: Path, rows: Any, codec: str) -> None:
    raw = delimited([["text", "label"], *map(list, rows)], ";", "\r\n", csv.QUOTE_MINIMAL).encode(codec)
    if codec == "cp1252":  # some letters in a row are UTF-8 by accident, such as Ã and ¼
        assume(not any(character > "\x7f" and character != "\ufffd" for character in raw.decode("utf-8", "replace")))
    path = folder / "western.csv"
    path.write_bytes(raw)
    assert [row.cells for row in quietly(path).rows] == rows


JSON_VALUE = ANY_TEXT | st.integers(-(10**9), 10**9) | st.none() | st.booleans()


@settings(max_examples=100)
@given(
    rows=st.lists(st.tuples(JSON_VALUE, JSON_VALUE), min_size=1, max_size=5),
    ascii_only=st.booleans(),
    raw_breaks=st.booleans(),
    indent=st.sampled_from([None, 2]),
    name=st.sampled_from(["t.jsonl", "t.ndjson", "t.json", "t.txt"]),
)
def test_json_lines_are_read_back(
    folder: Path, rows: Any, ascii_only: bool, raw_breaks: bool, indent: int | None, name: str
) -> None:
    text = "\n".join(
        json.dumps({"Text": first, "label": second}, ensure_ascii=ascii_only, indent=indent) for first, second in rows
    )
    path = folder / name
    path.write_text(text.replace("\\n", "\n") if raw_breaks and "\\\\" not in text else text, newline="")
    table = quietly(path)
    assert table.columns == ("Text", "label")
    assert [row.cells for row in table.rows] == rows


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "Text,Label\nWo ist sie?,verloren\nÜberweisung,konto\n"),
        ("a.tsv", "Text\tLabel\nWo ist sie?\tverloren\nÜberweisung\tkonto\n"),
        ("a.csv", '"Text";"Label"\r\n"Wo ist sie?";verloren\r\nÜberweisung;"konto"\r\n'),
        ("a.txt", "n;LABEL;text\n1;verloren;Wo ist sie?\n2;konto;Überweisung\n"),
        ("a.jsonl", '{"text": "Wo ist sie?", "label": "verloren"}\n{"LABEL": "konto", "text": "Überweisung"}\n'),
        ("a.json", '[{"text": "Wo ist sie?", "label": "verloren"}, {"text": "Überweisung", "label": "konto"}]'),
        ("a.json", '{"train": [["Wo ist sie?", "verloren"]], "test": [["Überweisung", "konto"]]}'),
        ("a", '["Wo ist sie?", "verloren"]\n["Überweisung", "konto"]\n'),
    ],
)
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "cp1252"])
def test_every_command_reads_the_same_file(tmp_path: Path, name: str, content: str, codec: str) -> None:
    """As labels of the domain, and as states with what is right."""
    path = tmp_path / name
    path.write_bytes(content.encode(codec))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FileWarning)
        domain = Intents(path)
        found = file_labels(domain, path)
    assert domain.labels == ("verloren", "konto")
    assert found.states == ("Wo ist sie?", "Überweisung")
    assert found.acceptable.argmax(axis=1).tolist() == [0, 1]


@pytest.mark.parametrize(
    ("codec", "words"),
    [("cp1252", "read as Windows-1252"), ("utf-16", "read as UTF-16"), ("utf-16-le", "read as UTF-16")],
)
def test_an_assumed_encoding_is_named(tmp_path: Path, codec: str, words: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("text\nschön\n".encode(codec))
    with pytest.warns(FileWarning, match=f"t.csv' is not UTF-8: it is {words}"):
        assert read_text(path) == "text\nschön\n"


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("t.csv", b"a,b\n1,2\n", "the first line of .* names no column 'text'; it reads 'a', 'b': name it there"),
        ("t.csv", b"Text,text\n1,2\n", "names the column 'text' twice"),
        ("t.csv", b'text,label\n"a" b,c\n', "line 2 of .* is not CSV"),
        ("t.csv", b'text,label\n\na,"b\nc",d\n', "line 3 of .* has 3 cells, and the first line names 2 columns"),
        ("t.tsv", b"text\tlabel\na\tb\tc\n", "put a cell that holds a tab in quotation marks"),
        ("t.jsonl", b'{"text": "a"}\n{"text": \n', "line 2 of .* is not valid JSON: what begins there breaks off"),
        ("t.jsonl", b'{"text": "a"}\n{"text": "b" "c"}\n', "line 2 of .* is not valid JSON: Expecting ',' delimiter"),
        ("t.jsonl", b'{"message": "a"}\n', "the first object of .* names no column 'text'; it reads 'message'"),
        ("t.jsonl", b'{"text": "a"}\n5\n', "line 2 of .* is 5; it should be an object"),
        ("t.json", b"[5]", "entry 1 of .* is 5; it should be an object"),
        ("t.json", b"[" * 100_000, "nested too deeply"),
        (
            "t.csv",
            b"text\nsch\x81n\n",
            r"byte 9 \(0x81, line 2\) is not UTF-8, and byte 9 .* is not Windows-1252 either",
        ),
        ("t.csv", "text\nö ü\n".encode() + b"\xe4\n", r"byte 12 \(0xE4, line 3\) is not UTF-8 .* though 2 other"),
        ("t.csv", b"\xef\xbb\xbftext\n\xe4\n", r"byte order mark of UTF-8, but byte 9 \(0xE4, line 2\) is not UTF-8"),
        ("t.xlsx", b"PK\x03\x04rest", "not a text file but a zip archive or an Excel workbook; export it as CSV"),
        ("t.bin", bytes(range(256)), "is not a text file: byte 129"),
    ],
)
def test_what_cannot_be_read_names_what_was_seen_and_where(
    tmp_path: Path, name: str, content: bytes, words: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    with pytest.raises(FileError, match=words) as refused:
        read_table(path, KNOWN).column(("text",))
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 500 + len(str(path))


def test_a_folder_or_nothing_is_no_file(tmp_path: Path) -> None:
    (tmp_path / "x.csv").write_text("text\na\n")
    with pytest.raises(FileError, match=r"is a folder, not a file: give one of its files, such as 'x\.csv'"):
        read_table(tmp_path, KNOWN)
    with pytest.raises(FileError, match="cannot be read: No such file"):
        read_table(tmp_path / "y.csv", KNOWN)


def test_numbers_of_json_are_texts() -> None:
    assert [text_of(value) for value in (51, 51.0, 0.5, "a", True, None, ["a"])] == [
        *("51", "51", "0.5", "a"),
        *(None, None, None),
    ]
