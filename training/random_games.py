"""Games of uniformly random moves: what a network learns first that nobody has taught. They cost nothing but the rules,
so there are many of them, and show how games end; what to play they do not show."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any

import numpy as np

from escalade.domains.base import Domain
from escalade.domains.lengths import lengths_of
from escalade.domains.random_bits import uniforms
from escalade.search.cohort import spread
from escalade.training.positions import positions_of
from escalade.training.rows import Rows
from escalade.training.self_play import SelfPlayConfig

AT_ONCE = 64
MODEL = "random"


def random_games(
    domain: Domain[Any],
    numbers: Iterable[int],
    config: SelfPlayConfig,
    *,
    seed: int,
    run: str,
    until: Callable[[], bool],
) -> Iterator[Rows]:
    """The rows of the games of these numbers, some games at a time. Each game depends on its number and the seed alone.

    Rows have an outcome and the action that was played, no policy and no value. A game that is not over after
    `config.max_plies` gives none. until: asked before every move; once it is true, the games that are under way are
    dropped, and it ends.
    """
    limit = config.max_plies or lengths_of(domain).limit
    source = iter(numbers)
    while (some := list(islice(source, AT_ONCE))) and not until():
        rows = _played(domain, some, limit, seed, run, until)
        if rows is not None:
            yield rows


def _played(
    domain: Domain[Any], numbers: list[int], limit: int, seed: int, run: str, until: Callable[[], bool]
) -> Rows | None:
    positions = positions_of(domain)
    count = len(numbers)
    keys = spread(np.full(count, seed & (2**64 - 1), np.uint64), np.array(numbers, np.uint64))
    states, open_games = positions.initial(count), np.arange(count)
    _, _, players = positions.judge(states)
    outcome, last_player = np.full(count, np.nan, np.float32), np.zeros(count, np.int8)
    seen: list[tuple[Any, ...]] = []  # of each ply: games, states, legal, actions, players
    for ply in range(limit):
        if not len(open_games) or until():
            break
        legal = positions.legal(states)
        wanted = uniforms(spread(keys[open_games], np.full(len(open_games), ply, np.uint64)), 1)
        actions = np.argmax(np.cumsum(legal, axis=1) > wanted * legal.sum(axis=1, keepdims=True), axis=1)
        seen.append((open_games, states, legal, actions, players))
        states = positions.step(states, actions)
        over, worth, players = positions.judge(states)
        outcome[open_games[over]], last_player[open_games[over]] = worth[over], players[over]
        open_games, states, players = open_games[~over], states[~over], players[~over]
    if not seen:
        return None
    game, every, legal, action, player = (np.concatenate(parts) for parts in zip(*seen, strict=True))
    plies = np.repeat(np.arange(len(seen)), [len(one[0]) for one in seen])
    known = np.flatnonzero(~np.isnan(outcome[game]))
    if not len(known):
        return None
    known = known[np.lexsort((plies[known], game[known]))]
    game, every, legal, action, player = (array[known] for array in (game, every, legal, action, player))
    texts: list[str] = []
    for first, last in _runs(game):
        texts += positions.texts(every[first:last], [], action[first:last].tolist())
    rows = len(known)
    end = outcome[game]
    return Rows(
        game=np.array([f"{run}/{numbers[number]:08d}" for number in game.tolist()]),
        ply=plies[known].astype(np.int32),
        state=np.array(texts, np.str_),
        observation=positions.encode(every),
        legal=legal,
        policy=np.full(legal.shape, np.nan, np.float32),
        action=action.astype(np.int32),
        value=np.full(rows, np.nan, np.float32),
        outcome=np.where(player == last_player[game], end, -end).astype(np.float32),
        source=np.full(rows, "self_play"),
        model=np.full(rows, MODEL),
        decision=np.full(rows, ""),
    )


def _runs(values: Any) -> Iterator[tuple[int, int]]:
    """First and last place, exclusive, of each run of equal values."""
    cuts = np.flatnonzero(np.diff(values)) + 1
    yield from zip([0, *cuts.tolist()], [*cuts.tolist(), len(values)], strict=True)
