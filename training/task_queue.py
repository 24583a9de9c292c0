"""Collectors on machines that share nothing but a folder: a queue of files, for Kubernetes jobs or a handful of hosts.

    queue/waiting/NAME.json     tasks (`CollectTask.plain`) that nobody does yet
    queue/claimed/NAME.json     being done; touched while they are, so that one whose collector died is found
    queue/done/NAME.json        what `collect` returned, or the error

A task is claimed by renaming it, which only one of many can do. One that was claimed by a collector that died goes back
after `STALE_SECONDS`; should it live after all, the shard is written twice with the same rows, which is once.
"""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from escalade.domains.errors import EscaladeError
from escalade.neural.files import write_whole
from escalade.training.collect import Progress, collect

TOUCH_SECONDS = 5.0
STALE_SECONDS = 60.0
LOOK_SECONDS = 0.2
"""How often who waits looks again."""


class QueueError(EscaladeError):
    """A collector elsewhere failed."""


class Queue:
    """The queue in a folder, as those who wait for results see it (`escalade.training.workers.Workers`)."""

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.waiting, self.claimed, self.done = (folder / name for name in ("waiting", "claimed", "done"))
        for place in (self.waiting, self.claimed, self.done):
            place.mkdir(parents=True, exist_ok=True)
        self._clock = clock
        self._closed = threading.Event()

    def collect(self, task: dict[str, Any], on_progress: Progress | None = None) -> dict[str, Any]:
        """Wait until some collector has done a task. Raises QueueError with its words if it could not."""
        name = f"{task['shard']}.json"
        if not (self.claimed / name).exists() and not (self.done / name).exists():
            _write(self.waiting / name, task)
        while not self._closed.wait(LOOK_SECONDS):
            self.take_back()
            if (found := _read(self.done / name)) is None:
                continue
            (self.done / name).unlink(missing_ok=True)
            if "error" in found:
                raise QueueError(f"a collector failed at '{task['shard']}': {found['error']}")
            return found
        raise QueueError("the queue was closed")

    def close(self) -> None:
        """Whoever waits gives up; tasks that wait are taken away."""
        self._closed.set()
        for path in self.waiting.glob("*.json"):
            path.unlink(missing_ok=True)

    def take_back(self) -> None:
        """Let others do what a dead collector had claimed."""
        for path in self.claimed.glob("*.json"):
            with suppress(FileNotFoundError):  # it has just been finished
                if self._clock() - path.stat().st_mtime > STALE_SECONDS:
                    os.replace(path, self.waiting / path.name)

    def claim(self) -> Path | None:
        """One of the waiting tasks, now claimed; None if there is none."""
        for path in sorted(self.waiting.glob("*.json")):
            mine = self.claimed / path.name
            with suppress(FileNotFoundError):  # another was faster
                os.rename(path, mine)
                os.utime(mine)
                return mine
        return None


def serve_queue(
    folder: Path,
    *,
    idle_seconds: float | None = None,
    on_done: Callable[[str, dict[str, Any]], None] | None = None,
    work: Callable[[dict[str, Any]], dict[str, Any]] = collect,
) -> int:
    """Do the tasks of a queue, one after another, for ever, or until there were none for so long. Returns how many.

    folder: the run's queue, as this machine sees it: its tasks are of that run, wherever the folder lies elsewhere.
    A task that fails is answered with its error, and the next one begins. on_done: hears each task's name and result.
    """
    queue = Queue(folder)
    served, since = 0, time.monotonic()
    while idle_seconds is None or time.monotonic() - since < idle_seconds:
        mine = queue.claim()
        if mine is None:
            time.sleep(LOOK_SECONDS)
            continue
        result = _done(mine, folder.parent.absolute(), work)
        _write(queue.done / mine.name, result)
        mine.unlink(missing_ok=True)
        served, since = served + 1, time.monotonic()
        if on_done is not None:
            on_done(mine.stem, result)
    return served


def _done(mine: Path, root: Path, work: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    """The result of a claimed task; its file is touched meanwhile, to say that somebody is at it."""
    finished = threading.Event()

    def touch() -> None:
        while not finished.wait(TOUCH_SECONDS):
            with suppress(FileNotFoundError):
                os.utime(mine)

    toucher = threading.Thread(target=touch, daemon=True)
    toucher.start()
    try:
        task = _read(mine)
        return {"error": "the task is no JSON object"} if task is None else work({**task, "root": str(root)})
    except Exception as error:  # noqa: BLE001 - whoever waits is told, and the next task begins
        return {"error": f"{type(error).__name__}: {error}"}
    finally:
        finished.set()
        toucher.join()


def _write(path: Path, document: dict[str, Any]) -> None:
    write_whole(path, lambda file: file.write(json.dumps(document).encode()))


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return found if isinstance(found, dict) else None
