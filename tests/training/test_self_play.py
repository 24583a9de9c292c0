"""Self-play: rows that are true of the games they come from."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
from support import Plain, Weighing

from escalade.domains.base import BoolArray, Domain, FloatArray, legal_mask
from escalade.domains.connect_four import ConnectFour
from escalade.domains.errors import NoSimulatorError, SettingsError
from escalade.domains.evaluator import BatchHints
from escalade.domains.intents import Intents
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.search.config import SearchConfig
from escalade.search.evaluators import UniformEvaluator
from escalade.search.solvers import exact_solver
from escalade.training.rows import Rows, joined
from escalade.training.self_play import SelfPlay, SelfPlayConfig, dealt

TTT, C4 = TicTacToe(), ConnectFour()
SMALL = SearchConfig(simulations=8, algorithm="gumbel")
BLIND = SearchConfig(simulations=4, proofs=False, noise_fraction=1.0, temperature=1.0)


QUICK = SearchConfig(simulations=2, proofs=False, algorithm="gumbel")
EVERYTHING: dict[str, Any] = {"quick": QUICK, "teaching": 0.5, "opening_plies": 5, "max_plies": 30, "at_once": 13}


class Threaded(Weighing):
    """Asked about few rows at a time, by three threads."""

    hints = BatchHints(rows=2, calls=3)


def played(
    domain: Any, games: Sequence[int] = range(30), seed: int = 1, evaluator: Any = None, **options: Any
) -> tuple[Rows, SelfPlay]:
    config = SelfPlayConfig(**{"search": SMALL, "at_once": 7, **options})
    player = SelfPlay(domain, evaluator or UniformEvaluator(), config, seed=seed)
    return joined(list(player.play(games, "run", "w1"))), player


def alike(left: Rows, right: Rows) -> None:
    for field in fields(Rows):
        np.testing.assert_array_equal(getattr(left, field.name), getattr(right, field.name), err_msg=field.name)


def by_game(rows: Rows) -> dict[str, Rows]:
    return {name: rows.take(rows.game == name) for name in sorted(set(rows.game.tolist()))}


@pytest.mark.parametrize("domain", [TTT, Plain(TTT), C4], ids=["tic_tac_toe", "plain", "connect_four"])
@pytest.mark.parametrize("search", [SMALL, BLIND], ids=["gumbel", "blind"])
@pytest.mark.parametrize("threaded", [False, True], ids=["one", "threads"])
def test_rows_are_the_games_that_were_played(domain: Any, search: SearchConfig, threaded: bool) -> None:
    rows, player = played(domain, search=search, at_once=13, evaluator=Threaded(domain) if threaded else None)
    rows.check()
    games = by_game(rows)
    assert list(games) == [f"run/{number:08d}" for number in range(30)]
    won = drawn = lost = 0
    for game in games.values():
        states = [domain.parse(text) for text in game.state.tolist()]
        assert game.ply.tolist() == [len(state.moves) for state in states]
        assert game.ply[0] <= 2
        np.testing.assert_array_equal(game.observation, domain.encode(states))
        np.testing.assert_array_equal(game.legal, legal_mask(domain, states))
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
    rows, _ = played(TTT, games=range(60), search=SearchConfig(simulations=60, algorithm="gumbel"))
    solver = exact_solver(TTT)
    assert solver is not None
    exact = np.array([solver.value(TTT.parse(state)) for state in rows.state.tolist()])
    late = rows.ply >= 4  # which so many simulations prove
    np.testing.assert_array_equal(rows.outcome[late], exact[late])


def test_a_game_depends_on_its_number_and_the_seed_alone() -> None:
    whole, _ = played(C4, games=range(12))
    for at_once in (1, 5):
        other = by_game(played(C4, games=range(12), at_once=at_once)[0])
        for name, game in by_game(whole).items():
            assert game.action.tolist() == other[name].action.tolist()
            np.testing.assert_array_equal(game.policy, other[name].policy)
    assert whole.action.tolist() != played(C4, games=range(12), seed=2)[0].action.tolist()
    assert len({tuple(game.action.tolist()) for game in by_game(whole).values()}) > 6


@pytest.mark.parametrize("domain", [C4, Plain(C4)], ids=["array", "plain"])
def test_a_game_is_the_same_alone_and_among_others(domain: Any) -> None:
    evaluator = Threaded(domain)
    games = by_game(played(domain, evaluator=evaluator, **EVERYTHING)[0])
    for number in (0, 7, 29):
        alone, _ = played(domain, [number], evaluator=evaluator, **EVERYTHING)
        alike(alone, games[f"run/{number:08d}"])


def test_plain_rules_and_kernels_play_the_same_games() -> None:
    """One of them in three threads, the other in one: only the order differs."""
    fast, player = played(C4, evaluator=Threaded(C4), **EVERYTHING)
    slow, other = played(Plain(C4), evaluator=Threaded(C4), **EVERYTHING)
    for left, right in zip(by_game(fast).values(), by_game(slow).values(), strict=True):
        alike(left, right)
    assert player.stats == other.stats


def test_the_order_of_rows_does_not_depend_on_which_thread_was_first() -> None:
    alike(*(played(C4, evaluator=Threaded(C4), **EVERYTHING)[0] for _ in range(2)))


@pytest.mark.parametrize("threaded", [False, True], ids=["one", "threads"])
def test_stats_add_up(threaded: bool) -> None:
    rows, player = played(
        C4, range(50), evaluator=Threaded(C4) if threaded else None, **{**EVERYTHING, "search": BLIND}
    )
    stats, taught = player.stats, int((~np.isnan(rows.policy).all(axis=1)).sum())
    assert stats.games == stats.won + stats.drawn + stats.lost + stats.cut_short == 50
    assert stats.cut_short > 0
    assert (stats.positions, stats.teaching) == (len(rows), taught)
    assert stats.simulations == BLIND.simulations * taught + QUICK.simulations * (len(rows) - taught)


class Counting(Domain[int]):
    """One player counts to 150 and has won; no text but the number."""

    name, num_actions, observation_shape = "counting", 2, (1,)

    def parse(self, source: Any) -> int:
        return int(source)

    def format(self, state: int) -> str:
        return str(state)

    def legal_actions(self, state: int) -> Sequence[int]:
        return [] if self.is_terminal(state) else [1]

    def encode(self, states: Sequence[int]) -> FloatArray:
        return np.array(states, np.float32).reshape(-1, 1)

    def initial_state(self) -> int:
        return 0

    def step(self, state: int, action: int) -> int:
        return state + action

    def is_terminal(self, state: int) -> bool:
        return state == 150

    def outcome(self, state: int) -> float:
        return 1.0


def test_long_games_find_room_and_one_player_keeps_the_sign() -> None:
    rows, player = played(Counting(), range(3), search=BLIND)
    assert player.stats.won == 3
    for game in by_game(rows).values():
        assert game.state.tolist() == [str(number) for number in range(int(game.ply[0]), 150)]
        assert (game.outcome == 1).all()


def playing() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("escalade-self-play")]


def test_play_that_is_left_ends_its_threads() -> None:
    turns = SelfPlay(C4, Threaded(C4), SelfPlayConfig(search=SMALL, at_once=13), seed=1).play(itertools.count())
    next(turns)
    assert len(playing()) == 3
    turns.close()  # type: ignore[attr-defined]
    assert playing() == []


def test_a_failure_in_one_thread_is_raised_and_ends_all() -> None:
    class Failing(Threaded):
        def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
            if self.rows > 2000:
                raise ConnectionError("the service is gone")
            return super().evaluate(observations, legal)

    with pytest.raises(ConnectionError, match="gone"):
        played(C4, range(1000), evaluator=Failing(C4), at_once=13)
    assert playing() == []


def test_numbers_are_dealt_in_turn_whoever_asks_first() -> None:
    first, second = dealt(range(7), 2)
    assert list(second) == [1, 3, 5]
    assert list(first) == [0, 2, 4, 6]
    endless, _ = dealt(itertools.count(), 2)
    assert list(itertools.islice(endless, 3)) == [0, 2, 4]


def test_quick_moves_teach_no_policy() -> None:
    quick = SearchConfig(simulations=2, algorithm="gumbel")
    rows, player = played(C4, games=range(40), quick=quick, teaching=0.3)
    taught = ~np.isnan(rows.policy).all(axis=1)
    assert 0.2 < taught.mean() < 0.4
    assert player.stats.teaching == taught.sum()
    assert np.isfinite(rows.value).all()
    assert player.stats.simulations < 8 * 0.5 * len(rows)


def test_openings_are_random_and_not_learned_from() -> None:
    rows, _ = played(C4, games=range(80), opening_plies=4)
    firsts = {name: int(game.ply[0]) for name, game in by_game(rows).items()}
    assert set(firsts.values()) == {0, 1, 2, 3, 4}
    assert len({game.state[0] for game in by_game(rows).values()}) > 40


def test_openings_longer_than_games_are_cut() -> None:
    rows, player = played(TTT, games=range(40), opening_plies=9)
    assert player.stats.games == 40
    assert rows.ply.max() <= 8


@pytest.mark.parametrize("max_plies", [1, 4, 9])
def test_games_cut_short_are_worth_what_a_search_says(max_plies: int) -> None:
    rows, player = played(C4, games=range(20), max_plies=max_plies, opening_plies=0, search=BLIND)
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


@pytest.mark.parametrize("domain", [TTT, Plain(TTT), C4], ids=["tic_tac_toe", "plain", "connect_four"])
@pytest.mark.parametrize("moves", [0, 1, 3])
def test_games_that_are_cut_have_no_outcome_but_what_is_proven(domain: Any, moves: int) -> None:
    asked = itertools.count()
    player = SelfPlay(domain, UniformEvaluator(), SelfPlayConfig(SMALL, at_once=4, opening_plies=0), seed=1)
    parts = [rows for rows in player.turns(range(4), until=lambda: next(asked) >= moves) if rows is not None]
    assert player.stats.games == player.stats.cut_short == (4 if moves else 0)
    if not moves:
        assert not parts
        return
    rows = joined(parts)
    rows.check()
    assert len(rows) == 4 * moves == player.stats.positions
    known = ~np.isnan(rows.outcome)
    assert np.array_equal(rows.outcome[known], rows.value[known])
    assert not known.all()
    np.testing.assert_allclose(rows.policy.sum(axis=1), 1, atol=1e-5)


def test_openings_and_bounds_may_be_left_to_the_domain() -> None:
    config = SelfPlayConfig(SMALL, at_once=4, opening_plies=None, max_plies=None)
    player = SelfPlay(TTT, UniformEvaluator(), config, seed=1)
    assert (player.config.opening_plies, player.config.max_plies) == (4, 100)
    rows = joined(list(player.play(range(30))))
    assert rows.ply.max() <= 8
