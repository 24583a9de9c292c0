"""The search: signs, legality, proofs, determinism, budgets."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import Plain, WithoutProofs, solved_tic_tac_toe

from escalade.domains.base import BoolArray, FloatArray
from escalade.domains.connect_four import ConnectFour
from escalade.domains.errors import CancelledSearch, NoSimulatorError, SettingsError, StateError
from escalade.domains.intents import Intents
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.search.config import SearchConfig
from escalade.search.engine import SearchResult, search
from escalade.search.evaluators import RolloutEvaluator, UniformEvaluator
from escalade.search.solvers import exact_solver

TTT, C4 = TicTacToe(), ConnectFour()


def one(domain: Any, moves: str, simulations: int = 400, seed: int = 0, **options: Any) -> SearchResult:
    config = SearchConfig(simulations=simulations, **options)
    (result,) = search(domain, [domain.parse(moves)], RolloutEvaluator(domain), config, seed=seed)
    return result


@pytest.mark.parametrize(("moves", "best"), [("4455", (2, 5)), ("121212", (0,)), ("414243", (3,))])
def test_takes_the_win_in_one_or_two(moves: str, best: tuple[int, ...]) -> None:
    result = one(C4, moves)
    assert result.action in best
    assert result.value == 1
    assert result.proven


@pytest.mark.parametrize(("moves", "block"), [("12131", 0), ("16273", 3), ("71625", 3)])
def test_blocks_a_single_threat(moves: str, block: int) -> None:
    assert one(C4, moves).action == block


@pytest.mark.parametrize("seed", range(2))
def test_all_of_tic_tac_toe_is_optimal_with_800_simulations(seed: int) -> None:
    states = [state for state, _, _ in solved_tic_tac_toe()]
    results = search(TTT, states, RolloutEvaluator(TTT), SearchConfig(simulations=800), seed=seed)
    wrong = [s.moves for (s, best, _), r in zip(solved_tic_tac_toe(), results, strict=True) if r.action not in best]
    assert wrong == []


def test_what_is_proven_is_true_and_the_bounds_hold() -> None:
    states = [state for state, _, _ in solved_tic_tac_toe()]
    results = search(TTT, states, RolloutEvaluator(TTT), SearchConfig(simulations=60), seed=1)
    proven = 0
    solver = exact_solver(TTT)
    assert solver is not None
    for (state, best, value), result in zip(solved_tic_tac_toe(), results, strict=True):
        if result.proven:
            proven += 1
            assert result.value == value
            assert result.action in best
            assert set(np.flatnonzero(result.policy)) <= best
        for action, score in enumerate(solver.scores(state)):
            if score is None:
                assert np.isnan(result.lower[action])
                assert result.policy[action] == 0
            else:
                assert result.lower[action] <= np.sign(score) <= result.upper[action]
    assert proven > len(states) / 2


def test_a_loss_that_is_proven_is_not_hurried() -> None:
    lost = [(state, value) for state, _, value in solved_tic_tac_toe() if value < 0]
    results = search(TTT, [s for s, _ in lost], RolloutEvaluator(TTT), SearchConfig(simulations=400))
    solver = exact_solver(TTT)
    assert solver is not None
    for (state, _), result in zip(lost, results, strict=True):
        scores = [score for score in solver.scores(state) if score is not None]
        assert result.proven
        assert solver.scores(state)[result.action] == max(scores), state.moves


@given(st.integers(0, 2**32), st.integers(0, 40), st.integers(1, 30))
def test_only_legal_actions_and_a_distribution_over_them(seed: int, plies: int, simulations: int) -> None:
    random = np.random.default_rng(seed)
    state = C4.initial_state()
    for _ in range(plies):
        following = C4.step(state, int(random.choice(C4.legal_actions(state))))
        if C4.is_terminal(following):
            break
        state = following
    (result,) = search(C4, [state], RolloutEvaluator(C4), SearchConfig(simulations=simulations), seed=seed)
    legal = set(C4.legal_actions(state))
    assert result.action in legal
    assert set(np.flatnonzero(result.policy)) <= legal
    assert result.policy.sum() == pytest.approx(1, abs=1e-5)
    assert -1 <= result.value <= 1
    assert result.simulations <= simulations
    line = state
    for action in result.principal_variation:
        line = C4.step(line, action)  # raises if the line is not legal


def test_equal_seeds_give_equal_searches_whatever_else_is_searched() -> None:
    states = [C4.parse(moves) for moves in ("", "4455", "444333", "172635")]
    config = SearchConfig(simulations=100)
    together = search(C4, states, RolloutEvaluator(C4), config, seed=[7, 8, 9, 10])
    for state, seed, beside in zip(states, (7, 8, 9, 10), together, strict=True):
        (alone,) = search(C4, [state], RolloutEvaluator(C4), config, seed=[seed])
        assert alone.action == beside.action
        assert alone.value == beside.value
        np.testing.assert_array_equal(alone.visits, beside.visits)
    (other,) = search(C4, states[:1], RolloutEvaluator(C4), config, seed=[8])
    assert other.visits.tolist() != together[0].visits.tolist()


def test_a_plain_domain_is_searched_exactly_as_its_kernels_are() -> None:
    plain: Any = Plain(TTT)
    states = [state for state, _, _ in solved_tic_tac_toe()[::300]]
    config = SearchConfig(simulations=80)
    for left, right in zip(
        search(plain, states, UniformEvaluator(), config), search(TTT, states, UniformEvaluator(), config), strict=True
    ):
        assert left.action == right.action
        assert left.value == right.value
        np.testing.assert_array_equal(left.visits, right.visits)


def test_rollouts_of_a_plain_domain_are_unbiased_too() -> None:
    plain: Any = Plain(TTT)
    state = TTT.parse("51")
    keys = np.arange(2000, dtype=np.uint64)
    legal = np.ones((len(keys), 9), np.bool_)
    _, fast = RolloutEvaluator(TTT, 1).evaluate_states(np.repeat(TTT.to_rows([state]), len(keys), 0), legal, keys)
    _, slow = RolloutEvaluator(plain, 1).evaluate_states([state] * len(keys), legal, keys)
    # Standard error of either mean is at most 1 / sqrt(2000) = 0.022; five of their difference.
    assert fast.mean() == pytest.approx(slow.mean(), abs=0.16)


class Oracle:
    """Values that point one way: the more the mover has in the centre column, the better. Counts its calls."""

    def __init__(self) -> None:
        self.rows = 0

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        self.rows += len(legal)
        mine, theirs = observations[:, :84].reshape(-1, 2, 6, 7)[..., 3].sum(axis=2).T
        return np.zeros(legal.shape, np.float32), np.tanh((mine - theirs) / 2).astype(np.float32)


def test_values_are_seen_from_the_player_to_move() -> None:
    evaluator = Oracle()
    (result,) = search(WithoutProofs(), [C4.parse("")], evaluator, SearchConfig(simulations=200))
    assert result.action == 3
    assert result.visits[3] == max(result.visits)
    assert evaluator.rows == 201  # one call a node, the root included; nobody asks about what is proven at sight


def test_stops_at_the_deadline_and_still_answers() -> None:
    times = iter(range(100))
    (result,) = search(
        C4,
        [C4.parse("")],
        RolloutEvaluator(C4),
        SearchConfig(simulations=100_000),
        deadline=5,
        clock=lambda: next(times),
    )
    assert result.stopped == "deadline"
    assert 0 < result.simulations < 100_000
    assert result.visits.sum() == result.simulations
    assert result.action in range(7)
    (none,) = search(C4, [C4.parse("")], UniformEvaluator(), SearchConfig(), deadline=0, clock=time.monotonic)
    assert none.simulations == 0


def test_cancelling_ends_it() -> None:
    asked = iter([False] * 5 + [True])
    with pytest.raises(CancelledSearch):
        search(C4, [C4.parse("")], Oracle(), SearchConfig(simulations=100_000), cancelled=lambda: next(asked))


def test_trees_grow_past_their_first_room() -> None:
    (result,) = search(C4, [C4.parse("")], UniformEvaluator(), SearchConfig(simulations=3000))
    assert result.simulations == 3000
    assert result.visits.sum() == 3000


def test_temperature_draws_and_noise_spreads() -> None:
    drawn = {one(C4, "", 100, seed, temperature=1.0).action for seed in range(40)}
    assert len(drawn) > 2
    quiet, noisy = one(C4, "", 50), one(C4, "", 50, noise_fraction=0.5)
    assert np.ptp(quiet.prior) == 0
    assert np.ptp(noisy.prior) > 0
    assert noisy.prior.sum() == pytest.approx(1, abs=1e-5)


def test_refusals_are_clear() -> None:
    with pytest.raises(StateError, match="finished"):
        search(TTT, [TTT.parse("14253")], UniformEvaluator(), SearchConfig())
    with pytest.raises(NoSimulatorError, match="intents"):
        search(Intents(["a", "b"]), ["text"], UniformEvaluator(), SearchConfig())
    with pytest.raises(SettingsError, match="simulations"):
        SearchConfig(simulations=0)
    with pytest.raises(SettingsError, match="GiB"):
        search(C4, [C4.parse("")], UniformEvaluator(), SearchConfig(simulations=100_000_000))
    assert search(C4, [], UniformEvaluator(), SearchConfig()) == []


def test_every_win_is_taken_and_every_threat_blocked(shared_data: Any) -> None:
    lines = shared_data("connect_four/positions.csv").read_text().splitlines()[1::4]
    states = [C4.parse(line.split(",")[0]) for line in lines]
    results = search(C4, states, RolloutEvaluator(C4), SearchConfig(simulations=400), seed=3)
    wins = threats = 0
    for state, result in zip(states, results, strict=True):
        occupied = state.mine | state.theirs
        legal = C4.legal_actions(state)
        winning = [a for a in legal if C4.has_line(state.mine | C4.landing(occupied, a))]
        blocking = [a for a in legal if C4.has_line(state.theirs | C4.landing(occupied, a))]
        if winning:
            wins += 1
            assert result.action in winning
        elif len(blocking) == 1:
            threats += 1
            assert result.action == blocking[0]
    assert wins > 20
    assert threats > 50
