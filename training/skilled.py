"""Positions as good players reach them, one from each game: both sides search, and now and then one is careless.

Casual games (`escalade.training.casual`) hardly ever come to the positions that good play leads to, least of all to
good openings, and a network that is judged by them alone may be bad at just those.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from escalade.domains.base import Domain
from escalade.domains.evaluator import AnyEvaluator
from escalade.training.arena import SearchPlayer
from escalade.training.exact import longest_game

SIMULATIONS = 16
"""Of the players' searches."""
CARELESS = 0.1
"""Probability with which a move is any legal one."""
AT_ONCE = 512
"""Games in lock-step."""
MOST_PLIES = 1000
"""Of a game, where the domain does not say how long one may last."""


def skilled_states(
    domain: Domain[Any],
    evaluator: AnyEvaluator,
    count: int,
    *,
    seed: int,
    on_progress: Callable[[int, int], None] | None = None,
) -> list[Any]:
    """`count` unfinished states, one of a game each, every ply equally likely within a game. evaluator: what the
    players' searches ask. Each state depends on its number, the seed and the evaluator alone."""
    player = SearchPlayer("skilled", evaluator, SIMULATIONS)
    found: list[Any] = []
    for start in range(0, count, AT_ONCE):
        numbers = range(start, min(start + AT_ONCE, count))
        found += _drawn(domain, player, [np.random.default_rng((seed, number)) for number in numbers])
        if on_progress is not None:
            on_progress(len(found), count)
    return found


def _drawn(domain: Domain[Any], player: SearchPlayer, randoms: list[np.random.Generator]) -> list[Any]:
    games: list[list[Any]] = [[domain.initial_state()] for _ in randoms]
    under_way = list(range(len(games)))
    for _ in range(longest_game(domain) or MOST_PLIES):
        # All draw alike, whatever comes of it, so that no game depends on another.
        draws = {game: (randoms[game].random(), int(randoms[game].integers(2**63))) for game in under_way}
        searching = [game for game in under_way if draws[game][0] >= CARELESS]
        states = [games[game][-1] for game in searching]
        chosen = player.choose(domain, states, [draws[game][1] for game in searching]).actions if states else []
        actions = dict(zip(searching, chosen, strict=True))
        for game in under_way:
            state, (_, seed) = games[game][-1], draws[game]
            if game not in actions:
                actions[game] = int(np.random.default_rng(seed).choice(list(domain.legal_actions(state))))
            games[game].append(domain.step(state, actions[game]))
        under_way = [game for game in under_way if not domain.is_terminal(games[game][-1])]
        if not under_way:
            break
    unfinished = [[state for state in game if not domain.is_terminal(state)] for game in games]
    return [states[int(random.integers(len(states)))] for states, random in zip(unfinished, randoms, strict=True)]
