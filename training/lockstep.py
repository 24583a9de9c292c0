"""Games that are played only for the positions they come to, many at once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from escalade.domains.base import Domain
from escalade.training.arena import Player
from escalade.training.exact import longest_game

MOST_PLIES = 1000
"""Of a game, where the domain does not say how long one may last."""


class Turn(NamedTuple):
    """A game in which a move is to be made. game: its place among the games. ply: moves made in it. random: its own
    generator, so that no game depends on another."""

    game: int
    state: Any
    ply: int
    random: np.random.Generator


def lockstep(
    domain: Domain[Any], randoms: Sequence[np.random.Generator], player: Callable[[Turn], Player]
) -> Iterator[list[list[Any]]]:
    """Plays a game for each generator, all at once; `player` says who makes the move of a turn. Yields the states of
    each game so far, finished ones included, after every ply (the same lists each time)."""
    games = [[domain.initial_state()] for _ in randoms]
    for ply in range(longest_game(domain) or MOST_PLIES):
        turns = [
            Turn(game, states[-1], ply, random)
            for game, (states, random) in enumerate(zip(games, randoms, strict=True))
            if not domain.is_terminal(states[-1])
        ]
        if not turns:
            return
        for turn, action in zip(turns, _moves(domain, turns, player), strict=True):
            games[turn.game].append(domain.step(turn.state, action))
        yield games


def _moves(domain: Domain[Any], turns: Sequence[Turn], player: Callable[[Turn], Player]) -> list[int]:
    """The action of each turn; a player chooses in all of its turns at once."""
    places: dict[int, list[int]] = {}
    players = [player(turn) for turn in turns]
    seeds = [int(turn.random.integers(2**63)) for turn in turns]
    for place, each in enumerate(players):
        places.setdefault(id(each), []).append(place)
    actions = [0] * len(turns)
    for own in places.values():
        states = [turns[place].state for place in own]
        chosen = players[own[0]].choose(domain, states, [seeds[place] for place in own]).actions
        for place, action in zip(own, chosen, strict=True):
            actions[place] = action
    return actions
