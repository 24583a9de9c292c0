"""Work shared among threads that are kept for it: starting one takes as long as a short search."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from queue import Empty, SimpleQueue

from escalade.domains.evaluator import usable_cores


def in_threads(work: Callable[[int, threading.Event], None], jobs: int, threads: int) -> None:
    """work(0, stop) to work(jobs - 1, stop), the caller's thread being one of the threads. After the first failure, or
    Ctrl-C, `stop` is set, and once the others have ended it is raised."""
    queue = SimpleQueue[int]()
    for job in range(jobs):
        queue.put(job)
    failures: list[BaseException] = []
    stop = threading.Event()

    def loop() -> None:
        try:
            while not stop.is_set():
                work(queue.get_nowait(), stop)
        except Empty:
            pass
        except BaseException as error:  # noqa: BLE001 - raised again by the caller's thread
            failures.append(error)
            stop.set()

    helpers = [_pool.submit(loop) for _ in range(1, min(threads, jobs))]
    try:
        loop()
        for helper in helpers:
            if not helper.cancel():  # those that others keep busy are not needed any more
                helper.result()
    except BaseException:  # Ctrl-C while waiting
        stop.set()
        for helper in helpers:
            if not helper.cancel():
                helper.result()
        raise
    if failures:
        raise failures[0]


class _Pool:
    """Daemon threads, as many as cores, begun when they are first needed. (A ThreadPoolExecutor refuses work once the
    main thread has ended, and holds up the end of the process.)"""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._tasks = SimpleQueue[tuple[Future[None], Callable[[], None]]]()
        self._threads = 0
        self._lock = threading.Lock()

    def submit(self, run: Callable[[], None]) -> Future[None]:
        """Have `run`, which never raises, run by the next thread that is free; unless it is cancelled before."""
        with self._lock:
            if self._threads < usable_cores():
                with suppress(RuntimeError):  # the process is ending: whoever asked does the work alone
                    threading.Thread(target=self._help, name="escalade-search-helper", daemon=True).start()
                    self._threads += 1
        future = Future[None]()
        self._tasks.put((future, run))
        return future

    def _help(self) -> None:
        while True:
            future, run = self._tasks.get()
            if future.set_running_or_notify_cancel():
                run()
                future.set_result(None)


asking_compiler = threading.Lock()
"""Held by who asks the compiler for something: no process forks meanwhile, as the child would find the compiler's own
lock taken for ever."""
_pool = _Pool()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pool._begin)  # threads do not come along
    release = asking_compiler.release
    os.register_at_fork(before=asking_compiler.acquire, after_in_parent=release, after_in_child=release)
