"""What an iteration of a run learns from: its own experience and that of other stores, nothing that it is judged by."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from escalade.domains.base import legal_mask
from escalade.neural.networks import PolicyValueNetwork
from escalade.training.exact import ExactPositions
from escalade.training.packed import compact
from escalade.training.rows import Rows, joined
from escalade.training.run import Run, RunError
from escalade.training.td import shared_td_values
from escalade.training.window import Targets, parts, position_keys, split, targets


def window(run: Run, iteration: int, network: PolicyValueNetwork) -> tuple[Targets, Targets]:
    """What an iteration learns from, and what it validates by. network: what TD(0) targets are made with, if the recipe
    wants some. Raises RunError if nothing was collected."""
    rows, config = _rows(run, iteration), run.recipe.window
    return split(rows, config, shared_td_values(rows, run.domain, network, config.gamma) if config.td else None)


def held_out(run: Run, iteration: int) -> Targets:
    """The rows that choose the champion of a domain without a simulator: those of `window` that an iteration validates
    by, and nothing learns from. Which they are depends on the names of their games and on what else there is, not on
    the iteration; so on a store that does not grow they are the same for all."""
    rows, config = _rows(run, iteration), dataclasses.replace(run.recipe.window, td=0.0)
    return targets(rows.take(parts(rows, config)[1]), config)


def _rows(run: Run, iteration: int) -> Rows:
    """All that an iteration may look at. Raises RunError if nothing was collected."""
    found = _own(run, iteration)
    others = run.elsewhere()
    for store in others:
        other = store.recent(run.recipe.rows)
        if other is not None:
            found.append(_small(other))
    if not found:
        looked = ", ".join(f"'{store.folder}'" for store in (run.store, *others))
        raise RunError(f"there is no experience to learn from in {looked}")
    rows = joined(found[::-1])
    del found  # millions of rows are gigabytes
    excluded = [_keys_of(run, positions) for positions in run.excluded()]
    if excluded:
        rows = rows.take(~np.isin(position_keys(rows.observation, rows.legal), np.concatenate(excluded)))
    return rows


def _own(run: Run, iteration: int) -> list[Rows]:
    """The run's newest shards, up to its number of rows, newest first."""
    store = run.store
    store.refresh()
    found: list[Rows] = []
    count = 0
    names = {entry.name for entry in store.entries}
    for entry in reversed(store.entries):
        searched_anew = f"{Path(entry.name).stem}-search{Path(entry.name).suffix}" in names
        if count >= run.recipe.rows or searched_anew or _later(entry.name, iteration):
            continue
        rows = store.read(entry.name)
        if rows is not None:
            found.append(_small(rows))
            count += len(rows)
    return found


def _later(name: str, iteration: int) -> bool:
    """Whether a shard is of a later iteration, where one is done again. Others than the run's own are of none."""
    number = name.split("-")[0]
    return len(number) == 6 and number.isdigit() and int(number) > iteration


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
