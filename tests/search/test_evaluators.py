"""Rollouts by chance and by a policy, and the mixture of a value with them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import Plain

from escalade.domains.base import BoolArray, FloatArray
from escalade.domains.connect_four import ConnectFour
from escalade.domains.errors import SettingsError
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.search.config import SearchConfig
from escalade.search.engine import search
from escalade.search.evaluators import (
    MixedEvaluator,
    PolicyRolloutEvaluator,
    RolloutEvaluator,
    UniformEvaluator,
    draw,
)

C4, TTT = ConnectFour(), TicTacToe()


class Leftmost:
    """Wants the lowest legal action, and thinks every state worth a quarter."""

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        wanted = np.where(np.arange(legal.shape[1]) == legal.argmax(axis=1)[:, None], 50, 0)
        return wanted.astype(np.float32), np.full(len(legal), 0.25, np.float32)


def keys(count: int) -> np.ndarray:
    return np.arange(count, dtype=np.uint64) * np.uint64(977)


def legal(domain: Any, states: list[Any]) -> np.ndarray:
    return np.array([[a in domain.legal_actions(s) for a in range(domain.num_actions)] for s in states])


def test_a_uniform_policy_plays_like_chance() -> None:
    states = [C4.parse(moves) for moves in ("", "4455", "1234567")]
    rows = C4.to_rows(states)
    _, drawn = PolicyRolloutEvaluator(C4, UniformEvaluator(), 3000).evaluate_states(rows, legal(C4, states), keys(3))
    _, chance = RolloutEvaluator(C4, 3000).evaluate_states(rows, legal(C4, states), keys(3))
    # The standard error of either mean is at most 1 / sqrt(3000) = 0.018; five of their difference.
    np.testing.assert_allclose(drawn, chance, atol=0.13)


@pytest.mark.parametrize("plain", [False, True])
def test_a_sure_policy_is_followed_to_the_end(plain: bool) -> None:
    domain: Any = Plain(TTT) if plain else TTT
    states = [TTT.parse(""), TTT.parse("1"), TTT.parse("14")]
    values = []
    for state in states:
        first, player = state, state.to_move
        while not TTT.is_terminal(state):
            state = TTT.step(state, TTT.legal_actions(state)[0])
        outcome = TTT.outcome(state)
        values.append(outcome if state.to_move == player else -outcome)
        assert first.moves == state.moves[: len(first.moves)]
    given: Any = states if plain else TTT.to_rows(states)
    logits, found = PolicyRolloutEvaluator(domain, Leftmost(), 4).evaluate_states(given, legal(TTT, states), keys(3))
    assert found.tolist() == values
    assert logits.argmax(axis=1).tolist() == [0, 1, 1]


def test_plain_and_kernel_games_are_the_same_games() -> None:
    states = [TTT.parse(moves) for moves in ("", "5", "51", "519")]
    plain: Any = Plain(TTT)
    fast = PolicyRolloutEvaluator(TTT, UniformEvaluator(), 5).evaluate_states(
        TTT.to_rows(states), legal(TTT, states), keys(4)
    )
    slow = PolicyRolloutEvaluator(plain, UniformEvaluator(), 5).evaluate_states(states, legal(TTT, states), keys(4))
    np.testing.assert_array_equal(fast[1], slow[1])


def test_a_result_depends_on_its_own_key_and_state_alone() -> None:
    states = [C4.parse(moves) for moves in ("", "44", "4455", "12")]
    rows, allowed = C4.to_rows(states), legal(C4, states)
    evaluator = PolicyRolloutEvaluator(C4, UniformEvaluator(), 3)
    _, together = evaluator.evaluate_states(rows, allowed, keys(4))
    for m in range(4):
        _, alone = evaluator.evaluate_states(rows[m : m + 1], allowed[m : m + 1], keys(4)[m : m + 1])
        assert alone[0] == together[m]


def test_a_game_too_long_ends_with_the_policys_own_value() -> None:
    states = [C4.parse(""), C4.parse("4")]
    evaluator = PolicyRolloutEvaluator(C4, Leftmost(), 2, max_plies=1)
    _, values = evaluator.evaluate_states(C4.to_rows(states), legal(C4, states), keys(2))
    assert values.tolist() == [-0.25, -0.25]  # it is the other's turn then


@pytest.mark.parametrize("weight", [0.0, 0.25, 1.0])
def test_the_mixture_weighs_value_and_outcome(weight: float) -> None:
    states = [C4.parse("44"), C4.parse("4455")]
    rows, allowed = C4.to_rows(states), legal(C4, states)
    rollouts = RolloutEvaluator(C4, 16)
    logits, mixed = MixedEvaluator(C4, Leftmost(), rollouts, weight).evaluate_states(rows, allowed, keys(2))
    _, outcomes = rollouts.evaluate_states(rows, allowed, keys(2))
    np.testing.assert_allclose(mixed, (1 - weight) * 0.25 + weight * outcomes, atol=1e-6)
    assert logits.argmax(axis=1).tolist() == [0, 0]


@pytest.mark.parametrize("plain", [False, True])
def test_a_search_uses_them(plain: bool) -> None:
    domain: Any = Plain(TTT) if plain else TTT
    evaluator = MixedEvaluator(domain, UniformEvaluator(), PolicyRolloutEvaluator(domain, UniformEvaluator(), 2), 0.9)
    (result,) = search(domain, [TTT.parse("1425")], evaluator, SearchConfig(simulations=60))
    assert result.action == 2
    assert result.proven


def test_draws_follow_the_softmax_over_legal_actions() -> None:
    count = 20_000
    logits = np.tile(np.log(np.array([[0.1, 0.2, 0.7, 0.5]], np.float32)), (count, 1))
    allowed = np.tile(np.array([[True, True, True, False]]), (count, 1))
    shares = np.bincount(draw(logits, allowed, keys(count)), minlength=4) / count
    np.testing.assert_allclose(shares, [0.1, 0.2, 0.7, 0.0], atol=0.02)  # five standard errors are 0.017


def test_refusals_name_what_is_wrong() -> None:
    with pytest.raises(SettingsError, match="weight"):
        MixedEvaluator(C4, UniformEvaluator(), RolloutEvaluator(C4), 1.5)
    with pytest.raises(SettingsError, match="temperature"):
        PolicyRolloutEvaluator(C4, UniformEvaluator(), temperature=0)
