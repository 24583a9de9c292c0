from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import bdtr

from escalade.neural.fixed_sequence import p_value
from escalade.training.threshold_path import LENGTH, Answers, Front, decide, pareto_front, path_order, swept


def made_up(seed: int, count: int = 600, good: float = 0.95) -> Answers:
    """Two rungs whose confidences are true, and one behind that is right in `good` of all states. Made up: what is
    tested here is arithmetic."""
    random = np.random.default_rng(seed)
    confidence = random.beta(4, 0.6, (count, 2)).clip(0.01, 0.99)
    right = np.concatenate((random.random((count, 2)) < confidence, random.random((count, 1)) < good), axis=1)
    barred = np.logical_or.accumulate(random.random((count, 2)) < 0.01, axis=1)  # the value network alone, at times
    return Answers(("policy", "value", "search"), confidence, right, barred, np.array([1.0, 3, 90]))


def by_hand(answers: Answers, thresholds: list[float]) -> tuple[list[int], list[bool], list[float]]:
    """The ladder climbed one state at a time, as the router does."""
    source, wrong, cost = [], [], []
    for row in range(len(answers)):
        at, spent = 2, 0.0
        for rung in (0, 1):
            if rung == 0 or not answers.barred[row, rung]:
                spent += answers.cost_s[rung]
            if answers.barred[row, rung]:
                continue
            if thresholds[rung] < 1 and answers.confidence[row, rung] >= thresholds[rung]:
                at = rung
                break
        source.append(at)
        cost.append(spent + (answers.cost_s[2] if at == 2 else 0.0))
        wrong.append(not answers.right[row, at])
    return source, wrong, cost


@given(st.integers(0, 1000), st.lists(st.sampled_from([0.0, 0.3, 0.8, 0.9, 0.99, 1.0]), min_size=2, max_size=2))
@settings(max_examples=50)
def test_it_decides_as_the_ladder_does(seed: int, thresholds: list[float]) -> None:
    answers = made_up(seed, 80)
    found = decide(answers, np.array(thresholds))
    source, wrong, cost = by_hand(answers, thresholds)
    assert found.source.tolist() == source
    assert found.wrong.tolist() == wrong
    assert found.cost_s.tolist() == pytest.approx(cost)


@given(st.integers(0, 1000), st.integers(1, 2))
@settings(max_examples=30, deadline=None)
def test_a_whole_grid_at_once_comes_to_what_each_vector_does(seed: int, neural: int) -> None:
    answers = made_up(seed, 90)
    if neural == 1:
        answers = Answers(
            ("policy", "search"),
            answers.confidence[:, :1],
            answers.right[:, 1:],
            answers.barred[:, :1],
            answers.cost_s[1:],
        )
    grid = np.unique(np.concatenate((answers.confidence[::17, 0], [0.0, 0.5, 1.0])))
    grids = [grid, np.array([0.2, 0.9, 0.95])][:neural]
    found = [each.ravel() for each in swept(answers, grids)]
    for place, vector in enumerate(itertools.product(*grids)):
        one = decide(answers, np.array(vector))
        inside = one.source < neural
        expected = inside.sum(), one.wrong[inside].sum(), one.wrong.mean(), one.cost_s.mean()
        assert [each[place] for each in found] == pytest.approx(list(expected))


@given(st.integers(0, 1000), st.sampled_from(["all", "own"]))
@settings(max_examples=15, deadline=None)
def test_the_front_gets_cheaper_and_worse_and_counts_as_the_ladder_does(seed: int, covers: Any) -> None:
    answers = made_up(seed)
    front = pareto_front(answers, at_least=59, covers=covers)
    assert len(front)
    found = [decide(answers, vector) for vector in front.thresholds]
    own = [one.source < 2 for one in found]
    assert front.accepted.tolist() == [inside.sum() for inside in own]
    assert front.wrong.tolist() == [one.wrong[inside].sum() for one, inside in zip(found, own, strict=True)]
    assert front.wrong_all.tolist() == [one.wrong.sum() for one in found]
    assert front.cost_s == pytest.approx([one.cost_s.mean() for one in found])
    assert (front.accepted >= 59).all()
    assert (np.diff(front.cost_s) < 0).all()
    assert (np.diff(front.loss) > 0).all()
    p_values = [p_value(int(wrong), int(count), 0.1) for wrong, count in zip(front.wrong, front.accepted, strict=True)]
    if covers == "all":
        p_values = [max(each, p_value(int(k), 600, 0.1)) for each, k in zip(p_values, front.wrong_all, strict=True)]
    assert front.p_values(0.1) == pytest.approx(p_values)


def test_no_vector_of_the_grid_beats_one_on_the_front() -> None:
    answers = made_up(3)
    front = [decide(answers, vector) for vector in pareto_front(answers, at_least=118).thresholds]
    random = np.random.default_rng(0)
    for _ in range(200):
        other = decide(answers, random.choice(answers.confidence.ravel(), 2))
        if (other.source < 2).sum() < 118:
            continue
        worse = [one for one in front if one.wrong.mean() <= other.wrong.mean() + 0.01]
        if worse:  # the grid is coarser than all confidences there are
            assert min(one.cost_s.mean() for one in worse) <= other.cost_s.mean() * 1.5 + 1


