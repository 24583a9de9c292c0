"""Shards: what is written is read again, and nothing else is believed."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from experience import STAMP, TTT, random_rows, same
from hypothesis import given
from hypothesis import strategies as st

from escalade.domains.connect_four import ConnectFour
from escalade.neural.manifest import DomainStamp
from escalade.training.rows import RowError, Rows, joined
from escalade.training.shards import ShardError, read_shard, write_shard


@given(st.integers(0, 10**6), st.integers(1, 40), st.sampled_from([TTT, ConnectFour()]))
def test_what_is_written_is_read(tmp_path_factory: Any, seed: int, count: int, game: Any) -> None:
    folder = tmp_path_factory.mktemp("shards")
    rows, stamp = random_rows(seed, count, game), DomainStamp.of(game)
    path = write_shard(folder, rows, stamp, "c0")
    same(read_shard(path, stamp), rows)
    assert os.listdir(folder) == [path.name]
    same(joined([rows, read_shard(path, stamp)]).take(np.arange(count, 2 * count)), rows)


def test_a_shard_is_one_row_group_of_zstd_with_checksums(tmp_path: Path) -> None:
    with pq.ParquetFile(write_shard(tmp_path, random_rows(1, 500), STAMP)) as file:
        assert file.metadata.num_row_groups == 1
        assert file.metadata.row_group(0).column(0).compression == "ZSTD"
        assert file.schema_arrow.field("policy").nullable


def test_names_sort_by_time_and_never_meet(tmp_path: Path) -> None:
    paths = [write_shard(tmp_path, random_rows(1), STAMP, clock=lambda now=now: now) for now in (5, 5, 700, 10**18)]
    assert sorted(paths)[2:] == paths[2:]
    assert len(set(paths)) == 4


@pytest.mark.parametrize("where", [0.02, 0.2, 0.5, 0.8, 0.99])
@pytest.mark.parametrize("how", ["flip", "cut", "empty"])
def test_damage_is_noticed(tmp_path: Path, where: float, how: str) -> None:
    rows = random_rows(2, 300)
    path = write_shard(tmp_path, rows, STAMP)
    raw = bytearray(path.read_bytes())
    place = int(where * len(raw))
    raw[place] ^= 0x40
    path.write_bytes({"flip": bytes(raw), "cut": bytes(raw[:place]), "empty": b""}[how])
    found = None
    with suppress(ShardError):
        found = read_shard(path, STAMP)
    if found is not None:
        same(found, rows)  # a byte that says nothing of the rows
        assert how == "flip"


def test_other_files_are_refused_by_name(tmp_path: Path) -> None:
    other = write_shard(tmp_path, random_rows(3, game=ConnectFour()), DomainStamp.of(ConnectFour()))
    with pytest.raises(ShardError, match=r"another domain: it was made for the domain 'connect_four'"):
        read_shard(other, STAMP)
    foreign = tmp_path / "foreign.parquet"
    pq.write_table(pa.table({"a": [1]}), foreign)
    with pytest.raises(ShardError, match="was not written by Escalade"):
        read_shard(foreign, STAMP)
    with pytest.raises(ShardError, match="damaged"):
        read_shard(tmp_path / "missing.parquet", STAMP)


def changed(**changes: Any) -> Rows:
    return replace(random_rows(4), **changes)


ROWS = random_rows(4)
WRONG = [
    ("observation", lambda: np.full_like(ROWS.observation, np.nan), "is not finite"),
    ("observation", lambda: ROWS.observation.astype(np.int64), "observation is int64"),
    ("legal", lambda: np.zeros_like(ROWS.legal), "allows no action"),
    ("policy", lambda: np.ones_like(ROWS.policy), "does not add to 1"),
    ("policy", lambda: ROWS.policy[:, :3], r"policy is \[20, 3\]"),
    ("action", lambda: np.full(20, 9, np.int32), "is not in -1 .. 8"),
    ("value", lambda: np.full(20, 1.5, np.float32), r"is not in \[-1, 1\]"),
    ("outcome", lambda: np.full(20, -np.inf, np.float32), r"is not in \[-1, 1\]"),
    ("source", lambda: np.full(20, "dream"), "is none of"),
    ("game", lambda: np.full(20, ""), "is empty"),
    ("ply", lambda: np.zeros(3, np.int32), "there are 20 rows"),
]


@pytest.mark.parametrize(("name", "make", "words"), WRONG)
def test_rows_that_are_none_are_refused(tmp_path: Path, name: str, make: Any, words: str) -> None:
    with pytest.raises(RowError, match=words):
        write_shard(tmp_path, changed(**{name: make()}), STAMP)
    assert os.listdir(tmp_path) == []


def test_rows_of_another_domain_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RowError, match="connect_four has"):
        write_shard(tmp_path, ROWS, DomainStamp.of(ConnectFour()))
    with pytest.raises(RowError, match="observation is"):
        write_shard(tmp_path, ROWS.take(np.zeros(0, np.int64)), STAMP)


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
from experience import STAMP, random_rows
from escalade.training.shards import write_shard
rows = random_rows(1, 2000)
print("ready", flush=True)
while True:
    write_shard(Path(sys.argv[1]), rows, STAMP)
"""


@pytest.mark.skipif(os.name != "posix", reason="needs signals")
def test_a_writer_that_is_killed_leaves_whole_shards_only(tmp_path: Path) -> None:
    for wait in (0.1, 0.15, 0.2, 0.25, 0.3):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(tmp_path), str(Path(__file__).parents[1])],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        time.sleep(wait)
        process.kill()
        process.wait()
        process.stdout.close()
    paths = list(tmp_path.glob("*.parquet"))
    for path in paths:
        assert len(read_shard(path, STAMP)) == 2000
    assert paths
