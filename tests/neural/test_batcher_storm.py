"""Ten thousand requests at once, with everything that goes wrong going wrong: each is answered once, with its own
answer or its own error, and nothing that was withdrawn is computed."""

from __future__ import annotations

import asyncio
import collections
import threading
import time
from concurrent.futures import CancelledError, Future

import numpy as np
import pytest

from escalade.domains.errors import DeadlineError, EscaladeError, OverloadedError
from escalade.neural.batcher import Batcher

THREADS, TASKS, EACH = 8, 8, 1250
WAIT = 60
KINDS = ("good", "good", "good", "good", "raise", "nan", "malformed", "late", "cancel", "cancel", "impatient")


class Storm:
    """One run: what each request should come to, and what it came to."""

    def __init__(self, echo, batcher: Batcher) -> None:
        self.echo, self.batcher = echo, batcher
        self.outcomes: collections.Counter[str] = collections.Counter()
        self.withdrawn: list[int] = []
        self.callbacks: collections.Counter[int] = collections.Counter()
        self.wrong: list[object] = []
        self.lock = threading.Lock()

    def ask(self, tag: int, generator: np.random.Generator):
        """A random kind of request under this tag: its kind, rows, arrays and deadline."""
        kind = KINDS[generator.integers(len(KINDS))]
        # Tags of one request are its own: tag, and tag + 2**15 and so on for further rows.
        tags = [tag + 2**15 * row for row in range(int(generator.integers(1, 5)))]
        fault = {"raise": self.echo.RAISE, "nan": self.echo.NAN, "malformed": np.nan}.get(kind, 0.0)
        deadline = {"late": time.monotonic() - 1.0, "impatient": time.monotonic() + 0.002}.get(kind)
        return kind, tags, self.echo.item(*tags, fault=fault), deadline

    def count(self, tag: int):
        def done(_: Future) -> None:
            with self.lock:
                self.callbacks[tag] += 1

        return done

    def settle(self, kind: str, tags: list[int], outcome: object) -> None:
        """Compare what a request came to with what it should."""
        if isinstance(outcome, OverloadedError):
            fine, name = True, "overloaded"
        elif isinstance(outcome, CancelledError | asyncio.CancelledError):
            fine, name = kind == "cancel", "cancelled"
        elif isinstance(outcome, DeadlineError):
            fine, name = kind in ("late", "impatient"), "deadline"
        elif isinstance(outcome, Exception):
            if kind == "raise":  # the error names exactly the rows of this item
                fine = str(outcome) == f"guilty {tags}"
            elif kind == "malformed":
                fine = "observations hold NaN" in str(outcome)
            else:
                fine = kind == "nan" and type(outcome) is EscaladeError and "NaN" in str(outcome)
            name = kind
        else:
            fine, name = kind in ("good", "cancel", "impatient") and self.echo.is_answer(outcome, *tags), "answered"
        with self.lock:
            self.outcomes[name] += 1
            if not fine:
                self.wrong.append((kind, tags, outcome))

    def thread(self, first: int) -> None:
        """Requests in bursts of 50 futures, some cancelled at random moments."""
        generator = np.random.default_rng(first)
        for start in range(first, first + EACH, 50):
            burst = []
            for tag in range(start, start + 50):
                kind, tags, item, deadline = self.ask(tag, generator)
                try:
                    future = self.batcher.submit(*item, deadline)
                except Exception as error:  # noqa: BLE001 - settled like all others
                    self.settle(kind, tags, error)
                    continue
                future.add_done_callback(self.count(tag))
                burst.append((kind, tags, future))
                if kind == "cancel" and generator.random() < 0.5 and future.cancel():
                    self.withdrawn.extend(tags)
            for kind, tags, future in burst:
                if kind == "cancel" and not future.done() and future.cancel():
                    self.withdrawn.extend(tags)
                try:
                    self.settle(kind, tags, future.result(WAIT))
                except (Exception, CancelledError) as error:  # noqa: BLE001
                    self.settle(kind, tags, error)

    async def task(self, first: int) -> None:
        """The same through the event loop."""
        generator = np.random.default_rng(first)
        for start in range(first, first + EACH, 25):
            burst = []
            for tag in range(start, start + 25):
                kind, tags, item, deadline = self.ask(tag, generator)
                burst.append((kind, tags, asyncio.create_task(self.batcher.evaluate_async(*item, deadline))))
                if generator.random() < 0.3:
                    await asyncio.sleep(0)
                if kind == "cancel":
                    burst[-1][2].cancel()
            for kind, tags, task in burst:
                try:
                    self.settle(kind, tags, await asyncio.wait_for(task, WAIT))
                except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001
                    self.settle(kind, tags, error)


@pytest.mark.parametrize("queue_limit", [64, 100_000], ids=["crowded", "roomy"])
async def test_each_of_many_requests_is_answered_once_with_its_own_answer(echo, queue_limit):
    with Batcher(echo, max_batch=64, queue_limit=queue_limit) as batcher:
        storm = Storm(echo, batcher)
        threads = [threading.Thread(target=storm.thread, args=(i * EACH,)) for i in range(THREADS)]
        for thread in threads:
            thread.start()
        await asyncio.gather(*(storm.task((THREADS + i) * EACH) for i in range(TASKS)))
        for thread in threads:
            await asyncio.to_thread(thread.join, WAIT)
        assert not any(thread.is_alive() for thread in threads)
        assert batcher.waiting_rows == 0

    assert storm.wrong == []
    assert sum(storm.outcomes.values()) == (THREADS + TASKS) * EACH
    assert set(storm.callbacks.values()) == {1}
    seen = set(echo.rows_seen)
    assert storm.withdrawn
    assert seen.isdisjoint(storm.withdrawn)
    assert max(map(len, echo.seen)) <= 64
    # Everything that was meant to go wrong did.
    assert storm.outcomes.keys() >= {"answered", "cancelled", "deadline", "raise", "nan", "malformed"}
    assert ("overloaded" in storm.outcomes) == (queue_limit == 64)
    assert batcher.rows == len(echo.rows_seen)
    assert batcher.batches == len(echo.seen)
