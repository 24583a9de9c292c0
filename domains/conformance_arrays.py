"""The laws of `ArrayDomain`: kernels over rows say the same as the plain methods. Written as those of
`domains/conformance_laws.py`; like search, they give kernels only legal actions and, for playouts, unfinished states.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from escalade.domains.base import ArrayDomain, FloatArray, IntArray, KeyArray
from escalade.domains.conformance_probe import MAX_ROWS, Cases, LawBroken, LawSkipped, Probe, fresh, short, told_end

PLAYED = 1000
"""Plain random games, and rows, over which means are compared."""
KEYS = 64
"""Playouts per row for its mean, and as many again for its weight."""
UNSET = 7.0
"""No outcome: what arrays hold before a kernel writes to them."""
FALSE_ALARM = 1e-6
"""Greatest probability that a faithful kernel fails the comparison of means, over the choice of seed."""


def rows(probe: Probe) -> Cases:
    _needs_arrays(probe)
    width: Any = probe.domain.row_width
    if type(width) is not int or width < 1:
        raise LawBroken(f"row_width is {short(width)}; make it a plain int of at least 1")
    states = probe.states(MAX_ROWS)
    batch = _array("to_rows", probe.ask("to_rows", states), np.dtype(np.int64), (len(states), width))
    for row, state in enumerate(states):
        alone = probe.ask("to_rows", [state])
        if not np.array_equal(alone, batch[row : row + 1]):
            raise LawBroken(f"{probe.call('to_rows', [state])} is not what the same state gets in a batch")
        yield
    return None


def steps(probe: Probe) -> Cases:
    _needs_arrays(probe)
    rng = probe.random(20)
    states = [state for state in probe.open_states(MAX_ROWS) if probe.legal(state)]
    actions, after = [], []
    for state in states:
        legal = probe.legal(state)
        actions.append(legal[int(rng.integers(len(legal)))])
        after.append(probe.ask("step", fresh(state), actions[-1]))
    before = probe.ask("to_rows", states)
    kept, wanted = before.copy(), probe.ask("to_rows", after)
    found = probe.ask("step_rows", before, np.array(actions, dtype=np.int64))
    _array("step_rows", found, np.dtype(np.int64), wanted.shape)
    if not np.array_equal(before, kept):
        raise LawBroken("step_rows changed the rows it was given; write to a new array")
    for index, state in enumerate(states):
        if not np.array_equal(found[index], wanted[index]):
            raise LawBroken(
                f"step_rows takes {probe.show(state)} by action {actions[index]} to {found[index].tolist()}, but "
                f"to_rows of what step gives is {wanted[index].tolist()}; mend whichever is wrong"
            )
        yield
    return None


def rules(probe: Probe) -> Cases:
    _needs_arrays(probe)
    states, count = probe.states(MAX_ROWS), probe.domain.num_actions
    size = len(states)
    answer = probe.ask("rules_rows", probe.ask("to_rows", states))
    if not isinstance(answer, tuple) or len(answer) != 4:
        raise LawBroken("rules_rows must give a tuple of four arrays: legal, terminal, outcome, player to move")
    kinds = ((np.bool_, (size, count)), (np.bool_, (size,)), (np.float32, (size,)), (np.int8, (size,)))
    names = ("legal", "terminal", "outcome", "player to move")
    for name, array, (kind, shape) in zip(names, answer, kinds, strict=True):
        _array(f"rules_rows ({name})", array, np.dtype(kind), shape)
    legal, terminal, outcome, player = answer
    for index, state in enumerate(states):
        over = bool(probe.ask("is_terminal", state))
        wanted = (
            [] if over else probe.legal(state),
            over,
            float(np.float32(probe.ask("outcome", state))) if over else 0.0,
            int(probe.ask("to_move", state)),
        )
        found = (
            np.flatnonzero(legal[index]).tolist(),
            bool(terminal[index]),
            float(outcome[index]),
            int(player[index]),
        )
        for name, left, right in zip(names, found, wanted, strict=True):
            if left != right:
                raise LawBroken(
                    f"for {probe.show(state)} rules_rows says {name} {short(left)} and the plain methods say "
                    f"{short(right)}; mend whichever is wrong"
                )
        yield
    return None


def encodings(probe: Probe) -> Cases:
    _needs_arrays(probe)
    states = probe.open_states(MAX_ROWS)
    wanted = probe.encoded(states)
    found = _array(
        "encode_rows", probe.ask("encode_rows", probe.ask("to_rows", states)), np.dtype(np.float32), wanted.shape
    )
    for index, state in enumerate(states):
        if not np.allclose(found[index], wanted[index], rtol=1e-4, atol=1e-5):
            raise LawBroken(f"encode_rows and encode differ for {probe.show(state)}; mend whichever is wrong")
        yield
    return None


def ends(probe: Probe) -> Cases:
    """Of finished states too: search asks before it looks whether they are."""
    _needs_arrays(probe)
    cases = [*probe.endings(), *((state, {}) for state in probe.finished_states(MAX_ROWS // 4))]
    given = probe.ask("to_rows", [state for state, _ in cases])
    kept, shape = given.copy(), (len(cases), probe.domain.num_actions)
    found = _array("ends_rows", probe.ask("ends_rows", given), np.dtype(np.float32), shape)
    if not np.array_equal(given, kept):
        raise LawBroken("ends_rows changed the rows it was given; work on a copy")
    wanted = np.full(shape, np.nan, np.float32)
    for index, (state, brought) in enumerate(cases):
        wanted[index, list(brought)] = list(brought.values())
        differing = ~_same(found[index], wanted[index])
        if differing.any():
            action = int(np.flatnonzero(differing)[0])
            said = None if np.isnan(found[index, action]) else float(found[index, action])
            raise LawBroken(
                f"for {probe.show(state)} ends_rows says that action {action} {told_end(said)}, and step that it "
                f"{told_end(brought.get(action))}; give the outcomes of all legal actions that end the game, from the "
                "view of the player to move before them, and NaN for all others"
            )
        yield
    if probe.domain.kernels.ends is not None:
        _sets_every_entry(probe, "ends", given, [state for state, _ in cases], "does not end the game")
    return None


def proofs(probe: Probe) -> Cases:
    """Of finished states too, of which nothing is proven."""
    _needs_arrays(probe)
    if probe.domain.kernels.proofs is None:
        raise LawSkipped("there is no kernel 'proofs', so search takes nothing as proven at sight")
    states = [*probe.open_states(MAX_ROWS), *probe.finished_states(MAX_ROWS // 4)]
    given = probe.ask("to_rows", states)
    kept, shape = given.copy(), (len(states), probe.domain.num_actions)
    found = _array("proofs_rows", probe.ask("proofs_rows", given), np.dtype(np.float32), shape)
    if not np.array_equal(given, kept):
        raise LawBroken("proofs_rows changed the rows it was given; work on a copy")
    for index, state in enumerate(states):
        over = probe.ask("is_terminal", fresh(state))
        proven = {} if over else probe.ask("proven_actions", fresh(state)) or {}
        wanted = np.full(shape[1], np.nan, np.float32)
        wanted[list(proven)] = list(proven.values())
        differing = np.flatnonzero(~_same(found[index], wanted))
        if differing.size:
            action = int(differing[0])
            said = None if np.isnan(found[index, action]) else float(found[index, action])
            raise LawBroken(
                f"for {probe.show(state)} proofs_rows says that action {action} {_told_proof(said)}, and "
                f"{'the game is over' if over else f'proven_actions that it {_told_proof(proven.get(action))}'}; let "
                "both prove the same of legal actions, and give NaN for all others"
            )
        yield
    _sets_every_entry(probe, "proofs", given, states, "is not proven")
    return None


def _told_proof(worth: float | None) -> str:
    return "is not proven" if worth is None else f"is worth {worth}"


def _sets_every_entry(probe: Probe, name: str, given: IntArray, states: list[Any], otherwise: str) -> None:
    """Search gives a kernel an array that holds the answers of earlier calls. otherwise: which actions are NaN."""
    found = np.full((len(given), probe.domain.num_actions), UNSET, np.float32)
    getattr(probe.domain.kernels, name)(np.ascontiguousarray(given), found)
    unset = np.argwhere(found == UNSET)
    if len(unset):
        index, action = unset[0].tolist()
        raise LawBroken(
            f"for {probe.show(states[index])} the kernel '{name}' leaves out[b, {action}] as it was; set every entry, "
            f"to NaN where the action {otherwise}"
        )


def _same(left: FloatArray, right: FloatArray) -> NDArray[np.bool_]:
    return (left == right) | (np.isnan(left) & np.isnan(right))


def playouts(probe: Probe) -> Cases:
    _needs_arrays(probe)
    rng = probe.random(21)
    states = probe.open_states(MAX_ROWS)
    given, keys = probe.ask("to_rows", states), _keys(rng, len(states))
    kept = given.copy()
    first = _played(probe, given, keys)
    if not np.array_equal(given, kept):
        raise LawBroken("playout_rows changed the rows it was given; work on a copy")
    order = rng.permutation(len(states))
    second = np.empty_like(first)
    second[order] = _played(probe, given[order], keys[order])
    for index, state in enumerate(states):
        if not -1.0 <= first[index] <= 1.0:
            raise LawBroken(f"playout_rows gives {first[index]} for {probe.show(state)}; outcomes are in [-1, 1]")
        if first[index] != second[index]:
            raise LawBroken(
                f"playout_rows gives {probe.show(state)} both {first[index]} and {second[index]} for one key; let no "
                "chance but the row's own key into it"
            )
        yield
    return None


def playout_means(probe: Probe) -> Cases:
    """Two sums over many rows, of the difference between one plain game and the mean of many playouts: the plain sum,
    and one weighted by an independent estimate of the row's mean, in which a wrong sign cannot cancel out.

    Hoeffding's inequality bounds both, whatever the distribution: every term is in a known range, so for n rows of
    weight w the sum leaves +-sqrt(2 (1 + 1/KEYS) sum(w^2) ln(2 / p)) with probability at most p.
    """
    _needs_arrays(probe)
    rng = probe.random(22)
    states = probe.open_states(MAX_ROWS)
    chosen = [states[int(index)] for index in rng.integers(len(states), size=PLAYED)]
    plain = np.empty(PLAYED)
    for index, state in enumerate(chosen):
        game = probe.play(state, rng)
        if not game.over:
            raise LawSkipped(f"a random game from {probe.show(state)} did not end")
        end = game.states[-1]
        outcome = float(probe.ask("outcome", end))
        plain[index] = outcome if probe.ask("to_move", end) == probe.ask("to_move", state) else -outcome
        yield
    given = probe.ask("to_rows", chosen)
    mean, weight = (_mean(probe, given, rng) for _ in range(2))
    bound = math.sqrt(2 * (1 + 1 / KEYS) * math.log(4 / FALSE_ALARM))
    for factor in (np.ones(PLAYED), weight):
        norm = float(np.sqrt(np.sum(factor**2)))
        gap = float(np.sum(factor * (plain - mean)))
        if abs(gap) > bound * norm:
            ours, theirs = float(np.sum(factor * plain)) / PLAYED, float(np.sum(factor * mean)) / PLAYED
            weighted = "" if factor is not weight else ", weighted by the playouts' own sign and size,"
            raise LawBroken(
                f"over {PLAYED} states playouts{weighted} average {theirs:.3f} where random games by step average "
                f"{ours:.3f}, more than chance allows ({bound * norm / PLAYED:.3f}); choose uniformly among legal "
                "actions, and give the result from the view of the row's player to move"
            )
    return f"chance of a false alarm: {FALSE_ALARM:.0e} at most"


def _mean(probe: Probe, given: IntArray, rng: np.random.Generator) -> NDArray[np.float64]:
    values = _played(probe, np.repeat(given, KEYS, axis=0), _keys(rng, len(given) * KEYS))
    return values.reshape(-1, KEYS).mean(axis=1, dtype=np.float64)


def _played(probe: Probe, given: IntArray, keys: KeyArray) -> FloatArray:
    return _array("playout_rows", probe.ask("playout_rows", given, keys), np.dtype(np.float32), keys.shape)


def _keys(rng: np.random.Generator, count: int) -> KeyArray:
    return rng.integers(0, 2**64, size=count, dtype=np.uint64)


def _array(what: str, value: Any, kind: np.dtype[Any], shape: tuple[int, ...]) -> Any:
    """The value, if it is an array of this type and shape. Raises LawBroken."""
    if not isinstance(value, np.ndarray):
        raise LawBroken(f"{what} gives a {type(value).__name__}; give a NumPy array of {kind}")
    if value.dtype != kind or value.shape != shape:
        raise LawBroken(f"{what} gives {value.dtype} {value.shape}; give {kind} {shape}")
    return value


def _needs_arrays(probe: Probe) -> None:
    probe.needs_simulator()
    if not isinstance(probe.domain, ArrayDomain):
        raise LawSkipped("the domain has no kernels (it is no ArrayDomain)")
