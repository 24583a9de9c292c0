"""Searches that go on from move to move: what is kept, what begins anew, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from support import Plain, Weighing, same

from escalade.domains.base import BoolArray, FloatArray
from escalade.domains.connect_four import ConnectFour
from escalade.domains.errors import ActionError, EscaladeError, SettingsError, StateError
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.search.cohort import Cohort
from escalade.search.config import SearchConfig
from escalade.search.engine import SearchResult, search
from escalade.search.evaluators import RolloutEvaluator, UniformEvaluator
from escalade.search.session import Searcher

TTT, C4 = TicTacToe(), ConnectFour()


def subtree(cohort: Cohort, tree: int, node: int) -> list[Any]:
    """All that the arrays say of a node and those below it, whatever their numbers."""
    a = cohort.arrays
    at = int(a.start[tree]) + node
    said = [
        *(field[at] for field in (a.visits, a.raw_value, a.value, a.total, a.lower, a.upper, a.to_move, a.terminal)),
        *(field[at].tolist() for field in (a.prior, a.edge_visits, a.edge_value, a.edge_lower, a.edge_upper, a.rows)),
        cohort.plain.states[tree][node] if cohort.plain else None,
    ]
    for action, child in enumerate(a.child[at].tolist()):
        if child >= 0:
            place = int(a.start[tree]) + child
            if node > 0:
                assert a.parent[place] == node
            assert a.parent_action[place] == action
            said.append((action, subtree(cohort, tree, child)))
        else:
            said.append((action, child))  # NONE or BEYOND
    return said


DOMAINS = pytest.mark.parametrize("domain", [C4, Plain(C4)], ids=["kernels", "plain"])


@DOMAINS
@pytest.mark.parametrize("proofs", [True, False])
def test_what_is_known_of_the_move_played_is_kept_whole(domain: Any, proofs: bool) -> None:
    searcher = Searcher(domain, Weighing(C4), SearchConfig(simulations=200, proofs=proofs), 3)
    starts = ["", "444333", "1122"]
    searcher.start(range(3), [C4.parse(moves) for moves in starts])
    results = searcher.search()
    for tree, result in enumerate(results):
        for action in np.argsort(-result.visits)[:1].tolist():
            cohort, place = searcher._home(tree)
            child = int(cohort.arrays.child[cohort.arrays.start[place], action])
            before = subtree(cohort, place, child)
            visits = int(cohort.arrays.visits[cohort.arrays.start[place] + child])
            size = int(cohort.arrays.size[place])
            searcher.play([tree], [action])
            assert subtree(cohort, place, 0) == before
            assert visits <= int(cohort.arrays.size[place]) < size or not proofs
            assert cohort.arrays.parent[cohort.arrays.start[place]] == -1
    following = searcher.search()
    for tree, result in enumerate(following):
        cohort, place = searcher._home(tree)
        assert searcher.state(tree) == C4.step(C4.parse(starts[tree]), results[tree].action)
        assert result.simulations == 200 or result.proven
        assert result.simulations == cohort.arrays.visits[cohort.arrays.start[place]] - 1
        assert result.action in C4.legal_actions(searcher.state(tree))
        assert set(np.flatnonzero(result.visits)) <= set(C4.legal_actions(searcher.state(tree)))


def test_the_visits_kept_are_the_floor_of_those_to_come() -> None:
    searcher = Searcher(C4, UniformEvaluator(), SearchConfig(simulations=300), 1)
    searcher.start([0], [C4.parse("")])
    (first,) = searcher.search()
    cohort, _ = searcher._home(0)
    searcher.play([0], [first.action])
    kept = cohort.arrays.edge_visits[cohort.arrays.start[0]].copy()
    assert kept.sum() == first.visits[first.action] - 1 > 0
    (second,) = searcher.search()
    assert (second.visits >= kept).all()
    assert second.visits.sum() == 300


def test_two_moves_can_be_played_between_searches() -> None:
    searcher = Searcher(C4, Weighing(C4), SearchConfig(simulations=400), 1)
    searcher.start([0], [C4.parse("")])
    (first,) = searcher.search()
    cohort, _ = searcher._home(0)
    mine, theirs = first.principal_variation[:2]
    a = cohort.arrays
    child = int(a.child[a.start[0], mine])
    before = subtree(cohort, 0, int(a.child[a.start[0] + child, theirs]))
    searcher.play([0], [mine])
    searcher.play([0], [theirs])
    assert subtree(cohort, 0, 0) == before
    assert searcher.search()[0].simulations == 400


def play_out(domain: Any, evaluator: Any, config: SearchConfig, moves: str) -> list[SearchResult]:
    searcher = Searcher(domain, evaluator, config, 1)
    state = C4.parse(moves)
    searcher.start([0], [state])
    results = []
    while True:
        (result,) = searcher.search(seed=len(results))
        results.append(result)
        state = C4.step(state, result.action)
        if C4.is_terminal(state):
            return results
        searcher.play([0], [result.action])


@pytest.mark.parametrize(
    "options",
    [{}, {"proofs": False}, {"noise_fraction": 0.25}, {"algorithm": "gumbel"}, {"final_move": "lower_bound"}],
    ids=str,
)
@pytest.mark.parametrize("make", [lambda: UniformEvaluator(), lambda: Weighing(C4)], ids=["uniform", "weighing"])
def test_a_plain_domain_plays_the_same_whole_game_as_its_kernels(
    make: Callable[[], Any], options: dict[str, Any]
) -> None:
    config = SearchConfig(simulations=40, **options)
    left, right = play_out(C4, make(), config, "44"), play_out(Plain(C4), make(), config, "44")
    assert len(left) == len(right)
    for one, other in zip(left, right, strict=True):
        same(one, other)


@DOMAINS
def test_a_move_never_tried_begins_anew(domain: Any) -> None:
    config = SearchConfig(simulations=3)
    searcher = Searcher(domain, Weighing(C4), config, 1)
    searcher.start([0], [C4.parse("")])
    (result,) = searcher.search()
    untried = int(np.flatnonzero(result.visits == 0)[0])
    searcher.play([0], [untried])
    same(searcher.search(seed=4)[0], search(domain, [C4.parse(str(untried + 1))], Weighing(C4), config, seed=4)[0])


@DOMAINS
def test_a_new_start_forgets_the_old_game(domain: Any) -> None:
    config = SearchConfig(simulations=60)
    searcher = Searcher(domain, Weighing(C4), config, 2)
    searcher.start([0, 1], [C4.parse("")] * 2)
    searcher.search()
    searcher.start([1], [C4.parse("4455")])
    same(searcher.search([1], seed=9)[0], search(domain, [C4.parse("4455")], Weighing(C4), config, seed=9)[0])


def test_a_gumbel_search_begins_anew_after_every_move() -> None:
    config = SearchConfig(simulations=50, algorithm="gumbel")
    searcher = Searcher(C4, Weighing(C4), config, 1)
    searcher.start([0], [C4.parse("")])
    (first,) = searcher.search(seed=1)
    searcher.play([0], [first.action])
    (alone,) = search(C4, [C4.parse(str(first.action + 1))], Weighing(C4), config, seed=2)
    same(searcher.search(seed=2)[0], alone)


def test_a_gumbel_search_begins_anew_each_time() -> None:
    config = SearchConfig(simulations=16, algorithm="gumbel")
    searcher = Searcher(C4, Weighing(C4), config, 1)
    searcher.start([0], [C4.parse("")])
    searcher.search(seed=1)
    same(searcher.search(seed=2)[0], search(C4, [C4.parse("")], Weighing(C4), config, seed=2)[0])


def test_searching_again_without_a_move_adds_nothing() -> None:
    searcher = Searcher(C4, Weighing(C4), SearchConfig(simulations=50), 1)
    searcher.start([0], [C4.parse("")])
    same(*searcher.search(seed=1), *searcher.search(seed=2))


def test_noise_is_not_mixed_in_twice() -> None:
    searcher = Searcher(C4, UniformEvaluator(), SearchConfig(simulations=20, noise_fraction=0.5), 1)
    searcher.start([0], [C4.parse("")])
    (first,), (again,) = searcher.search(seed=1), searcher.search(seed=1)
    np.testing.assert_allclose(first.prior, again.prior, atol=1e-6)


def test_a_root_that_was_kept_has_fresh_noise() -> None:
    quiet = Searcher(C4, UniformEvaluator(), SearchConfig(simulations=60), 1)
    noisy = Searcher(C4, UniformEvaluator(), SearchConfig(simulations=60, noise_fraction=0.25), 1)
    for searcher in (quiet, noisy):
        searcher.start([0], [C4.parse("")])
        (first,) = searcher.search(seed=1)
        searcher.play([0], [int(first.visits.argmax())])
    assert np.ptp(quiet.search(seed=2)[0].prior) == 0
    (result,) = noisy.search(seed=2)
    assert np.ptp(result.prior) > 0
    assert result.prior.sum() == pytest.approx(1, abs=1e-5)
    assert result.prior.min() >= 0.75 / 7 - 1e-6


# Refusals


def searched() -> Searcher:
    searcher = Searcher(TTT, UniformEvaluator(), SearchConfig(simulations=20), 2)
    searcher.start([0, 1], [TTT.parse("5"), TTT.parse("1425")])
    searcher.search()
    return searcher


def test_an_illegal_move_is_refused_and_changes_nothing() -> None:
    searcher = searched()
    with pytest.raises(ActionError):
        searcher.play([0], [4])
    with pytest.raises(ActionError):
        searcher.play([0], [9])
    assert searcher.state(0) == TTT.parse("5")
    assert searcher.search([0])[0].simulations == 20


def test_finished_states_are_refused() -> None:
    searcher = searched()
    with pytest.raises(StateError, match="finished"):
        searcher.start([0], [TTT.parse("14253")])
    with pytest.raises(StateError, match="finished"):
        searcher.play([1], [TTT.parse_action("3")])
    assert searcher.state(1) == TTT.parse("1425")
    assert searcher.search([1])[0].action == TTT.parse_action("3")


def test_a_tree_is_searched_once_at_a_time_and_only_when_started() -> None:
    searcher = Searcher(TTT, UniformEvaluator(), SearchConfig(simulations=20), 3)
    with pytest.raises(SettingsError, match="tree 0 has no state"):
        searcher.search()
    searcher.start([1], [TTT.parse("")])
    with pytest.raises(SettingsError, match="tree 0 has no state"):
        searcher.search()
    with pytest.raises(SettingsError, match="each named once"):
        searcher.search([1, 1])
    assert len(searcher.search([1])) == 1
    assert searcher.search([]) == []
    with pytest.raises(SettingsError, match="trees"):
        Searcher(TTT, UniformEvaluator(), SearchConfig(), 0)
    with pytest.raises(SettingsError, match="2 trees"):
        searcher.start([0, 1], [TTT.parse("")])


@pytest.mark.parametrize("tree", [-1, 2])
@pytest.mark.parametrize("what", ["start", "play", "search", "state"])
def test_unknown_trees_are_refused_by_name(what: str, tree: int) -> None:
    searcher = searched()
    calls = {
        "start": lambda: searcher.start([tree], [TTT.parse("")]),
        "play": lambda: searcher.play([tree], [0]),
        "search": lambda: searcher.search([tree]),
        "state": lambda: searcher.state(tree),
    }
    with pytest.raises(SettingsError, match=f"no tree {tree}"):
        calls[what]()
    assert searcher.state(1) == TTT.parse("1425")


def test_a_move_before_the_start_is_refused() -> None:
    with pytest.raises(EscaladeError, match="no state"):
        Searcher(TTT, UniformEvaluator(), SearchConfig(), 1).play([0], [0])


@pytest.mark.parametrize("seeds", [[1], [1, 2, 3]])
def test_a_seed_is_needed_for_every_tree(seeds: list[int]) -> None:
    with pytest.raises(SettingsError, match="seeds"):
        searched().search(seed=seeds)


# Failures


class Fragile(Weighing):
    """Raises at one call, or gives a NaN."""

    def __init__(self, domain: Any, fail_at: int, nan: bool = False) -> None:
        super().__init__(domain)
        self.calls, self.fail_at, self.nan = 0, fail_at, nan

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        self.calls += 1
        logits, values = super().evaluate(observations, legal)
        if self.calls == self.fail_at:
            if not self.nan:
                raise OSError("the line is down")
            values[0] = np.nan
        return logits, values


@DOMAINS
@pytest.mark.parametrize("fail_at", [1, 30, 51, 60])
@pytest.mark.parametrize("nan", [False, True])
def test_after_a_failure_the_next_search_is_right(domain: Any, fail_at: int, nan: bool) -> None:
    config = SearchConfig(simulations=50)
    searcher = Searcher(domain, Fragile(C4, fail_at, nan), config, 3)
    states = [C4.parse(moves) for moves in ("", "44", "1234")]
    searcher.start(range(3), states)

    def play_on() -> None:
        for _ in range(5):
            for tree, result in enumerate(searcher.search(seed=[5, 6, 7])):
                searcher.play([tree], [result.action])

    with pytest.raises((OSError, EscaladeError)):
        play_on()
    for tree, state in enumerate(states):
        if fail_at <= 51:  # in the first search, or before any move: a search has 51 calls
            assert searcher.state(tree) == state
    now = [searcher.state(tree) for tree in range(3)]
    expected = search(domain, now, Weighing(C4), config, seed=[5, 6, 7])
    for left, right in zip(searcher.search(seed=[5, 6, 7]), expected, strict=True):
        same(left, right)


# Whole games


@pytest.mark.parametrize("domain", [TTT, Plain(TTT)], ids=["kernels", "plain"])
def test_many_games_to_the_end_with_new_ones_in_their_place(domain: Any) -> None:
    trees, wanted = 9, 40
    searcher = Searcher(domain, RolloutEvaluator(domain, 2), SearchConfig(simulations=24, temperature=1.0), trees)
    searcher.start(range(trees), [TTT.initial_state()] * trees)
    finished, rounds = 0, 0
    while finished < wanted:
        rounds += 1
        # Now all of them, now some, in any order.
        chosen = np.random.default_rng(rounds).permutation(trees)[: trees if rounds % 2 else 5].tolist()
        for tree, result in zip(chosen, searcher.search(chosen, seed=rounds), strict=True):
            state = searcher.state(tree)
            assert result.action in TTT.legal_actions(state)
            assert set(np.flatnonzero(result.visits)) <= set(TTT.legal_actions(state))
            assert result.simulations <= 24
            assert result.proven or result.simulations == 24
            following = TTT.step(state, result.action)
            if TTT.is_terminal(following):
                finished += 1
                searcher.start([tree], [TTT.initial_state()])
            else:
                searcher.play([tree], [result.action])
                assert searcher.state(tree) == following
    assert rounds < 200


def test_games_of_other_trees_do_not_matter() -> None:
    config = SearchConfig(simulations=30)
    together, alone = (Searcher(C4, RolloutEvaluator(C4), config, trees) for trees in (12, 1))
    starts = [C4.parse("4" * (n % 4)) for n in range(12)]
    together.start(range(12), starts)
    alone.start([0], [C4.parse("44")])
    for move in range(6):
        seeds = [100 * move + tree for tree in range(12)]
        beside, (by_itself,) = together.search(seed=seeds), alone.search(seed=[seeds[2]])
        same(beside[2], by_itself)
        for tree, result in enumerate(beside):
            if C4.is_terminal(C4.step(together.state(tree), result.action)):
                together.start([tree], [starts[tree]])
            else:
                together.play([tree], [result.action])
        alone.play([0], [by_itself.action])
