"""Collectors that share a folder: each task is done, whoever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from escalade.domains.tic_tac_toe import TicTacToe
from escalade.neural.manifest import DomainStamp
from escalade.search.config import SearchConfig
from escalade.training.collect import CollectTask
from escalade.training.self_play import SelfPlayConfig
from escalade.training.shards import read_shard
from escalade.training.task_queue import STALE_SECONDS, Queue, QueueError, serve_queue


def task(folder: Path, number: int, **fields: Any) -> dict[str, Any]:
    settings = SelfPlayConfig(SearchConfig(simulations=4, algorithm="gumbel"), at_once=4)
    given: dict[str, Any] = {"domain": "tic_tac_toe", "count": 3, **fields}
    return CollectTask(
        "self_play", folder=str(folder), shard=f"s-{number}", first=3 * number, seed=1, self_play=settings, **given
    ).plain()


def test_tasks_are_done_by_whoever_comes(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue")
    heard: list[str] = []
    servers = [
        threading.Thread(
            target=serve_queue,
            args=(tmp_path / "queue",),
            kwargs={"idle_seconds": 2, "on_done": lambda name, _: heard.append(name)},
        )
        for _ in range(2)
    ]
    for server in servers:
        server.start()
    with ThreadPoolExecutor(6) as waiting:
        results = list(waiting.map(queue.collect, [task(tmp_path / "shards", k) for k in range(6)]))
    for server in servers:
        server.join()
    assert [result["shard"] for result in results] == [f"s-{k}" for k in range(6)]
    assert sorted(heard) == sorted(f"s-{k}" for k in range(6))
    games = [
        game
        for k in range(6)
        for game in set(read_shard(tmp_path / "shards" / f"s-{k}.parquet", DomainStamp.of(TicTacToe())).game.tolist())
    ]
    assert len(games) == len(set(games)) == 18
    assert not [path for path in (tmp_path / "queue").rglob("*") if path.is_file()]


def test_a_task_that_cannot_be_done_is_answered_and_the_next_one_is_done(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue")
    server = threading.Thread(target=serve_queue, args=(tmp_path / "queue",), kwargs={"idle_seconds": 2})
    server.start()
    with pytest.raises(QueueError, match=r"a collector failed at 's-0': CatalogError: .*nonsense"):
        queue.collect(task(tmp_path / "shards", 0, domain="nonsense"))
    assert queue.collect(task(tmp_path / "shards", 1))["games"] == 3
    server.join()


COLLECTOR = """
import sys
from pathlib import Path
from escalade.training.task_queue import serve_queue
print("ready", flush=True)
serve_queue(Path(sys.argv[1]))
"""


def test_what_a_killed_collector_had_claimed_is_done_by_another(tmp_path: Path) -> None:
    late = [0.0]
    queue = Queue(tmp_path / "queue", clock=lambda: time.time() + late[0])
    with subprocess.Popen(
        [sys.executable, "-c", COLLECTOR, str(tmp_path / "queue")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with ThreadPoolExecutor(1) as waiting:
            result = waiting.submit(queue.collect, task(tmp_path / "shards", 0, count=20_000))
            while not list(queue.claimed.glob("*.json")):
                time.sleep(0.01)
            process.send_signal(signal.SIGKILL)
            process.wait()
            assert [path.name for path in queue.claimed.iterdir()] == ["s-0.json"]
            # Somebody else; it must wait until the claim is old.
            done = threading.Thread(
                target=serve_queue,
                args=(tmp_path / "queue",),
                kwargs={"idle_seconds": 3, "work": lambda task: {"shard": task["shard"], "games": 1}},
            )
            done.start()
            time.sleep(0.5)
            assert not result.done()
            late[0] = STALE_SECONDS + 10
            assert result.result(20) == {"shard": "s-0", "games": 1}
            late[0] = 0.0
            done.join()


def test_closing_ends_the_wait(tmp_path: Path) -> None:
    queue = Queue(tmp_path / "queue")
    with ThreadPoolExecutor(1) as waiting:
        result = waiting.submit(queue.collect, task(tmp_path / "shards", 0))
        while not list(queue.waiting.glob("*.json")):
            time.sleep(0.01)
        queue.close()
        with pytest.raises(QueueError, match="closed"):
            result.result(10)
    assert not os.listdir(queue.waiting)
