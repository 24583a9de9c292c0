"""The guards in front of an endpoint: attempts, breaker, turns and caps."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from escalade.nodes.call_failed import CallFailed
from escalade.nodes.endpoint import Endpoint
from escalade.nodes.gate import Gate
from escalade.nodes.guards import Breaker, DecisionTokens, HourlyTokens


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Broken(Exception):
    """As clients' errors look."""

    def __init__(self, status: int, **headers: str) -> None:
        super().__init__("sk-secret")
        self.status_code = status
        self.response = type("Response", (), {"headers": headers})()


def called(endpoint: Endpoint, *answers: Any, timeout_s: float = 5.0, tokens: int = 10, **options: Any) -> Any:
    """What a call gives whose attempts end in these answers, one after another; errors are raised."""
    left = list(answers)

    async def send(_: float) -> Any:
        answer = left.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    return asyncio.run(
        endpoint.call(send, timeout_s=timeout_s, tokens=tokens, used=options.pop("used", lambda _: 7), **options)
    )


@pytest.mark.parametrize("error", [Broken(429), Broken(500), Broken(503), ConnectionResetError()])
def test_a_second_attempt_may_mend_it(error: Exception) -> None:
    assert called(Endpoint(), error, "fine") == ("fine", 2)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Broken(400), "refused"),
        (Broken(401), "unauthorized"),
        (TimeoutError(), "timeout"),
        (ValueError(), "malformed_answer"),
        (RuntimeError(), "error"),
    ],
)
def test_what_would_fail_again_is_not_tried_again(error: Exception, reason: str) -> None:
    with pytest.raises(CallFailed, match=reason) as failed:
        called(Endpoint(), error, "fine")
    assert failed.value.details["attempts"] == 1
    assert "sk-secret" not in str(failed.value.details)


def test_there_is_no_third_attempt() -> None:
    with pytest.raises(CallFailed, match="rate_limited") as failed:
        called(Endpoint(), Broken(429), Broken(429), "fine")
    assert failed.value.details == {"error": "Broken", "status": 429, "attempts": 2}


def test_a_rest_that_the_provider_asks_for_is_kept_or_the_call_given_up() -> None:
    with pytest.raises(CallFailed, match="rate_limited") as failed:
        called(Endpoint(), Broken(429, **{"retry-after": "30"}), "fine")
    assert failed.value.details["attempts"] == 1
    assert called(Endpoint(), Broken(429, **{"retry-after": "soon"}), "fine") == ("fine", 2)


def test_one_that_hangs_is_left_in_time() -> None:
    async def hang(_: float) -> None:
        await asyncio.sleep(60)

    endpoint = Endpoint()
    with pytest.raises(CallFailed, match="timeout"):
        asyncio.run(endpoint.call(hang, timeout_s=0.05, tokens=1, used=lambda _: 1))
    assert endpoint.gate.under_way == 0


def test_callers_with_little_time_do_not_open_it_for_all() -> None:
    async def slow(_: float) -> str:
        await asyncio.sleep(0.1)
        return "fine"

    endpoint = Endpoint(breaker=Breaker(3))

    def call(within_s: float, fair_s: float) -> Any:
        options: Any = {"timeout_s": 5.0, "within_s": within_s, "fair_s": fair_s}
        return asyncio.run(endpoint.call(slow, tokens=1, used=lambda _: 1, **options))

    for _ in range(9):
        with pytest.raises(CallFailed, match="timeout"):
            call(0.01, 0.05)
    assert endpoint.breaker.state == "closed"
    assert call(5.0, 0.05) == ("fine", 1)
    for _ in range(3):  # who had enough, as calls usually take, counts
        with pytest.raises(CallFailed, match="timeout"):
            call(0.02, 0.01)
    assert endpoint.breaker.state == "open"


def test_the_breaker_opens_tries_again_and_closes() -> None:
    clock, heard = Clock(), list[str]()
    endpoint = Endpoint(breaker=Breaker(5, rest_s=10, clock=clock, on_change=heard.append))
    for _ in range(5):
        assert not endpoint.breaker.refuses()
        with pytest.raises(CallFailed, match="timeout"):
            called(endpoint, TimeoutError())
    for _ in range(3):
        with pytest.raises(CallFailed, match="breaker_open"):
            called(endpoint, "never sent")
    clock.now = 10
    with pytest.raises(CallFailed, match="timeout"):
        called(endpoint, TimeoutError())
    clock.now = 25  # the rest has doubled
    with pytest.raises(CallFailed, match="breaker_open"):
        called(endpoint, "never sent")
    clock.now = 30
    assert called(endpoint, "fine") == ("fine", 1)
    assert heard == ["open", "half_open", "open", "half_open", "closed"]
    for _ in range(4):
        with pytest.raises(CallFailed, match="timeout"):
            called(endpoint, TimeoutError())
    assert endpoint.breaker.state == "closed"


def test_a_questions_own_faults_open_no_breaker() -> None:
    endpoint = Endpoint()
    for _ in range(20):
        with pytest.raises(CallFailed, match="refused"):
            called(endpoint, Broken(422))
    assert endpoint.breaker.state == "closed"


