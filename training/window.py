"""What a learner sees of the experience: the newest rows, without what would mislead it, in plain arrays.

Rows of one position are merged into one whose targets are their mean, weighted by how often it was met: a network
could learn nothing else from them, and repeated openings would crowd out the rest. Games are split, never positions,
so that validation rows are not the neighbours of training rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from escalade.domains.base import BoolArray, FloatArray, Symmetry
from escalade.domains.errors import SettingsError
from escalade.training.packed import Observations
from escalade.training.position_keys import position_keys
from escalade.training.rows import Rows

PHASE = 10
"""Plies of a game that are one kind of states."""
PROOF = 0.2
"""Share of other stores' games that are kept for proof where no game can be played to prove by."""


class Targets(NamedTuple):
    """N distinct positions, ready to be learned from.

    observation `[N, *O]` float32, or a smaller kind that holds the same numbers (`packed.compact`).
    legal `[N, A]` bool.
    policy `[N, A]` float32, value `[N]` float32 in [-1, 1]. policy_weight, value_weight `[N]` float32: how much each
    target counts; 0 where there is none.
    """

    observation: Observations
    legal: BoolArray
    policy: FloatArray
    value: FloatArray
    policy_weight: FloatArray
    value_weight: FloatArray

    def take(self, chosen: NDArray[np.int64]) -> Targets:
        """Some of the positions."""
        return Targets._make(array[chosen] for array in self)


@dataclass(frozen=True)
class WindowConfig:
    """outcome_weight: the value target is so much of the outcome and the rest of what the teacher thought, where both
        are known.
    validation: share of games that no one learns from.
    duplicate_power: a position met n times counts n to this power; 0 counts each once, 1 as often as it was met.
    td: so much of the value target is the TD(0) target (`escalade.training.td`), where there is one.
    gamma: what a value one ply later counts in it.
    balance: phases of a game (PHASE plies each) count as they were met at 0, and each as much as any other at 1; in
        between, a phase with n times the weight keeps n to the power of 1 - balance.
    proof: share of the games of other stores (`escalade train --experience`) that no one learns from, so that a
        certificate can be proven on them; None: PROOF without a simulator, else none, as new games can be played.
    """

    outcome_weight: float = 0.5
    validation: float = 0.05
    duplicate_power: float = 0.5
    td: float = 0.0
    gamma: float = 1.0
    balance: float = 0.0
    proof: float | None = None

    def __post_init__(self) -> None:
        for name in ("outcome_weight", "validation", "duplicate_power", "td", "gamma", "balance", "proof"):
            if name == "proof" and self.proof is None:
                continue
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(f"{name} must be in [0, 1], not {getattr(self, name)!r}")


def is_validation(games: NDArray[np.str_], share: float) -> NDArray[np.bool_]:
    """Which of games `[N]` belong to validation: by a hash of the name, so the same in every process. Of a name such as
    "run/00000012" only the end counts: what a run is called changes nothing of what it learns."""
    return _chosen(games, share, b"")


def is_for_proof(games: NDArray[np.str_], share: float) -> NDArray[np.bool_]:
    """Which of games `[N]` are kept for proof: by another hash of the name."""
    return _chosen(games, share, b"proof/")


def _chosen(games: NDArray[np.str_], share: float, salt: bytes) -> NDArray[np.bool_]:
    unique, inverse = np.unique(games, return_inverse=True)
    ends = [salt + game.rsplit("/", 1)[-1].encode() for game in unique.tolist()]
    chosen = [int.from_bytes(hashlib.sha256(end).digest()[:8]) < share * 2**64 for end in ends]
    return np.array(chosen, np.bool_)[inverse]


def split(rows: Rows, config: WindowConfig, td: FloatArray | None = None) -> tuple[Targets, Targets]:
    """Targets to learn from, and those for validation, which may be none. A position that is in both is left out of
    validation. Where all games, being few, would be for validation, all are learned from. td: as in `targets`."""
    first, second = (
        targets(rows.take(chosen), config, None if td is None else td[chosen]) for chosen in parts(rows, config)
    )
    return first, second


def parts(rows: Rows, config: WindowConfig) -> tuple[BoolArray, BoolArray]:
    """Which rows `[N]` bool are learned from, and which are held out for validation; see `split`."""
    held: Any = is_validation(rows.game, config.validation)
    if held.all():
        held = np.zeros(len(held), np.bool_)
    learned = ~held
    keys = position_keys(rows.observation, rows.legal)
    return learned, held & ~np.isin(keys, np.unique(keys[learned]))


