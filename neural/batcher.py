"""Many callers, one forward pass: concurrent requests to an evaluator are gathered into batches.

One daemon thread makes the passes. Batching is natural: whatever queued while a pass ran goes into the next one
together, so a lone request waits for no one and a crowd shares. The thread starts with the first request, in an empty
context, so that no request's tracing follows it; and starts again should it ever have died.

Each item is answered exactly once, with its own answer or its own error:

- a full queue refuses at once (OverloadedError), so memory stays bounded and callers can back off;
- an item past its deadline, or cancelled before its pass began, never reaches the evaluator;
- an item is checked when submitted, so a bad one cannot spoil a batch; should a pass fail all the same, parts of it
  are evaluated again and only the guilty items get the error; a NaN fails only the item whose row it is in.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from types import TracebackType
from typing import Self

import numpy as np

from escalade.domains.base import BoolArray, FloatArray
from escalade.domains.errors import DeadlineError, EscaladeError, OverloadedError
from escalade.domains.evaluator import Evaluator
from escalade.domains.isolation import failures_by_row
from escalade.neural.batch_item import Answer, Item, fault_of


class Batcher:
    """An `Evaluator` in front of another, for many threads and tasks at once. Close it, or use it as a context.

    evaluator: called from the batcher's thread only, with at most `max_batch` rows at a time.
    max_batch: rows of one pass. Items are not split over passes unless one alone is larger.
    queue_limit: rows that may wait; more are refused.
    max_wait_ms: how long a pass waits for company. 0 is best for latency and, as a rule, for throughput too.
    clock: the time deadlines are told in, in seconds.

    Counters, for metrics: `batches` passes made, `rows` evaluated in them, `largest_batch` in rows.
    """

    def __init__(
        self,
        evaluator: Evaluator,
        *,
        max_batch: int = 256,
        queue_limit: int = 4096,
        max_wait_ms: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not 1 <= max_batch <= queue_limit or not 0.0 <= max_wait_ms <= 60_000.0:
            raise ValueError("a batcher needs 1 <= max_batch <= queue_limit and max_wait_ms from 0 to 60000")
        self.evaluator = evaluator
        self.max_batch = max_batch
        self.queue_limit = queue_limit
        self.max_wait_ms = max_wait_ms
        self.batches = 0
        self.rows = 0
        self.largest_batch = 0
        self._clock = clock
        # Known for our networks; other evaluators may not say, and then only items of one shape share a pass.
        self._observation_shape: tuple[int, ...] | None = getattr(evaluator, "observation_shape", None)
        self._num_actions: int | None = getattr(evaluator, "num_actions", None)
        # Guards all below. Re-entrant, as garbage collected while it is held may include a task that then cancels.
        self._work = threading.Condition(threading.RLock())
        # Ordered and with removal in constant time, so that cancelled items leave at once.
        self._queue: OrderedDict[Item, None] = OrderedDict()
        self._waiting_rows = 0
        self._closed = False
        self._thread: threading.Thread | None = None

    @property
    def waiting_rows(self) -> int:
        """Rows in the queue now."""
        return self._waiting_rows

    # Asking

    def submit(self, observations: FloatArray, legal: BoolArray, deadline: float | None = None) -> Item:
        """Queue one item; never blocks, so it may be called on an event loop.

        observations: `[k, *O]` float32, finite; k rows that belong together, such as the children of one state.
        legal: `[k, A]` bool.
        deadline: when the answer is no longer wanted, by the batcher's clock.

        Returns the future of logits `[k, A]` and values `[k]`, float32. Cancelling it withdraws the item if its pass
        has not begun. The future raises what the evaluator raised for this item, DeadlineError, or EscaladeError if
        the batcher was closed first or the answer is not one (NaN, a value beyond [-1, 1]).
        Raises at once: ValueError for wrong shapes, dtypes or non-finite numbers, OverloadedError, DeadlineError for
        a deadline already past, EscaladeError if closed.
        """
        observations, legal = self._checked(observations, legal)
        if deadline is not None and self._clock() >= deadline:
            raise DeadlineError("the deadline had passed before the network was asked")
        item = Item(observations, legal, deadline, self._forget)
        if not len(legal):
            item.set_result((np.zeros(legal.shape, dtype=np.float32), np.zeros(0, dtype=np.float32)))
            return item
        with self._work:
            if self._closed:
                raise EscaladeError("the batcher is closed")
            if self._waiting_rows + len(legal) > self.queue_limit:
                raise OverloadedError(
                    f"{self._waiting_rows} of at most {self.queue_limit} rows wait for the network; try again later"
                )
            if self._thread is None or not self._thread.is_alive():
                self._start()
            self._queue[item] = None
            self._waiting_rows += len(legal)
            self._work.notify()
        return item

    def evaluate(self, observations: FloatArray, legal: BoolArray, deadline: float | None = None) -> Answer:
        """`submit`, and wait for the answer; for worker threads. Raises what `submit` and its future raise, and
        DeadlineError when the deadline passes during the wait."""
        return self.wait(self.submit(observations, legal, deadline), deadline)

    def wait(self, item: Item, deadline: float | None = None) -> Answer:
        """The answer to an item submitted with this deadline, as `evaluate`."""
        try:
            return item.result(None if deadline is None else max(0.0, deadline - self._clock()))
        except TimeoutError as error:
            if item.done() and not item.cancelled() and item.exception() is error:
                raise
            raise DeadlineError("the deadline passed while the network was at work") from None
        finally:
            item.cancel()  # no effect once answered; withdraws it if we leave early

    async def evaluate_async(self, observations: FloatArray, legal: BoolArray, deadline: float | None = None) -> Answer:
        """`evaluate` for tasks: never blocks the loop, and cancelling the task withdraws the item."""
        return await self.wait_async(self.submit(observations, legal, deadline), deadline)

    async def wait_async(self, item: Item, deadline: float | None = None) -> Answer:
        """The answer to an item submitted with this deadline, as `evaluate_async`."""
        if deadline is None:
            return await asyncio.wrap_future(item)
        try:
            async with asyncio.timeout(max(0.0, deadline - self._clock())) as limit:
                return await asyncio.wrap_future(item)
        except TimeoutError:
            if not limit.expired():
                raise
            raise DeadlineError("the deadline passed while the network was at work") from None

    # Closing

    def close(self, *, drain: bool = True, timeout: float | None = None) -> None:
        """Take no more items and stop the thread. May be called twice.

        drain: answer what is queued first; False rejects it with EscaladeError.
        timeout: seconds to wait for the thread, for an evaluator that may hang; what is still queued then is rejected.
        """
        with self._work:
            self._closed = True
            self._work.notify_all()
            thread = self._thread
        if not drain:
            self._reject_queue()
        if thread is not None and thread is not threading.current_thread():
            thread.join(timeout)
        self._reject_queue()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    # Inside

    def _checked(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, BoolArray]:
        """Private copies of the two arrays, so that callers may reuse theirs."""
        if observations.dtype != np.float32 or legal.dtype != np.bool_:
            raise ValueError(f"an item is float32 and bool, not {observations.dtype} and {legal.dtype}")
        if legal.ndim != 2 or observations.ndim < 1 or len(observations) != len(legal):
            raise ValueError(f"an item is [k, *O] and [k, A], not {observations.shape} and {legal.shape}")
        if self._observation_shape is not None and observations.shape[1:] != self._observation_shape:
            raise ValueError(f"observations are [k, *{self._observation_shape}], not {observations.shape}")
        if self._num_actions is not None and legal.shape[1] != self._num_actions:
            raise ValueError(f"legal is [k, {self._num_actions}], not {legal.shape}")
        if len(legal) > self.queue_limit:
            raise ValueError(f"an item of {len(legal)} rows can never fit a queue of {self.queue_limit}: split it")
        observations = observations.copy()
        if not np.isfinite(observations).all():
            raise ValueError("observations hold NaN or infinite numbers")
        return observations, legal.copy()

    def _forget(self, item: Item) -> None:
        with self._work:
            self._remove(item)

    def _remove(self, item: Item) -> None:
        """Take an item out of the queue if it is in it. Hold the lock."""
        if item in self._queue:
            del self._queue[item]
            self._waiting_rows -= len(item.legal)

    def _start(self) -> None:
        self._thread = threading.Thread(
            target=contextvars.Context().run, args=(self._run,), name="escalade-batcher", daemon=True
        )
        self._thread.start()

    def _run(self) -> None:
        while True:
            with self._work:
                while not self._queue:
                    if self._closed:
                        return
                    self._work.wait()
                if self.max_wait_ms:
                    self._work.wait_for(self._full, self.max_wait_ms / 1000)
                batch = self._take()
            self._answer([item for item in batch if item.set_running_or_notify_cancel()])

    def _full(self) -> bool:
        return self._closed or self._waiting_rows >= self.max_batch

    def _take(self) -> list[Item]:
        """The oldest items that fit one pass, at least one if there is any. Hold the lock."""
        batch: list[Item] = []
        rows = 0
        shape = None
        while self._queue:
            item = next(iter(self._queue))
            rows += len(item.legal)
            own = (item.observations.shape[1:], item.legal.shape[1:])
            if batch and (rows > self.max_batch or own != shape):
                break
            shape = own
            self._remove(item)
            batch.append(item)
        return batch

    def _answer(self, batch: list[Item]) -> None:
        """Answer each item of a batch, none of which can be cancelled any more."""

        def ask(first: int, last: int) -> None:
            items = self._in_time(batch[first:last])
            if items:
                for item, answer in zip(items, self._answers(items), strict=True):
                    if isinstance(answer, str):
                        item.set_exception(EscaladeError(answer))
                    else:
                        item.set_result(answer)

        for place, error in failures_by_row(ask, len(batch)).items():
            if not batch[place].done():
                batch[place].set_exception(error)

    def _in_time(self, items: list[Item]) -> list[Item]:
        """Those that still wait for an answer; the late ones get their DeadlineError."""
        waiting = []
        for item in items:
            if item.done():
                continue
            if item.deadline is not None and self._clock() >= item.deadline:
                item.set_exception(DeadlineError("the deadline passed before the network was free"))
            else:
                waiting.append(item)
        return waiting

    def _answers(self, batch: list[Item]) -> list[Answer | str]:
        """The answer of each item, or why it has none."""
        logits, values = self._pass(batch)
        answers: list[Answer | str] = []
        start = 0
        for item in batch:
            item.batch, item.batch_rows = self.batches, len(values)
            rows = slice(start, start + len(item.legal))
            start = rows.stop
            # Copies, so that no caller keeps the arrays of a whole batch alive.
            fault = fault_of(logits[rows], values[rows], item.legal)
            answers.append(fault or (logits[rows].copy(), values[rows].copy()))
        return answers

    def _pass(self, batch: list[Item]) -> Answer:
        """One forward pass over all rows of the batch (several if one item is larger than a pass)."""
        if len(batch) == 1:
            observations, legal = batch[0].observations, batch[0].legal
        else:
            observations = np.concatenate([item.observations for item in batch])
            legal = np.concatenate([item.legal for item in batch])
        answers = []
        for start in range(0, len(legal), self.max_batch):
            rows = slice(start, start + self.max_batch)
            answers.append(self._evaluate(observations[rows], legal[rows]))
        if len(answers) == 1:
            return answers[0]
        return np.concatenate([logits for logits, _ in answers]), np.concatenate([values for _, values in answers])

    def _evaluate(self, observations: FloatArray, legal: BoolArray) -> Answer:
        self.batches += 1
        self.rows += len(legal)
        self.largest_batch = max(self.largest_batch, len(legal))
        logits, values = self.evaluator.evaluate(observations, legal)
        if logits.shape != legal.shape or values.shape != legal.shape[:1]:
            raise EscaladeError(
                f"the evaluator gave logits {logits.shape} and values {values.shape} for legal {legal.shape}"
            )
        return logits.astype(np.float32), values.astype(np.float32)  # copies: the evaluator may use its arrays again

    def _reject_queue(self) -> None:
        with self._work:
            items = list(self._queue)
            self._queue.clear()
            self._waiting_rows = 0
        for item in items:
            if item.set_running_or_notify_cancel():
                item.set_exception(EscaladeError("the batcher was closed before the network was asked"))
