"""Files of states to decide or to label: every line is a state, or known to be none; none is lost without a word."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from in_process import escalade

from escalade.app.state_file import read_states
from escalade.domains.errors import SettingsError
from escalade.domains.intents import Intents
from escalade.domains.text_file import FileWarning
from escalade.domains.tic_tac_toe import TicTacToe

TEXTS, BOARDS = Intents(["loan", "fees"]), TicTacToe()


def values(path: Path, content: str | bytes, domain: Any = TEXTS, kind: str = "auto") -> tuple[Any, ...]:
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FileWarning)
        return read_states(path, domain, kind).values


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("states")


@settings(max_examples=50)
@given(st.lists(st.text(st.characters(exclude_characters="\0\n\r", exclude_categories=["Cs"])), min_size=1))
def test_plain_lines_are_all_there(folder: Path, lines: list[str]) -> None:
    text = "\n".join(lines) + "\n"
    assert values(folder / "x.txt", text.removeprefix("\ufeff"), kind="lines") == tuple(
        text.removeprefix("\ufeff").split("\n")[:-1]
    )


@pytest.mark.parametrize(
    ("name", "content", "domain", "wanted"),
    [
        ("x.csv", "text,label\nhi,loan\nbye,fees\n", TEXTS, ("hi", "bye")),
        ("x.csv", "Text\nhi, you\n\nbye\n", TEXTS, ("hi, you", "", "bye")),
        ("x.tsv", "id\tText\n1\thi\n", TEXTS, ("hi",)),
        ("x.csv", 'id;text\n1;"two\nlines"\n', TEXTS, ("two\nlines",)),
        ("x.csv", "moves,score_1\n,0\n51,1\n", BOARDS, ("", "51")),
        ("x.txt", "hi\n\nbye", TEXTS, ("hi", "", "bye")),
        ("x.txt", "hi, text\r\nbye\r\n", TEXTS, ("hi, text", "bye")),
        ("x.txt", "text;label\nhi;loan\n", TEXTS, ("hi",)),
        ("x", "moves\n51\n\n5\n", BOARDS, ("51", "", "5")),  # `moves` is no board, so it is a header
        ("x.txt", "51\n5\n", BOARDS, ("51", "5")),
        ("x.jsonl", '{"state": "hi"}\n{"text": "two\\nlines"}\n"bye"\n', TEXTS, ("hi", "two\nlines", "bye")),
        ("x.jsonl", '{"State": 51}\n{"moves": null}\n', BOARDS, (51, None)),
        ("x.json", '[{"text": "hi", "id": 1}, {"text": "bye"}]', TEXTS, ("hi", "bye")),
        ("x.json", '["hi", "bye"]', TEXTS, ("hi", "bye")),
        ("x.txt", '{"state": "hi"}\n', TEXTS, ('{"state": "hi"}',)),
    ],
)
@pytest.mark.parametrize("codec", ["utf-8", "utf-8-sig", "utf-16"])
def test_each_kind_of_file(tmp_path: Path, name: str, content: str, domain: Any, wanted: Any, codec: str) -> None:
    assert values(tmp_path / name, content.encode(codec), domain) == wanted


@pytest.mark.parametrize("first", ["text", "Text", "text, please", "state\tof things"])
def test_a_line_that_may_be_a_header_or_a_state_is_not_guessed(tmp_path: Path, first: str) -> None:
    path = tmp_path / "x.txt"
    content = f"{first}\nhi{', you' if ',' in first else ''}\n"
    if first.startswith("state"):  # `state of things` in two cells names no column but by its first
        content = f"{first}\nhi\tyou\n"
    with pytest.raises(SettingsError, match=r"may be a header or a state: give --input-format table .* lines if"):
        values(path, content)
    assert values(path, content, kind="lines")[0] == first
    assert len(values(path, content, kind="table")) == 1


def test_a_header_that_a_name_does_not_announce_is_mentioned(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_text("text;label\nhi;loan\n")
    with pytest.warns(FileWarning, match="read as a table: its first line names the column 'text'"):
        assert read_states(path, TEXTS).places == ("line 2",)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        (
            "x.csv",
            "hi\nbye\n",
            "names no column 'state' or 'moves' or 'text'; it reads 'hi': .*--input-format lines if",
        ),
        ("x.csv", "text,label\nhi, you,loan\n", "line 2 of .* has 3 cells"),
        (
            "x.jsonl",
            '{"message": "hi"}\n',
            "line 1 of .* has no key 'state' or 'moves' or 'text'; its keys are 'message'",
        ),
        ("x.jsonl", '{"text": "hi", "state": "open"}\n', "line 1 of .* has the keys 'state' and 'text', any of which"),
        ("x.csv", "id,text,state\n1,hi,open\n", "names the columns 'state' and 'text', any of which may be"),
        ("x.jsonl", "hi\n", "line 1 of .* is not valid JSON"),
    ],
)
def test_what_is_no_state_file_is_refused(tmp_path: Path, name: str, content: str, words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        values(tmp_path / name, content)


def test_a_kind_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--input-format must be one of auto, lines, table, json, not 'csv'"):
        values(tmp_path / "x", "hi", kind="csv")


def test_decide_knows_columns_and_objects(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_bytes("Zug;Moves\r\nä;51\r\nö;\r\n".encode("cp1252"))
    (tmp_path / "in.jsonl").write_text('{"state": 51}\n{"state": "55"}\n{"state": null}\n')
    told = escalade(
        *("decide", "tic_tac_toe", "--mode", "search_only", "--simulations", "20"),
        *("--input", "in.csv", "--output", "out.jsonl"),
        cwd=tmp_path,
    )
    assert told.returncode == 0, told.stderr
    assert "note: 'in.csv' is not UTF-8: it is read as Windows-1252" in told.stderr
    assert [json.loads(line)["state"] for line in (tmp_path / "out.jsonl").read_text().splitlines()] == ["51", ""]
    told = escalade(
        *("decide", "tic_tac_toe", "--mode", "search_only", "--simulations", "20"),
        *("--input", "in.jsonl", "--output", "out.jsonl"),
        cwd=tmp_path,
    )
    assert told.returncode == 1
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [(line["state"], "error" in line) for line in lines] == [("51", False), ("55", True), (None, True)]


def test_label_reads_the_same_files(tmp_path: Path) -> None:
    (tmp_path / "in.tsv").write_text("n\tMoves\n1\t51\n2\t5\n")
    told = escalade(
        *("data", "label", "tic_tac_toe", "--teacher", "solver", "--input", "in.tsv", "--store", "s", "--json"),
        cwd=tmp_path,
    )
    assert told.returncode == 0, told.stderr
    (tmp_path / "in.tsv").write_text("n\tMoves\n1\t51\n2\t55\n")
    told = escalade(
        "data", "label", "tic_tac_toe", "--teacher", "solver", "--input", "in.tsv", "--store", "s", cwd=tmp_path
    )
    assert "--input 'in.tsv', line 3: tic_tac_toe state refused at move 2" in told.stderr
