"""One state that an evaluator, or an encoding, cannot deal with fails its own search alone; those that share its waves
find exactly what they would have found without it."""

from __future__ import annotations

import asyncio
import gc
import math
import threading
import weakref
from collections.abc import Callable, Collection
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import Plain, Weighing, same

from escalade.domains.base import BoolArray, FloatArray
from escalade.domains.connect_four import ConnectFour
from escalade.domains.errors import DomainFault, EscaladeError
from escalade.search import service_worker
from escalade.search.cohort import Cohort
from escalade.search.config import SearchConfig
from escalade.search.engine import search
from escalade.search.evaluators import RolloutEvaluator
from escalade.search.service import SearchService, SearchTicket

C4 = ConnectFour()
PATIENCE = 60.0
STARTS = ("1", "2", "3", "4", "5", "6")
"""One search each; none of these positions lies in the tree of another."""
CONFIG = SearchConfig(simulations=25)


class Gated(Weighing):
    """Waits for its gate before it answers, so that searches begin in one wave."""

    def __init__(self) -> None:
        super().__init__(C4)
        self.gate = threading.Event()
        self.calls = 0

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        assert self.gate.wait(PATIENCE)
        self.calls += 1
        return super().evaluate(observations, legal)


class Picky(Gated):
    """Cannot deal with certain observations: raises, after it has spoilt its arguments."""

    def __init__(self, bad: Collection[bytes], error: BaseException) -> None:
        super().__init__()
        self.bad, self.error = bad, error

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        answer = super().evaluate(observations, legal)
        found = any(row.tobytes() in self.bad for row in observations)
        observations[:] = 7
        legal[:] = True
        if found:
            raise self.error
        return answer


def seen_of(moves: Collection[str]) -> set[bytes]:
    return {row.tobytes() for row in C4.encode([C4.parse(text) for text in moves])} if moves else set()


def together(service: SearchService, gate: threading.Event, config: SearchConfig = CONFIG) -> list[SearchTicket]:
    tickets = [service.submit(C4.parse(moves), config, seed=seed) for seed, moves in enumerate(STARTS)]
    gate.set()
    return tickets


def alone(domain: Any, seed: int, config: SearchConfig = CONFIG) -> Any:
    evaluator = Gated()
    evaluator.gate.set()
    return search(domain, [C4.parse(STARTS[seed])], evaluator, config, seed=[seed])[0]


@pytest.mark.parametrize("domain", [C4, Plain(C4)], ids=["kernels", "plain"])
@given(bad=st.sets(st.sampled_from(STARTS)), algorithm=st.sampled_from(["puct", "gumbel"]))
@settings(max_examples=25)
def test_whichever_roots_are_bad_the_others_are_as_if_alone(domain: Any, bad: set[str], algorithm: Any) -> None:
    config = SearchConfig(simulations=25, algorithm=algorithm)
    evaluator = Picky(seen_of(bad), ValueError("this one cannot be evaluated"))
    with SearchService(domain, evaluator) as service:
        for seed, ticket in enumerate(together(service, evaluator.gate, config)):
            if STARTS[seed] in bad:
                with pytest.raises(ValueError, match="cannot be evaluated"):
                    ticket.result(PATIENCE)
            else:
                same(ticket.result(PATIENCE), alone(domain, seed, config))
        assert service.running == 0
        assert service.search(C4.parse("44"), config).simulations == 25


@pytest.mark.parametrize("domain", [C4, Plain(C4)], ids=["kernels", "plain"])
def test_a_state_met_deep_in_a_tree_fails_that_tree(domain: Any) -> None:
    evaluator = Picky(seen_of(["211"]), ZeroDivisionError("a leaf"))
    config = SearchConfig(simulations=150, c_puct=20.0)
    with SearchService(domain, evaluator) as service:
        for seed, ticket in enumerate(together(service, evaluator.gate, config)):
            if STARTS[seed] == "2":
                assert isinstance(ticket.exception(PATIENCE), ZeroDivisionError)
            else:
                same(ticket.result(PATIENCE), alone(domain, seed, config))


