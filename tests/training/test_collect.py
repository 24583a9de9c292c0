"""Collectors: a task is done once, wherever and however often it runs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experience import same
from nim import Nim
from support import network_for

from escalade.domains.connect_four import ConnectFour
from escalade.domains.errors import CatalogError, EscaladeError, SettingsError
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.neural.bundle import write_bundle
from escalade.neural.manifest import DomainStamp
from escalade.search.config import SearchConfig
from escalade.training.collect import CollectTask, Sharing, collect
from escalade.training.rows import Rows
from escalade.training.self_play import SelfPlayConfig
from escalade.training.shards import read_shard
from escalade.training.solved import SolvedConfig
from escalade.training.workers import InProcess, Processes

TTT = TicTacToe()
SELF_PLAY = SelfPlayConfig(SearchConfig(simulations=8, algorithm="gumbel"), at_once=8)


def task(folder: Path, **fields: Any) -> CollectTask:
    given = {"source": "self_play", "shard": "s-1", "first": 0, "count": 10, "seed": 1, "self_play": SELF_PLAY}
    return CollectTask(domain="tic_tac_toe", folder=str(folder), **{**given, **fields})  # type: ignore[arg-type]


def rows_in(folder: Path, shard: str = "s-1", domain: Any = TTT) -> Rows:
    return read_shard(folder / f"{shard}.parquet", DomainStamp.of(domain))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("bundles") / "b"
    write_bundle(folder, domain=TTT, network=network_for(TTT))
    return str(folder)


def test_a_task_travels_as_json() -> None:
    whole = task(Path("x"), solved=SolvedConfig(first_ply=3), relabel="a", cores=2)
    assert CollectTask.of(json.loads(json.dumps(whole.plain()))) == whole
    with pytest.raises(SettingsError, match="count"):
        CollectTask.of({**whole.plain(), "count": "many"})


def test_games_are_played_once_however_often_it_is_asked(tmp_path: Path, bundle: str) -> None:
    heard: list[tuple[int, int]] = []
    stats = collect(task(tmp_path, bundle=bundle).plain(), lambda done, rows: heard.append((done, rows)))
    rows = rows_in(tmp_path)
    assert json.loads(json.dumps(stats)) == stats
    assert not stats["repeated"]
    assert stats["games"] == 10 == len(set(rows.game))
    assert stats["rows"] == len(rows) == heard[-1][1]
    assert heard[-1][0] == 10
    assert stats["simulations"] > 0
    written = (tmp_path / "s-1.parquet").stat().st_mtime_ns
    again = collect(task(tmp_path, bundle=bundle).plain())
    assert again == {**stats, "repeated": True}
    assert (tmp_path / "s-1.parquet").stat().st_mtime_ns == written
    assert set(rows.model) == {again["model"]} if "model" in again else True


def test_a_damaged_shard_is_made_anew(tmp_path: Path, bundle: str) -> None:
    collect(task(tmp_path, bundle=bundle).plain())
    first = rows_in(tmp_path)
    path = tmp_path / "s-1.parquet"
    path.write_bytes(path.read_bytes()[:200])
    assert not collect(task(tmp_path, bundle=bundle).plain())["repeated"]
    same(rows_in(tmp_path), first)


def test_games_do_not_depend_on_how_they_are_cut_into_tasks(tmp_path: Path) -> None:
    collect(task(tmp_path, count=10).plain())
    for start in (0, 4):
        collect(task(tmp_path, shard=f"part-{start}", first=start, count=4 if start == 0 else 6).plain())
    whole = rows_in(tmp_path)
    for part in (rows_in(tmp_path, "part-0"), rows_in(tmp_path, "part-4")):
        for game in set(part.game.tolist()):
            assert part.state[part.game == game].tolist() == whole.state[whole.game == game].tolist()


def test_the_solver_labels_families_and_games(tmp_path: Path) -> None:
    family = SolvedConfig(first_ply=2, last_ply=4, branches=1, depth=1)
    stats = collect(task(tmp_path, source="solver", shard="solved", count=6, solved=family).plain())
    rows = rows_in(tmp_path, "solved")
    assert stats["games"] == 6
    assert set(rows.source) == {"solver"}
    collect(task(tmp_path, shard="games", solve_games=True, solved=family).plain())
    rows = rows_in(tmp_path, "games")
    assert set(rows.source[rows.ply < 2]) <= {"self_play"}
    assert set(rows.source[rows.ply >= 2]) == {"solver"}


@pytest.mark.parametrize("taught", [True, False])
def test_games_against_the_solver_are_labelled_with_their_neighbours(tmp_path: Path, bundle: str, taught: bool) -> None:
    alone = SolvedConfig(game_depth=0)
    given = {"source": "sparring", "shard": "games", "count": 6, "bundle": bundle if taught else None}
    heard: list[tuple[int, int]] = []
    stats = collect(task(tmp_path, **given, solved=alone).plain(), lambda done, rows: heard.append((done, rows)))
    rows = rows_in(tmp_path, "games")
    assert stats["games"] == heard[-1][0] == len(set(rows.game)) == 6
    assert set(rows.source) == {"solver"}
    assert set(rows.ply[rows.game == rows.game[0]].tolist()) >= set(range(5))
    wide = {**given, "shard": "wide", "solved": SolvedConfig(game_depth=2)}
    assert collect(task(tmp_path, **wide).plain())["rows"] > 2 * stats["rows"]


def test_every_opening_is_labelled(tmp_path: Path) -> None:
    collect(task(tmp_path, source="openings", shard="openings", solved=SolvedConfig(openings=2)).plain())
    assert len(rows_in(tmp_path, "openings")) == 1 + 3 + 12


@pytest.mark.parametrize("source", ["sparring", "openings", "solver"])
def test_where_there_is_no_solver_nothing_can_be_labelled(tmp_path: Path, source: str) -> None:
    domain = {"domain": "intents", "options": {"labels": ["a", "b"]}}
    asked = replace(task(tmp_path, source=source), **domain)  # type: ignore[arg-type]
    with pytest.raises(EscaladeError, match=r"domain .intents. has no simulator|no exact solver for domain .intents."):
        collect(asked.plain())


def test_positions_are_searched_anew(tmp_path: Path, bundle: str) -> None:
    collect(task(tmp_path, bundle=bundle).plain())
    more = SearchConfig(simulations=400)
    stats = collect(task(tmp_path, source="search", shard="anew", relabel="s-1", count=1000, search=more).plain())
    before, after = rows_in(tmp_path), rows_in(tmp_path, "anew")
    assert stats["rows"] == len(before)
    assert after.state.tolist() == before.state.tolist()
    assert after.game.tolist() == before.game.tolist()
    assert set(after.source) == {"search"}
    assert stats["simulations"] > 0
    with pytest.raises(SettingsError, match="relabel"):
        collect(task(tmp_path, source="search", shard="x").plain())


def test_what_cannot_be_done_is_named(tmp_path: Path) -> None:
    with pytest.raises(CatalogError, match="nonsense"):
        collect(replace(task(tmp_path), domain="nonsense").plain())
    with pytest.raises(SettingsError, match="root: a task whose folder is 'x' needs"):
        collect(task(Path("x")).plain())
    assert not list(tmp_path.iterdir())


def test_a_network_that_shares_a_machine_answers_the_same() -> None:
    network = network_for(TTT)
    shared = Sharing(network, 1)
    seen, legal = TTT.encode([TTT.initial_state()]), np.ones((1, 9), np.bool_)
    for one, other in zip(shared.evaluate(seen, legal), network.evaluate(seen, legal), strict=True):
        np.testing.assert_array_equal(one, other)
    assert shared.hints.calls == 1
    assert shared.native() is not None


def two_tasks(folder: Path) -> list[dict[str, Any]]:
    return [task(folder, shard=f"s-{k}", first=10 * k).plain() for k in range(2)]


def everywhere(folder: Path, workers: Any) -> list[dict[str, Any]]:
    """Two tasks at once."""
    with workers, ThreadPoolExecutor(2) as threads:
        return list(threads.map(workers.collect, two_tasks(folder)))


def test_it_is_the_same_in_this_process_and_in_others(tmp_path: Path) -> None:
    everywhere(tmp_path / "here", InProcess())
    stats = everywhere(tmp_path / "there", Processes(2))
    for k in range(2):
        same(rows_in(tmp_path / "there", f"s-{k}"), rows_in(tmp_path / "here", f"s-{k}"))
        assert stats[k]["games"] == 10


def test_other_processes_say_how_far_they_are(tmp_path: Path) -> None:
    heard: list[tuple[int, int]] = []
    with Processes(1) as workers:
        workers.warm("tic_tac_toe")
        stats = workers.collect(task(tmp_path).plain(), lambda done, rows: heard.append((done, rows)))
    assert heard
    assert heard == sorted(heard)
    assert heard[-1] <= (stats["games"], stats["rows"])


def test_a_piece_ends_when_its_time_is_over(tmp_path: Path) -> None:
    endless = replace(task(tmp_path, count=10**6), domain="nim:Nim", bundle=None, untaught="uniform", seconds=0.3)
    stats = collect(endless.plain())
    assert 0 < stats["games"] < 10**6
    assert stats["cut_short"] > 0
    assert len(rows_in(tmp_path, domain=Nim())) == stats["rows"] > 0


def test_random_games_are_a_piece_too(tmp_path: Path) -> None:
    given = replace(task(tmp_path, count=20), bundle=None, untaught="random")
    stats = collect(given.plain())
    assert (stats["games"], stats["simulations"]) == (20, 0)
    assert np.isnan(rows_in(tmp_path).policy).all()


def test_random_games_that_do_not_end_in_time_are_replaced_by_a_few_moves(tmp_path: Path) -> None:
    given = replace(task(tmp_path, count=20), bundle=None, untaught="random", seconds=1e-9)
    stats = collect(given.plain())
    rows = rows_in(tmp_path)
    assert len(rows) == stats["rows"] == 4
    assert not np.isnan(rows.policy).any()


ON_RAY = """
import json, sys
from concurrent.futures import ThreadPoolExecutor
from escalade.training.workers import RayActors
if __name__ == "__main__":
    with RayActors(2) as workers, ThreadPoolExecutor(2) as threads:
        print(json.dumps(list(threads.map(workers.collect, json.loads(sys.argv[1])))))
