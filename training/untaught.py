"""Teaching and proof never share a row: the states that taught or chose a bundle are known again, and left out of what
its certificates are proven, its frontier measured and its audits counted with.

A state is known by what a network sees of it, its observation and its legal actions, so that one that is written
otherwise, was reached by another way or is a mirror image is the same state; a text by its words, whatever their case
and whatever stands between them (`Domain.proof_text`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from escalade.domains.base import Domain
from escalade.neural.bundle import Bundle, read_taught
from escalade.neural.taught import Digests, Taught, is_among
from escalade.search.solvers import exact_solver
from escalade.training.exact import ExactPositions
from escalade.training.position_keys import digests_of
from escalade.training.reference import Labelled

Of = Literal["weights", "bundle"]
"""Which states are left out: those that taught or chose the weights, or also those that its calibrators and
certificates were made from."""


@dataclass(frozen=True)
class LeftOut:
    """What was left out of labelled states, since it had taught or chosen the bundle."""

    count: int | None
    """States left out; None if the bundle records nothing of what taught it, and nothing could be checked."""
    of: int
    """States there were."""
    complete: bool = True
    """Whether the bundle records all that taught it."""
    part: str = "taught or chose the bundle"
    """What they had to do with it."""

    def to_json(self) -> dict[str, Any]:
        """For reports."""
        return {"states": self.count, "of": self.of, "complete": self.complete}

    def __str__(self) -> str:
        if self.count is None:
            return (
                "this bundle does not record which states taught it, so that none of these did could not be checked: "
                "train it anew, or prove on states that are newer than its training"
            )
        some = f"{self.count:,} of {self.of:,} states left out: they {self.part}"
        if self.complete:
            return some
        return f"{some}; it began with weights that do not record what taught them, so that there may be others"


def taught_of(domain: Domain[Any], texts: Sequence[str]) -> Taught:
    """What `escalade.write_bundle(taught=…)` records of a network that these states taught, in text."""
    return Taught().with_weights([digests_of(domain, texts)])


def untaught(domain: Domain[Any], bundle: Bundle, labelled: Labelled, of: Of = "weights") -> tuple[Labelled, LeftOut]:
    """The states that had no part in a bundle, perhaps none, and what was left out.

    Of a census nothing is: who looks at every state there is infers nothing from some to others. Nor are states that
    were drawn anew from a list of which the solver holds all answers (`Labelled.listed`): a bundle that was taught the
    whole list is as good on it as it looks, there are no others that it could be worse on.
    """
    known = np.empty(0, np.uint64) if labelled.census else known_states(bundle, of)
    if known is None:
        source = f"{labelled.source}; the bundle does not record whether any of them taught it"
        return replace(labelled, source=source), LeftOut(None, len(labelled))
    if not len(known):
        return labelled, LeftOut(0, len(labelled), _is_complete(bundle) or labelled.census)
    taught = is_among(digests_of(domain, labelled.states), known)
    listed = taught & labelled.are_listed(labelled.states)
    taught &= ~listed
    part = LeftOut.part if of == "weights" else "taught or chose the bundle, or its certificates were made from them"
    left = LeftOut(int(taught.sum()), len(labelled), _is_complete(bundle), part)
    source = f"{labelled.source}; {left.count:,} that taught left out"
    if listed.any():
        source += f"; {int(listed.sum()):,} that taught kept, of the solver's list of all openings"
    return replace(labelled.take(np.flatnonzero(~taught)), source=source), left


def untaught_positions(
    domain: Domain[Any], bundle: Bundle, positions: ExactPositions
) -> tuple[ExactPositions, LeftOut]:
    """As `untaught`, of positions to measure on; none is left out where the solver lists every position there is."""
    known = known_states(bundle)
    if hasattr(exact_solver(domain), "reachable_positions"):
        return positions, LeftOut(0, len(positions))
    if known is None:
        return positions, LeftOut(None, len(positions))
    taught = is_among(digests_of(domain, positions.states), known)
    left = LeftOut(int(taught.sum()), len(positions), _is_complete(bundle))
    return positions.take(~taught) if taught.any() else positions, left


def _is_complete(bundle: Bundle) -> bool:
    return bundle.manifest.taught is not None and bundle.manifest.taught.complete


def known_states(bundle: Bundle, of: Of = "weights") -> Digests | None:
    """Sorted digests of the states that had a part in a bundle; None if it records none."""
    taught = bundle.taught()
    if taught is None:
        return None
    return taught.weights if of == "weights" else np.union1d(taught.weights, taught.proof)


def teaches(domain: Domain[Any], folder: Path) -> Callable[[str], bool]:
    """Whether a state, in text, taught or chose the bundle in a folder; never, where it records nothing of that. The
    digests are read by the first call."""

    @cache
    def known() -> Digests:
        taught = read_taught(folder)
        return np.empty(0, np.uint64) if taught is None else taught.weights

    return lambda text: bool(len(known()) and is_among(digests_of(domain, [text]), known())[0])
