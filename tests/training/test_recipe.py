"""Recipes as people write them: what is wrong is one sentence with the whole path of the field."""

from __future__ import annotations

import re
from typing import Any

import pytest

from escalade.domains.errors import SettingsError
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.training.recipe import RECIPES, Network, Recipe

CONVOLUTIONS = {"kind": "convolutional", "hidden": [8]}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"network": {"hidden": []}}, "network.hidden: Tuple should have at least 1 item"),
        ({"network": {"hidden": [0]}}, "network.hidden.0: Input should be greater than or equal to 1"),
        ({"network": {"hidden": [8, 10**8]}}, "network.hidden.1: Input should be less than or equal to 16384"),
        ({"network": {"hidden": [16384] * 9}}, "network: the network would have "),
        ({"network": CONVOLUTIONS}, "network: a convolutional network needs features"),
        ({"network": {"hidden": [8], "features": 4}}, "network.features is for convolutional networks"),
        ({"network": {"dropout": 1.5}}, "network.dropout: Input should be less than 1"),
        ({"network": {"kind": "deep"}}, "network.kind: Input should be 'perceptron', "),
        ({"games": "60"}, "games: Input should be a valid integer"),
        ({"games": True}, "games: Input should be a valid integer"),
        ({"games": -1}, "games must be a whole number, at least 0, not -1"),
        ({"solve_games": 1}, "solve_games: Input should be a valid boolean"),
        ({"learner": {"batch_size": 0}}, "learner.batch_size must be "),
        ({"learner": {"batch_size": "8"}}, "learner.batch_size: Input should be a valid integer"),
        ({"self_play": {"search": {"simulations": 0}}}, "self_play.search.simulations must be a whole number"),
        ({"evaluation": {"simulations": []}}, "evaluation.simulations must name at least one number"),
        ({"evaluation": {"simulations": [0, -4]}}, "evaluation.simulations must be a whole number, at least 0, not -4"),
        ({"games": {1, 2}}, "it must be plain JSON: "),
    ],
)
def test_a_fault_is_one_sentence_with_its_path(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match="^" + re.escape(f"recipe: {said}")) as raised:
        Recipe.of(given)
    for word in ("Value error", "pydantic", "\n", "True,", "False,"):
        assert word not in str(raised.value)


def test_a_network_that_does_not_fit_the_domain_is_told_so() -> None:
    recipe = Recipe.of({"network": {**CONVOLUTIONS, "features": 8, "planes": [9, 9, 9]}})
    with pytest.raises(SettingsError, match=r"^recipe: network: planes \[9, 9, 9\] are 729 numbers"):
        recipe.spec(TicTacToe())
    with pytest.raises(SettingsError, match="hidden: Tuple should have at least 1 item"):
        Network(hidden=())


def test_what_a_recipe_writes_it_reads() -> None:
    for recipe in (Recipe(), *(recipe for named in RECIPES.values() for recipe in named.values())):
        assert Recipe.of(recipe.plain()) == recipe
    assert Recipe.of({"learner": {"learning_rate": 1}}).learner.learning_rate == 1
