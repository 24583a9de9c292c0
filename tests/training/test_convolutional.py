"""Convolutional networks at work: their recipe, searches that ask them, games they play."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from experience import TTT

from escalade.domains.connect_four import ConnectFour
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.neural.bundle import read_bundle, write_bundle
from escalade.neural.networks import PolicyValueNetwork
from escalade.neural.spec import NetworkSpec
from escalade.search.config import SearchConfig
from escalade.search.engine import search
from escalade.training.recipe import Network, Recipe, recipe_for
from escalade.training.self_play import SelfPlay, SelfPlayConfig

SMALL = NetworkSpec(kind="convolutional", hidden=(8,), features=16, observation_shape=(3, 3, 3), num_actions=9)


def seeded(spec: NetworkSpec) -> PolicyValueNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return PolicyValueNetwork(spec).eval()


def test_the_recipe_differs_from_the_default_by_its_network_alone() -> None:
    domain = ConnectFour()
    recipe, default = recipe_for(domain, "convolutional"), recipe_for(domain)
    assert dataclasses.replace(recipe, network=default.network) == default
    spec = recipe.spec(domain)
    assert (spec.kind, spec.board, spec.observation_size) == ("convolutional", (5, 6, 7), 624)
    assert spec.parameters == sum(weight.numel() for weight in PolicyValueNetwork(spec).parameters())


def test_recipes_of_before_still_read() -> None:
    recipe = recipe_for(ConnectFour(), "convolutional")
    assert Recipe.of(json.loads(json.dumps(recipe.plain()))) == recipe
    older = Recipe().plain()
    for name in ("planes", "features"):
        del older["network"][name]
    for name in ("td", "gamma"):
        del older["window"][name]
    assert Recipe.of(older) == Recipe()
    assert Recipe(network=Network(hidden=(8,))).spec(TicTacToe()).model_dump().keys().isdisjoint({"planes", "features"})


def test_the_network_of_the_recipe_survives_a_bundle(tmp_path) -> None:  # type: ignore[no-untyped-def]
    domain = ConnectFour()
    network = seeded(recipe_for(domain, "convolutional").spec(domain))
    bundle = write_bundle(tmp_path / "model", domain=domain, network=network)
    states = [domain.parse(text) for text in ("", "4455", "1234567")]
    asked = domain.encode(states), np.ones((3, 7), np.bool_)
    for written, back in zip(
        network.evaluate(*asked), read_bundle(bundle.path, domain).network.evaluate(*asked), strict=True
    ):
        np.testing.assert_array_equal(written, back)
    assert bundle.manifest.network.planes == (5, 6, 7)


@pytest.mark.parametrize("algorithm", ["puct", "gumbel"])
def test_a_search_that_asks_it_takes_the_win_and_plays_alike_each_time(algorithm: str) -> None:
    domain = ConnectFour()
    network = seeded(recipe_for(domain, "convolutional").spec(domain))
    states = [domain.parse(text) for text in ("445566", "1", "4455")]
    config = SearchConfig(simulations=24, algorithm=algorithm)  # type: ignore[arg-type]
    found, again = (search(domain, states, network, config, seed=[1, 2, 3]) for _ in range(2))
    assert found[0].action in (2, 6)
    for one, other, state in zip(found, again, states, strict=True):
        assert one.action == other.action
        assert one.action in domain.legal_actions(state)
        np.testing.assert_array_equal(one.policy, other.policy)


def test_it_plays_against_itself_on_several_threads() -> None:
    config = SelfPlayConfig(SearchConfig(simulations=6, algorithm="gumbel"), at_once=8, opening_plies=1)
    play = SelfPlay(TTT, seeded(SMALL), config, seed=1)
    for rows in play.play(range(12)):
        rows.check()
    assert play.stats.games == 12
