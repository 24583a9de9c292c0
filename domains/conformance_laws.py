"""The laws of `domains/base.py` that show state by state: texts, names, legality, words, encodings.

Each is a generator that yields once per case tried, raises LawBroken or LawSkipped, and may return a remark. The table
of them is in `domains/conformance.py`.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from escalade.domains.base import RUNGS, Domain
from escalade.domains.conformance_probe import (
    DEFAULT_TEXTS,
    Cases,
    LawBroken,
    LawSkipped,
    Probe,
    fresh,
    kind_of,
    short,
    told,
    told_end,
)
from escalade.domains.errors import ActionError, StateError

JUNK: tuple[Any, ...] = (
    *(None, True, 0, -1, 3.5, float("nan"), 10**30, b"1", {}, {"state": "1"}, [], [None], [[[]]], object),
    *("", " ", "\n", "\0", "\ud800", "４²", "-1", "null", "nan", "{}", "[", "1 2", "🂡", "x", "9" * 100_000),
    *DEFAULT_TEXTS,
)
"""Offered to `parse`. A domain may well accept some of it; whatever it does not accept it must refuse politely."""

UNKNOWN_NAMES = ("", " ", "no such action", "\0", "-1", "９９９９", "10000000000", "\ud800", "x" * 10_000)


def attributes(probe: Probe) -> Cases:
    domain = probe.domain
    if isinstance(domain, type):
        raise LawBroken(f"{domain.__name__} is a class; give an instance of it, such as {domain.__name__}()")
    for field in ("name", "num_actions", "observation_shape", "ladder", "has_simulator"):
        if not hasattr(domain, field):
            raise LawBroken(f"{type(domain).__name__} has no '{field}'; set it on the class or in __init__")
    if not isinstance(domain, Domain):
        raise LawBroken(f"{type(domain).__name__} lacks methods of a domain; inherit from escalade.domains.base.Domain")
    yield
    if not isinstance(domain.name, str) or not domain.name.isidentifier():
        raise LawBroken(f"name is {short(domain.name)}; make it an identifier such as 'my_game'")
    yield
    if type(domain.num_actions) is not int or domain.num_actions < 1:
        raise LawBroken(f"num_actions is {short(domain.num_actions)}; make it a plain int of at least 1")
    yield
    shape: Any = domain.observation_shape
    if not isinstance(shape, tuple) or not shape or any(type(size) is not int or size < 1 for size in shape):
        raise LawBroken(f"observation_shape is {short(shape)}; make it a tuple of positive ints such as (3, 6, 7)")
    yield
    ladder: Any = domain.ladder
    if (
        not isinstance(ladder, tuple)
        or not ladder
        or any(rung not in RUNGS for rung in ladder)
        or len(set(ladder)) < len(ladder)
    ):
        raise LawBroken(f"ladder is {short(ladder)}; make it a tuple of distinct rungs out of {', '.join(RUNGS)}")
    yield
    if type(domain.has_simulator) is not bool:
        raise LawBroken(f"has_simulator is {short(domain.has_simulator)}; make it True or False")
    yield
    return None


def parse_undoes_format(probe: Probe) -> Cases:
    for text in probe.texts:
        try:
            probe.dare("parse", text)
        except Exception as error:
            raise LawBroken(f"parse refused {short(text)}, a state it was given to check: {told(error)}") from error
        yield
    before: tuple[str, Any] | None = None
    for state in (*probe.states(), *_accepted(probe)):
        text = probe.ask("format", state)
        if not isinstance(text, str):
            raise LawBroken(f"format gave {short(text)} for {short(state)}; it must give a text")
        back = probe.ask("parse", text)
        if not probe.same(back, state):
            raise LawBroken(
                f"parse({short(text)}) gives {short(back)}, but that text came from {short(state)}; make parse and "
                "format inverse to each other, and == compare by value"
            )
        if before and before[0] != text and probe.same(before[1], state):
            raise LawBroken(f"the states {short(before[0])} and {short(text)} count as equal; mend == of the state")
        before = text, state
        yield
    return None


def _accepted(probe: Probe) -> Iterator[Any]:
    """The states that a domain sees in junk; what it raises is the business of the next law."""
    for junk in JUNK:
        try:
            yield probe.dare("parse", junk)
        except Exception:  # noqa: BLE001, S112
            continue


def parse_refuses_politely(probe: Probe) -> Cases:
    rng = probe.random(3)
    texts: list[Any] = []
    for state in probe.states(200):
        text = str(probe.ask("format", state))
        at = int(rng.integers(len(text) + 1))
        texts += [text[:at] + "?" + text[at:], text[:at] + text[at + 1 :], text + text[-1:], text[::-1]]
    for junk in (*JUNK, *texts):
        try:
            state = probe.dare("parse", junk)
        except StateError as error:
            position, last = error.position, len(junk) + 1 if isinstance(junk, str) else math.inf
            if position is not None and (type(position) is not int or not 1 <= position <= last):
                raise LawBroken(
                    f"parse({short(junk)}) raised a StateError with position {short(position)}; give the place of the "
                    "fault in the text, counted from 1"
                ) from error
            if not str(error).strip():
                raise LawBroken(
                    f"parse({short(junk)}) raised a StateError without a text; say what is wrong"
                ) from error
        except Exception as error:
            raise LawBroken(
                f"parse({short(junk)}) raised {told(error)}; raise StateError for whatever is not a state"
            ) from error
        else:
            # It took this for a state: then it has to be usable as one.
            for method in ("is_terminal", "legal_actions", "to_move", "format"):
                try:
                    probe.dare(method, state)
                except Exception as error:
                    raise LawBroken(
                        f"parse accepts {short(junk)}, but {method} of that state raises {told(error)}; raise "
                        "StateError in parse if it is no state"
                    ) from error
        yield
    return None


def action_names(probe: Probe) -> Cases:
    owner: dict[str, int] = {}
    for action in range(probe.domain.num_actions):
        name = probe.ask("action_name", action)
        if not isinstance(name, str) or not name or name != name.strip():
            raise LawBroken(f"action_name({action}) is {short(name)}; make it a text without white space around it")
        if name in owner:
            raise LawBroken(f"actions {owner[name]} and {action} are both named {short(name)}; make names distinct")
        owner[name] = action
        back = probe.ask("parse_action", name)
        if back != action:
            raise LawBroken(f"parse_action({short(name)}) is {short(back)}, but that is the name of action {action}")
        yield
    for name in UNKNOWN_NAMES:
        if name.strip() in owner:
            continue
        try:
            found = probe.dare("parse_action", name)
        except ActionError:
            yield
            continue
        except Exception as error:
            raise LawBroken(f"parse_action({short(name)}) raised {told(error)}; raise ActionError instead") from error
        raise LawBroken(
            f"parse_action({short(name)}) is {short(found)}, but no action has that name; raise ActionError"
        )
    return None


def legal_in_order(probe: Probe) -> Cases:
    for state in probe.states():
        legal = list(probe.ask("legal_actions", fresh(state)))
        call = probe.call("legal_actions", state)
        for action in legal:
            if not 0 <= action < probe.domain.num_actions:
                raise LawBroken(f"{call} holds {short(action)}; actions are 0 to {probe.domain.num_actions - 1}")
        if any(after <= before for before, after in itertools.pairwise(legal)):
            raise LawBroken(f"{call} is {short(legal)}; give each action once, in ascending order")
        yield
    return None


def legal_until_over(probe: Probe) -> Cases:
    for state in probe.states():
        over = bool(probe.ask("is_terminal", fresh(state)))
        legal = list(probe.ask("legal_actions", fresh(state)))
        if over and legal:
            raise LawBroken(
                f"{probe.call('legal_actions', state)} is {short(legal)} in a finished state; give none there"
            )
        if not over and not legal:
            raise LawBroken(
                f"{probe.call('legal_actions', state)} is empty, but is_terminal says the game goes on; make it end "
                "there, or add an action that passes"
            )
        yield
    return None


def step_refuses(probe: Probe) -> Cases:
    probe.needs_simulator()
    rng, count = probe.random(4), probe.domain.num_actions
    for state in probe.states():
        legal = set(probe.legal(state))
        illegal = [action for action in range(count) if action not in legal]
        some = rng.permutation(illegal)[:8] if illegal else ()
        for action in (-1, count, *map(int, some)):
            given = fresh(state)
            try:
                after = probe.dare("step", given, action)
            except ActionError:
                yield
                continue
            except Exception as error:
                raise LawBroken(
                    f"{probe.call('step', state, action)} raised {told(error)}; raise ActionError for an illegal action"
                ) from error
            raise LawBroken(
                f"{probe.call('step', state, action)} gave {probe.show(after)}, but {action} is not legal there; raise "
                "ActionError"
            )
    return None


def player_is_0_or_1(probe: Probe) -> Cases:
    for state in probe.states():
        player = probe.ask("to_move", state)
        if player not in (0, 1):
            raise LawBroken(f"{probe.call('to_move', state)} is {short(player)}; players are 0 and 1")
        yield
    return None


def outcomes_in_range(probe: Probe) -> Cases:
    probe.needs_simulator()
    finished = probe.finished_states()
    if not finished:
        raise LawSkipped("no finished state was reached")
    for state in finished:
        outcome = probe.ask("outcome", state)
        if not (np.isfinite(outcome) and -1.0 <= outcome <= 1.0):
            raise LawBroken(f"{probe.call('outcome', state)} is {short(outcome)}; scale outcomes to [-1, 1]")
        yield
    return None


def endings_known(probe: Probe) -> Cases:
    probe.needs_simulator()
    known = False
    for state, wanted in probe.endings():
        found = probe.ask("ending_actions", fresh(state))
        if found is None:
            continue
        known, call = True, probe.call("ending_actions", state)
        if not isinstance(found, Mapping):
            raise LawBroken(f"{call} is a {kind_of(found)}; give a dict from actions to outcomes, or None")
        for action, outcome in found.items():
            if type(action) is not int or type(outcome) not in (int, float):
                raise LawBroken(f"{call} holds {kind_of(action)}: {kind_of(outcome)}; give plain ints to plain numbers")
        for action in sorted({*found, *wanted}):
            if found.get(action) != wanted.get(action):
                raise LawBroken(
                    f"{call} says that action {action} {told_end(found.get(action))}, and step that it "
                    f"{told_end(wanted.get(action))}; give the outcomes of all legal actions that end the game and of "
                    "no others, from the view of the player to move before them"
                )
        yield
    if not known:
        raise LawSkipped("ending_actions gives None, not known cheaply, so search finds them out by step")
    return None


def rules_name_rungs(probe: Probe) -> Cases:
    for state in probe.open_states(256):
        rungs = probe.ask("rungs_for", fresh(state))
        good = isinstance(rungs, (tuple, list)) and rungs and all(isinstance(r, str) and r in RUNGS for r in rungs)
        if rungs is not None and not good:
            raise LawBroken(
                f"{probe.call('rungs_for', state)} is {short(rungs)}; give None for all, or some of {RUNGS}"
            )
        yield
    return None


def encodes(probe: Probe) -> Cases:
    states = probe.open_states(256)
    wanted = (len(states), *probe.domain.observation_shape)
    batch = probe.ask("encode", [fresh(state) for state in states])
    if not isinstance(batch, np.ndarray) or batch.dtype != np.float32:
        kind = batch.dtype if isinstance(batch, np.ndarray) else type(batch).__name__
        raise LawBroken(f"encode gives {kind}; give a NumPy array of float32")
    if batch.shape != wanted:
        raise LawBroken(f"encode of {len(states)} states has shape {batch.shape}; give {wanted}")
    kept = batch.copy()
    for row, state in enumerate(states):
        call = probe.call("encode", [state])
        if not np.isfinite(batch[row]).all():
            raise LawBroken(f"{call} holds NaN or infinity; give finite numbers only")
        alone = probe.ask("encode", [fresh(state)])
        if alone.shape != (1, *wanted[1:]):
            raise LawBroken(f"{call} has shape {alone.shape}; give {(1, *wanted[1:])}")
        # A sentence encoder may differ in the last digits from batch to batch; more than that is a fault.
        if not np.allclose(alone[0], kept[row], rtol=1e-4, atol=1e-5):
            raise LawBroken(
                f"{call} is not what the same state gets in a batch of {len(states)}; encode each by itself"
            )
        yield
    if not np.array_equal(batch, kept):
        raise LawBroken("an encoded batch changed when encode was called again; give a new array each time")
    return None
