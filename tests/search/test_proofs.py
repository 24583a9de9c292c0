"""What a domain proves at sight ends searches sooner, and rightly; at the root a search still shows its work."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from support import Plain, WithoutProofs, random_states, same

from escalade.domains.base import Domain, FloatArray
from escalade.domains.connect_four import ConnectFour
from escalade.domains.line_game import LineState
from escalade.search.arrays import BEYOND, NONE
from escalade.search.config import SearchConfig
from escalade.search.engine import SearchResult, search
from escalade.search.evaluators import UniformEvaluator
from escalade.search.session import Searcher
from escalade.search.solve_connect_four import ConnectFourSolver

C4 = ConnectFour()
ALGORITHMS = pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
BOTH = pytest.mark.parametrize("domain", [C4, Plain(C4)], ids=["kernels", "plain"])


def searched(domain: Any, states: Sequence[Any], simulations: int, seed: int = 3, **options: Any) -> list[SearchResult]:
    config = SearchConfig(simulations=simulations, **options)
    return list(search(domain, list(states), UniformEvaluator(), config, seed=seed))


def middle_games(count: int, seed: int) -> list[LineState]:
    """Positions in which no one can win at once, so that what is proven there is proven at sight."""
    states = [s for s in random_states(C4, 20 * count, seed) if 8 <= len(s.moves) <= 26 and not C4.ending_actions(s)]
    return states[:count]


def decided(count: int, seed: int) -> list[LineState]:
    """Those of which every action is proven at sight."""
    states = middle_games(20 * count, seed)
    return [s for s in states if set(C4.proven_actions(s)) == set(C4.legal_actions(s))][:count]


@ALGORITHMS
@BOTH
def test_proofs_end_searches_sooner_and_right(domain: Any, algorithm: Any) -> None:
    states, solver = middle_games(60, 1), ConnectFourSolver()
    with_proofs = searched(domain, states, 60, algorithm=algorithm)
    without = searched(WithoutProofs(), states, 60, algorithm=algorithm)
    for state, result in zip(states, with_proofs, strict=True):
        if result.proven:
            assert result.stopped == "proven"
            assert result.value == solver.value(state) == result.lower[result.action]
    proven, before = (sum(result.proven for result in results) for results in (with_proofs, without))
    assert proven > 1.5 * before
    spent, before = (sum(result.simulations for result in results) for results in (with_proofs, without))
    assert spent < 0.85 * before


@ALGORITHMS
def test_a_plain_domain_is_spared_the_same_as_kernels(algorithm: Any) -> None:
    states = middle_games(30, 2)
    fast, slow = (searched(domain, states, 60, algorithm=algorithm) for domain in (C4, Plain(C4)))
    for left, right in zip(fast, slow, strict=True):
        same(left, right)


@ALGORITHMS
@BOTH
def test_where_all_is_proven_every_action_is_tried_at_most_once(domain: Any, algorithm: Any) -> None:
    states = decided(8, 3)
    assert len(states) == 8
    for state, result in zip(states, searched(domain, states, 400, algorithm=algorithm), strict=True):
        proven = C4.proven_actions(state)
        assert result.proven
        assert result.value == max(proven.values()) == proven[result.action]
        assert 0 < result.simulations == result.visits.sum() <= len(proven)
        assert result.visits[result.action] == 1
        assert result.visits.max() == 1
        visited = result.visits > 0
        np.testing.assert_array_equal(result.action_values[visited], [proven[a] for a in np.flatnonzero(visited)])


@BOTH
def test_at_the_root_nothing_is_known_before_it_is_tried(domain: Any) -> None:
    states = decided(8, 3)
    for state, result in zip(states, searched(domain, states, 1), strict=True):
        untried = [action for action in C4.legal_actions(state) if not result.visits[action]]
        assert result.visits.sum() == 1
        assert (result.lower[untried] == -1).all()
        assert (result.upper[untried] == 1).all()


@ALGORITHMS
@pytest.mark.parametrize("make", [lambda domain: domain, Plain], ids=["kernels", "plain"])
def test_without_proofs_nothing_that_is_proven_at_sight_is_used(make: Any, algorithm: Any) -> None:
    states = [*middle_games(10, 4), *decided(4, 4)]
    told, untold = (
        searched(make(domain), states, 40, algorithm=algorithm, proofs=False) for domain in (C4, WithoutProofs())
    )
    for left, right in zip(told, untold, strict=True):
        same(left, right)
        assert not left.proven
        assert left.simulations == 40


class Told(Domain[str]):
    """A tree that is told by its paths, which players walk in turn: `ends` are seen from the player to move there, and
    `proofs` name what actions are proven to be worth."""

    name = "told"
    num_actions = 3
    observation_shape = (1,)

    def __init__(self, actions: int, ends: Mapping[str, float], proofs: Mapping[str, Mapping[int, float]]) -> None:
        self.actions, self.ends, self.proofs = actions, ends, proofs

    def parse(self, source: Any) -> str:
        return str(source)

    def format(self, state: str) -> str:
        return state

    def initial_state(self) -> str:
        return ""

    def legal_actions(self, state: str) -> Sequence[int]:
        return range(self.actions)

    def step(self, state: str, action: int) -> str:
        return state + "abc"[action]

    def to_move(self, state: str) -> int:
        return len(state) % 2

    def is_terminal(self, state: str) -> bool:
        return state in self.ends

    def outcome(self, state: str) -> float:
        return self.ends[state]

    def ending_actions(self, state: str) -> Mapping[int, float]:
        after = {action: self.step(state, action) for action in self.legal_actions(state)}
        return {action: -self.ends[then] for action, then in after.items() if then in self.ends}

    def proven_actions(self, state: str) -> Mapping[int, float] | None:
        return self.proofs.get(state)

    def encode(self, states: Sequence[str]) -> FloatArray:
        return np.array([[len(state)] for state in states], np.float32)


def told_search(domain: Told, **options: Any) -> tuple[Searcher[str], SearchResult]:
    searcher = Searcher(domain, UniformEvaluator(), SearchConfig(simulations=60, **options), 1)
    searcher.start([0], [""])
    (result,) = searcher.search()
    return searcher, result


def children(searcher: Searcher[str]) -> list[int]:
    """Of the root."""
    cohort, place = searcher._home(0)
    at = int(cohort.arrays.start[place])
    return [int(child) for child in cohort.arrays.child[at]]


def test_a_win_in_one_is_preferred_to_a_win_proven_at_sight() -> None:
    # Both moves lose: the first to a win in one, which the other player could also put off; the second likewise.
    domain = Told(2, {"ab": -1.0, "bb": -1.0}, {"a": {0: 1.0}, "b": {0: 1.0}})
    searcher, result = told_search(domain)
    assert result.proven
    assert result.value == -1
    assert result.simulations == 2
    assert result.principal_variation == (result.action, 1)
    searcher.play([0], [result.action])
    assert children(searcher)[:2] == [BEYOND, NONE]  # what was proven at sight, and what ends the game
    (kept,) = searcher.search()
    assert kept.proven
    assert kept.value == 1
    assert kept.action == 1
    assert kept.principal_variation == (1,)
    assert kept.lower[:2].tolist() == kept.upper[:2].tolist() == [1, 1]


def test_at_the_root_too_a_win_in_one_goes_before_what_is_proven() -> None:
    (result,) = search(Told(3, {"c": -1.0}, {"": {0: 1.0, 1: 1.0}}), [""], UniformEvaluator(), SearchConfig())
    assert result.proven
    assert (result.action, result.value, result.simulations) == (2, 1.0, 0)


def test_a_loss_proven_at_sight_is_preferred_to_one_in_two() -> None:
    # It ends later than anything that was looked at.
    domain = Told(2, {"aa": -1.0}, {"b": {0: 1.0}})
    _, result = told_search(domain)
    assert result.proven
    assert result.value == -1
    assert result.action == 1


def test_what_is_proven_at_sight_bounds_what_is_still_open() -> None:
    _, result = told_search(Told(2, {}, {"a": {0: 0.0, 1: -0.5}, "b": {0: -0.25}}))
    assert not result.proven
    assert (result.lower[0], result.upper[0]) == (0.0, 0.0)  # all replies are proven
    assert (result.lower[1], result.upper[1]) == (-1.0, 0.25)  # one is, the other may be better
    assert result.visits.tolist() == [1, 59, 0]
    assert 0 <= result.value <= 0.25


def test_a_proof_is_turned_round_only_where_the_other_player_moves() -> None:
    domain = Told(2, {}, {"a": {0: 0.5, 1: 0.5}, "b": {0: 0.25, 1: 0.0}})
    domain.to_move = lambda _: 0  # type: ignore[method-assign]
    _, result = told_search(domain)
    assert result.proven
    assert (result.action, result.value) == (0, 0.5)


@BOTH
def test_edges_proven_at_sight_stay_so_in_the_subtree_that_is_kept(domain: Any) -> None:
    kept = 0
    for seed, state in enumerate(middle_games(12, 5)):
        searcher = Searcher(domain, UniformEvaluator(), SearchConfig(simulations=60), 1)
        searcher.start([0], [state])
        (result,) = searcher.search(seed=seed)
        searcher.play([0], [result.action])
        after = C4.step(state, result.action)
        ends, proven = C4.ending_actions(after), C4.proven_actions(after)
        beyond = [action for action, child in enumerate(children(searcher)) if child == BEYOND]
        assert beyond == [action for action in proven if action not in ends]
        kept += len(beyond)
        (following,) = searcher.search(seed=seed)
        for action in beyond:
            assert following.lower[action] == following.upper[action] == proven[action]
            assert following.visits[action] == 0
        assert following.action in C4.legal_actions(after)
    assert kept > 10
