"""Runs by minutes: what is planned fits into what is left, whatever was measured."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st
from nim import Nim

from escalade.domains.connect_four import ConnectFour
from escalade.domains.lengths import Lengths
from escalade.training import budget
from escalade.training.certify_config import CertifyConfig
from escalade.training.collect import CollectTask
from escalade.training.recipe import Recipe
from escalade.training.self_play import SelfPlayConfig

MINUTES = st.floats(0.01, 600)
LENGTHS = Lengths(mean=20, longest=30, ended=True, bound=None, step_seconds=1e-4)


SHAPES = st.sampled_from([budget.SELF_TAUGHT, budget.LABELLED])


@given(MINUTES, st.floats(0, 1e4), st.floats(0, 60), st.floats(0, 60), st.booleans(), SHAPES)
def test_a_round_fits_into_what_is_left(
    minutes: float, spent: float, after: float, judging: float, first: bool, shape: budget.Shape
) -> None:
    plan = budget.next_round(minutes, spent, after, judging, first=first, shape=shape)
    left = 60 * minutes - spent - after - judging
    assert plan.collect >= 0
    assert plan.fit > 0
    assert plan.collect + plan.fit <= max(left, 0) + 2 * budget.LEAST + 1e-6
    if not plan.last:
        # What is left after it is enough for a last fit.
        assert left - plan.collect >= shape.last_fit * 60 * minutes - 1e-6


@given(MINUTES, st.floats(0, 0.2), SHAPES)
def test_a_run_ends_after_a_bounded_number_of_rounds(minutes: float, slower: float, shape: budget.Shape) -> None:
    """Even where each takes somewhat longer than planned, the last one ends within the budget and 15 %."""
    spent, after = 0.0, budget.closing(minutes)
    for number in range(10_000):
        plan = budget.next_round(minutes, spent, after, 0.0, first=number == 0, shape=shape)
        spent += (plan.collect + (0 if plan.last else plan.fit)) * (1 + slower)
        if plan.last:
            spent += max(budget.LEAST, min(60 * minutes - spent - after, shape.last_fit * 60 * minutes))
            break
    else:
        pytest.fail("it did not end")
    assert spent + after <= 60 * minutes * 1.15 + 3


TASK = CollectTask(source="self_play", domain="x", folder="x", shard="", first=0, count=0, seed=0)


@given(
    st.lists(st.tuples(st.sampled_from(["self_play", "solver"]), st.integers(1, 5000)), min_size=1, max_size=2),
    st.floats(0.5, 100),
    st.integers(1, 8),
    st.floats(1e-4, 30),
    st.floats(1e-4, 30),
)
def test_pieces_are_as_large_as_the_time(
    kinds: list[tuple[str, int]], time: float, workers: int, game: float, family: float
) -> None:
    pace = {"self_play": game, "solver": family}
    tasks = [(dataclasses.replace(TASK, source=source, first=7), count) for source, count in kinds]  # type: ignore[arg-type]
    found = budget.sized(tasks, time, workers, pace)
    work = sum(pace[task.source] * task.count for task, _ in found)
    assert work <= time * workers + sum(pace[source] for source, _ in kinds) + 1e-6  # at least one of each
    assert all(task.count >= 1 and task.self_play.at_once <= task.count for task, _ in found)
    # All games once, and each piece bounded: together no longer than planned, and the slack.
    for source, count in kinds:
        numbers = [
            number
            for task, _ in found
            if task.source == source
            for number in range(task.first, task.first + task.count)
        ]
        assert len(numbers) <= count * sum(kind == source for kind, _ in kinds)
    bounds = [task.seconds or 0.0 for task, _ in found]
    assert sum(bounds) <= budget.SLACK * max(time * workers, work) + budget.LEAST * len(bounds) + 1e-6


def test_a_small_round_is_done_in_full() -> None:
    found = budget.sized([(TASK, 40)], 100.0, 2, {"self_play": 0.1})
    assert sum(task.count for task, _ in found) == 40
    assert len(found) == 2


def test_the_pace_follows_what_was_measured() -> None:
    known = {"self_play": 1.0, "random": 0.1, "solver": 0.5}
    collected = [
        {"source": "self_play", "seconds": 10.0, "games": 5},
        {"source": "self_play", "seconds": 10.0, "games": 15},
    ]
    assert budget.paces(known, collected) == {**known, "self_play": 1.0}
    assert budget.paces(known, [{**collected[0], "cut_short": 5}])["self_play"] == 4.0  # none of them ended
    assert budget.paces(known, [{**collected[0], "games": 0}]) == known
    assert budget.paces(known, [{**collected[0], "repeated": True}]) == known
    # What random games take says nothing of searched ones.
    assert budget.paces(known, [{**collected[0], "moves": "random"}]) == {**known, "random": 2.0}


def test_dear_rules_are_expected_to_take_long() -> None:
    config = SelfPlayConfig()
    cheap = budget.expected_paces(Nim(), LENGTHS, config)
    dear = budget.expected_paces(Nim(), dataclasses.replace(LENGTHS, step_seconds=0.01), config)
    assert dear["self_play"] > 20 * cheap["self_play"]
    assert dear["random"] < dear["self_play"]
    assert budget.expected_paces(ConnectFour(), LENGTHS, config)["self_play"] < cheap["self_play"]


def test_matches_are_as_long_as_an_iteration_has_time_for() -> None:
    recipe = Recipe()
    quick = dataclasses.replace(LENGTHS, step_seconds=1e-6)
    assert budget.judged(recipe, Nim(), quick, 60).evaluation.games == 40
    slow = dataclasses.replace(LENGTHS, step_seconds=0.01)
    games = budget.judged(recipe, Nim(), slow, 1).evaluation.games
    assert games == 2


def test_a_short_run_is_judged_by_fewer_positions_and_proves_less() -> None:
    recipe = Recipe(positions=1000, certify=CertifyConfig())
    few, more, all_of_them = (budget.judged_positions(recipe, minutes, 0.0) for minutes in (1, 5, 600))
    assert budget.FEWEST_POSITIONS <= few < more < all_of_them == 1000
    assert budget.judged_positions(recipe, 5, 10 * budget.STARTUP) < more  # on a busy machine
    assert recipe.certify is not None
    assert budget.provable(recipe.certify, 0.5, 0.0) is None
    some = budget.provable(recipe.certify, 0.3 * budget.proof_seconds(recipe.certify, 0.0) / 60 / budget.PROVING, 0.0)
    assert some is not None
    assert some.states == pytest.approx(0.3 * recipe.certify.states, rel=0.01)
    assert budget.provable(recipe.certify, 600, 0.0) == recipe.certify
    assert budget.provable(None, 5, 0.0) is None


def test_where_a_solver_labels_there_are_few_rounds() -> None:
    assert budget.shape_of(Recipe(families=10), ConnectFour()) == budget.LABELLED
    assert budget.shape_of(Recipe(families=10), Nim()) == budget.SELF_TAUGHT
    assert budget.shape_of(Recipe(), ConnectFour()) == budget.SELF_TAUGHT
