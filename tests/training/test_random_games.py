"""Random games: rows that show how games end, and nothing else."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from nim import Nim
from support import Plain

from escalade.domains.base import Domain
from escalade.domains.connect_four import ConnectFour
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.training.random_games import AT_ONCE, random_games
from escalade.training.rows import Rows, joined
from escalade.training.self_play import SelfPlayConfig

CONFIG = SelfPlayConfig()


def played(domain: Domain[Any], games: Any = range(70), config: SelfPlayConfig = CONFIG, **given: Any) -> Rows:
    found = random_games(domain, games, config, **{"seed": 3, "run": "run", "until": lambda: False, **given})
    return joined(list(found))


@pytest.mark.parametrize("domain", [TicTacToe(), Plain(TicTacToe()), Nim(), ConnectFour()], ids=lambda one: one.name)
def test_rows_are_true_of_their_games(domain: Domain[Any]) -> None:
    rows = played(domain)
    rows.check()
    assert np.isnan(rows.policy).all()
    assert np.isnan(rows.value).all()
    assert len(np.unique(rows.game)) == 70 > AT_ONCE
    for name in np.unique(rows.game).tolist()[:12]:
        game = rows.take(rows.game == name)
        assert game.ply.tolist() == list(range(len(game)))
        state = domain.initial_state()
        states = []
        for text, action in zip(game.state.tolist(), game.action.tolist(), strict=True):
            assert domain.format(state) == text
            states.append(state)
            state = domain.step(state, action)
        assert domain.is_terminal(state)
        for before, outcome in zip(states, game.outcome.tolist(), strict=True):
            same = domain.to_move(before) == domain.to_move(state)
            assert outcome == domain.outcome(state) * (1 if same else -1)


def test_a_game_depends_on_its_number_and_the_seed_alone() -> None:
    every, some = played(Nim()), played(Nim(), range(20, 30))
    again = every.take(np.isin(every.game, some.game))
    assert again.state.tolist() == some.state.tolist()
    assert played(Nim(), seed=4).state.tolist() != every.state.tolist()


def test_games_that_are_not_over_in_time_give_no_rows() -> None:
    short = played(TicTacToe(), config=dataclasses.replace(CONFIG, max_plies=5))
    lengths = np.unique(short.game, return_counts=True)[1]
    assert (lengths == 5).all()  # the first player's win in five is all that ends so soon
    assert list(random_games(Nim(), range(9), CONFIG, seed=1, run="run", until=lambda: True)) == []
