"""What an iteration of a run learns from: its own experience and that of other stores, nothing that it is judged by."""

from __future__ import annotations

import dataclasses
import math
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
from escalade.training.window import Targets, position_keys, split

RANDOM_UNTIL = 3
"""Iteration after which games of random moves are learned from no more: they say what positions are worth to those who
play at random."""


def window(run: Run, iteration: int, network: PolicyValueNetwork) -> tuple[Targets, Targets]:
    """What an iteration learns from, and what it validates by. network: what TD(0) targets are made with, if the recipe
    wants some. Raises RunError if nothing was collected."""
    parts = _own(run, iteration)
    others = run.elsewhere()
    for store in others:
        other = store.recent(run.recipe.rows)
        if other is not None:
            parts.append(_small(other))
    if not parts:
        looked = ", ".join(f"'{store.folder}'" for store in (run.store, *others))
        raise RunError(f"there is no experience to learn from in {looked}")
    rows = joined(parts[::-1])
    del parts  # millions of rows are gigabytes
    excluded = [_keys_of(run, positions) for positions in run.excluded()]
    if excluded:
        rows = rows.take(~np.isin(position_keys(rows.observation, rows.legal), np.concatenate(excluded)))
    config = run.recipe.window
    return split(rows, config, shared_td_values(rows, run.domain, network, config.gamma) if config.td else None)


def _own(run: Run, iteration: int) -> list[Rows]:
    """The run's newest shards, up to its number of rows, newest first."""
    store = run.store
    store.refresh()
    parts: list[Rows] = []
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
            parts.append(_small(rows))
            count += len(rows)
    return parts


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
