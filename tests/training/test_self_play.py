"""Self-play: rows that are true of the games they come from."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import Plain

from escalade.domains.connect_four import ConnectFour
from escalade.domains.errors import NoSimulatorError, SettingsError
from escalade.domains.intents import Intents
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.search.config import SearchConfig
from escalade.search.evaluators import UniformEvaluator
from escalade.search.solvers import exact_solver
from escalade.training.rows import Rows, joined
from escalade.training.self_play import SelfPlay, SelfPlayConfig

TTT, C4 = TicTacToe(), ConnectFour()
SMALL = SearchConfig(simulations=8, algorithm="gumbel")
BLIND = SearchConfig(simulations=4, proofs=False, noise_fraction=1.0, temperature=1.0)


def played(domain: Any, games: int = 30, seed: int = 1, **options: Any) -> tuple[Rows, SelfPlay]:
    config = SelfPlayConfig(**{"search": SMALL, "at_once": 7, **options})
    player = SelfPlay(domain, UniformEvaluator(), config, seed=seed)
    return joined(list(player.play(range(games), "run", "w1"))), player


def by_game(rows: Rows) -> dict[str, Rows]:
    return {name: rows.take(rows.game == name) for name in sorted(set(rows.game.tolist()))}


@pytest.mark.parametrize("domain", [TTT, Plain(TTT), C4], ids=["tic_tac_toe", "plain", "connect_four"])
@pytest.mark.parametrize("search", [SMALL, BLIND], ids=["gumbel", "blind"])
def test_rows_are_the_games_that_were_played(domain: Any, search: SearchConfig) -> None:
    rows, player = played(domain, search=search)
    rows.check()
    games = by_game(rows)
    assert list(games) == [f"run/{number:08d}" for number in range(30)]
    won = drawn = lost = 0
    for game in games.values():
        states = [domain.parse(text) for text in game.state.tolist()]
        assert game.ply.tolist() == [len(state.moves) for state in states]
        assert game.ply[0] <= 2
        np.testing.assert_array_equal(game.observation, domain.encode(states))
        for state, action, after in zip(states, game.action.tolist(), [*states[1:], None], strict=True):
            reached = domain.step(state, action)
            assert domain.is_terminal(reached) if after is None else reached == after
        end = domain.outcome(reached)
        signs = np.array([1 if state.to_move == reached.to_move else -1 for state in states])
        if not search.proofs:  # else what was proven stands in place of what was played
            np.testing.assert_array_equal(game.outcome, signs * end)
        first = end if reached.to_move == 0 else -end
        won, drawn, lost = won + (first > 0), drawn + (first == 0), lost + (first < 0)
    stats = player.stats
    assert (stats.games, stats.won, stats.drawn, stats.lost, stats.cut_short) == (30, won, drawn, lost, 0)
    assert stats.positions == stats.teaching == len(rows)
    assert set(rows.source.tolist()) == {"self_play"}
    assert set(rows.model.tolist()) == {"w1"}


def test_a_proven_value_is_the_exact_outcome() -> None:
    rows, _ = played(TTT, games=60, search=SearchConfig(simulations=60, algorithm="gumbel"))
    solver = exact_solver(TTT)
    assert solver is not None
    exact = np.array([solver.value(TTT.parse(state)) for state in rows.state.tolist()])
    late = rows.ply >= 4  # which so many simulations prove
    np.testing.assert_array_equal(rows.outcome[late], exact[late])


def test_a_game_depends_on_its_number_and_the_seed_alone() -> None:
    whole, _ = played(C4, games=12)
    for at_once in (1, 5):
        other = by_game(played(C4, games=12, at_once=at_once)[0])
        for name, game in by_game(whole).items():
            assert game.action.tolist() == other[name].action.tolist()
            np.testing.assert_array_equal(game.policy, other[name].policy)
    assert whole.action.tolist() != played(C4, games=12, seed=2)[0].action.tolist()
    assert len({tuple(game.action.tolist()) for game in by_game(whole).values()}) > 6


def test_quick_moves_teach_no_policy() -> None:
    quick = SearchConfig(simulations=2, algorithm="gumbel")
    rows, player = played(C4, games=40, quick=quick, teaching=0.3)
    taught = ~np.isnan(rows.policy).all(axis=1)
    assert 0.2 < taught.mean() < 0.4
    assert player.stats.teaching == taught.sum()
    assert np.isfinite(rows.value).all()
    assert player.stats.simulations < 8 * 0.5 * len(rows)


def test_openings_are_random_and_not_learned_from() -> None:
    rows, _ = played(C4, games=80, opening_plies=4)
    firsts = {name: int(game.ply[0]) for name, game in by_game(rows).items()}
    assert set(firsts.values()) == {0, 1, 2, 3, 4}
    assert len({game.state[0] for game in by_game(rows).values()}) > 40


def test_openings_longer_than_games_are_cut() -> None:
    rows, player = played(TTT, games=40, opening_plies=9)
    assert player.stats.games == 40
    assert rows.ply.max() <= 8


@pytest.mark.parametrize("max_plies", [1, 4, 9])
def test_games_cut_short_are_worth_what_a_search_says(max_plies: int) -> None:
    rows, player = played(C4, games=20, max_plies=max_plies, opening_plies=0, search=BLIND)
    assert player.stats.cut_short > 0
    for game in by_game(rows).values():
        assert len(game) <= max_plies
        last = C4.step(C4.parse(str(game.state[-1])), int(game.action[-1]))
        if len(game) == max_plies and not C4.is_terminal(last):
            signs = np.array([1 if (max_plies - 1 - ply) % 2 == 0 else -1 for ply in range(max_plies)])
            np.testing.assert_allclose(game.outcome, signs * game.value[-1])


def test_no_games_are_no_rows() -> None:
    assert list(SelfPlay(C4, UniformEvaluator(), SelfPlayConfig(), seed=0).play([])) == []


def test_what_is_wrong_is_named() -> None:
    with pytest.raises(NoSimulatorError, match="intents"):
        SelfPlay(Intents(["a", "b"]), UniformEvaluator(), SelfPlayConfig(), seed=0)
    for name, wrong in (("at_once", 0), ("opening_plies", -1), ("max_plies", 1.5), ("teaching", 0)):
        with pytest.raises(SettingsError, match=f"{name} must be"):
            SelfPlayConfig(**{name: wrong})
