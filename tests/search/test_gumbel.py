"""Gumbel search: the published schedule of sequential halving, and policies that are never worse than the prior."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from escalade.domains.base import BoolArray, Domain, FloatArray
from escalade.domains.errors import StateError
from escalade.search.config import SearchConfig
from escalade.search.engine import SearchResult, search
from escalade.search.gumbel import improved_policy, visits_before

ROOT = -1


class Bandit(Domain[int]):
    """One decision among arms. Pulled, an arm is a state of the other player's in which nothing ever ends; a losing arm
    ends the game at once. A state is the arm pulled, or ROOT."""

    name = "bandit"

    def __init__(
        self, arms: int, legal: Sequence[int] | None = None, losing: Sequence[int] = (), tells: bool = False
    ) -> None:
        self.num_actions = arms
        self.observation_shape = (arms + 1,)
        self.legal = list(range(arms)) if legal is None else list(legal)
        self.losing = list(losing)
        self.tells = tells

    def parse(self, source: Any) -> int:
        try:
            return int(source)
        except ValueError as error:
            raise StateError(f"'{source}' is not an arm") from error

    def format(self, state: int) -> str:
        return str(state)

    def initial_state(self) -> int:
        return ROOT

    def legal_actions(self, state: int) -> Sequence[int]:
        return self.legal if state == ROOT else [0]

    def step(self, state: int, action: int) -> int:
        assert action in self.legal_actions(state)
        return action if state == ROOT else state

    def is_terminal(self, state: int) -> bool:
        return state in self.losing

    def outcome(self, state: int) -> float:
        return 1.0  # the one who would move next has won

    def to_move(self, state: int) -> int:
        return 0 if state == ROOT else 1

    def ending_actions(self, state: int) -> Mapping[int, float] | None:
        return dict.fromkeys(self.losing, -1.0) if self.tells and state == ROOT else None

    def encode(self, states: Sequence[int]) -> FloatArray:
        return np.eye(self.num_actions + 1, dtype=np.float32)[np.array(states) + 1]


class Means:
    """Knows what every arm is worth to the first player. An `Evaluator`."""

    def __init__(self, logits: Sequence[float], means: Sequence[float], root: float = 0.0) -> None:
        self.logits = np.array(logits, np.float32)
        self.values = np.array([root, *(-mean for mean in means)], np.float32)

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        logits = np.where(observations[:, :1] > 0, self.logits, np.float32(0))
        return logits, observations @ self.values


def pull(domain: Bandit, evaluator: Means, seed: int = 0, **options: Any) -> SearchResult:
    config = SearchConfig(algorithm="gumbel", c_visit=50, c_scale=1, **options)
    (result,) = search(domain, [ROOT], evaluator, config, seed=seed)
    return result


def shares(schedule: Sequence[int], arms: int) -> list[int]:
    """How often each arm is pulled, most first, if every pull goes to some arm that was pulled so often before."""
    pulls = [0] * arms
    for before in schedule:
        pulls[pulls.index(before)] += 1
    return sorted(pulls, reverse=True)


# How Q weighs


@settings(max_examples=20, deadline=None)
@given(st.lists(st.floats(-0.05, 0.05), min_size=3, max_size=3, unique=True), st.floats(1, 9))
def test_rescaled_values_count_by_what_they_span(means: list[float], factor: float) -> None:
    """Values that differ by little weigh as much as values that differ by more, and no less than in a fixed range."""
    assume(min(np.diff(sorted(means))) > 0.01)
    arms = Bandit(3)
    small, large = (
        pull(
            arms,
            Means([0, 0, 0], [scale * mean for mean in means], root=scale * means[0]),
            simulations=12,
            rescale=True,
        )
        for scale in (1.0, factor)
    )
    np.testing.assert_allclose(small.policy, large.policy, atol=1e-3)
    fixed = pull(arms, Means([0, 0, 0], means, root=means[0]), simulations=12)
    assert max(small.policy) >= max(fixed.policy) - 1e-6
    assert int(np.argmax(small.policy)) == int(np.argmax(means))


def test_differences_that_are_noise_are_not_blown_up() -> None:
    policy = pull(Bandit(2), Means([0, 0], [1e-5, 0.0]), simulations=8, rescale=True).policy
    assert abs(policy[0] - policy[1]) < 0.02


# The schedule


def halving_schedule(considered: int, simulations: int) -> list[int]:
    return [visits_before(considered, simulations, simulation) for simulation in range(simulations)]


def test_the_schedule_is_the_one_that_mctx_publishes() -> None:
    mctx = pytest.importorskip("mctx._src.seq_halving")
    for considered in range(1, 21):
        for simulations in range(1, 201):
            theirs = mctx.get_sequence_of_considered_visits(considered, simulations)
            assert tuple(halving_schedule(considered, simulations)) == theirs, (considered, simulations)


@pytest.mark.parametrize(
    ("considered", "simulations", "expected"),
    [
        (1, 5, [0, 1, 2, 3, 4]),
        (2, 8, [0, 0, 1, 1, 2, 2, 3, 3]),
        (4, 16, [0] * 4 + [1] * 4 + [2, 2, 3, 3, 4, 4, 5, 5]),
        (4, 3, [0, 0, 0]),
        (3, 7, [0, 0, 0, 1, 1, 2, 2]),
        (8, 16, [0] * 8 + [1] * 4 + [2, 2, 3, 3]),
        # Of 200, four phases have 50 each: 16 arms 3 times, 8 arms 6 times, 4 arms 12 times, 2 arms for the rest.
        (
            16,
            200,
            [n for n in range(3) for _ in range(16)]
            + [n for n in range(3, 9) for _ in range(8)]
            + [n for n in range(9, 21) for _ in range(4)]
            + [n for n in range(21, 49) for _ in range(2)],
        ),
    ],
)
def test_the_schedule_is_as_worked_out_by_hand(considered: int, simulations: int, expected: list[int]) -> None:
    assert halving_schedule(considered, simulations) == expected


@given(st.integers(1, 40), st.integers(1, 400))
def test_every_place_of_the_schedule_can_be_kept(considered: int, simulations: int) -> None:
    schedule = halving_schedule(considered, simulations)
    assert len(schedule) == simulations
    assert sum(shares(schedule, considered)) == simulations  # raises if no arm was pulled so often before


# The improved policy


def improved(prior: FloatArray, values: FloatArray, scale: float) -> FloatArray:
    """What the search makes of priors and completed values, `[A]` each."""
    policy = np.empty(len(prior), np.float32)
    with np.errstate(divide="ignore"):
        scores = np.log(prior.astype(np.float64)) + scale * values
    improved_policy(scores, prior > 0, policy)
    return policy


@given(st.data(), st.integers(1, 12), st.floats(0, 1000))
def test_the_improved_policy_never_lowers_the_expected_value(data: st.DataObject, arms: int, scale: float) -> None:
    weights = np.array(data.draw(st.lists(st.floats(0, 1, width=32), min_size=arms, max_size=arms)), np.float64)
    assume(weights.sum() > 1e-3)
    prior = (weights / weights.sum()).astype(np.float32)
    values = np.array(data.draw(st.lists(st.floats(-1, 1), min_size=arms, max_size=arms)))
    visited = np.array(data.draw(st.lists(st.booleans(), min_size=arms, max_size=arms)))
    before = float(prior @ values) / float(prior.sum())
    for completed in (values, np.where(visited, values, before)):
        policy = improved(prior, completed, scale)
        assert policy.sum() == pytest.approx(1, abs=1e-5)
        assert (policy[prior == 0] == 0).all()
        assert policy @ completed >= float(prior @ completed) / float(prior.sum()) - 1e-5


def test_the_improved_policy_is_the_prior_without_weight_and_the_best_with_much() -> None:
    prior = np.array([[0.5, 0.3, 0.2], [0.1, 0.0, 0.9]], np.float32)
    values = np.array([[-1.0, 0.5, 0.4], [0.2, 1.0, 0.1]])
    for before, known, best in zip(prior, values, ([0, 1, 0], [1, 0, 0]), strict=True):
        np.testing.assert_allclose(improved(before, known, 0), before, atol=1e-7)
        np.testing.assert_allclose(improved(before, known, 1e4), best, atol=1e-7)


# Whole searches


@st.composite
def bandits(draw: st.DrawFn) -> tuple[Bandit, Means, list[float]]:
    arms = draw(st.integers(1, 8))
    legal = draw(st.lists(st.integers(0, arms - 1), min_size=1, max_size=arms, unique=True).map(sorted))
    logits = draw(st.lists(st.floats(-3, 3, width=32), min_size=arms, max_size=arms))
    means = draw(st.lists(st.floats(-0.875, 0.875, width=32), min_size=arms, max_size=arms))
    return Bandit(arms, legal), Means(logits, means, draw(st.floats(-1, 1, width=32))), means


@settings(max_examples=60)
@given(bandits(), st.integers(0, 40), st.integers(0, 2**40), st.sampled_from([0.0, 1.0]))
def test_searching_every_arm_never_lowers_the_expected_value(
    bandit: tuple[Bandit, Means, list[float]], more: int, seed: int, gumbel_scale: float
) -> None:
    domain, evaluator, means = bandit
    simulations = len(domain.legal) + more
    result = pull(domain, evaluator, seed, simulations=simulations, gumbel_scale=gumbel_scale)
    assert result.policy @ np.array(means) >= result.prior @ np.array(means) - 1e-5
    assert set(np.flatnonzero(result.visits)) == set(domain.legal)
    assert set(np.flatnonzero(result.policy)) <= set(domain.legal)
    assert set(np.flatnonzero(result.prior)) == set(domain.legal)
    assert result.action in domain.legal
    np.testing.assert_allclose(result.action_values[domain.legal], np.array(means)[domain.legal], atol=1e-5)
    # The policy is what the paper's formula says, weight and all.
    visited = np.array([means[action] for action in domain.legal])
    expected = improved(result.prior[domain.legal], visited, 0.5 * (50 + result.visits.max()))
    np.testing.assert_allclose(result.policy[domain.legal], expected, atol=1e-4)


@settings(max_examples=60)
@given(bandits(), st.integers(1, 60), st.integers(1, 8), st.integers(0, 2**40))
def test_pulls_follow_the_schedule(
    bandit: tuple[Bandit, Means, list[float]], simulations: int, considered: int, seed: int
) -> None:
    domain, evaluator, _ = bandit
    result = pull(domain, evaluator, seed, simulations=simulations, considered=considered)
    entered = min(considered, len(domain.legal))
    expected = shares(halving_schedule(entered, simulations), domain.num_actions)
    assert sorted(result.visits.tolist(), reverse=True) == expected
    assert result.visits[result.action] == max(result.visits)
    assert result.simulations == simulations


@pytest.mark.parametrize("arms", [2, 3, 7, 16])
def test_without_chance_the_best_arm_is_found_against_the_prior(arms: int) -> None:
    for best in range(arms):
        means = np.linspace(-0.8, 0.3, arms)
        means[best] = 0.6
        # At worst the prior is e^4 times in favour of another; sigma weighs the gap of 0.3 by 25 or more.
        logits = np.full(arms, 2.0)
        logits[best] = -2.0
        for simulations in (arms, 4 * arms, 100):
            result = pull(Bandit(arms), Means(logits, means), simulations=simulations, gumbel_scale=0.0)
            assert result.action == best, simulations
            assert result.policy.argmax() == best
            assert result.value <= 0.6 + 1e-5


def test_of_many_arms_only_those_that_the_prior_prefers_are_considered() -> None:
    random = np.random.default_rng(5)
    logits, means = random.normal(size=30), random.uniform(-0.5, 0.5, 30)
    result = pull(Bandit(30), Means(logits, means), simulations=32, considered=4, gumbel_scale=0.0)
    top = set(np.argsort(-logits)[:4].tolist())
    assert set(np.flatnonzero(result.visits)) == top
    assert sorted(result.visits[list(top)].tolist()) == [4, 4, 12, 12]
    assert result.action == max(top, key=lambda arm: means[arm])
    noisy = pull(Bandit(30), Means(logits, means), simulations=32, considered=4)
    assert np.count_nonzero(noisy.visits) == 4
    assert np.count_nonzero(noisy.policy) == 30  # the others are worth what the root is


def test_one_simulation_samples_the_prior() -> None:
    """The Gumbel-max trick, on the search as a whole."""
    prior = np.array([0.5, 0.25, 0.15, 0.1])
    config = SearchConfig(simulations=1, algorithm="gumbel")
    runs = 2000
    results = search(Bandit(4), [ROOT] * runs, Means(np.log(prior), [0.0] * 4), config, seed=list(range(runs)))
    chosen = np.bincount([result.action for result in results], minlength=4)
    chi_square = ((chosen - runs * prior) ** 2 / (runs * prior)).sum()
    assert chi_square < 16.27  # 3 degrees of freedom, p = 0.001; the seeds are fixed


def test_seeds_are_the_only_chance() -> None:
    domain, evaluator = Bandit(10), Means([0.0] * 10, np.linspace(-0.02, 0.02, 10))
    first, again = (pull(domain, evaluator, 3, simulations=16) for _ in range(2))
    assert first.action == again.action
    np.testing.assert_array_equal(first.visits, again.visits)
    np.testing.assert_array_equal(first.policy, again.policy)
    actions = Counter(pull(domain, evaluator, seed, simulations=16).action for seed in range(40))
    assert len(actions) >= 5
    quiet = {pull(domain, evaluator, seed, simulations=16, gumbel_scale=0.0).action for seed in range(5)}
    assert len(quiet) == 1


@pytest.mark.parametrize("tells", [True, False])
@pytest.mark.parametrize("simulations", [4, 16, 100])
def test_an_arm_that_loses_at_once_is_never_chosen(tells: bool, simulations: int) -> None:
    for seed in range(10):
        domain = Bandit(4, losing=[0, 2], tells=tells)
        result = pull(domain, Means([5, 0, 5, 0], [0.9, -0.5, 0.9, -0.6]), seed, simulations=simulations)
        assert result.action in (1, 3)
        assert result.policy[[0, 2]].sum() < 0.01
        assert result.upper[[0, 2]].tolist() == [-1, -1]
        assert result.upper[[1, 3]].tolist() == [1, 1]
        assert (result.visits[[0, 2]] == (0 if tells else 1)).all()
        assert result.simulations == simulations
        assert not result.proven


def test_where_every_arm_loses_that_is_proven() -> None:
    for tells in (True, False):
        result = pull(Bandit(3, losing=[0, 1, 2], tells=tells), Means([0] * 3, [0] * 3), simulations=50)
        assert result.proven
        assert result.value == -1
        assert result.simulations == (0 if tells else 3)


def test_proofs_leave_a_single_candidate_all_the_rest() -> None:
    result = pull(Bandit(4, losing=[0, 1, 3]), Means([9, 9, 0, 9], [0.0] * 4), simulations=40, gumbel_scale=0.0)
    assert result.action == 2
    assert result.visits.tolist() == [1, 1, 37, 1]
