"""Work that nobody may have to wait for: a call that may hang, or a kernel that Ctrl-C cannot reach."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import os
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from typing import Any, ParamSpec, TypeVar

T = TypeVar("T")
P = ParamSpec("P")

_loops: dict[int, asyncio.AbstractEventLoop] = {}
_beginning = threading.Lock()


def in_daemon_thread(work: Callable[[], T]) -> Future[T]:
    """Start `work` in a thread of its own, in the caller's context, that does not keep the process alive."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(work())
        except BaseException as error:  # noqa: BLE001 -- it belongs to whoever waits
            future.set_exception(error)

    threading.Thread(target=contextvars.copy_context().run, args=(run,), daemon=True).start()
    return future


def off_loop(function: Callable[P, T]) -> Callable[P, T]:
    """Make a function that blocks (it compiles, or reads files) fit to be called where an event loop runs: it then
    runs in a thread of its own. The loop waits for it all the same, but detectors of blocking calls, such as that of
    `langgraph dev`, do not fail it half-way."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            asyncio.get_running_loop()
            runs = True
        except RuntimeError:
            runs = False
        if not runs:
            return function(*args, **kwargs)
        return in_daemon_thread(lambda: function(*args, **kwargs)).result()

    return call


def wait_for(work: Coroutine[Any, Any, T]) -> T:
    """What a coroutine returns, for who has no event loop: it runs in the caller's context, on one loop that all such
    calls of this process share, so that connections live on between them. Interrupted, it is cancelled."""
    future = asyncio.run_coroutine_threadsafe(work, shared_loop())
    try:
        return future.result()
    except BaseException:
        future.cancel()
        raise


def shared_loop() -> asyncio.AbstractEventLoop:
    """An event loop of this process, in a thread of its own."""
    with _beginning:
        process = os.getpid()  # threads do not outlive a fork
        if process not in _loops:
            _loops.clear()
            _loops[process] = asyncio.new_event_loop()
            threading.Thread(target=_loops[process].run_forever, name="escalade-calls", daemon=True).start()
        return _loops[process]
