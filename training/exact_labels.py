"""States labelled by the exact solver: what certificates of games are proven by.

Half of the states are of casual games, as anyone may play them, half of games in which the bundle's own network plays
both sides with a little search, and is careless now and then: what good play comes to is in few casual games, and a
promise about those alone says nothing of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from escalade.domains.base import BoolArray, Domain
from escalade.neural.bundle import Bundle
from escalade.search.solvers import exact_solver
from escalade.training.agreement import OnDone
from escalade.training.exact import (
    ExactPositions,
    first_solved_ply,
    read_positions,
    solved,
    solved_positions,
    write_positions,
)
from escalade.training.reference import SEED, Labelled, casual_states, of_positions
from escalade.training.skilled import CARELESS, SIMULATIONS, skilled_states

AT_ONCE = 500
"""Positions solved before they are written down."""


def exact_labels(
    domain: Domain[Any],
    *,
    path: Path | None = None,
    count: int = 4000,
    seed: int = 0,
    bundle: Bundle | None = None,
    folder: Path | None = None,
    on_progress: OnDone | None = None,
) -> Labelled:
    """The positions of a file; or every one there is, where the solver lists them; or one of each of `count` games, any
    time from the first that the solver solves soon, half of them casual, half of good players, which are searches with
    the bundle's network; all are casual without a bundle. Kept in `folder` once solved. Raises SettingsError for a file
    that is none, or a domain with neither solver nor file."""
    if path is not None:
        return of_positions(read_positions(path, domain), path.name)
    if hasattr(exact_solver(domain), "reachable_positions"):
        every = solved_positions(domain, on_progress=on_progress)
        return replace(of_positions(every, every.source), census=True)
    first = first_solved_ply(domain)
    kept = None
    if folder is not None:
        kept = folder / f"decisions-{count}-{seed}{'' if bundle is None else f'-{bundle.version[:12]}'}.csv"
    if kept is not None and kept.exists():
        found = read_positions(kept, domain)
    else:
        states = _states(domain, count, seed, first, bundle)
        if kept is None:
            found = solved(domain, states, "games", seed, on_progress=on_progress)
        else:
            found = solved_bit_by_bit(domain, states, seed, kept, on_progress)
    kinds = "casual games" if bundle is None else "games"
    source = f"positions of {len(found)} {kinds}, from move {first + 1} on, seed {seed}"
    if bundle is not None:
        source += (
            f", half of them casual, half of good players: searches of {SIMULATIONS} simulations with the bundle's "
            f"network, {CARELESS:.0%} of the moves at random"
        )
    return replace(of_positions(found, source), listed=_listed(domain, found))


def _listed(domain: Domain[Any], found: ExactPositions) -> BoolArray | None:
    lists = getattr(exact_solver(domain), "lists", None)
    return np.array([lists(state) for state in found.parsed(domain)], np.bool_) if callable(lists) else None


def _states(domain: Domain[Any], count: int, seed: int, first_ply: int, bundle: Bundle | None) -> list[Any]:
    if bundle is None:
        return casual_states(domain, count, seed, first_ply)
    own = int(np.random.SeedSequence((SEED, seed, 1)).generate_state(1)[0])
    good = skilled_states(domain, bundle.network, count // 2, seed=own, first_ply=first_ply)
    return casual_states(domain, count - count // 2, seed, first_ply) + good


def solved_bit_by_bit(
    domain: Domain[Any], states: Sequence[Any], seed: int, path: Path, on_progress: OnDone | None = None
) -> ExactPositions:
    """As `solved`, written to `path`. It can take an hour, so what is done is kept beside it, and taken up again."""
    partial = path.with_suffix(".partial.csv")
    done = read_positions(partial, domain) if partial.exists() else None
    while done is None or len(done) < len(states):
        before = 0 if done is None else len(done)
        more = solved(
            domain,
            states[before : before + AT_ONCE],
            "games",
            seed,
            on_progress=on_progress and (lambda now, _, before=before: on_progress(before + now, len(states))),  # type: ignore[misc]
        )
        done = more if done is None else done.followed_by(more)
        write_positions(partial, done)
    write_positions(path, done)
    partial.unlink(missing_ok=True)
    return done
