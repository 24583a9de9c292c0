"""The laws of `domains/base.py` that only show in play: what calls change, whose view a result is, what symmetries
do. Written as those of `domains/conformance_laws.py`."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np

from escalade.domains.base import FloatArray, Symmetry
from escalade.domains.conformance_probe import (
    MAX_PLIES,
    Cases,
    LawBroken,
    LawSkipped,
    Probe,
    fresh,
    kind_of,
    short,
    told,
)
from escalade.domains.lengths import Lengths

DECISIVE = 10
"""Decided games by one player's move, all lost by that player, that raise the alarm."""
TWIN_GAMES = 20


def games_end(probe: Probe) -> Cases:
    probe.needs_simulator()
    for game in probe.games:
        if len(game.actions) >= probe.max_plies and not game.over:
            raise LawBroken(
                f"a random game from {probe.show(game.states[0])} was not over after {probe.max_plies} actions; make "
                "is_terminal end it, or pass a larger max_plies if games may be that long (`escalade train` cuts games "
                f"after {_limit(probe)} actions and takes what a search thinks of the last position for the outcome)"
            )
        if game is not probe.games[-1] or not probe.trouble:
            yield
    if probe.trouble:
        hint = ", or has_simulator be False" if "NoSimulatorError" in probe.trouble else ""
        raise LawBroken(f"in a random game {probe.trouble}{hint}")
    if all(len(game.states) == 1 for game in probe.games):
        raise LawBroken("no game lasted a single action; mend is_terminal or legal_actions of the initial state")
    longest = max(len(game.actions) for game in probe.games)
    bound = probe.domain.max_plies
    if bound is not None and longest > bound:
        raise LawBroken(f"a random game had {longest} actions, but max_plies is {bound}; mend max_plies")
    cut = f"training cuts a game after {_limit(probe)}"
    return f"the longest of {len(probe.games)} random games had {longest} actions; {cut}"


def _limit(probe: Probe) -> int:
    """Actions after which training cuts a game, as far as these games show."""
    ended = [len(game.actions) for game in probe.games if game.over]
    mean, longest = (sum(ended) / len(ended), max(ended)) if ended else (0.0, 0)
    return Lengths(mean, longest, len(ended) == len(probe.games), probe.domain.max_plies, 0.0).limit


def nothing_changes(probe: Probe) -> Cases:
    rng = probe.random(5)
    for state in probe.states():
        if not probe.same(fresh(state), state):
            raise LawSkipped("a copy of a state does not equal it, so changes cannot be seen; give states an ==")
        over = bool(probe.ask("is_terminal", fresh(state)))
        calls: list[tuple[Any, ...]] = [(method,) for method in ("format", "is_terminal", "to_move", "describe")]
        calls.append(("legal_actions",))
        if probe.domain.has_simulator and over:
            calls.append(("outcome",))
        if probe.domain.has_simulator and not over:
            legal = probe.legal(state)
            calls += [("ending_actions",), ("proven_actions",)]
            calls += [("step", legal[int(rng.integers(len(legal)))])] if legal else []
            calls.append(("step", probe.domain.num_actions))
        for method, *arguments in calls:
            given = fresh(state)
            try:
                probe.dare(method, given, *arguments)
            except Exception as error:
                # A refused step must leave the state alone too; other laws tell what else may be raised.
                if method != "step":
                    raise LawBroken(f"{probe.call(method, state)} raised {told(error)}; it must answer here") from error
            _unchanged(probe, method, state, given)
        if not over:
            given = fresh(state)
            probe.ask("encode", [given])
            _unchanged(probe, "encode", state, given)
        yield
    return None


def _unchanged(probe: Probe, method: str, before: Any, after: Any) -> None:
    if not probe.same(before, after):
        raise LawBroken(
            f"{method} changed the state it was given, {probe.show(before)}, to {probe.show(after)}; work on a copy"
        )


