"""Where collectors run: in this process, in processes of this machine, or as Ray actors on a cluster.

All take `CollectTask.plain()` and return what `collect` returns. Many threads may call `collect` at once; each call
waits until a worker is free.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import threading
import time
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import suppress
from types import TracebackType
from typing import Any, Protocol, Self

from escalade.domains.catalog import load_domain
from escalade.domains.errors import EscaladeError, SettingsError
from escalade.search.config import whole
from escalade.training.collect import Progress, collect

WARM_SECONDS = 0.2


class Workers(Protocol):
    """Something that does tasks. Use it as a context, or close it."""

    def collect(self, task: dict[str, Any], on_progress: Progress | None = None) -> dict[str, Any]:
        """Do one task, here or elsewhere. on_progress: told where that is possible."""
        ...

    def close(self) -> None: ...


class _Context:
    def close(self) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class InProcess(_Context):
    """One task after another, with all cores."""

    def __init__(self) -> None:
        self._turn = threading.Lock()

    def collect(self, task: dict[str, Any], on_progress: Progress | None = None) -> dict[str, Any]:
        with self._turn:
            return collect(task, on_progress)


class Processes(_Context):
    """So many tasks at once, each in a process of its own that is begun afresh, so that it inherits no threads."""

    def __init__(self, count: int) -> None:
        self.count = whole("processes", count, 1, 1024)
        context = multiprocessing.get_context("spawn")
        self._reports: Any = context.SimpleQueue()
        self._hearing: dict[int, Progress] = {}
        self._pids: set[int] = set()
        self._numbers = itertools.count()
        self._pool = ProcessPoolExecutor(
            self.count, mp_context=context, initializer=_begin_collector, initargs=(self._reports,)
        )
        self._passing = threading.Thread(target=self._pass_on, daemon=True, name="escalade-collectors-progress")
        self._passing.start()

    def warm(self, domain: str, options: dict[str, Any] | None = None) -> None:
        """Start the processes now, so that they import and compile while this one does something else."""
        for _ in range(self.count):
            self._pool.submit(_warm_up, domain, options)

    def collect(self, task: dict[str, Any], on_progress: Progress | None = None) -> dict[str, Any]:
        number = next(self._numbers)
        if on_progress is not None:
            self._hearing[number] = on_progress
        try:
            return self._pool.submit(_collect_and_report, number, task).result()
        except BrokenProcessPool:
            raise EscaladeError(
                "a collector died (killed, or out of memory): go on with --resume, with fewer --processes if memory is "
                "short; nothing that was written is lost"
            ) from None
        finally:
            self._hearing.pop(number, None)

    def _pass_on(self) -> None:
        """Tell who waits for a task how far it is, until `close`."""
        while (report := self._reports.get()) is not None:
            if isinstance(report, int):
                self._pids.add(report)
                continue
            number, done, rows = report
            heard = self._hearing.get(number)
            if heard is not None:
                heard(done, rows)

    def close(self) -> None:
        """End the collectors, whatever they do: what they have written is whole, and taking a process down in order
        takes seconds where others load the machine."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        self._reports.put(None)
        self._passing.join()
        for child in multiprocessing.active_children():
            if child.pid in self._pids:
                child.kill()
        self._pool.shutdown(wait=True)


_reports: Any = None
"""In a collector's process: where it puts its process id first, then (number of its task, done, rows)."""


def _collect_and_report(number: int, task: dict[str, Any]) -> dict[str, Any]:
    return collect(task, lambda done, rows: _reports.put((number, done, rows)))


def _warm_up(domain: str, options: dict[str, Any] | None) -> None:
    with suppress(EscaladeError):  # its first task will say what is wrong
        load_domain(domain, options or None)
        time.sleep(WARM_SECONDS)  # so that one process does not take all of these calls


def _begin_collector(reports: Any) -> None:
    """A killed parent leaves no collectors behind; Ctrl-C is its to hear."""
    global _reports
    _reports = reports
    reports.put(os.getpid())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True, name="watches-parent").start()


class RayActors(_Context):
    """So many actors on a Ray cluster (address None: a local one, begun here and ended with `close`). Shards must lie
    on storage that all machines see. Raises SettingsError without Ray."""

    def __init__(self, count: int, address: str | None = None) -> None:
        try:
            import ray
        except ImportError:
            raise SettingsError("collectors on Ray need Ray: pip install 'escalade[ray]'") from None
        self._ray = ray
        self._began = not ray.is_initialized()
        if self._began:
            _no_usage_reports()
            options: dict[str, Any] = {} if address else {"num_cpus": count, "include_dashboard": False}
            ray.init(address=address, log_to_driver=False, configure_logging=False, **options)
        actor = ray.remote(_Actor)
        self._idle = [actor.options(num_cpus=1).remote() for _ in range(whole("processes", count, 1, 10_000))]
        self._changed = threading.Condition()

    def collect(self, task: dict[str, Any], on_progress: Progress | None = None) -> dict[str, Any]:
        with self._changed:
            self._changed.wait_for(lambda: self._idle)
            actor = self._idle.pop()
        try:
            stats: dict[str, Any] = self._ray.get(actor.collect.remote(task))
        finally:
            with self._changed:
                self._idle.append(actor)
                self._changed.notify()
        return stats

    def close(self) -> None:
        if self._began:
            self._ray.shutdown()


def _no_usage_reports() -> None:
    """Ray would report how it is used; it has no public switch but the environment, which is not ours to change."""
    from ray._common.usage import usage_lib

    usage_lib.set_usage_stats_enabled_via_env_var(False)


class _Actor:
    def collect(self, task: dict[str, Any]) -> dict[str, Any]:
        return collect(task)
