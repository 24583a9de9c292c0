"""The batcher's thread: when it starts, what it knows, how it ends."""

from __future__ import annotations

import contextvars
import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from escalade.domains.errors import EscaladeError
from escalade.neural.batcher import Batcher

WAIT = 30  # seconds until a test that hangs is a failure


def threads() -> int:
    return sum(thread.name == "escalade-batcher" for thread in threading.enumerate())


def test_the_thread_starts_with_the_first_item_and_ends_with_the_batcher(echo):
    before = threads()  # other tests' batchers may live as long as the process
    batcher = Batcher(echo)
    assert threads() == before
    batcher.evaluate(*echo.item(1))
    assert threads() == before + 1
    batcher.close()
    assert threads() == before
    Batcher(echo).close()  # never used


def test_an_item_of_no_rows_is_answered_at_once(gated):
    before = threads()
    with Batcher(gated) as batcher:
        logits, values = batcher.submit(*gated.item()).result(0)
        assert (logits.shape, values.shape) == ((0, 3), (0,))
        assert threads() == before


def test_no_context_of_a_request_follows_the_thread():
    request = contextvars.ContextVar("request", default="none")
    seen = []

    class Looks:
        def evaluate(self, observations, legal):
            seen.append(request.get())
            return np.zeros(legal.shape, np.float32), np.zeros(len(legal), np.float32)

    item = (np.zeros((1, 1), np.float32), np.ones((1, 2), np.bool_))
    with Batcher(Looks()) as batcher:
        for name in ("first", "second"):
            request.set(name)
            batcher.evaluate(*item)
    assert seen == ["none", "none"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_process_gets_a_thread_of_its_own(echo):
    """The thread does not survive a fork; a server that forks its workers must find the batcher usable."""
    with Batcher(echo) as batcher:
        batcher.evaluate(*echo.item(1))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks with threads
            child = os.fork()
        if child == 0:
            answered = echo.is_answer(batcher.submit(*echo.item(2)).result(10), 2)
            os._exit(0 if answered else 1)
        assert os.waitpid(child, 0)[1] == 0


def test_closing_answers_what_is_queued(gated):
    batcher = Batcher(gated)
    gated.hold(batcher)
    futures = [batcher.submit(*gated.item(tag)) for tag in (2, 3)]
    gated.gate.release(100)
    batcher.close()
    assert all(gated.is_answer(future.result(0), tag) for tag, future in zip((2, 3), futures, strict=True))


async def test_a_closed_batcher_refuses(echo):
    batcher = Batcher(echo)
    batcher.evaluate(*echo.item(1))
    batcher.close()
    batcher.close()
    for ask in (batcher.submit, batcher.evaluate):
        with pytest.raises(EscaladeError, match="closed"):
            ask(*echo.item(2))
    with pytest.raises(EscaladeError, match="closed"):
        await batcher.evaluate_async(*echo.item(2))


def test_closing_can_reject_what_is_queued(gated):
    batcher = Batcher(gated)
    first = gated.hold(batcher)
    queued = batcher.submit(*gated.item(2))
    batcher.close(drain=False, timeout=0.0)
    assert batcher.waiting_rows == 0
    with pytest.raises(EscaladeError, match="closed before"):
        queued.result(0)
    gated.gate.release(100)
    batcher.close()
    assert gated.is_answer(first.result(0), 1)
    assert gated.rows_seen == [1]


def test_closing_does_not_wait_for_ever_for_an_evaluator_that_hangs(gated):
    batcher = Batcher(gated)
    first = gated.hold(batcher)
    queued = batcher.submit(*gated.item(2))
    batcher.close(timeout=0.05)
    with pytest.raises(EscaladeError, match="closed before"):
        queued.result(0)
    gated.gate.release(100)
    assert gated.is_answer(first.result(WAIT), 1)


def test_a_batcher_may_be_closed_from_its_own_answers(echo):
    batcher = Batcher(echo)
    done = threading.Event()
    future = batcher.submit(*echo.item(1))
    future.add_done_callback(lambda _: (batcher.close(), done.set()))
    assert done.wait(WAIT)


def test_closing_while_many_submit_loses_no_one(echo):
    batcher = Batcher(echo)
    futures, refused = [], []

    def submit(tag: int) -> None:
        try:
            futures.append((tag, batcher.submit(*echo.item(tag))))
        except EscaladeError:
            refused.append(tag)

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(submit, range(500)))
        closing = pool.submit(batcher.close)
        list(pool.map(submit, range(500, 1000)))
        closing.result(WAIT)
    assert len(futures) + len(refused) == 1000
    assert all(echo.is_answer(future.result(0), tag) for tag, future in futures)
