"""The batcher: shared passes, each item its own answer, and nothing computed that no one wants."""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
import time
import warnings
from concurrent.futures import CancelledError, ThreadPoolExecutor

import numpy as np
import pytest

from escalade.domains.errors import DeadlineError, EscaladeError, OverloadedError
from escalade.domains.evaluator import Evaluator
from escalade.neural.batcher import Batcher

WAIT = 30  # seconds until a test that hangs is a failure


def threads() -> int:
    return sum(thread.name == "escalade-batcher" for thread in threading.enumerate())


def busy(batcher, gated):
    """Submit an item whose pass waits at the gate, so that what follows queues up."""
    future = batcher.submit(*gated.item(1))
    assert gated.started.acquire(timeout=WAIT)
    return future


# Shared passes


def test_answers_are_those_of_the_evaluator(make_network, make_value_network, positions):
    for evaluator in (make_network(), make_value_network()):
        with Batcher(evaluator) as batcher:
            assert isinstance(batcher, Evaluator)
            expected = evaluator.evaluate(*positions)
            for ours, theirs in zip(batcher.evaluate(*positions), expected, strict=True):
                assert ours.tobytes() == theirs.tobytes()


def test_what_queues_during_a_pass_shares_the_next(gated):
    with Batcher(gated) as batcher:
        first = busy(batcher, gated)
        futures = [batcher.submit(*gated.item(tag, tag + 1000)) for tag in range(2, 12)]
        assert batcher.waiting_rows == 20
        gated.gate.release(2)
        assert gated.is_answer(first.result(WAIT), 1)
        for tag, future in enumerate(futures, start=2):
            assert gated.is_answer(future.result(WAIT), tag, tag + 1000)
        assert (batcher.batches, batcher.rows, batcher.largest_batch) == (2, 21, 20)
        assert batcher.waiting_rows == 0


def test_a_pass_holds_at_most_max_batch_rows(gated):
    with Batcher(gated, max_batch=4) as batcher:
        busy(batcher, gated)
        sizes = [1, 2, 2, 4, 1, 9, 1]
        futures = [batcher.submit(*gated.item(*range(100 * i, 100 * i + k))) for i, k in enumerate(sizes)]
        gated.gate.release(100)
        for i, (k, future) in enumerate(zip(sizes, futures, strict=True)):
            assert gated.is_answer(future.result(WAIT), *range(100 * i, 100 * i + k))
        # In order, items whole: 1+2 | 2 | 4 | 1 | 9 on its own in three | 1.
        assert [len(batch) for batch in gated.seen[1:]] == [3, 2, 4, 1, 4, 4, 1, 1]
        assert batcher.largest_batch == 4


def test_a_pass_can_wait_for_company(echo):
    with Batcher(echo, max_batch=3, max_wait_ms=60_000) as batcher:
        futures = [batcher.submit(*echo.item(tag)) for tag in range(3)]
        for tag, future in enumerate(futures):
            assert echo.is_answer(future.result(WAIT), tag)
        assert echo.seen == [[0, 1, 2]]
        last = batcher.submit(*echo.item(9))
    assert echo.is_answer(last.result(0), 9)  # closing does not wait for company


def test_company_that_does_not_come_is_not_waited_for_long(echo):
    with Batcher(echo, max_wait_ms=1) as batcher:
        assert echo.is_answer(batcher.submit(*echo.item(4)).result(WAIT), 4)


def test_an_item_of_no_rows_is_answered_at_once(gated):
    with Batcher(gated) as batcher:
        logits, values = batcher.submit(*gated.item()).result(0)
        assert (logits.shape, values.shape) == ((0, 3), (0,))
        assert threads() == 0


def test_evaluators_that_do_not_say_their_shape_get_one_shape_a_pass():
    class AnyShape:
        def __init__(self) -> None:
            self.shapes: list[tuple[int, ...]] = []
            self.free, self.started = threading.Event(), threading.Event()

        def evaluate(self, observations, legal):
            self.shapes.append(observations.shape)
            self.started.set()
            assert self.free.wait(WAIT)
            return np.zeros(legal.shape, np.float32), np.full(len(legal), observations.shape[1] / 10, np.float32)

    evaluator = AnyShape()
    with Batcher(evaluator) as batcher:
        futures = []
        for width in (2, 2, 2, 3, 3, 2):
            futures.append(batcher.submit(np.zeros((1, width), np.float32), np.ones((1, 4), np.bool_)))
            assert evaluator.started.wait(WAIT)
        evaluator.free.set()
        assert [round(float(f.result(WAIT)[1][0]) * 10) for f in futures] == [2, 2, 2, 3, 3, 2]
    assert evaluator.shapes == [(1, 2), (2, 2), (2, 3), (1, 2)]


