from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from escalade.training.threshold_path import LENGTH, Answers, decide, pareto_path, swept


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


@given(st.integers(0, 1000))
@settings(max_examples=15, deadline=None)
def test_the_path_gets_cheaper_and_worse_and_begins_with_enough(seed: int) -> None:
    answers = made_up(seed)
    path = pareto_path(answers, at_least=118, most_loss=0.2)
    assert 1 <= len(path) <= LENGTH
    found = [decide(answers, vector) for vector in path]
    costs = [one.cost_s.mean() for one in found]
    assert all(before > after for before, after in itertools.pairwise(costs))
    accepted = [one.source < 2 for one in found]
    assert all(inside.sum() >= 118 for inside in accepted)
    losses = [max(one.wrong.mean(), one.wrong[inside].mean()) for one, inside in zip(found, accepted, strict=True)]
    assert all(before < after for before, after in itertools.pairwise(losses))
    assert max(losses[1:], default=0.0) <= 0.2


def test_no_vector_of_the_grid_beats_one_on_the_path() -> None:
    answers = made_up(3)
    path = [decide(answers, vector) for vector in pareto_path(answers, at_least=118, most_loss=0.1)]
    random = np.random.default_rng(0)
    for _ in range(200):
        other = decide(answers, random.choice(answers.confidence.ravel(), 2))
        if (other.source < 2).sum() < 118:
            continue
        worse = [one for one in path if one.wrong.mean() <= other.wrong.mean() + 0.01]
        if worse:  # the grid is coarser than all confidences there are
            assert min(one.cost_s.mean() for one in worse) <= other.cost_s.mean() * 1.5 + 1


def test_too_few_states_that_networks_may_decide_leave_no_path() -> None:
    assert len(pareto_path(made_up(0, 100), at_least=118, most_loss=0.1)) == 0