def targets(rows: Rows, config: WindowConfig, td: FloatArray | None = None) -> Targets:
    """One target a distinct position of the rows, which are valid (`Rows.check`). Where a solver has spoken, nobody
    else is heard.

    td: `[N]` float32, TD(0) targets, NaN where there is none; what `config.td` mixes in. Raises ValueError without
    them where it does.
    """
    _, first, inverse, met = np.unique(
        position_keys(rows.observation, rows.legal), return_index=True, return_inverse=True, return_counts=True
    )
    exact: Any = rows.source == "solver"
    surpassed = (np.bincount(inverse[exact], minlength=len(first)) > 0)[inverse] & ~exact
    told: Any = ~np.isnan(rows.policy).all(axis=1) & ~surpassed
    policy, policies = _mean(np.where(told[:, None], rows.policy, 0), told, inverse, len(first))
    given = value_targets(rows, config.outcome_weight)
    if config.td:
        if td is None or td.shape != given.shape:
            raise ValueError(f"with td {config.td} there must be TD(0) targets [{len(rows)}] of the rows")
        given = np.where(exact, given, mixed(given, td, config.td))
    value, values = _mean(np.nan_to_num(given)[:, None], ~np.isnan(given) & ~surpassed, inverse, len(first))
    weight = met.astype(np.float32) ** config.duplicate_power
    if config.balance:
        weight = balanced(weight, rows.ply[first] // PHASE, config.balance)
    return Targets(
        observation=rows.observation[first],
        legal=rows.legal[first],
        policy=policy,
        value=np.clip(value[:, 0], -1, 1),
        policy_weight=np.where(policies > 0, weight, 0).astype(np.float32),
        value_weight=np.where(values > 0, weight, 0).astype(np.float32),
    )


def value_targets(rows: Rows, outcome_weight: float) -> FloatArray:
    """`[N]` float32: a mean of outcome and teacher's value, or the one that is known; NaN where neither is."""
    both = outcome_weight * rows.outcome + (1 - outcome_weight) * rows.value
    one = np.where(np.isnan(rows.outcome), rows.value, rows.outcome)
    found: FloatArray = np.where(np.isnan(both), one, both).astype(np.float32)
    return found


def mixed(given: FloatArray, td: FloatArray, share: float) -> FloatArray:
    """`[N]` float32: value targets with a share of TD(0) targets; the one that is known where not both are."""
    both = share * td + (1 - share) * given
    found: FloatArray = np.where(np.isnan(both), np.where(np.isnan(td), given, td), both).astype(np.float32)
    return found


def balanced(weight: FloatArray, kind: NDArray[np.int32], power: float) -> FloatArray:
    """`[N]` float32: weights `[N]` of the same sum, with which no kind `[N]` crowds out another; see `WindowConfig`."""
    _, inverse = np.unique(kind, return_inverse=True)
    evened = weight * np.bincount(inverse, weight)[inverse] ** -power
    found: FloatArray = (evened * (weight.sum() / max(evened.sum(), 1e-30))).astype(np.float32)
    return found


def _mean(
    values: FloatArray, known: NDArray[np.bool_], group: NDArray[np.int64], groups: int
) -> tuple[FloatArray, NDArray[np.int64]]:
    """The mean of the known lines of `[N, K]` in each group `[G, K]`, and how many those are `[G]`."""
    counts = np.bincount(group[known], minlength=groups)
    sums = np.zeros((groups, values.shape[1]), np.float64)
    np.add.at(sums, group[known], values[known])
    return (sums / np.maximum(counts, 1)[:, None]).astype(np.float32), counts


def batches(
    found: Targets,
    size: int,
    random: np.random.Generator,
    symmetries: Sequence[Symmetry] = (),
    part: tuple[int, int] = (0, 1),
    most: int = 1,
) -> Iterator[tuple[Targets, tuple[float, float]]]:
    """All positions, in batches of `size` in random order, each shown as it is or by one of its symmetries, with equal
    chances. A rest smaller than half a batch is left out, unless it is all there is.

    most: times that a position is shown at most (`times_shown`), each time with its part of the weight.
    part: (k, n) gives every n-th row of each batch, from the k-th on: n processes with equal generators share it.
    Yields the rows and, of the whole batch, the sums of the policies' and of the values' weights.
    """
    times = times_shown(found, most)
    order = random.permutation(np.repeat(np.arange(len(times)), times))
    for start in range(0, len(order), size):
        chosen = order[start : start + size]
        if start and len(chosen) < size / 2:
            return
        which = random.integers(len(symmetries) + 1, size=len(chosen))
        shown = found.take(chosen)
        if most > 1:
            share = (1 / times[chosen]).astype(np.float32)
            shown = shown._replace(policy_weight=shown.policy_weight * share, value_weight=shown.value_weight * share)
        weights = float(shown.policy_weight.sum()), float(shown.value_weight.sum())
        mine = np.arange(part[0], len(chosen), part[1])
        yield relabelled(shown.take(mine), symmetries, which[mine]), weights


def times_shown(found: Targets, most: int) -> NDArray[np.int64]:
    """`[N]`: how often each position is shown in a pass: as often as its weight is the mean one, at least once and at
    most `most` times. A step towards a position of great weight is as long as one towards any other, so that it takes
    as many as it weighs."""
    if most == 1:
        return np.ones(len(found.value), np.int64)
    weight = np.maximum(found.policy_weight, found.value_weight)
    return np.clip(np.rint(weight / max(float(weight.mean()), 1e-30)), 1, most).astype(np.int64)


def relabelled(found: Targets, symmetries: Sequence[Symmetry], which: NDArray[np.int64]) -> Targets:
    """Each position by symmetry `which` `[N]`, observations as float32; the number after the last one leaves it as it
    is."""
    observation = np.asarray(found.observation).astype(np.float32)
    legal, policy = found.legal.copy(), found.policy.copy()
    for number, symmetry in enumerate(symmetries):
        rows = np.flatnonzero(which == number)
        observation[rows] = symmetry.observations(observation[rows])
        legal[np.ix_(rows, symmetry.actions)] = found.legal[rows]
        policy[np.ix_(rows, symmetry.actions)] = found.policy[rows]
    return found._replace(observation=observation, legal=legal, policy=policy)
