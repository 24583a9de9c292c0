"""Estimates kept: the same search with fewer questions, and never an answer that is out of date."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support import Plain, Weighing, network_for, same

from escalade.domains.base import BoolArray, FloatArray
from escalade.domains.connect_four import ConnectFour
from escalade.domains.errors import DomainFault
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.search.cache import CachedEvaluator
from escalade.search.cohort import Cohort
from escalade.search.config import SearchConfig
from escalade.search.engine import search
from escalade.search.evaluators import RolloutEvaluator, UniformEvaluator
from escalade.search.session import Searcher

TTT, C4 = TicTacToe(), ConnectFour()


DOMAINS = pytest.mark.parametrize("domain", [C4, Plain(C4)], ids=["kernels", "plain"])
STATES = [C4.parse(moves) for moves in ("", "4", "44", "4455", "172635", "172653")]


@DOMAINS
@pytest.mark.parametrize("cache", [2, 100, 5000])
@pytest.mark.parametrize("options", [{}, {"algorithm": "gumbel"}, {"proofs": False}, {"noise_fraction": 0.25}], ids=str)
def test_a_cache_saves_questions_and_changes_nothing(domain: Any, cache: int, options: dict[str, Any]) -> None:
    config = SearchConfig(simulations=200, **options)
    without, having = Weighing(C4), Weighing(C4)
    plain = search(domain, STATES, without, config, seed=3)
    kept = search(domain, STATES, having, config, seed=3, cache=cache)
    for left, right in zip(plain, kept, strict=True):
        same(left, right)
    assert having.rows <= without.rows
    if cache == 5000:
        assert having.rows < without.rows


@DOMAINS
def test_moves_that_transpose_are_met_again(domain: Any) -> None:
    config = SearchConfig(simulations=500, c_puct=2.0)
    without, having = Weighing(C4), Weighing(C4)
    hits = [searched(domain, evaluator, config, cache).hits for evaluator, cache in ((without, 0), (having, 2000))]
    assert hits[0] == 0
    assert hits[1] > 20
    assert having.rows + hits[1] == without.rows


def searched(domain: Any, evaluator: Any, config: SearchConfig, cache: int) -> Cohort:
    """A cohort whose one tree has been searched from the empty board."""
    cohort = Cohort(domain, evaluator, 1, config.simulations + 1, cache=cache)
    cohort.plant(
        np.arange(1), [C4.parse("")], np.zeros(1, np.int64), config.simulations + 1, config, np.zeros(1, np.uint64)
    )
    while cohort.busy:
        cohort.go(16, to_the_end=True)
    assert cohort.arrays.visits[0] == config.simulations + 1
    return cohort


def test_a_network_in_the_kernels_is_cached_as_well() -> None:
    network = network_for(C4)
    config = SearchConfig(simulations=300)
    for state in STATES:
        same(*search(C4, [state], network, config), *search(C4, [state], network, config, cache=1000))
    assert searched(C4, network, config, 1000).hits > 0


@pytest.mark.parametrize("domain", [TTT, Plain(TTT)], ids=["kernels", "plain"])
def test_rollouts_are_chance_and_never_kept(domain: Any) -> None:
    evaluator, config = RolloutEvaluator(domain, 2), SearchConfig(simulations=100)
    states = [TTT.parse(""), TTT.parse("5")]
    for left, right in zip(
        search(domain, states, evaluator, config), search(domain, states, evaluator, config, cache=1000), strict=True
    ):
        same(left, right)
    searcher = Searcher(domain, evaluator, config, 1, cache=1000)
    searcher.start([0], [states[0]])
    searcher.search()
    assert [cohort.hits for cohort in searcher._cohorts] == [0]


@DOMAINS
def test_what_one_search_asked_the_next_one_knows(domain: Any) -> None:
    evaluator, config = Weighing(C4), SearchConfig(simulations=100)
    searcher = Searcher(domain, evaluator, config, 1, cache=5000)
    searcher.start([0], [C4.parse("44")])
    (first,) = searcher.search()
    asked = evaluator.rows
    assert 0 < asked <= 101
    searcher.start([0], [C4.parse("44")])
    same(searcher.search()[0], first)
    lost = evaluator.rows - asked  # two states may share a place of the table
    assert lost < 10 if domain is C4 else lost == 0


@DOMAINS
def test_estimates_can_be_forgotten_when_the_evaluator_has_learned(domain: Any) -> None:
    evaluator, config = Weighing(C4), SearchConfig(simulations=50)
    searcher = Searcher(domain, evaluator, config, 1, cache=5000)
    searcher.start([0], [C4.parse("44")])
    searcher.search()
    evaluator.learn()
    (expected,) = search(domain, [C4.parse("44")], evaluator, config)
    searcher.forget_estimates()
    searcher.start([0], [C4.parse("44")])
    same(searcher.search()[0], expected)


@DOMAINS
def test_a_network_that_has_learned_is_asked_anew(domain: Any) -> None:
    network, config = network_for(C4), SearchConfig(simulations=50)
    searcher = Searcher(domain, network, config, 1, cache=5000)
    searcher.start([0], [C4.parse("44")])
    (before,) = searcher.search()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(-1.5)
    searcher.start([0], [C4.parse("44")])
    (after,) = searcher.search()
    assert before.visits.tolist() != after.visits.tolist()
    same(after, search(domain, [C4.parse("44")], network, config)[0])


# After a fault


class FaultyOnce(Weighing):
    """Its first answer is NaN."""

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        logits, values = super().evaluate(observations, legal)
        if self.rows == len(legal):
            values[:] = np.nan
        return logits, values


@DOMAINS
def test_an_answer_that_is_none_is_not_kept(domain: Any) -> None:
    config = SearchConfig(simulations=30)
    searcher = Searcher(domain, FaultyOnce(C4), config, 1, cache=1000)
    searcher.start([0], [C4.parse("")])
    with pytest.raises(DomainFault, match="not finite"):
        searcher.search()
    same(searcher.search()[0], search(domain, [C4.parse("")], Weighing(C4), config)[0])


class Shapeless:
    """One row and one number, however many states it is asked about."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> Any:
        return self.answer