def test_callers_may_reuse_their_arrays(gated):
    with Batcher(gated) as batcher:
        observations, legal = gated.item(5)
        future = batcher.submit(observations, legal)
        observations[:], legal[:] = 77.0, False
        gated.gate.release(1)
        answer = future.result(WAIT)
        assert gated.is_answer(answer, 5)


def test_an_evaluator_may_use_its_arrays_again():
    class Reuses:
        def __init__(self) -> None:
            self.values = np.zeros(1, np.float32)

        def evaluate(self, observations, legal):
            self.values[:] = observations[:, 0]
            return np.zeros(legal.shape, np.float32), self.values

    with Batcher(Reuses(), max_batch=1) as batcher:
        answers = [batcher.evaluate(np.full((1, 1), x, np.float32), np.ones((1, 2), np.bool_)) for x in (0.25, 0.5)]
        assert [float(values[0]) for _, values in answers] == [0.25, 0.5]
        several = np.array([[0.25], [0.5], [0.75]], np.float32)
        assert (batcher.evaluate(several, np.ones((3, 2), np.bool_))[1] == several[:, 0]).all()


# Bounded, in time and in memory


def test_a_full_queue_refuses_at_once_and_recovers(gated):
    with Batcher(gated, max_batch=4, queue_limit=8) as batcher:
        busy(batcher, gated)
        futures = [batcher.submit(*gated.item(tag, tag)) for tag in range(2, 6)]
        for _ in range(100):
            with pytest.raises(OverloadedError, match="8 of at most 8 rows"):
                batcher.submit(*gated.item(99))
        assert futures[0].cancel()  # makes room at once
        futures[0] = batcher.submit(*gated.item(6, 7))
        with pytest.raises(OverloadedError):
            batcher.submit(*gated.item(99))
        gated.gate.release(100)
        for future in futures:
            future.result(WAIT)
        assert gated.is_answer(batcher.evaluate(*gated.item(8)), 8)
    assert 99 not in gated.rows_seen


def test_cancelled_items_leave_nothing_behind(gated):
    with Batcher(gated, queue_limit=256) as batcher:
        busy(batcher, gated)
        for _ in range(2000):
            assert batcher.submit(*gated.item(5)).cancel()
        assert batcher.waiting_rows == 0
        assert len(batcher._queue) == 0
        gated.gate.release(100)
    assert gated.rows_seen == [1]


def test_a_deadline_already_past_never_reaches_the_evaluator(echo):
    now = [100.0]
    with Batcher(echo, clock=lambda: now[0]) as batcher:
        for deadline in (99.0, 100.0, float("-inf")):
            with pytest.raises(DeadlineError, match="had passed"):
                batcher.submit(*echo.item(1), deadline=deadline)
        assert echo.is_answer(batcher.submit(*echo.item(2), deadline=100.1).result(WAIT), 2)
    assert echo.rows_seen == [2]


def test_a_deadline_that_passes_in_the_queue_never_reaches_the_evaluator(gated):
    now = [100.0]
    with Batcher(gated, clock=lambda: now[0]) as batcher:
        busy(batcher, gated)
        late = batcher.submit(*gated.item(2), deadline=101.0)
        good = batcher.submit(*gated.item(3), deadline=103.0)
        now[0] = 102.0
        gated.gate.release(100)
        with pytest.raises(DeadlineError, match="before the network was free"):
            late.result(WAIT)
        assert gated.is_answer(good.result(WAIT), 3)
    assert gated.rows_seen == [1, 3]


def test_a_deadline_that_passes_while_others_are_retried_is_kept(gated):
    now = [100.0]

    class Slow(type(gated)):
        def evaluate(self, observations, legal):
            now[0] += 1.0
            return super().evaluate(observations, legal)

    slow = Slow(gated.gate)
    with Batcher(slow, clock=lambda: now[0]) as batcher:
        busy(batcher, slow)
        guilty = batcher.submit(*slow.item(2, fault=slow.RAISE))
        patient = batcher.submit(*slow.item(3), deadline=1000.0)
        hasty = batcher.submit(*slow.item(4), deadline=103.5)
        slow.gate.release(100)
        with pytest.raises(ValueError, match="guilty"):
            guilty.result(WAIT)
        assert slow.is_answer(patient.result(WAIT), 3)
        with pytest.raises(DeadlineError):
            hasty.result(WAIT)