"""


@pytest.mark.slow
def test_it_is_the_same_on_a_ray_cluster_of_two_workers(tmp_path: Path) -> None:
    """In a process of its own, as users begin it: Ray forks, which is no thing to do after a thousand tests."""
    pytest.importorskip("ray")
    everywhere(tmp_path / "here", InProcess())
    script, there = tmp_path / "on_ray.py", tmp_path / "there"
    script.write_text(ON_RAY)
    program = [sys.executable, str(script), json.dumps(two_tasks(there))]
    ended = subprocess.run(program, capture_output=True, text=True, timeout=300)
    assert ended.returncode == 0, ended.stderr
    stats = json.loads(ended.stdout.splitlines()[-1])
    for k in range(2):
        same(rows_in(there, f"s-{k}"), rows_in(tmp_path / "here", f"s-{k}"))
        assert stats[k]["games"] == 10


def test_a_fault_in_a_worker_is_told(tmp_path: Path) -> None:
    with Processes(1) as workers, pytest.raises(CatalogError, match="nonsense"):
        workers.collect(replace(task(tmp_path), domain="nonsense").plain())


FOREVER = """
import sys
from concurrent.futures import ThreadPoolExecutor
from escalade.training.collect import CollectTask
from escalade.training.workers import Processes
if __name__ == "__main__":
    workers = Processes(1)
    task = CollectTask("self_play", "tic_tac_toe", sys.argv[1], "s", 0, 10**9, 1)
    workers._pool.submit(print, "ready", flush=True).result()
    print(*workers._pool._processes, flush=True)
    workers.collect(task.plain())
