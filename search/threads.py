"""Work shared among threads that are kept for it: starting one takes as long as a short search."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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

    helpers = [_helpers().submit(loop) for _ in range(1, min(threads, jobs))]
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


@functools.cache
def _helpers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(usable_cores(), thread_name_prefix="escalade-search-helper")


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_helpers.cache_clear)  # threads do not come along
