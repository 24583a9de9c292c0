"""Recipes as people write them: what is wrong is one sentence with the whole path of the field."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from nim import Nim

from escalade.app.recipe_file import recipe_option
from escalade.domains.errors import SettingsError
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.training.own_recipes import own_recipes
from escalade.training.recipe import RECIPES, Network, Recipe, recipe_for, recipe_from

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


def test_json_may_build_on_a_recipe() -> None:
    changes = {"base": "default", "games": 7, "self_play": {"search": {"simulations": 5}}}
    found, base = recipe_from(changes, TicTacToe()), RECIPES["tic_tac_toe"]["default"]
    assert (found.games, found.self_play.search.simulations) == (7, 5)
    search = dataclasses.replace(base.self_play.search, simulations=5)
    assert found == dataclasses.replace(base, games=7, self_play=dataclasses.replace(base.self_play, search=search))
    assert recipe_from({"games": 7}, TicTacToe()) == Recipe(games=7)
    assert recipe_from({"base": "default", "certify": None}, TicTacToe()).certify is None


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"base": "quick"}, "recipe: base: there is no recipe 'quick' for domain 'tic_tac_toe'; there is: "),
        ({"base": 3}, "recipe: base: the name of a recipe, not 3"),
        ({"base": "default", "gamse": 1}, "recipe: there is no field 'gamse'"),
        ({"base": "default", "network": {"width": 1}}, "recipe: there is no field 'network.width'"),
        ({"base": "default", "games": -1}, "recipe: games must be a whole number"),
        ({"recent": 0}, "recipe: recent must be above 0"),
        ({"untaught": "nobody"}, "recipe: untaught: Input should be"),
    ],
)
def test_a_wrong_base_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match="^" + re.escape(said)):
        recipe_from(given, TicTacToe())


def test_files_build_on_files(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "first.json").write_text('{"base": "default", "games": 5, "network": {"hidden": [8, 8]}}')
    (tmp_path / "second.json").write_text('{"base": "inner/first.json", "games": 6, "network": {"hidden": [9]}}')
    found = recipe_option(str(tmp_path / "second.json"))
    assert found == {"base": "default", "games": 6, "network": {"hidden": [9]}}
    assert recipe_option("default") == "default"
    (tmp_path / "inner" / "first.json").write_text('{"base": "../second.json"}')
    with pytest.raises(SettingsError, match="is its own base"):
        recipe_option(str(tmp_path / "second.json"))
    (tmp_path / "second.json").write_text('{"base": "nowhere.json"}')
    with pytest.raises(SettingsError, match=r"nowhere.json' cannot be read"):
        recipe_option(str(tmp_path / "second.json"))


@pytest.mark.parametrize("domain", [Nim(), TicTacToe()], ids=lambda one: one.name)
def test_every_domain_with_rules_has_recipes_of_its_kind(domain: Any) -> None:
    for name, recipe in own_recipes(domain).items():
        assert recipe_for(domain, name).spec(domain)
        assert Recipe.of(recipe.plain()) == recipe
    assert ("board" in own_recipes(domain)) == (len(domain.observation_shape) == 3)