def test_too_few_states_that_networks_may_decide_leave_nothing_to_test() -> None:
    front = pareto_front(made_up(0, 100), at_least=118)
    assert len(front) == 0
    assert len(path_order(front, 0.05, 0.05)) == 0


@given(st.integers(0, 1000), st.sampled_from([0.02, 0.05, 0.1, 0.3]), st.sampled_from(["all", "own"]))
@settings(max_examples=25, deadline=None)
def test_the_first_one_tested_is_most_likely_to_pass_and_bolder_ones_follow(
    seed: int, alpha: float, covers: Any
) -> None:
    front = pareto_front(made_up(seed), at_least=1, covers=covers)
    order = path_order(front, alpha, 0.05)
    likely = front.pass_probabilities(alpha, 0.05)
    assert likely[order[0]] == likely.max()
    assert (np.diff(order) > 0).all()
    assert len(order) <= LENGTH + 1
    assert (front.loss[order[1:]] <= 1.5 * alpha).all()
    bolder = np.flatnonzero(front.loss <= 1.5 * alpha)
    assert order[-1] == max(bolder.max(initial=0), order[0])


@given(st.integers(0, 300), st.integers(0, 40), st.sampled_from([0.02, 0.1]), st.sampled_from([0.5, 1.0, 2.0]))
@settings(max_examples=40, deadline=None)
def test_the_probability_of_passing_is_that_of_another_sample(
    accepted: int, wrong: int, alpha: float, larger: float
) -> None:
    """Against a simulation: a loss from its posterior, a number of accepted states, wrong ones among them, a test."""
    accepted, wrong = accepted + 30, min(wrong, accepted + 30)
    one, random = np.array([accepted]), np.random.default_rng(0)
    front = Front(np.zeros((1, 1)), one, np.array([wrong]), np.array([wrong]), np.ones(1), 600, "own")
    rates = random.beta(wrong + 0.5, accepted - wrong + 0.5, 20_000)
    shares = random.beta(accepted + 0.5, 600 - accepted + 0.5, 20_000)
    counts = random.binomial(round(600 * larger), shares)
    again = bdtr(random.binomial(counts, rates), counts, alpha) <= 0.05
    assert front.pass_probabilities(alpha, 0.05, larger)[0] == pytest.approx(again.mean(), abs=0.07)


@given(st.integers(0, 1000), st.floats(0.01, 0.99))
@settings(max_examples=25, deadline=None)
def test_within_a_cost_more_accurate_ones_are_tested_before_bolder_ones(seed: int, part: float) -> None:
    front = pareto_front(made_up(seed), at_least=1)
    limit = float(np.quantile(front.cost_s, part))
    order = path_order(front, 0.1, 0.05, max_cost_s=limit)
    assert len(set(order.tolist())) == len(order)
    start = order[0]
    assert start == path_order(front, 0.1, 0.05)[0]
    dearer = order[1:][order[1:] < start]
    assert dearer.tolist() == sorted(dearer.tolist(), reverse=True) == order[1 : 1 + len(dearer)].tolist()
    assert (front.cost_s[dearer] <= limit).all()
    if (front.cost_s[:start] <= limit).any():
        assert dearer[-1] == np.flatnonzero(front.cost_s <= limit)[0]


def evenly_wrong(random: np.random.Generator, count: int, noise: float) -> Answers:
    """One network in front of the reference; a share of the labels is wrong, whatever its confidence."""
    confidence = random.beta(4, 0.4, count)
    right = (random.random(count) < confidence) & (random.random(count) >= noise)
    return Answers(
        ("policy", "reference"),
        confidence[:, None],
        np.stack([right, np.ones(count, np.bool_)], axis=1),
        np.zeros((count, 1), np.bool_),
        np.array([1.0, 100.0]),
    )


@pytest.mark.parametrize(("noise", "alpha", "least"), [(0.0, 0.05, 0.95), (0.05, 0.1, 0.95), (0.1, 0.1, 0.0)])
def test_what_is_proven_holds_and_is_found_with_wrong_labels_as_well(noise: float, alpha: float, least: float) -> None:
    random = np.random.default_rng(11)
    everything, delta, runs = evenly_wrong(random, 50_000, noise), 0.05, 150
    found = broken = 0
    for _ in range(runs):
        tune, proving = (everything.take(random.integers(len(everything), size=2000)) for _ in range(2))
        front = pareto_front(tune, at_least=59, covers="own")
        last = None
        for vector in front.thresholds[path_order(front, alpha, 0.05)]:
            inside = decide(proving, vector)
            own = inside.source == 0
            if p_value(int(inside.wrong[own].sum()), int(own.sum()), alpha) > delta:
                break
            last = vector
        if last is not None:
            truth = decide(everything, last)
            found += 1
            broken += truth.wrong[truth.source == 0].mean() > alpha
    assert broken <= delta * runs + 3 * (delta * (1 - delta) * runs) ** 0.5
    assert found >= least * runs
