"""The experience store: nothing is lost, nothing damaged is learned from, and the manifest is only a memory."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from experience import TTT, random_rows, same, write_many

from escalade.domains.connect_four import ConnectFour
from escalade.training import shards
from escalade.training.rows import joined
from escalade.training.store import ExperienceStore, StoreError


def filled(folder: Path, shards: int = 4) -> ExperienceStore:
    store = ExperienceStore(folder, TTT)
    for number in range(shards):
        store.add(random_rows(number, 10 + number))
    assert store.refresh() == []
    return store


def test_what_was_added_is_found_again_newest_last(tmp_path: Path) -> None:
    store = filled(tmp_path)
    assert store.rows == 10 + 11 + 12 + 13
    everything = joined([random_rows(number, 10 + number) for number in range(4)])
    for opened in (store, ExperienceStore(tmp_path, TTT)):
        rows = opened.recent(1000)
        assert rows is not None
        same(rows, everything)
        some = opened.recent(15)
        assert some is not None
        same(some, everything.take(np.arange(31, 46)))
    assert ExperienceStore(tmp_path / "new", TTT).recent(5) is None


def test_the_manifest_says_what_is_in_the_shards(tmp_path: Path) -> None:
    entry = filled(tmp_path, 1).entries[0]
    rows = random_rows(0, 10)
    assert (entry.rows, entry.games) == (10, len(set(rows.game.tolist())))
    assert sum(entry.sources.values()) == sum(entry.models.values()) == 10
    written = json.loads((tmp_path / "manifest.json").read_text())
    assert written["shards"][0]["sha256"] == entry.sha256
    assert written["schema_version"] == 1


@pytest.mark.parametrize("lost", [None, b"", b"{}", b"[1]", b'{"domain": 3}', b"\xff"])
def test_a_lost_manifest_is_made_anew(tmp_path: Path, lost: bytes | None) -> None:
    before = filled(tmp_path).entries
    manifest = tmp_path / "manifest.json"
    manifest.unlink() if lost is None else manifest.write_bytes(lost)
    again = ExperienceStore(tmp_path, TTT)
    assert again.entries == before
    assert again.rebuild() == []
    assert again.entries == before == ExperienceStore(tmp_path, TTT).entries


def test_damaged_shards_are_set_aside_with_the_reason_and_the_rest_goes_on(tmp_path: Path) -> None:
    store = filled(tmp_path)
    first, second, *_ = (store.shards_folder / entry.name for entry in store.entries)
    first.write_bytes(first.read_bytes()[:100])
    (store.shards_folder / "00-foreign.parquet").write_bytes(b"no shard")
    opened = ExperienceStore(tmp_path, TTT)
    assert {damage.name for damage in opened.damaged} == {first.name, "00-foreign.parquet"}
    assert all("damaged" in damage.reason for damage in opened.damaged)
    assert opened.rows == 11 + 12 + 13
    assert sorted(os.listdir(opened.damaged_folder))[0] == "00-foreign.parquet"
    # Of the same size, so that only a check finds it.
    raw = bytearray(second.read_bytes())
    raw[-200] ^= 1
    second.write_bytes(bytes(raw))
    seen: list[str] = []
    (damage,) = opened.check(lambda entry: seen.append(entry.name))
    assert damage.name == second.name
    assert len(seen) == 3
    assert opened.rows == 12 + 13
    assert ExperienceStore(tmp_path, TTT).rows == 12 + 13


def test_a_shard_that_breaks_while_it_is_used_is_passed_over(tmp_path: Path) -> None:
    store = filled(tmp_path)
    path = store.shards_folder / store.entries[1].name
    path.write_bytes(b"x" * path.stat().st_size)
    rows = store.recent(1000)
    assert rows is not None
    same(rows, joined([random_rows(number, 10 + number) for number in (0, 2, 3)]))
    assert [damage.name for damage in store.damaged] == [path.name]


def test_a_shard_that_is_gone_is_told_of_until_it_is_back(tmp_path: Path) -> None:
    store = filled(tmp_path)
    lost, read = (store.shards_folder / entry.name for entry in store.entries[:2])
    raw = lost.read_bytes()
    lost.unlink()
    opened = ExperienceStore(tmp_path, TTT)
    (problem,) = opened.problems
    assert f"shard '{lost.name}' is gone, and with it 10 rows" in problem
    assert [(damage.name, damage.gone) for damage in opened.damaged] == [(lost.name, True)]
    assert (opened.refresh(), opened.rows) == ([], 11 + 12 + 13)
    read.unlink()
    assert opened.read(read.name) is None
    assert "with it 11 rows" in opened.problems[1]
    assert (opened.refresh(), len(opened.problems)) == ([], 2)
    assert ExperienceStore(tmp_path, TTT).problems == ()
    lost.write_bytes(raw)
    assert [damage.name for damage in ExperienceStore(tmp_path, TTT).damaged] == [read.name]


def test_what_another_process_set_aside_is_told_of_too(tmp_path: Path) -> None:
    store = filled(tmp_path)
    path = store.shards_folder / store.entries[0].name
    path.write_bytes(b"x")
    (reason,) = ExperienceStore(tmp_path, TTT).problems
    assert "is damaged" in reason
    assert [damage.name for damage in store.refresh()] == [path.name]
    assert "another process has set it aside" in store.problems[0]


def test_a_folder_among_the_shards_is_passed_over(tmp_path: Path) -> None:
    store = filled(tmp_path)
    for folder in (store.shards_folder, store.outcomes.folder):
        (folder / "x.parquet").mkdir(parents=True)
    opened = ExperienceStore(tmp_path, TTT)
    assert (opened.check(), opened.rows) == ([], 10 + 11 + 12 + 13)


def test_a_shard_that_may_not_be_read_now_is_not_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path)
    (tmp_path / "manifest.json").unlink()

    def refuse(*arguments: object, **options: object) -> None:
        raise OSError(errno.EMFILE, "too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(shards.pq, "ParquetFile", refuse)
        with pytest.raises(OSError, match="too many open files"):
            ExperienceStore(tmp_path, TTT)
    store = ExperienceStore(tmp_path, TTT)
    assert store.rows == 10 + 11 + 12 + 13
    assert store.damaged == []


def test_the_store_of_another_domain_is_refused(tmp_path: Path) -> None:
    filled(tmp_path)
    with pytest.raises(StoreError, match="is the store of another domain: it was made for the domain 'tic_tac_toe'"):
        ExperienceStore(tmp_path, ConnectFour())


def test_half_written_files_are_left_to_their_writers_and_forgotten_after_an_hour(tmp_path: Path) -> None:
    store = filled(tmp_path)
    old, new = (store.shards_folder / f".{name}.partial" for name in ("old", "new"))
    old.write_bytes(b"x")
    new.write_bytes(b"x")
    os.utime(old, (time.time() - 7200,) * 2)
    assert store.refresh() == []
    assert (old.exists(), new.exists()) == (False, True)


def test_many_processes_write_and_read_at_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=write_many, args=(tmp_path, number)) for number in range(3)]
    for process in writers:
        process.start()
    store = ExperienceStore(tmp_path, TTT)
    while any(process.is_alive() for process in writers):
        assert store.refresh() == []
    assert [process.exitcode for process in writers] == [0, 0, 0]
    assert ExperienceStore(tmp_path, TTT).rows == 600
    assert store.damaged == []


def test_a_copy_is_no_second_shard_and_another_name_no_loss(tmp_path: Path) -> None:
    store = filled(tmp_path)
    rows, first = store.rows, store.entries[0].name
    folder = store.shards_folder
    shutil.copy(folder / first, folder / "zzz-copy.parquet")
    (damage,) = store.refresh()
    assert damage.reason == f"shard 'zzz-copy.parquet' is a copy of '{first}'"
    assert store.rows == rows
    (folder / first).rename(folder / "another-name.parquet")
    assert store.refresh() == []
    assert store.rows == rows
    assert ExperienceStore(tmp_path, TTT).rows == rows
