"""Searches that share waves: each as if it were alone, whoever joins, leaves or fails beside it."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from support import Plain, same

from escalade.domains.base import BoolArray, FloatArray
from escalade.domains.connect_four import ConnectFour
from escalade.domains.errors import (
    CancelledSearch,
    DeadlineError,
    DomainFault,
    EscaladeError,
    NoSimulatorError,
    OverloadedError,
    SettingsError,
    StateError,
)
from escalade.domains.evaluator import BatchHints
from escalade.domains.intents import Intents
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.search import service_worker
from escalade.search.arrays import MAX_BYTES, nodes_in
from escalade.search.config import SearchConfig
from escalade.search.engine import SearchResult, search
from escalade.search.evaluators import RolloutEvaluator, UniformEvaluator
from escalade.search.service import SearchService, SearchTicket

TTT, C4 = TicTacToe(), ConnectFour()
EMPTY = C4.parse("")
NODE_BYTES = MAX_BYTES // nodes_in(MAX_BYTES, C4)
PATIENCE = 60.0
"""Seconds after which a wait counts as for ever."""
IMPATIENCE = 1.0
"""The same for what is expected to fail: PATIENCE once it no longer does."""
ENDLESS = SearchConfig(simulations=200_000)
"""More than any test lasts, for an evaluator in Python."""


class InPython:
    """Uniform, but asked from Python in every wave. `gate`: closed, it holds every call up. `most`: rows in a call."""

    def __init__(self, calls: int = 1) -> None:
        self.hints = BatchHints(calls=calls)
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Event()
        self.most = 0

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        self.most = max(self.most, len(legal))
        self.entered.set()
        assert self.gate.wait(PATIENCE)
        return np.zeros(legal.shape, np.float32), np.zeros(len(legal), np.float32)


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def eventually(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.001)


def outcome(ticket: SearchTicket) -> Any:
    """The result, or the error."""
    try:
        return ticket.result(PATIENCE)
    except concurrent.futures.CancelledError as error:
        return error
    except EscaladeError as error:
        return error


@contextmanager
def busy(domain: Any = C4, **options: Any) -> Iterator[tuple[SearchService, SearchTicket, InPython]]:
    """A service with one tree, which is busy for ever and held up in its evaluator; another waits until the gate opens
    and the first is cancelled."""
    evaluator = InPython()
    evaluator.gate.clear()
    with SearchService(domain, evaluator, trees=1, **options) as service:
        ticket = service.submit(EMPTY, ENDLESS)
        assert evaluator.entered.wait(PATIENCE)
        try:
            yield service, ticket, evaluator
        finally:
            evaluator.gate.set()
            ticket.cancel()
            eventually(lambda: service.running == 0)


@pytest.fixture(autouse=True)
def little_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    """A service that is closed while it is busy rests so long before it notices; see below."""
    monkeypatch.setattr(service_worker, "IDLE_SECONDS", 0.2)


# The same answers


@pytest.mark.parametrize("domain", [C4, Plain(C4)], ids=["kernels", "plain"])
@pytest.mark.parametrize(
    "options", [{}, {"algorithm": "gumbel"}, {"final_move": "lower_bound", "proofs": False}], ids=str
)
def test_an_answer_is_that_of_a_search_alone(domain: Any, options: dict[str, Any]) -> None:
    evaluator, config = RolloutEvaluator(domain, 2), SearchConfig(simulations=30, **options)
    with SearchService(domain, evaluator) as service:
        for seed in range(4):
            state = C4.parse("4" * seed)
            same(service.search(state, config, seed=seed), search(domain, [state], evaluator, config, seed=seed)[0])


@pytest.mark.parametrize("trees", [256, 7])
@pytest.mark.parametrize("make", [RolloutEvaluator, lambda _: UniformEvaluator(), lambda _: InPython(calls=2)])
def test_a_hundred_at_once_get_what_each_would_alone(trees: int, make: Callable[[Any], Any]) -> None:
    evaluator = make(C4)
    draw = random.Random(trees)
    wanted = []
    for number in range(100):
        config = SearchConfig(
            simulations=draw.choice([1, 10, 50, 200, 400]),
            algorithm=draw.choice(["puct", "gumbel"]),
            final_move=draw.choice(["visits", "lower_bound"]),
            proofs=draw.random() < 0.8,
            noise_fraction=draw.choice([0.0, 0.25]),
            temperature=draw.choice([0.0, 1.0]),
        )
        wanted.append((C4.parse(draw.choice(["", "44", "4455", "1726", "444333"])), config, number))
    tickets: dict[int, SearchTicket] = {}
    with SearchService(C4, evaluator, trees=trees) as service:
        start = threading.Barrier(4)

        def ask(first: int) -> None:
            start.wait(PATIENCE)
            for state, config, seed in wanted[first::4]:
                tickets[seed] = service.submit(state, config, seed=seed)

        threads = [threading.Thread(target=ask, args=(first,)) for first in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        results = [tickets[seed].result(PATIENCE) for seed in range(100)]
        assert service.running == service.waiting == 0
    for (state, config, seed), result in zip(wanted, results, strict=True):
        same(result, search(C4, [state], evaluator, config, seed=seed)[0])


@pytest.mark.parametrize("kernels", [True, False])
def test_a_short_search_joins_a_long_one_and_leaves_before_it(kernels: bool) -> None:
    evaluator: Any = RolloutEvaluator(C4, 64) if kernels else InPython()
    with SearchService(C4, evaluator, trees=2) as service:
        long = service.submit(EMPTY, ENDLESS)
        eventually(lambda: service.running == 1)
        for seed in range(5):
            result = service.submit(C4.parse("44"), SearchConfig(simulations=20), seed=seed).result(PATIENCE)
            assert result.simulations == 20
        assert not long.done()
        assert long.cancel()
        eventually(lambda: service.running == 0)


# Deadlines


@pytest.mark.parametrize("domain", [C4, Plain(C4)], ids=["kernels", "plain"])
def test_a_deadline_stops_a_search_with_its_answer(domain: Any) -> None:
    clock, evaluator = Clock(), InPython()
    with SearchService(domain, evaluator, clock=clock) as service:
        ticket = service.submit(EMPTY, ENDLESS, deadline=5)
        other = service.submit(EMPTY, ENDLESS, deadline=50)
        eventually(lambda: evaluator.most == 2)  # both have begun
        clock.now = 5
        result = ticket.result(PATIENCE)
        assert result.stopped == "deadline"
        assert 0 <= result.simulations == result.visits.sum() < ENDLESS.simulations
        assert result.action in range(7)
        assert not other.done()
        other.cancel()


def test_a_deadline_passed_in_the_queue_is_an_error() -> None:
    clock = Clock()
    with busy(clock=clock) as (service, _, evaluator):
        late, soon = (
            service.submit(EMPTY, SearchConfig(), deadline=7),
            service.submit(EMPTY, SearchConfig(), deadline=3),
        )
        patient = service.submit(EMPTY, SearchConfig(simulations=5))
        evaluator.gate.set()
        clock.now = 3
        with pytest.raises(DeadlineError, match="waited"):
            soon.result(PATIENCE)
        assert not late.done()
        clock.now = 8
        assert isinstance(late.exception(PATIENCE), TimeoutError)
        assert not patient.done()
        assert service.waiting == 1


def test_a_deadline_in_the_past_is_an_error_at_once_and_frees_nothing() -> None:
    clock = Clock()
    clock.now = 10
    with SearchService(C4, InPython(), clock=clock) as service:
        with pytest.raises(DeadlineError):
            service.search(EMPTY, SearchConfig(), deadline=9)
        assert service.search(EMPTY, SearchConfig(simulations=3), deadline=11).simulations == 3


def test_an_answer_before_its_deadline_is_not_touched_by_it() -> None:
    clock = Clock()
    with SearchService(C4, InPython(), trees=1, clock=clock) as service:
        first = service.search(EMPTY, SearchConfig(simulations=4), deadline=5)
        assert first.stopped == "simulations"
        second = service.submit(EMPTY, SearchConfig(simulations=3000))  # in the same place
        clock.now = 6
        assert second.result(PATIENCE).stopped == "simulations"


@pytest.mark.parametrize("domain", [C4, Plain(C4)], ids=["kernels", "plain"])
def test_a_deadline_that_passes_as_the_search_begins_gives_the_answer_of_no_time(domain: Any) -> None:
    times = iter([0.0])  # the first look, when the request is taken from the queue; then it is too late
    with SearchService(domain, InPython(), trees=1, clock=lambda: next(times, 10.0)) as service:
        result = service.submit(EMPTY, SearchConfig(simulations=50), deadline=5).result(PATIENCE)
    same(result, search(domain, [EMPTY], UniformEvaluator(), SearchConfig(simulations=50), deadline=0)[0])


def test_a_request_cancelled_by_the_callback_of_another_harms_nobody() -> None:
    clock = Clock()
    with busy(clock=clock) as (service, running, evaluator):
        first, second = (service.submit(EMPTY, SearchConfig(), deadline=3) for _ in range(2))
        first.add_done_callback(lambda _: second.cancel())  # as when the first failure ends a group
        clock.now = 3
        evaluator.gate.set()
        assert isinstance(outcome(first), DeadlineError)
        eventually(second.done)
        time.sleep(0.1)
        assert not running.done()  # it has nothing to do with them


# Cancelling


def test_cancelling_what_waits_takes_it_out_of_the_queue() -> None:
    with busy() as (service, running, evaluator):
        waiting = [service.submit(EMPTY, SearchConfig(simulations=5), seed=seed) for seed in range(3)]
        assert service.waiting == 3
        assert waiting[1].cancel()
        assert waiting[1].cancelled()
        assert service.waiting == 2
        with pytest.raises(concurrent.futures.CancelledError):
            waiting[1].result(0)
        running.cancel()
        evaluator.gate.set()
        assert waiting[0].result(PATIENCE).simulations == 5
        assert waiting[2].result(PATIENCE).simulations == 5


@pytest.mark.parametrize("domain", [C4, Plain(C4)], ids=["kernels", "plain"])
def test_cancelling_what_runs_frees_its_place(domain: Any) -> None:
    with SearchService(domain, InPython(), trees=1) as service:
        for _ in range(3):
            ticket = service.submit(EMPTY, ENDLESS)
            eventually(lambda: service.running == 1)
            assert ticket.cancel()
            assert ticket.cancelled()
            eventually(lambda: service.running == 0)
        assert service.search(EMPTY, SearchConfig(simulations=7)).simulations == 7


def test_what_is_done_cannot_be_cancelled() -> None:
    with SearchService(TTT, UniformEvaluator()) as service:
        ticket = service.submit(TTT.parse(""), SearchConfig(simulations=5))
        ticket.result(PATIENCE)
        assert not ticket.cancel()
        assert not ticket.cancelled()


@pytest.mark.parametrize("where", ["waiting", "running"])
def test_those_who_wait_hear_of_a_cancellation(where: str) -> None:
    with busy() as (service, running, evaluator):
        ticket = running if where == "running" else service.submit(EMPTY, SearchConfig())
        evaluator.gate.set()
        ticket.cancel()
        assert concurrent.futures.wait([ticket], timeout=IMPATIENCE).done == {ticket}


# Refusals


def test_a_full_queue_is_refused() -> None:
    with busy(queue_limit=2) as (service, running, evaluator):
        tickets = [service.submit(EMPTY, SearchConfig(simulations=3)) for _ in range(2)]
        with pytest.raises(OverloadedError, match="2 searches wait"):
            service.submit(EMPTY, SearchConfig())
        tickets[0].cancel()
        again = service.submit(EMPTY, SearchConfig(simulations=4))
        running.cancel()
        evaluator.gate.set()
        assert tickets[1].result(PATIENCE).simulations == 3
        assert again.result(PATIENCE).simulations == 4


def test_refusals_are_clear() -> None:
    with SearchService(C4, UniformEvaluator()) as service:
        with pytest.raises(StateError, match="'1212121' is finished"):
            service.submit(C4.parse("1212121"), SearchConfig())
        with pytest.raises(SettingsError, match="lower simulations"):
            service.submit(EMPTY, SearchConfig(simulations=10**9))
        with pytest.raises(StateError, match="'4455' is the text of a state"):
            service.submit("4455", SearchConfig())
        for seed in ("1", None, [1], 1.5):
            with pytest.raises(SettingsError, match="seed must be"):
                service.submit(EMPTY, SearchConfig(), seed=seed)  # type: ignore[arg-type]
        for deadline in ("soon", [1.0], float("nan"), np.datetime64(1, "s")):
            with pytest.raises(SettingsError, match="deadline must be"):
                service.submit(EMPTY, SearchConfig(), deadline=deadline)  # type: ignore[arg-type]
        assert service.search(EMPTY, SearchConfig(simulations=5), seed=np.int64(3), deadline=np.inf).simulations == 5
        assert service.waiting == service.running == 0
    with pytest.raises(NoSimulatorError, match="intents"):
        SearchService(Intents(["a", "b"]), UniformEvaluator())
    for options in ({"trees": 0}, {"queue_limit": 0}, {"memory": 100}):
        with pytest.raises(SettingsError, match="at least"):
            SearchService(C4, UniformEvaluator(), **options)


# Failures


class Failing(InPython):
    """Raises while `broken`."""

    def __init__(self) -> None:
        super().__init__()
        self.broken = False

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        answer = super().evaluate(observations, legal)
        if self.broken:
            raise OSError("the line is down")
        return answer


@pytest.mark.parametrize("domain", [C4, Plain(C4)], ids=["kernels", "plain"])
def test_an_evaluator_that_raises_fails_those_who_asked_and_the_service_goes_on(domain: Any) -> None:
    evaluator = Failing()
    with SearchService(domain, evaluator) as service:
        tickets = [service.submit(EMPTY, ENDLESS, seed=seed) for seed in range(3)]
        eventually(lambda: service.running == 3)
        evaluator.broken = True
        for ticket in tickets:
            assert isinstance(ticket.exception(PATIENCE), OSError)
        with pytest.raises(OSError, match="line"):
            service.search(EMPTY, SearchConfig())
        evaluator.broken = False
        config = SearchConfig(simulations=40)
        same(service.search(EMPTY, config), search(domain, [EMPTY], UniformEvaluator(), config)[0])
        assert service.running == service.waiting == 0


class Trap(Plain):
    """Connect Four, but one position, and no other, cannot be dealt with."""

    def __init__(self, method: str, moves: str) -> None:
        super().__init__(C4)
        self.moves = moves
        setattr(self, method, self.trapped(getattr(C4, method)))

    def trapped(self, rule: Callable[..., Any]) -> Callable[..., Any]:
        def call(state: Any, *given: Any) -> Any:
            if state.moves.startswith(self.moves):
                raise ZeroDivisionError(f"{self.moves} is a trap")
            return rule(state, *given)

        return call


@pytest.mark.parametrize("method", ["step", "legal_actions", "ending_actions", "proven_actions", "to_move"])
def test_a_domain_that_raises_fails_its_own_search_alone(method: str) -> None:
    domain: Any = Trap(method, "77")
    config = SearchConfig(simulations=60)
    evaluator = InPython()
    evaluator.gate.clear()
    starts = ["1", "7", "2", "77", "3"]
    with SearchService(domain, evaluator) as service:
        tickets = [service.submit(C4.parse(moves), config) for moves in starts]
        evaluator.gate.set()
        for moves, ticket in zip(starts, tickets, strict=True):
            if moves.startswith("7"):
                assert isinstance(ticket.exception(PATIENCE), ZeroDivisionError)
            else:
                same(ticket.result(PATIENCE), search(C4, [C4.parse(moves)], UniformEvaluator(), config)[0])
        assert service.search(C4.parse("4"), config).simulations == 60
        assert service.running == 0


def test_a_domain_that_raises_fails_its_own_gumbel_search_alone() -> None:
    domain: Any = Trap("legal_actions", "77")
    config = SearchConfig(simulations=30, algorithm="gumbel")
    with SearchService(domain, InPython()) as service:
        long = service.submit(C4.parse("1"), ENDLESS)
        eventually(lambda: service.running == 1)
        assert isinstance(service.submit(C4.parse("77"), config).exception(PATIENCE), ZeroDivisionError)
        assert not long.done()


class SometimesNan(InPython):
    """NaN for boards with a disc in the last column."""

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        logits, values = super().evaluate(observations, legal)
        values[observations[:, :84].reshape(-1, 2, 6, 7)[..., 6].any(axis=(1, 2))] = np.nan
        logits[:, 6] = -1e9
        return logits, values


@pytest.mark.parametrize("domain", [C4, Plain(C4)], ids=["kernels", "plain"])
def test_a_number_that_is_not_finite_fails_one_search_alone(domain: Any) -> None:
    evaluator = SometimesNan()
    evaluator.gate.clear()
    config = SearchConfig(simulations=5)
    with SearchService(domain, evaluator) as service:
        tickets = [service.submit(C4.parse(moves), config) for moves in ("1", "7", "2", "47", "3")]
        evaluator.gate.set()
        for number, ticket in enumerate(tickets):
            if number in (1, 3):
                with pytest.raises(DomainFault, match="not finite"):
                    ticket.result(PATIENCE)
            else:
                assert ticket.result(PATIENCE).simulations == 5
        assert service.search(EMPTY, config).simulations == 5


class Unsound(ConnectFour):
    """Its kernels do not keep to their arrays, which is noticed when a cohort is made."""

    observation_shape = (3, 6, 8)


def test_a_cohort_that_cannot_be_made_fails_those_who_wait_for_it() -> None:
    with SearchService(Unsound(), InPython()) as service:
        ticket = service.submit(EMPTY, SearchConfig(simulations=5))
        assert isinstance(ticket.exception(IMPATIENCE), DomainFault)


# Ends


def test_closing_fails_what_is_under_way_and_refuses_what_comes() -> None:
    evaluator = InPython()
    service = SearchService(C4, evaluator, trees=1)
    tickets = [service.submit(EMPTY, ENDLESS) for _ in range(3)]
    eventually(lambda: service.running == 1)
    service.close()
    for ticket in tickets:
        with pytest.raises(CancelledSearch, match="closed"):
            ticket.result(0)
    assert all(worker._thread is None or not worker._thread.is_alive() for worker in service._workers)
    with pytest.raises(EscaladeError, match="closed"):
        service.submit(EMPTY, SearchConfig())
    service.close()


def test_a_service_never_used_closes() -> None:
    with SearchService(C4, UniformEvaluator()):
        pass


@pytest.mark.parametrize("under_way", ["endless", "the last wave"])
def test_closing_does_not_wait_for_the_idle_time(under_way: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_worker, "IDLE_SECONDS", 2 * PATIENCE)
    evaluator = InPython()
    evaluator.gate.clear()
    service = SearchService(C4, evaluator)
    service.submit(C4.parse("44"), ENDLESS if under_way == "endless" else SearchConfig(simulations=1))
    assert evaluator.entered.wait(PATIENCE)
    closing = threading.Thread(target=service.close)
    closing.start()
    eventually(lambda: service.closed)
    evaluator.gate.set()
    closing.join(IMPATIENCE)
    late = closing.is_alive()
    while closing.is_alive():  # do not leave it behind
        with service.changed:
            service.changed.notify_all()
        closing.join(0.05)
    assert not late


def test_threads_end_when_idle_and_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_worker, "IDLE_SECONDS", 0.02)
    with SearchService(C4, RolloutEvaluator(C4)) as service:
        assert all(worker._thread is None for worker in service._workers)  # not before they are needed
        for seed in range(3):
            assert service.search(EMPTY, SearchConfig(simulations=20), seed=seed).simulations == 20
            eventually(lambda: all(worker._thread is None for worker in service._workers))
            assert all(worker._cohort is None for worker in service._workers)  # nor is memory kept


# Room


def test_more_requests_than_trees_wait_and_finish_in_order() -> None:
    finished: list[int] = []
    with busy() as (service, running, evaluator):
        tickets = []
        for number, simulations in enumerate([50, 3, 200, 1, 20, 7] * 4):
            ticket = service.submit(EMPTY, SearchConfig(simulations=simulations), seed=number)
            ticket.add_done_callback(lambda _, number=number: finished.append(number))
            tickets.append(ticket)
        assert service.running == 1
        assert service.waiting == 24
        running.cancel()
        evaluator.gate.set()
        for ticket in tickets:
            ticket.result(PATIENCE)
    assert finished == list(range(24))


def test_a_request_that_needs_more_room_waits_for_it_and_nobody_overtakes() -> None:
    evaluator = InPython()
    evaluator.gate.clear()
    finished: list[str] = []
    with SearchService(C4, evaluator, trees=8, memory=505 * NODE_BYTES) as service:
        first = service.submit(EMPTY, SearchConfig(simulations=60), seed=1)
        assert evaluator.entered.wait(PATIENCE)
        big = service.submit(EMPTY, SearchConfig(simulations=500), seed=2)
        small = service.submit(EMPTY, SearchConfig(simulations=10), seed=3)
        for name, ticket in (("first", first), ("big", big), ("small", small)):
            ticket.add_done_callback(lambda _, name=name: finished.append(name))
        evaluator.gate.set()
        for seed, ticket in enumerate((first, big, small), start=1):
            config = ticket.config
            same(ticket.result(PATIENCE), search(C4, [EMPTY], UniformEvaluator(), config, seed=seed)[0])
        eventually(lambda: len(finished) == 3)
    assert finished == ["first", "big", "small"]


def test_an_arena_in_pieces_serves_everyone() -> None:
    draw = random.Random(5)
    evaluator = RolloutEvaluator(C4, 1)
    with SearchService(C4, evaluator, trees=16, memory=evaluator.hints.calls * 900 * NODE_BYTES) as service:
        asked = [(SearchConfig(simulations=draw.choice([5, 40, 90, 250, 700])), seed) for seed in range(60)]
        tickets = [service.submit(EMPTY, config, seed=seed) for config, seed in asked]
        results = [ticket.result(PATIENCE) for ticket in tickets]
        eventually(lambda: service.running == 0)
        for worker in service._workers:
            with service.changed:
                assert worker._ranges.take(worker._ranges.size) in (0, None if not worker._ranges.size else 0)
    for (config, seed), result in zip(asked, results, strict=True):
        same(result, search(C4, [EMPTY], evaluator, config, seed=seed)[0])


@pytest.mark.parametrize("domain", [C4, Plain(C4)], ids=["kernels", "plain"])
@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
def test_trees_that_are_given_room_as_they_grow_are_the_same_trees(
    domain: Any, algorithm: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_worker, "FIRST_ROOM", 16)
    evaluator = RolloutEvaluator(domain, 1)
    states = [C4.parse(moves) for moves in ("", "44", "1726", "4455")]
    configs = [SearchConfig(simulations=n, algorithm=algorithm, proofs=n % 2 == 0) for n in (15, 16, 17, 100, 700)]
    asked = [(state, config) for state in states for config in configs]
    with SearchService(domain, evaluator) as service:
        later = service.clock() + PATIENCE
        tickets = [service.submit(state, config, seed=7, deadline=later) for state, config in asked]
        for (state, config), ticket in zip(asked, tickets, strict=True):
            same(ticket.result(PATIENCE), search(domain, [state], evaluator, config, seed=7)[0])


@pytest.mark.parametrize("evaluator", [UniformEvaluator(), InPython()], ids=["compiled", "python"])
def test_many_with_more_simulations_than_time_share_the_waves(evaluator: Any) -> None:
    clock, many = Clock(), 200
    config = SearchConfig(simulations=1_000_000, proofs=False)
    with SearchService(C4, evaluator, clock=clock) as service:
        tickets = [service.submit(EMPTY, config, seed=seed, deadline=1.0) for seed in range(many)]
        eventually(lambda: service.running == many)
        clock.now = 1.0
        results = [ticket.result(PATIENCE) for ticket in tickets]
    assert {result.stopped for result in results} == {"deadline"}
    assert {result.action for result in results} <= set(range(7))


@pytest.mark.parametrize("domain", [C4, Plain(C4)], ids=["kernels", "plain"])
def test_a_search_with_a_deadline_ends_where_memory_does(domain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service_worker, "FIRST_ROOM", 64)
    node_bytes = MAX_BYTES // nodes_in(MAX_BYTES, domain)
    with SearchService(domain, InPython(), memory=1000 * node_bytes) as service:
        later = service.clock() + PATIENCE
        result = service.search(EMPTY, SearchConfig(simulations=900), seed=3, deadline=later)
        assert result.stopped == "memory"  # 512 nodes and a copy twice as large do not fit
        same(
            result._replace(stopped="simulations"),
            search(domain, [EMPTY], UniformEvaluator(), SearchConfig(simulations=result.simulations), seed=3)[0],
        )
        assert service.search(EMPTY, SearchConfig(simulations=900), seed=3).stopped == "simulations"


def test_a_small_request_does_not_wait_for_a_large_one() -> None:
    with SearchService(C4, InPython()) as service:
        large = service.submit(EMPTY, ENDLESS)
        eventually(lambda: service.running == 1)
        assert service.search(EMPTY, SearchConfig(simulations=10)).simulations == 10
        assert not large.done()
        large.cancel()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_forked_process_has_a_service_of_its_own() -> None:
    config = SearchConfig(simulations=50)
    with busy() as (service, _, evaluator):
        child = os.fork()
        if child == 0:
            evaluator.gate.set()  # of the child's copy
            try:
                found = service.submit(EMPTY, config, seed=2).result(PATIENCE)
                os._exit(0 if found.simulations == 50 else 1)
            finally:
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert service.running == 1  # here nothing has changed


def test_no_more_run_at_once_than_there_are_trees() -> None:
    evaluator = InPython(calls=2)
    with SearchService(C4, evaluator, trees=3) as service:
        tickets = [service.submit(EMPTY, ENDLESS, seed=seed) for seed in range(8)]
        eventually(lambda: service.running >= 3)
        most = 0
        for _ in range(100):
            most = max(most, service.running)
            time.sleep(0.002)
        for ticket in tickets:
            ticket.cancel()
        eventually(lambda: service.running == 0)
        assert most == 3


# asyncio


async def test_a_ticket_can_be_awaited() -> None:
    with SearchService(C4, RolloutEvaluator(C4, 1)) as service:
        config = SearchConfig(simulations=50)
        tickets = [service.submit(EMPTY, config, seed=seed) for seed in range(5)]
        results: Sequence[SearchResult] = await asyncio.gather(*map(asyncio.wrap_future, tickets))
        for seed, result in enumerate(results):
            same(result, search(C4, [EMPTY], RolloutEvaluator(C4, 1), config, seed=seed)[0])


async def test_cancelling_the_task_cancels_the_search() -> None:
    with SearchService(C4, InPython(), trees=1) as service:
        tickets = [service.submit(EMPTY, ENDLESS) for _ in range(2)]  # one runs, one waits

        async def wait(ticket: SearchTicket) -> SearchResult:
            return await asyncio.wrap_future(ticket)

        tasks = [asyncio.create_task(wait(ticket)) for ticket in tickets]
        await asyncio.sleep(0)  # both have begun to wait
        while service.running < 1:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.001)
        for task in reversed(tasks):
            task.cancel()
        assert all(
            isinstance(end, asyncio.CancelledError) for end in await asyncio.gather(*tasks, return_exceptions=True)
        )
        assert all(ticket.cancelled() for ticket in tickets)
        await asyncio.to_thread(eventually, lambda: service.running == service.waiting == 0)


# Everything at once


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("kind", ["kernels", "python", "plain"])
def test_whatever_is_asked_and_taken_back_everything_resolves(
    seed: int, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service_worker, "FIRST_ROOM", 32)
    monkeypatch.setattr(service_worker, "IDLE_SECONDS", 0.005)
    domain: Any = Plain(C4) if kind == "plain" else C4
    evaluator: Any = RolloutEvaluator(C4, 1) if kind == "kernels" else InPython(calls=2)
    alone = RolloutEvaluator(C4, 1) if kind == "kernels" else UniformEvaluator()
    tickets: list[SearchTicket] = []
    refused: list[OverloadedError] = []
    memory = evaluator.hints.calls * 1700 * NODE_BYTES
    with SearchService(domain, evaluator, trees=5, queue_limit=20, memory=memory) as service:

        def ask(number: int) -> None:
            draw = random.Random(100 * seed + number)
            mine: list[SearchTicket] = []
            for _ in range(25):
                config = SearchConfig(
                    simulations=draw.choice([1, 5, 30, 150, 1500]), algorithm=draw.choice(["puct", "gumbel"])
                )
                state = C4.parse(draw.choice(["", "44", "4455", "1726"]))
                try:
                    wait = draw.choice([None, None, 0.0, 0.0005, 0.005])
                    deadline = None if wait is None else time.monotonic() + wait
                    mine.append(service.submit(state, config, seed=draw.randrange(1000), deadline=deadline))
                except OverloadedError as error:
                    refused.append(error)
                if mine and draw.random() < 0.4:
                    draw.choice(mine).cancel()
                if draw.random() < 0.3:
                    time.sleep(draw.choice([0, 0.001, 0.01]))
            tickets.extend(mine)

        threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        ends = [outcome(ticket) for ticket in tickets]
        eventually(lambda: service.running == service.waiting == 0)
    assert len(tickets) + len(refused) == 100
    answers = 0
    for ticket, end in zip(tickets, ends, strict=True):
        if isinstance(end, SearchResult) and end.stopped in ("deadline", "memory"):
            assert ticket.deadline is not None
            assert end.simulations == end.visits.sum() < ticket.config.simulations
            assert end.action in C4.legal_actions(ticket.state)
        elif isinstance(end, DeadlineError):
            assert ticket.deadline is not None
        elif isinstance(end, SearchResult):
            answers += 1
            same(end, search(C4, [ticket.state], alone, ticket.config, seed=ticket.seed)[0])
        else:
            assert isinstance(end, concurrent.futures.CancelledError)
            assert ticket.cancelled()
    assert answers > 5