async def test_a_caller_is_released_at_its_deadline_though_the_evaluator_hangs(gated):
    with Batcher(gated) as batcher:
        first = busy(batcher, gated)
        with pytest.raises(DeadlineError, match="at work"):
            await asyncio.to_thread(batcher.evaluate, *gated.item(2), deadline=time.monotonic() + 0.05)
        with pytest.raises(DeadlineError, match="at work"):
            await batcher.evaluate_async(*gated.item(3), deadline=time.monotonic() + 0.05)
        gated.gate.release(100)
        assert gated.is_answer(await asyncio.wrap_future(first), 1)
    assert gated.rows_seen == [1]  # theirs were withdrawn


async def test_a_time_out_of_the_evaluator_is_not_taken_for_a_deadline():
    class TimesOut:
        def evaluate(self, observations, legal):
            raise TimeoutError("remote")

    item = (np.zeros((1, 1), np.float32), np.ones((1, 2), np.bool_))
    with Batcher(TimesOut()) as batcher:
        far = time.monotonic() + 1000
        with pytest.raises(TimeoutError, match="remote"):
            await batcher.evaluate_async(*item, deadline=far)
        with pytest.raises(TimeoutError, match="remote"):
            await asyncio.to_thread(batcher.evaluate, *item, deadline=far)


# Cancellation


def test_a_cancelled_item_is_never_computed(gated):
    with Batcher(gated) as batcher:
        first = busy(batcher, gated)
        futures = {tag: batcher.submit(*gated.item(tag)) for tag in range(2, 10)}
        cancelled = [tag for tag in futures if tag % 2 and futures[tag].cancel()]
        assert not first.cancel()  # its pass has begun
        gated.gate.release(100)
        for tag, future in futures.items():
            if tag in cancelled:
                with pytest.raises(CancelledError):
                    future.result(WAIT)
            else:
                assert gated.is_answer(future.result(WAIT), tag)
    assert cancelled == [3, 5, 7, 9]
    assert sorted(gated.rows_seen) == [1, 2, 4, 6, 8]


async def test_a_cancelled_task_withdraws_its_item(gated):
    with Batcher(gated) as batcher:
        busy(batcher, gated)
        tasks = [asyncio.create_task(batcher.evaluate_async(*gated.item(tag))) for tag in range(2, 6)]
        await asyncio.sleep(0)
        assert batcher.waiting_rows == 4
        tasks[1].cancel()
        with pytest.raises(asyncio.CancelledError):
            await tasks[1]
        assert batcher.waiting_rows == 3
        gated.gate.release(100)
        for tag in (2, 4, 5):
            assert gated.is_answer(await tasks[tag - 2], tag)
    assert gated.rows_seen == [1, 2, 4, 5]


async def test_submitting_blocks_no_event_loop(gated):
    blockbuster = pytest.importorskip("blockbuster")
    with Batcher(gated) as batcher, blockbuster.blockbuster_ctx():
        tasks = [asyncio.create_task(batcher.evaluate_async(*gated.item(tag))) for tag in range(500)]
        await asyncio.sleep(0)
        gated.gate.release(10_000)
        for tag, answer in enumerate(await asyncio.gather(*tasks)):
            assert gated.is_answer(answer, tag)


# One bad item fails alone


@pytest.mark.parametrize(
    ("observations", "legal", "message"),
    [
        (np.zeros((1, 3), np.float32), np.ones((1, 3), np.bool_), r"observations are \[k, \*\(2,\)\]"),
        (np.zeros(2, np.float32), np.ones((1, 3), np.bool_), "an item is"),
        (np.zeros((1, 2), np.float32), np.ones((2, 3), np.bool_), "an item is"),
        (np.zeros((1, 2), np.float32), np.ones((1, 4), np.bool_), r"legal is \[k, 3\]"),
        (np.zeros((1, 2), np.float32), np.ones(3, np.bool_), "an item is"),
        (np.zeros((1, 2), np.float64), np.ones((1, 3), np.bool_), "not float64"),
        (np.zeros((1, 2), np.float32), np.ones((1, 3), np.int8), "int8"),
        (np.array([[0, np.nan]], np.float32), np.ones((1, 3), np.bool_), "NaN"),
        (np.array([[-np.inf, 0]], np.float32), np.ones((1, 3), np.bool_), "infinite"),
        (np.zeros((9, 2), np.float32), np.ones((9, 3), np.bool_), "never fit a queue of 8"),
    ],
)
async def test_a_bad_item_is_refused_before_it_queues(echo, observations, legal, message):
    with Batcher(echo, max_batch=8, queue_limit=8) as batcher:
        with pytest.raises(ValueError, match=message):
            batcher.submit(observations, legal)
        with pytest.raises(ValueError, match=message):
            batcher.evaluate(observations, legal)
        with pytest.raises(ValueError, match=message):
            await batcher.evaluate_async(observations, legal)
    assert echo.seen == []