@pytest.mark.parametrize(
    "answer",
    [
        (np.zeros(7, np.float32), np.float32(0)),  # broadcast without a word
        (np.zeros((1, 7), np.float32), np.zeros(1, np.float32)),  # broadcast without a word
        (np.zeros((2, 6), np.float32), np.zeros(2, np.float32)),  # ValueError
    ],
    ids=["scalar", "one row", "another width"],
)
@DOMAINS
def test_a_cache_hides_no_answer_of_another_shape(domain: Any, answer: Any) -> None:
    with pytest.raises(DomainFault, match="logits"):
        search(domain, STATES[:2], Shapeless(answer), SearchConfig(simulations=5), cache=100)


# The cache of plain domains by itself


def rows(*numbers: int) -> tuple[FloatArray, BoolArray]:
    """Observations that differ by a number, all actions legal."""
    seen = np.array(numbers, np.float32)[:, None].repeat(C4.observation_shape[0], 1)
    return seen, np.ones((len(numbers), 7), np.bool_)


def test_keeps_no_more_than_its_entries_and_those_used_last() -> None:
    inner = Weighing(C4)
    cached = CachedEvaluator(inner, 3)
    for number in range(10):
        cached.evaluate(*rows(number))
        assert len(cached._known) <= 3
    assert inner.rows == 10
    assert cached.hits == 0
    cached.evaluate(*rows(7, 9))
    assert inner.rows == 10
    cached.evaluate(*rows(1))  # in the place of 8, which was used longest ago
    cached.evaluate(*rows(7, 9, 1))
    assert inner.rows == 11
    assert cached.hits == 5
    cached.evaluate(*rows(8))
    assert inner.rows == 12
    cached.evaluate(*rows(*range(20, 40)))  # more at once than there is room for
    assert len(cached._known) == 3


def test_answers_come_in_the_order_asked_and_are_copies() -> None:
    inner = Weighing(C4)
    cached = CachedEvaluator(inner, 100)
    expected_logits, expected_values = inner.evaluate(*rows(0, 1, 2, 3))
    cached.evaluate(*rows(1, 3))
    for _ in range(2):
        logits, values = cached.evaluate(*rows(0, 1, 2, 3))
        np.testing.assert_array_equal(logits, expected_logits)
        np.testing.assert_array_equal(values, expected_values)
        logits[:], values[:] = 99, 99
    cached.forget()
    before = inner.rows
    cached.evaluate(*rows(0))
    assert inner.rows == before + 1


def test_the_same_observation_with_other_legal_actions_is_another_state() -> None:
    inner = Weighing(C4)
    cached = CachedEvaluator(inner, 100)
    observations, legal = rows(1)
    cached.evaluate(observations, legal)
    other = legal.copy()
    other[0, 0] = False
    cached.evaluate(observations, other)
    assert inner.rows == 2
    assert cached.hits == 0


def test_uniform_answers_are_the_same_with_and_without() -> None:
    config = SearchConfig(simulations=150)
    for left, right in zip(
        search(C4, STATES, UniformEvaluator(), config),
        search(C4, STATES, UniformEvaluator(), config, cache=64),
        strict=True,
    ):
        same(left, right)
