"""What an iteration of a run learns from: its own experience and that of other stores, nothing that it is judged by."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from escalade.domains.base import legal_mask
from escalade.neural.bundle import read_bundle
from escalade.neural.networks import PolicyValueNetwork
from escalade.neural.taught import Digests, Taught
from escalade.training.exact import ExactPositions
from escalade.training.packed import compact
from escalade.training.position_keys import digests_of, digests_of_rows, position_keys
from escalade.training.rows import Rows, joined
from escalade.training.run import Run, RunError
from escalade.training.store import ExperienceStore
from escalade.training.td import shared_td_values
from escalade.training.window import PROOF, Targets, is_for_proof, parts, split, targets

RANDOM_UNTIL = 3
"""Iteration after which games of random moves are learned from no more: they say what positions are worth to those who
play at random."""


@dataclass(frozen=True, eq=False)
class Window:
    """What an iteration learns from (`learned`) and what it validates by (`held`). met: digests of the states of both.
    kept: rows that were kept apart for proof."""

    learned: Targets
    held: Targets
    met: Digests
    kept: int


def window(run: Run, iteration: int, network: PolicyValueNetwork) -> Window:
    """The window of an iteration. network: what TD(0) targets are made with, if the recipe wants some. Raises RunError
    if nothing was collected."""
    (rows, proof), config = _rows(run, iteration), run.recipe.window
    run.note_contradictions(rows)
    kept, rows = int(proof.sum()), _without(rows, proof)
    met = np.unique(digests_of_rows(run.domain, rows))
    td = shared_td_values(rows, run.domain, network, config.gamma) if config.td else None
    learned, held = split(rows, config, td)
    return Window(learned, held, met, kept)


def held_out(run: Run, iteration: int) -> Targets:
    """The rows that choose the champion of a domain without a simulator: those of `window` that an iteration validates
    by, and nothing learns from. Which they are depends on the names of their games and on what else there is, not on
    the iteration; so on a store that does not grow they are the same for all."""
    rows, config = _without(*_rows(run, iteration)), dataclasses.replace(run.recipe.window, td=0.0)
    return targets(rows.take(parts(rows, config)[1]), config)


def _without(rows: Rows, proof: NDArray[np.bool_]) -> Rows:
    return rows.take(~proof) if proof.any() else rows  # millions of rows are not copied for nothing


def _rows(run: Run, iteration: int) -> tuple[Rows, NDArray[np.bool_]]:
    """All rows that there are for an iteration `[N]`, and which of them are kept apart for proof `[N]`. Raises RunError
    if nothing was collected."""
    found = _own(run, iteration)
    proofs = [np.zeros(len(rows), np.bool_) for rows in found]
    others = run.elsewhere()
    for store in others:
        other = store.recent(run.recipe.rows)
        if other is not None:
            proofs.append(kept_for_proof(store, other, run))
            found.append(_small(other))
    if not found:
        looked = ", ".join(f"'{store.folder}'" for store in (run.store, *others))
        raise RunError(f"there is no experience to learn from in {looked}")
    rows, proof = joined(found[::-1]), np.concatenate(proofs[::-1])
    del found  # millions of rows are gigabytes
    excluded = [_keys_of(run, positions) for positions in run.excluded()]
    if excluded:
        left = ~np.isin(position_keys(rows.observation, rows.legal), np.concatenate(excluded))
        rows, proof = rows.take(left), proof[left]
    return rows, proof


def kept_for_proof(store: ExperienceStore, rows: Rows, run: Run) -> NDArray[np.bool_]:
    """`[N]` bool: rows of another store that nothing is learned from, so that a certificate can be proven on them:
    decisions that were audited or, where none was, those of a share of its games (`WindowConfig.proof`)."""
    audited = store.audits.decisions()
    if len(audited):
        return np.isin(rows.decision, audited)
    share = run.recipe.window.proof
    if share is None:
        share = 0.0 if run.domain.has_simulator else PROOF
    kept = is_for_proof(rows.game, share)
    return np.zeros_like(kept) if kept.all() else kept  # there are few, and they are to teach


def taught_by(run: Run, iteration: int, met: Digests) -> Taught:
    """The states that taught or chose the networks of an iteration, which met those of `met` (`Window`)."""
    before = run.bundle(iteration - 1)
    taught: Taught | None = Taught()
    if before is not None:
        taught = read_bundle(before, run.domain).taught()
    judged = run.positions()
    chose = [] if judged is None else [digests_of(run.domain, judged.states)]
    known = taught or Taught(complete=False)
    return Taught(known.weights, complete=known.complete).with_weights([met, *chose])


def _own(run: Run, iteration: int) -> list[Rows]:
    """The run's newest shards, up to its number of rows, newest first."""
    store = run.store
    store.refresh()
    found: list[Rows] = []
    count = 0
    names = {entry.name for entry in store.entries}
    first = math.floor((1 - run.recipe.recent) * (iteration + 1))
    if run.recipe.untaught == "random" and iteration > RANDOM_UNTIL:
        first = max(first, 2)
    for entry in reversed(store.entries):
        searched_anew = f"{Path(entry.name).stem}-search{Path(entry.name).suffix}" in names
        if count >= run.recipe.rows or searched_anew or not first <= _iteration_of(entry.name, iteration) <= iteration:
            continue
        rows = store.read(entry.name)
        if rows is not None:
            found.append(_small(rows))
            count += len(rows)
    return found


def _iteration_of(name: str, other: int) -> int:
    """The iteration of a shard; it may be a later one, where one is done again. Others than the run's own are of none,
    and count as of this one."""
    number = name.split("-")[0]
    return int(number) if len(number) == 6 and number.isdigit() else other


def _small(rows: Rows) -> Rows:
    """Without what is not learned from: texts are most of the memory of millions of rows."""
    nothing = np.full(len(rows), "")
    return dataclasses.replace(rows, observation=compact(rows.observation), model=nothing, decision=nothing)


def _keys_of(run: Run, positions: ExactPositions) -> NDArray[np.void]:
    """Keys of positions and their symmetric images."""
    states = positions.parsed(run.domain)
    observation, legal = run.domain.encode(states), legal_mask(run.domain, states)
    keys = [position_keys(observation, legal)]
    for symmetry in run.domain.symmetries():
        turned = np.empty_like(legal)
        turned[:, symmetry.actions] = legal
        keys.append(position_keys(symmetry.observations(observation), turned))
    return np.concatenate(keys)