def test_one_bad_state_costs_about_log2_more_evaluations() -> None:
    """All six searches are one call a wave, and the wave with the bad one some more."""
    good = Picky(set(), ValueError())
    with SearchService(C4, good) as service:
        for ticket in together(service, good.gate):
            ticket.result(PATIENCE)
    for moves in STARTS:
        evaluator = Picky(seen_of([moves]), ValueError("bad"))
        with SearchService(C4, evaluator) as service:
            outcomes = [ticket.exception(PATIENCE) for ticket in together(service, evaluator.gate)]
        assert [error is not None for error in outcomes] == [moves == start for start in STARTS]
        # Searches that join a wave later than others make more waves, not more calls a wave.
        assert evaluator.calls <= good.calls + 2 * (math.ceil(math.log2(len(STARTS))) + 3)


@pytest.mark.parametrize("domain", [C4, Plain(C4)], ids=["kernels", "plain"])
def test_an_error_that_is_kept_does_not_keep_the_trees(domain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[weakref.ref[Cohort]] = []
    monkeypatch.setattr(service_worker, "Cohort", lambda *given, **more: _noted(Cohort(*given, **more), made))
    evaluator = Picky(seen_of(["3"]), ValueError("kept"))
    with SearchService(domain, evaluator) as service:
        outcomes = [ticket.exception(PATIENCE) for ticket in together(service, evaluator.gate)]
    assert str(outcomes[2]) == "kept"
    gc.collect()
    assert made
    assert [reference() for reference in made if reference() is not None] == []


def _noted(cohort: Cohort, made: list[weakref.ref[Cohort]]) -> Cohort:
    made.append(weakref.ref(cohort))
    return cohort


class NanFor(Gated):
    """Cannot deal with certain observations: NaN, as value or as logit."""

    def __init__(self, bad: Collection[bytes], where: str) -> None:
        super().__init__()
        self.bad, self.where = bad, where

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        logits, values = super().evaluate(observations, legal)
        rows = np.array([row.tobytes() in self.bad for row in observations])
        if self.where == "value":
            values[rows] = np.nan
        else:
            logits[rows, 3] = np.nan
        return logits, values


@pytest.mark.parametrize("domain", [C4, Plain(C4)], ids=["kernels", "plain"])
@pytest.mark.parametrize("where", ["value", "logit"])
@given(bad=st.sets(st.sampled_from(STARTS)))
@settings(max_examples=10)
def test_a_row_of_nan_fails_its_own_search_alone(domain: Any, where: str, bad: set[str]) -> None:
    evaluator = NanFor(seen_of(bad), where)
    with SearchService(domain, evaluator) as service:
        for seed, ticket in enumerate(together(service, evaluator.gate)):
            if STARTS[seed] in bad:
                with pytest.raises(DomainFault, match="not finite"):
                    ticket.result(PATIENCE)
            else:
                same(ticket.result(PATIENCE), alone(domain, seed))


class TooFew(Gated):
    """Leaves out the rows that it cannot deal with: its answer is too short."""

    def __init__(self, bad: Collection[bytes]) -> None:
        super().__init__()
        self.bad = bad

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        logits, values = super().evaluate(observations, legal)
        kept = [row.tobytes() not in self.bad for row in observations]
        return logits[kept], values[kept]


def test_an_answer_that_is_too_short_fails_the_state_it_leaves_out() -> None:
    evaluator = TooFew(seen_of(["4"]))
    with SearchService(C4, evaluator) as service:
        for seed, ticket in enumerate(together(service, evaluator.gate)):
            if STARTS[seed] == "4":
                with pytest.raises(DomainFault, match="for 1 states"):
                    ticket.result(PATIENCE)
            else:
                same(ticket.result(PATIENCE), alone(C4, seed))


class RolloutsExcept:
    """Rollouts with a part of chance, which raise for certain states. A `StateEvaluator`."""

    def __init__(self, domain: Any, bad: str) -> None:
        self.rollouts, self.bad = RolloutEvaluator(domain, rollouts=2), C4.to_rows([C4.parse(bad)])[0].tolist()
        self.gate = threading.Event()

    def evaluate_states(self, states: Any, legal: BoolArray, keys: Any) -> tuple[FloatArray, FloatArray]:
        assert self.gate.wait(PATIENCE)
        rows = states if isinstance(states, np.ndarray) else C4.to_rows(states)
        answer = self.rollouts.evaluate_states(states, legal, keys)
        if self.bad in rows.tolist():
            raise LookupError("no rollout of this")
        return answer


@pytest.mark.parametrize("domain", [C4, Plain(C4)], ids=["kernels", "plain"])
def test_rollouts_of_the_others_are_the_same_though_asked_again(domain: Any) -> None:
    evaluator = RolloutsExcept(domain, "3")
    with SearchService(domain, evaluator) as service:
        for seed, ticket in enumerate(together(service, evaluator.gate)):
            if STARTS[seed] == "3":
                assert isinstance(ticket.exception(PATIENCE), LookupError)
            else:
                fresh = RolloutEvaluator(domain, rollouts=2)
                same(ticket.result(PATIENCE), search(domain, [C4.parse(STARTS[seed])], fresh, CONFIG, seed=[seed])[0])


def unencodable(moves: str, wrong: Callable[[], Any]) -> Any:
    """Connect Four, but one state of it cannot be encoded."""
    domain: Any = Plain(C4)
    domain.encode = lambda states: wrong() if any(state.moves == moves for state in states) else C4.encode(states)
    return domain


def fails() -> Any:
    raise OverflowError("a number too large to encode")


@pytest.mark.parametrize(
    "wrong", [fails, lambda: None, lambda: np.zeros((0, 126), np.float32)], ids=["raises", "none", "no_rows"]
)
def test_a_state_that_cannot_be_encoded_fails_its_own_search_alone(wrong: Callable[[], Any]) -> None:
    domain = unencodable("5", wrong)
    evaluator = Gated()
    with SearchService(domain, evaluator) as service:
        for seed, ticket in enumerate(together(service, evaluator.gate)):
            if STARTS[seed] == "5":
                assert isinstance(ticket.exception(PATIENCE), Exception)
            else:
                same(ticket.result(PATIENCE), alone(Plain(C4), seed))


@pytest.mark.parametrize("error", [StopIteration("empty"), SystemExit(3), KeyboardInterrupt()], ids=repr)
async def test_a_task_that_waits_gets_an_error_that_it_can_be_given(error: BaseException) -> None:
    evaluator = Picky(seen_of(["2"]), error)
    with SearchService(C4, evaluator) as service:
        waiting = [asyncio.wrap_future(ticket) for ticket in together(service, evaluator.gate)]
        async with asyncio.timeout(PATIENCE):
            found = await asyncio.gather(*waiting, return_exceptions=True)
    assert [isinstance(outcome, EscaladeError) for outcome in found] == [moves == "2" for moves in STARTS]
    same(found[0], alone(C4, 0))


def test_a_domain_that_runs_out_of_an_iterator_does_not_leave_a_task_waiting() -> None:
    domain: Any = Plain(C4)
    domain.step = lambda state, action: next(iter(())) if state.moves == "6" else C4.step(state, action)
    evaluator = Gated()

    async def ask() -> Any:
        with SearchService(domain, evaluator) as service:
            waiting = [asyncio.wrap_future(ticket) for ticket in together(service, evaluator.gate)]
            async with asyncio.timeout(PATIENCE):
                return await asyncio.gather(*waiting, return_exceptions=True)

    found = asyncio.run(ask())
    assert isinstance(found[5], EscaladeError)
    same(found[4], alone(Plain(C4), 4))