def same_answers(probe: Probe) -> Cases:
    rng = probe.random(6)
    for state in probe.states(500):
        over = bool(probe.ask("is_terminal", fresh(state)))
        calls: list[tuple[Any, ...]] = [(method,) for method in ("format", "is_terminal", "to_move", "describe")]
        calls.append(("legal_actions",))
        if probe.domain.has_simulator:
            legal = probe.legal(state)
            calls += [("outcome",)] if over else [("step", action) for action in rng.permutation(legal)[:3].tolist()]
        for method, *arguments in calls:
            first, second = (probe.ask(method, fresh(state), *arguments) for _ in range(2))
            if method == "legal_actions":
                first, second = list(first), list(second)
            if not probe.same(first, second) and not _both_nan(first, second):
                call = probe.call(method, state, *arguments)
                raise LawBroken(f"{call} gave two answers, {short(first)} and {short(second)}; leave no chance in it")
        twice = [] if over else [probe.ask("encode", [fresh(state)]) for _ in range(2)]
        if twice and not np.array_equal(twice[0], twice[1], equal_nan=True):
            raise LawBroken(f"{probe.call('encode', [state])} gave two answers; leave no chance in it")
        yield
    return None


def _both_nan(first: Any, second: Any) -> bool:
    return isinstance(first, float) and isinstance(second, float) and first != first and second != second


def plain_answers(probe: Probe) -> Cases:
    """NumPy scalars crash some checkpointers and silently become null in others."""
    for state in probe.states():
        over = bool(probe.ask("is_terminal", fresh(state)))
        answers = [("is_terminal", bool), ("to_move", int)]
        if over and probe.domain.has_simulator:
            answers.append(("outcome", float))
        for method, kind in answers:
            answer = probe.ask(method, fresh(state))
            if type(answer) is not kind and not (kind is float and type(answer) is int):
                raise LawBroken(f"{probe.call(method, state)} is a {kind_of(answer)}; give a plain {kind.__name__}")
        for action in probe.ask("legal_actions", fresh(state)):
            if type(action) is not int:
                raise LawBroken(f"{probe.call('legal_actions', state)} holds a {kind_of(action)}; give plain ints")
        yield
    for action in range(min(probe.domain.num_actions, 100)):
        found = probe.ask("parse_action", probe.ask("action_name", action))
        if type(found) is not int:
            raise LawBroken(f"parse_action of the name of action {action} is a {kind_of(found)}; give a plain int")
        yield
    return None


def outcomes_from_view(probe: Probe) -> Cases:
    """In nearly every game whoever makes the last move of a decided game has at least sometimes won by it. Where one
    player never does, outcomes are turned round, or (if it is one player only) always seen from the same player."""
    probe.needs_simulator()
    tally: Counter[tuple[int, int]] = Counter()
    example: dict[tuple[int, int], Any] = {}
    movers = {int(probe.ask("to_move", state)) for state in probe.open_states()}
    if len(movers) < 2:
        raise LawSkipped(f"only player {movers.pop()} is ever to move, so there is one view only")
    if probe.last_mover_loses:
        raise LawSkipped("last_mover_loses was set, and without it nothing tells the two views apart")
    for game in probe.games:
        if not game.over or not game.actions:
            continue
        mover, end = int(probe.ask("to_move", game.states[-2])), game.states[-1]
        outcome = float(probe.ask("outcome", end))
        for_mover = outcome if int(probe.ask("to_move", end)) == mover else -outcome
        if for_mover:
            sign = 1 if for_mover > 0 else -1
            tally[mover, sign] += 1
            example.setdefault((mover, sign), end)
            yield
    for mover in (0, 1):
        lost = tally[mover, -1]
        if lost >= DECISIVE and not tally[mover, 1]:
            raise LawBroken(
                f"by their outcomes, player {mover} lost all {lost} decided games that ended with a move of player "
                f"{mover}, such as {probe.show(example[mover, -1])}; outcome is from the view of to_move of the "
                "finished state (-1 after a winning move where players alternate); or set last_mover_loses"
            )
    if not tally:
        raise LawSkipped("no decided game was reached")
    return "last mover's wins and losses: " + ", ".join(
        f"player {mover} {tally[mover, 1]} and {tally[mover, -1]}" for mover in (0, 1)
    )


def alike_play_alike(probe: Probe) -> Cases:
    """What a network cannot tell apart must not differ in what is legal, nor in what a finishing move brings."""
    states = probe.open_states()
    groups: dict[bytes, list[Any]] = {}
    for state, observation in zip(states, probe.encoded(states), strict=True):
        groups.setdefault(observation.tobytes(), []).append(state)
    for first, *others in groups.values():
        legal = probe.legal(first)
        for other in others[:20]:
            pair = f"{probe.show(first)} and {probe.show(other)} encode alike"
            if probe.legal(other) != legal:
                raise LawBroken(f"{pair}, but differ in legal actions; encode what makes the difference")
            for action in legal[:32] if probe.domain.has_simulator else ():
                results = [probe.brought(state, action) for state in (first, other)]
                if None not in results and results[0] != results[1]:
                    raise LawBroken(
                        f"{pair}, but action {action} brings their mover {results[0]} in one and {results[1]} in the "
                        "other; encode from the view of the player to move"
                    )
        yield
    return f"{len(states) - len(groups)} of {len(states)} states encode like another"


