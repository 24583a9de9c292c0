"""The batcher is bounded in time and in memory, and computes nothing that no one wants."""

from __future__ import annotations

import asyncio
import time
from concurrent.futures import CancelledError

import numpy as np
import pytest

from escalade.domains.errors import DeadlineError, OverloadedError
from escalade.neural.batcher import Batcher

WAIT = 30  # seconds until a test that hangs is a failure


def test_a_full_queue_refuses_at_once_and_recovers(gated):
    with Batcher(gated, max_batch=4, queue_limit=8) as batcher:
        gated.hold(batcher)
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
        gated.hold(batcher)
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
        gated.hold(batcher)
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
        slow.hold(batcher)
        guilty = batcher.submit(*slow.item(2, fault=slow.RAISE))
        patient = batcher.submit(*slow.item(3), deadline=1000.0)
        hasty = batcher.submit(*slow.item(4), deadline=102.5)
        slow.gate.release(100)
        with pytest.raises(ValueError, match="guilty"):
            guilty.result(WAIT)
        assert slow.is_answer(patient.result(WAIT), 3)
        with pytest.raises(DeadlineError):
            hasty.result(WAIT)


async def test_a_caller_is_released_at_its_deadline_though_the_evaluator_hangs(gated):
    with Batcher(gated) as batcher:
        first = gated.hold(batcher)
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


def test_a_cancelled_item_is_never_computed(gated):
    with Batcher(gated) as batcher:
        first = gated.hold(batcher)
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
        gated.hold(batcher)
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
