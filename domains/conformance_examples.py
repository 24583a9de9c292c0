"""Finished games in sentences, for what no check can know: whether the right player has won.

A value seen from the wrong side is as consistent as one from the right side. Whoever knows the rules sees it at once.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from escalade.domains.conformance_probe import Game, LawBroken, Probe, fresh

MAX_LINES = 12
"""Of a state's description that are shown."""


def finished_games(probe: Probe) -> list[str]:
    """The shortest random game that each player won, one that was drawn, and one in which a player moved twice running;
    a text each, of several lines: the moves, how the last state looks, and what its outcome is taken to mean."""
    games = sorted((game for game in probe.games if game.over and game.actions), key=lambda game: len(game.actions))
    found: dict[str, str] = {}
    for game in games:
        try:
            for kind, text in _sentences(probe, game):
                found.setdefault(kind, text)
        except LawBroken:  # its own law reports that
            continue
        if len(found) == 4:
            break
    return list(found.values())


def _sentences(probe: Probe, game: Game) -> Iterator[tuple[str, str]]:
    end = game.states[-1]
    players = [int(probe.ask("to_move", fresh(state))) for state in game.states]
    alone = len({int(probe.ask("to_move", fresh(state))) for each in probe.games[:20] for state in each.states}) == 1
    outcome = float(probe.ask("outcome", fresh(end)))
    to_move = players[-1]
    if alone:
        meaning = f"outcome {outcome:+g} in [-1, 1] for the only player"
        kind = "won" if outcome > 0 else "lost" if outcome < 0 else "neither won nor lost"
    else:
        result = "neither player has won"
        if outcome:
            winner = to_move if outcome > 0 else 1 - to_move
            result = f"player {winner} has won, and player {1 - winner} has lost"
        meaning = f"player {to_move} to move, outcome {outcome:+g}: {result}"
        kind = result
    yield kind, f"After {_moves(probe, game)}, in this state, {meaning}.\n{_shown(probe, end)}"
    for number, (before, after) in enumerate(itertools.pairwise(players[:-1]), start=1):
        if not alone and before == after:
            state = game.states[number]
            yield (
                "twice",
                f"After {_moves(probe, game, number)}, in this state, player {after} to move, who moved last too: the "
                f"other player has no turn between.\n{_shown(probe, state)}",
            )
            return


def _moves(probe: Probe, game: Game, count: int | None = None) -> str:
    actions = game.actions[:count]
    names = [str(probe.ask("action_name", action)) for action in actions]
    players = [int(probe.ask("to_move", fresh(state))) for state in game.states[: len(actions)]]
    last = [f"player {player}: {name}" for player, name in zip(players, names, strict=True)][-6:]
    before = "… " if len(names) > len(last) else ""
    return f"{len(names)} move{'s' * (len(names) != 1)} ({before}{', '.join(last)})"


def _shown(probe: Probe, state: Any) -> str:
    lines = [repr(probe.ask("format", fresh(state))), *str(probe.ask("describe", fresh(state))).splitlines()]
    kept = lines if len(lines) <= MAX_LINES else [*lines[:MAX_LINES], "…"]
    return "\n".join(f"    {line}" for line in kept)
