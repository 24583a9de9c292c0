"""`escalade data`, as a person runs it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from experience import TTT, random_rows
from typer.testing import CliRunner

from escalade.app.cli import app
from escalade.domains.errors import EscaladeError, SettingsError
from escalade.training.query import QueryError
from escalade.training.store import ExperienceStore


def data(command: str, *arguments: str) -> Any:
    return CliRunner().invoke(app, ["data", command, "tic_tac_toe", *arguments], env={"COLUMNS": "250"})


@pytest.fixture
def store(tmp_path: Path) -> ExperienceStore:
    store = ExperienceStore(tmp_path / "store", TTT)
    for seed in range(3):
        store.add(random_rows(seed, 40))
    store.refresh()
    return store


def test_ls_names_every_shard(store: ExperienceStore) -> None:
    done = data("ls", "--store", str(store.folder))
    assert done.exit_code == 0
    assert [line.split()[0] for line in done.stdout.splitlines()[1:]] == [entry.name for entry in store.entries]
    listed = json.loads(data("ls", "--store", str(store.folder), "--json").stdout)
    assert [entry["rows"] for entry in listed] == [40, 40, 40]


def test_stats_count_by_source_model_and_phase(store: ExperienceStore) -> None:
    said = json.loads(data("stats", "--store", str(store.folder), "--json").stdout)
    assert said["shards"] == 3
    for name in ("all", "source", "model", "phase"):
        assert sum(line["rows"] for line in said[name]) == 120
    assert {line["name"] for line in said["model"]} == {"a1", "b2", "none"}
    assert said["phase"][0]["name"] == "plies 00 to 09"
    told = data("stats", "--store", str(store.folder))
    assert "source solver" in told.stdout
    assert "3 shards" in told.stdout


def test_check_sets_damage_aside_and_says_so(store: ExperienceStore) -> None:
    sound = data("check", "--store", str(store.folder))
    assert (sound.exit_code, "3 shards with 120 rows are sound" in sound.stdout) == (0, True)
    path = store.shards_folder / store.entries[0].name
    path.write_bytes(b"x" * path.stat().st_size)
    done = data("check", "--store", str(store.folder), "--json")
    assert done.exit_code == 1
    said = json.loads(done.stdout)
    assert (said["shards"], said["rows"]) == (2, 80)
    assert said["set_aside"][0]["name"] == path.name
    again = data("check", "--store", str(store.folder))
    assert again.exit_code == 1  # until somebody has seen to it
    assert "earlier: 1" in again.stdout
    shutil.rmtree(store.damaged_folder)
    assert data("check", "--store", str(store.folder)).exit_code == 0


def test_whoever_finds_a_loss_first_everybody_hears_of_it(store: ExperienceStore) -> None:
    (store.shards_folder / store.entries[0].name).unlink()
    for _ in range(2):
        asked = data("query", "SELECT count(*) AS n FROM experience", "--store", str(store.folder), "--json")
        assert json.loads(asked.stdout) == [{"n": 80}]
        assert "lost: shard" in asked.stderr
    assert data("check", "--store", str(store.folder)).exit_code == 1


def test_check_says_what_is_gone(store: ExperienceStore) -> None:
    for entry, form in zip(store.entries, ((), ("--json",)), strict=False):
        (store.shards_folder / entry.name).unlink()
        done = data("check", "--store", str(store.folder), *form)
        assert done.exit_code == 1
        assert f"shard '{entry.name}' is gone, and with it 40 rows" in done.output
    said = json.loads(done.stdout)
    assert (said["shards"], said["set_aside"], len(said["lost"])) == (1, [], 1)
    assert "lost: " in data("ls", "--store", str(store.folder)).stderr


def test_check_tells_what_was_found_when_the_store_was_opened(store: ExperienceStore) -> None:
    path = store.shards_folder / store.entries[0].name
    path.write_bytes(b"x")
    done = data("check", "--store", str(store.folder))
    assert (done.exit_code, f"set aside: shard '{path.name}' is damaged" in done.stderr) == (1, True)


def test_query_answers_in_sql(store: ExperienceStore) -> None:
    sql = "SELECT count(*) AS n, sum(policy[1]) > 0 AS first, count(outcome) < 120 AS some FROM experience"
    done = data("query", sql, "--store", str(store.folder), "--json")
    assert json.loads(done.stdout) == [{"n": 120, "first": True, "some": True}]
    told = data(
        "query", "SELECT DISTINCT game FROM experience ORDER BY 1", "--store", str(store.folder), "--limit", "2"
    )
    assert told.stdout.split() == ["game", "game-0", "game-1"]


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("SELECT nothing FROM experience", "nothing"),
        ("SELEKT 1", "syntax error"),
        ("SELECT * FROM read_csv('/etc/passwd')", "disabled"),
        ("COPY experience TO 'stolen.csv'", "must ask for something"),
        ("SET enable_external_access = true", "must ask for something"),
        ("CREATE TABLE x AS SELECT 1", "must ask for something"),
        ("DROP VIEW experience; SELECT 1", "must ask for something"),
        ("", "must ask for something"),
    ],
)
def test_query_can_do_nothing_else(store: ExperienceStore, sql: str, words: str) -> None:
    done = data("query", sql, "--store", str(store.folder))
    assert isinstance(done.exception, QueryError)
    with pytest.raises(QueryError, match=words):
        raise done.exception


@pytest.mark.parametrize("command", [("stats",), ("query", "SELECT * FROM experience")])
@pytest.mark.parametrize("part", [0.3, 1])
def test_a_damaged_shard_is_set_aside_and_the_others_answer(
    store: ExperienceStore, command: tuple[str, ...], part: float
) -> None:
    path = store.shards_folder / store.entries[1].name
    raw = path.read_bytes()
    path.write_bytes(b"x" * int(len(raw) * part) + raw[int(len(raw) * part) :])
    done = data(*command, "--store", str(store.folder))
    assert done.exit_code == 0, done.output
    assert f"set aside: shard '{path.name}' is damaged" in done.stderr
    assert not path.exists()
    assert (store.damaged_folder / path.name).exists()
    assert json.loads(data("stats", "--store", str(store.folder), "--json").stdout)["all"][0]["rows"] == 80


def test_arrays_are_shown_in_a_line_and_nothing_is_cut(store: ExperienceStore) -> None:
    sql = "SELECT repeat('x', 300) AS long, policy, observation FROM experience LIMIT 1"
    done = data("query", sql, "--store", str(store.folder))
    assert len(done.stdout.splitlines()) == 2
    assert "x" * 300 in done.stdout
    assert "… 27]" in done.stdout


def test_an_empty_store_can_be_asked(tmp_path: Path) -> None:
    ExperienceStore(tmp_path, TTT)
    assert json.loads(
        data("query", "SELECT count(*) AS n FROM experience", "--store", str(tmp_path), "--json").stdout
    ) == [{"n": 0}]
    assert json.loads(data("stats", "--store", str(tmp_path), "--json").stdout)["all"] == []


def test_a_missing_store_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = data("ls")
    assert isinstance(done.exception, SettingsError | EscaladeError)
    assert "there is no experience store in 'out/experience/tic_tac_toe'" in str(done.exception)


def test_a_folder_that_is_no_store_stays_as_it_is(tmp_path: Path) -> None:
    done = data("check", "--store", str(tmp_path))
    assert "there is no experience store in" in str(done.exception)
    assert list(tmp_path.iterdir()) == []