def test_only_the_guilty_items_get_the_error(gated):
    with Batcher(gated) as batcher:
        busy(batcher, gated)
        futures = {
            tag: batcher.submit(*gated.item(tag, fault=gated.RAISE if tag % 4 == 0 else 0)) for tag in range(2, 14)
        }
        gated.gate.release(100)
        for tag, future in futures.items():
            if tag % 4 == 0:
                with pytest.raises(ValueError, match=rf"guilty \[{tag}\]"):
                    future.result(WAIT)
            else:
                assert gated.is_answer(future.result(WAIT), tag)


def test_a_nan_fails_only_the_item_whose_row_it_is_in(gated):
    with Batcher(gated) as batcher:
        busy(batcher, gated)
        futures = [batcher.submit(*gated.item(tag, fault=gated.NAN if tag == 4 else 0)) for tag in range(2, 7)]
        gated.gate.release(100)
        for tag, future in enumerate(futures, start=2):
            if tag == 4:
                with pytest.raises(EscaladeError, match="NaN or outside"):
                    future.result(WAIT)
            else:
                assert gated.is_answer(future.result(WAIT), tag)
    assert len(gated.seen) == 2  # no second pass for it


@pytest.mark.parametrize(
    ("logits", "values", "message"),
    [
        ([[0, 0]], [1.5], r"outside \[-1, 1\]"),
        ([[0, 0]], [-np.inf], "NaN or outside"),
        ([[np.nan, 0]], [0], "not finite"),
        ([[np.inf, 0]], [0], "not finite"),
        ([[0, 0, 0]], [0], "the evaluator gave logits"),
        ([[0, 0]], [[0]], "the evaluator gave logits"),
        ([[0, 0], [0, 0]], [0, 0], "the evaluator gave logits"),
        ([[0, np.nan]], [0], None),  # of an illegal action
        ([[0, -np.inf]], [0], None),
    ],
)
def test_what_is_no_answer_is_an_error(logits, values, message):
    class Says:
        def evaluate(self, observations, legal):
            return np.array(logits, np.float64), np.array(values, np.float64)

    with Batcher(Says()) as batcher:
        future = batcher.submit(np.zeros((1, 1), np.float32), np.array([[True, False]]))
        if message:
            with pytest.raises(EscaladeError, match=message):
                future.result(WAIT)
        else:
            assert future.result(WAIT)[0].dtype == np.float32


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), StopIteration(), CancelledError(), MemoryError()]
)
async def test_whatever_an_evaluator_raises_the_batcher_lives(error):
    class Raises:
        def __init__(self) -> None:
            self.error: BaseException | None = error

        def evaluate(self, observations, legal):
            if self.error:
                raise self.error
            return np.zeros(legal.shape, np.float32), np.zeros(len(legal), np.float32)

    evaluator = Raises()
    item = (np.zeros((1, 1), np.float32), np.ones((1, 2), np.bool_))
    expected = MemoryError if isinstance(error, MemoryError) else EscaladeError
    with Batcher(evaluator) as batcher:
        with pytest.raises(expected):
            batcher.evaluate(*item)
        with pytest.raises(expected):
            await batcher.evaluate_async(*item)
        evaluator.error = None
        assert batcher.evaluate(*item)[1] == 0.0


# The thread


def test_the_thread_starts_with_the_first_item_and_ends_with_the_batcher(echo):
    batcher = Batcher(echo)
    assert threads() == 0
    batcher.evaluate(*echo.item(1))
    assert threads() == 1
    batcher.close()
    assert threads() == 0
    Batcher(echo).close()  # never used


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


# Closing


def test_closing_answers_what_is_queued(gated):
    batcher = Batcher(gated)
    busy(batcher, gated)
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
    first = busy(batcher, gated)
    queued = batcher.submit(*gated.item(2))
    batcher.close(drain=False, timeout=0.0)
    with pytest.raises(EscaladeError, match="closed before"):
        queued.result(0)
    gated.gate.release(100)
    batcher.close()
    assert gated.is_answer(first.result(0), 1)
    assert gated.rows_seen == [1]


def test_closing_does_not_wait_for_ever_for_an_evaluator_that_hangs(gated):
    batcher = Batcher(gated)
    first = busy(batcher, gated)
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


@pytest.mark.parametrize(
    "options",
    [{"max_batch": 0}, {"max_batch": 10, "queue_limit": 9}, {"max_wait_ms": -1}, {"max_wait_ms": float("nan")}],
)
def test_impossible_options_are_refused(echo, options):
    with pytest.raises(ValueError, match="max_batch"):
        Batcher(echo, **options)