def test_one_call_tries_while_the_others_are_refused() -> None:
    clock = Clock()
    breaker = Breaker(1, rest_s=1, clock=clock)
    breaker.enter()
    breaker.leave(False)
    clock.now = 1
    breaker.enter()
    assert breaker.refuses()
    with pytest.raises(CallFailed):
        breaker.enter()
    breaker.leave(None)  # it was cancelled: the next one tries
    breaker.enter()
    breaker.leave(True)
    assert breaker.state == "closed"


def test_so_many_at_once_and_no_more_wait_than_may() -> None:
    async def main() -> tuple[int, int, int]:
        endpoint, under_way, most = Endpoint(gate=Gate(3, 4)), 0, 0

        async def send(_: float) -> str:
            nonlocal under_way, most
            under_way += 1
            most = max(most, under_way)
            await asyncio.sleep(0.02)
            under_way -= 1
            return "fine"

        calls = [endpoint.call(send, timeout_s=5, tokens=1, used=lambda _: 1) for _ in range(10)]
        ended = await asyncio.gather(*calls, return_exceptions=True)
        refused = [one for one in ended if isinstance(one, CallFailed)]
        assert all(one.reason == "overloaded" for one in refused)
        return most, len(ended) - len(refused), endpoint.gate.under_way

    assert asyncio.run(main()) == (3, 7, 0)


def test_a_turn_is_not_lost_with_who_gives_up() -> None:
    async def main() -> None:
        gate = Gate(1, 10)
        await gate.enter()
        waiting = [asyncio.create_task(gate.enter()) for _ in range(3)]
        await asyncio.sleep(0)
        waiting[0].cancel()
        gate.leave()
        await waiting[1]
        gate.leave()
        await waiting[2]
        gate.leave()
        assert gate.under_way == 0

    asyncio.run(main())


def test_turns_pass_between_threads_and_their_event_loops() -> None:
    gate, done = Gate(2, 100), list[int]()

    def work(number: int) -> None:
        async def one() -> None:
            await gate.enter()
            await asyncio.sleep(0.001)
            gate.leave()
            done.append(number)

        asyncio.run(one())

    threads = [threading.Thread(target=work, args=(number,)) for number in range(30)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    assert sorted(done) == list(range(30))
    assert gate.under_way == 0


def test_the_cap_of_an_hour_holds_and_passes() -> None:
    clock = Clock()
    endpoint = Endpoint(tokens=HourlyTokens(100, clock=clock))
    for _ in range(13):
        called(endpoint, "fine", tokens=10)  # of which 7 are used
    with pytest.raises(CallFailed, match="token_cap"):
        called(endpoint, "never sent", tokens=10)
    clock.now = 3601
    assert called(endpoint, "fine", tokens=10) == ("fine", 1)


def test_calls_under_way_count_as_much_as_they_may_become() -> None:
    async def main(send: Callable[[float], Any]) -> list[Any]:
        endpoint = Endpoint(tokens=HourlyTokens(100))
        calls = [endpoint.call(send, timeout_s=5, tokens=30, used=lambda _: 1) for _ in range(8)]
        return await asyncio.gather(*calls, return_exceptions=True)

    async def send(_: float) -> str:
        await asyncio.sleep(0.01)
        return "fine"

    ended = asyncio.run(main(send))
    assert sum(not isinstance(one, CallFailed) for one in ended) == 3


def test_a_decision_has_a_cap_of_its_own() -> None:
    endpoint, decision = Endpoint(), DecisionTokens(30)
    for _ in range(3):
        called(endpoint, "fine", tokens=10, decision=decision)
    assert decision.spent == 21
    with pytest.raises(CallFailed, match="token_cap"):
        called(endpoint, "never sent", tokens=10, decision=decision)
    called(endpoint, "fine", tokens=9, decision=decision)


def test_a_failed_call_may_be_billed_and_counts() -> None:
    endpoint, decision = Endpoint(), DecisionTokens(100)
    with pytest.raises(CallFailed, match="timeout"):
        called(endpoint, TimeoutError(), tokens=60, decision=decision)
    assert decision.spent == 60
    with pytest.raises(CallFailed, match="refused"):
        called(endpoint, Broken(400), tokens=40, decision=decision)
    assert decision.spent == 60


def test_an_answer_without_a_usage_record_counts_as_the_most() -> None:
    decision = DecisionTokens(100)
    called(Endpoint(), "fine", tokens=60, decision=decision, used=lambda _: None)
    assert decision.spent == 60


def test_calls_of_one_decision_at_once_do_not_go_over_its_cap() -> None:
    async def main() -> tuple[list[Any], DecisionTokens]:
        decision = DecisionTokens(100)

        async def send(_: float) -> str:
            await asyncio.sleep(0.01)
            return "fine"

        calls = [Endpoint().call(send, timeout_s=5, tokens=30, used=lambda _: 20, decision=decision) for _ in range(8)]
        return await asyncio.gather(*calls, return_exceptions=True), decision

    ended, decision = asyncio.run(main())
    assert sum(not isinstance(one, CallFailed) for one in ended) == 3
    assert (decision.spent, decision.reserved) == (60, 0)