"""


def alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return Path(f"/proc/{process}/stat").read_text().split()[2] != "Z" if Path("/proc").exists() else True


def test_collectors_end_with_whoever_began_them(tmp_path: Path) -> None:
    script = tmp_path / "forever.py"
    script.write_text(FOREVER)
    with subprocess.Popen([sys.executable, str(script), str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        (collector,) = map(int, process.stdout.readline().split())
        assert alive(collector)
        process.send_signal(signal.SIGKILL)
        process.stdout.close()
    until = time.monotonic() + 30
    while alive(collector) and time.monotonic() < until:
        time.sleep(0.05)
    assert not alive(collector)


def test_a_collector_that_is_killed_is_told_of(tmp_path: Path) -> None:
    with Processes(1) as workers:
        workers._pool.submit(int).result()
        for process in list(workers._pool._processes):
            os.kill(process, signal.SIGKILL)
        with pytest.raises(EscaladeError, match="a collector died"):
            workers.collect(task(tmp_path, count=100_000).plain())


def test_positions_of_connect_four_are_labelled_too(tmp_path: Path) -> None:
    family = SolvedConfig(first_ply=20, last_ply=24, branches=2, depth=1)
    given = replace(task(tmp_path, source="solver", count=3, solved=family), domain="connect_four")
    collect(given.plain())
    rows = rows_in(tmp_path, domain=ConnectFour())
    assert (rows.ply >= 20).all()
    assert set(np.unique(rows.outcome)) <= {-1.0, 0.0, 1.0}