def symmetries_hold(probe: Probe) -> Cases:
    symmetries = list(probe.ask("symmetries"))
    if not symmetries:
        raise LawSkipped("the domain names no symmetries")
    states = probe.open_states(256)
    seen = probe.encoded(states)
    for symmetry in symmetries:
        actions = symmetry.actions
        identity = np.arange(probe.domain.num_actions)
        right_type = isinstance(actions, np.ndarray) and actions.dtype == np.int64
        if not right_type or actions.shape != identity.shape or not np.array_equal(np.sort(actions), identity):
            raise LawBroken(f"symmetry '{symmetry.name}': actions must be int64 [A], each of 0 to A - 1 once")
        image = symmetry.observations(seen.copy())
        if not isinstance(image, np.ndarray) or image.shape != seen.shape or image.dtype != seen.dtype:
            raise LawBroken(f"symmetry '{symmetry.name}': observations must keep shape and dtype of what it is given")
        yield
    if not probe.domain.has_simulator:
        return "without a simulator only shapes were checked"
    rng = probe.random(7)
    by_observation = {_key(observation): state for state, observation in zip(states, seen, strict=True)}
    for symmetry in symmetries:
        images = symmetry.observations(seen.copy())
        pairs = [
            (state, by_observation[_key(image)])
            for state, image in zip(states, images, strict=True)
            if _key(image) in by_observation
        ]
        if not pairs:
            raise LawBroken(
                f"symmetry '{symmetry.name}': of {len(states)} states none turns into another one; mend observations, "
                "or give some states that are images of each other if games do not begin from such"
            )
        # The first pair is the initial state with itself, where that is its own image: half the games are whole ones.
        for number in range(TWIN_GAMES):
            state, twin = pairs[int(rng.integers(len(pairs))) if number % 2 else 0]
            _play_twins(probe, symmetry, fresh(state), fresh(twin), rng)
            yield
    return None


def _key(observation: FloatArray) -> bytes:
    return (np.round(observation, 4) + 0.0).tobytes()  # adding zero turns -0.0 into 0.0


def _alike(probe: Probe, symmetry: Symmetry, state: Any, twin: Any) -> bool:
    image = symmetry.observations(probe.ask("encode", [fresh(state)]))
    return np.allclose(image, probe.ask("encode", [fresh(twin)]), atol=1e-5)


def _play_twins(probe: Probe, symmetry: Symmetry, state: Any, twin: Any, rng: np.random.Generator) -> None:
    """A random game and the same game relabelled, side by side, for as long as they last."""
    for _ in range(MAX_PLIES):
        pair = f"symmetry '{symmetry.name}' pairs {probe.show(state)} with {probe.show(twin)}"
        over = bool(probe.ask("is_terminal", fresh(state)))
        if over != bool(probe.ask("is_terminal", fresh(twin))):
            raise LawBroken(f"{pair}, but only one of them is finished; mend its actions or observations")
        legal = probe.legal(state)
        image = sorted(int(symmetry.actions[action]) for action in legal)
        if image != probe.legal(twin):
            raise LawBroken(
                f"{pair}, but legal actions {short(legal)} become {short(image)} and not {short(probe.legal(twin))}; "
                "actions[a] must be the new name of action a"
            )
        if not _alike(probe, symmetry, state, twin):
            raise LawBroken(
                f"{pair}, but observations does not turn the one's encoding into the other's; mend it, or actions"
            )
        if over or not legal:
            outcomes = [float(probe.ask("outcome", fresh(end))) for end in (state, twin)] if over else [0.0, 0.0]
            if outcomes[0] != outcomes[1]:
                raise LawBroken(f"{pair}, but their outcomes are {outcomes[0]} and {outcomes[1]}; they must be equal")
            return
        action = legal[int(rng.integers(len(legal)))]
        state, twin = (
            probe.ask("step", fresh(state), action),
            probe.ask("step", fresh(twin), int(symmetry.actions[action])),
        )
