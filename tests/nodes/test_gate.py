"""Turns at an endpoint: the gate's law, and what is learnt of slow but healthy endpoints."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from escalade.app.settings import Settings
from escalade.app.wiring import open_language_model
from escalade.nodes.call_failed import CallFailed
from escalade.nodes.endpoint import Endpoint
from escalade.nodes.gate import Gate, Turn
from escalade.nodes.guards import Breaker
from escalade.nodes.questions import choice
from tests.loopback_llm import Reply, loopback

pytestmark = pytest.mark.endpoint_row(17)

MOST = 5


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.integers(1, MOST), st.integers(0, 40))
def test_never_more_than_the_limit_are_under_way_and_no_turn_is_lost(seed: int, at_once: int, waiting: int) -> None:
    """Under random arrivals, cancellations, deadlines, failures and answers."""
    chance = random.Random(seed)
    gate = Gate(at_once, waiting)
    under_way = most = 0

    async def caller() -> None:
        nonlocal under_way, most
        await asyncio.sleep(chance.random() * 0.002)
        async with gate.turn(chance.choice([0.0, 0.001, 0.004, float("inf")])) as turn:
            under_way += 1
            most = max(most, under_way)
            try:
                if chance.random() < 0.7:
                    await asyncio.sleep(chance.random() * 0.002)
                end = chance.random()
                if end < 0.3:
                    gate.answered(turn)
                elif end < 0.5:
                    gate.too_many(turn)
                elif end < 0.6:
                    raise CallFailed("error")
            finally:
                under_way -= 1

    async def main() -> None:
        tasks = [asyncio.create_task(caller()) for _ in range(50)]
        for task in chance.sample(tasks, 25):
            await asyncio.sleep(chance.random() * 0.0004)
            task.cancel()
        async with asyncio.timeout(20):
            await asyncio.gather(*tasks, return_exceptions=True)

    asyncio.run(main())
    assert 0 < most <= at_once
    assert gate.under_way == 0
    assert len(gate._waiting) == 0
    assert 1 <= gate.limit <= at_once


def test_no_turn_is_lost_between_threads_whose_callers_give_up() -> None:
    gate = Gate(3, 1000)

    def work(seed: int) -> None:
        chance = random.Random(seed)

        async def one() -> None:
            async with gate.turn(chance.choice([0.0005, 0.005, 5.0])):
                await asyncio.sleep(chance.random() * 0.001)

        async def main() -> None:
            tasks = [asyncio.create_task(one()) for _ in range(40)]
            for task in tasks[::3]:
                await asyncio.sleep(0)
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        asyncio.run(main())

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert gate.under_way == 0


def test_the_limit_is_halved_once_a_round_and_grows_with_answers() -> None:
    now = [0.0]
    gate = Gate(16, 100, clock=lambda: now[0])
    together = [Turn(0.0, 15, 0, 0.0) for _ in range(16)]
    now[0] = 1.0
    for turn in together:
        gate.too_many(turn)
    assert gate.limit == 8
    gate.too_many(Turn(2.0, 7, 0, 2.0))
    assert gate.limit == 4
    gate._under_way = 4
    for _ in range(3 * 16):
        gate.answered(Turn(3.0, 3, 0, 3.0))
        gate._under_way = gate.limit
    assert 8 < gate.limit < 16
    gate._under_way = 0
    before = gate.limit
    for _ in range(500):  # what is not used proves nothing
        gate.answered(Turn(3.0, 0, 0, 3.0))
    assert gate.limit == before


def test_a_call_that_hangs_among_fast_ones_teaches_nothing() -> None:
    now = [0.0]
    gate = Gate(16, 100, clock=lambda: now[0])
    hanging, fast = Turn(0.0, 1, 0, 0.0), Turn(0.9, 1, 0, 0.9)
    now[0] = 1.0
    gate.answered(fast)
    gate.too_many(hanging, 1.0)
    assert gate.limit == 16
    slow = Turn(0.2, 1, 1, 0.2)
    gate.answered(slow)  # as long as a call may take, nearly
    gate.too_many(hanging, 1.0)
    assert gate.limit == 8


def test_calls_refused_as_too_many_in_a_time_leave_some_at_once() -> None:
    now = [0.0]
    gate = Gate(16, 100, clock=lambda: now[0])
    for _ in range(10):
        now[0] += 1.0
        gate.too_many(Turn(now[0], 0, 0, now[0]))
    assert gate.limit == 4
    for _ in range(10):
        now[0] += 1.0
        gate.too_many(Turn(now[0], 0, 0, now[0]), 1.0)
    assert gate.limit == 1


def asked(url: str, count: int, *, timeout_s: float) -> tuple[Any, list[Any]]:
    """So many questions at once, in a process that knows nothing of the endpoint yet."""
    model: Any = open_language_model(Settings(llm_model="m", llm_base_url=url, llm_timeout_s=timeout_s))
    assert model is not None

    async def main() -> list[Any]:
        from langchain_core.messages import HumanMessage

        calls = [model.ask(choice(["a", "b"]), [HumanMessage("which?")]) for _ in range(count)]
        ended = await asyncio.gather(*calls, return_exceptions=True)
        await asyncio.to_thread(model.close)
        return ended

    return model, asyncio.run(main())


@pytest.mark.parametrize(("at_once", "count"), [(None, 32), (8, 32), (4, 20), (2, 10), (1, 6)])
def test_a_slow_endpoint_answers_all_and_its_breaker_stays_closed(at_once: int | None, count: int) -> None:
    with loopback(lambda _: Reply(after_s=1.6), at_once=at_once) as served:
        model, ended = asked(served.url, count, timeout_s=3.0)
    assert [one for one in ended if isinstance(one, BaseException)] == []
    assert served.answered == count  # none was given up and asked again
    assert model.endpoint.breaker.state == "closed"
    if at_once is not None and count > 16:
        assert model.endpoint.gate.limit < 16


def test_one_that_hangs_is_given_up_while_others_are_answered() -> None:
    with loopback(lambda call: Reply(after_s=20.0 if call.number == 3 else 0.02)) as served:
        model, ended = asked(served.url, 40, timeout_s=2.0)
    assert [one.reason for one in ended if isinstance(one, CallFailed)] == ["timeout"]
    assert model.endpoint.breaker.state == "closed"


@pytest.mark.parametrize(
    ("before_s", "held_s", "after_s"), [(0.0, 0.7, 0.5), (0.6, 1.0, 0.05)], ids=["early", "as it is due"]
)
def test_a_loop_that_is_held_up_is_not_the_endpoint_s_fault(before_s: float, held_s: float, after_s: float) -> None:
    async def main() -> None:
        endpoint = Endpoint()

        async def answers(_: float) -> str:
            await asyncio.sleep(before_s)
            asyncio.get_running_loop().call_soon(time.sleep, held_s)  # then all that is due is late
            await asyncio.sleep(0)  # held up here
            await asyncio.sleep(after_s)
            return "fine"

        assert await endpoint.call(answers, timeout_s=1.0, tokens=1, used=lambda _: 1) == ("fine", 1)

    asyncio.run(main())


def test_an_endpoint_that_hangs_opens_the_breaker() -> None:
    with loopback(lambda call: Reply(after_s=0.05 if call.number < 8 else 20.0)) as served:
        model, ended = asked(served.url, 40, timeout_s=0.5)
    assert model.endpoint.breaker.state == "open"
    assert {one.reason for one in ended if isinstance(one, CallFailed)} <= {"timeout", "breaker_open"}


def test_a_trial_that_is_given_up_leaves_the_next_one_to_try() -> None:
    async def main() -> None:
        endpoint = Endpoint(breaker=Breaker(1, rest_s=0.0))

        async def fails(_: float) -> None:
            raise ConnectionResetError

        async def hangs(_: float) -> None:
            await asyncio.sleep(60)

        async def answers(_: float) -> str:
            return "fine"

        def call(send: Any) -> Any:
            return endpoint.call(send, timeout_s=30, tokens=1, used=lambda _: 1)

        with pytest.raises(CallFailed):
            await call(fails)
        for _ in range(3):
            trial = asyncio.create_task(call(hangs))
            await asyncio.sleep(0.01)
            assert endpoint.breaker.state == "half_open"
            trial.cancel()
            await asyncio.gather(trial, return_exceptions=True)
            assert endpoint.breaker.state == "open"
            assert not endpoint.breaker.refuses()
        assert await call(answers) == ("fine", 1)
        assert endpoint.breaker.state == "closed"
        assert endpoint.gate.under_way == 0

    asyncio.run(main())
