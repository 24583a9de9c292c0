"""How long games are, and where those are cut that need not end."""

from __future__ import annotations

from typing import Any

import pytest
from nim import Nim

from escalade.domains.base import Domain
from escalade.domains.conformance import GAMES, check_domain
from escalade.domains.errors import DomainFault
from escalade.domains.lengths import ENDLESS, LEAST, Lengths, lengths_of
from escalade.domains.tic_tac_toe import TicTacToe


class Shuffle(Nim):
    """Sticks are taken and put back: a game that need not end, and whose random games hardly do."""

    name = "shuffle"

    def legal_actions(self, state: Any) -> Any:
        return [] if self.is_terminal(state) else [0, 1, 2]

    def step(self, state: Any, action: int) -> Any:
        return 1 + (state[0] + action) % 20, 1 - state[1]


class Bounded(TicTacToe):
    max_plies = 9


def test_random_games_show_how_long_they_are() -> None:
    found = lengths_of(Nim())
    assert found.ended
    assert 7 <= found.mean <= found.longest <= 21
    assert found.limit >= max(LEAST, 2 * found.longest)  # good play may be longer
    assert found.opening == round(found.mean / 2)
    assert lengths_of(Nim()).longest == found.longest


def test_a_game_without_an_end_is_cut_early() -> None:
    found = lengths_of(Shuffle())
    assert (found.ended, found.mean, found.limit, found.opening) == (False, 0.0, ENDLESS, 0)


def test_what_the_domain_says_is_believed() -> None:
    assert lengths_of(Bounded()).limit == 9


@pytest.mark.parametrize(
    ("mean", "longest", "ended", "limit"),
    [(5, 9, True, 100), (22, 60, True, 600), (300, 900, True, 1800), (80, 1000, False, 320), (500, 990, False, 400)],
)
def test_limits(mean: float, longest: int, ended: bool, limit: int) -> None:
    assert Lengths(mean, longest, ended, None, 1e-4).limit == limit


def test_timing_ends_when_its_time_is_over() -> None:
    found = lengths_of(Shuffle(), seconds=0.0)
    assert not found.ended
    assert found.limit >= LEAST


def test_a_dead_end_is_named() -> None:
    class Stuck(Nim):
        def legal_actions(self, state: Any) -> Any:
            return range(0)

    with pytest.raises(DomainFault, match="state '21/0': it is not finished, but nothing is legal"):
        lengths_of(Stuck())


def result(domain: Domain[Any], **given: Any) -> Any:
    return next(one for one in check_domain(domain, games=20, **given).results if one.law == GAMES)


def test_the_check_says_where_training_cuts() -> None:
    assert "training cuts a game after 9" in result(Bounded()).detail
    assert "training cuts a game after 100" in result(TicTacToe()).detail
    endless = result(Shuffle(), max_plies=50)
    assert endless.outcome == "failed"
    assert f"`escalade train` cuts games after {ENDLESS} actions" in endless.detail


def test_a_bound_that_games_exceed_is_a_fault() -> None:
    class Wrong(TicTacToe):
        max_plies = 4

    assert "but max_plies is 4" in result(Wrong()).detail
