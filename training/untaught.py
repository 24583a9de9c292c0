"""Teaching and proof never share a row: the states that taught or chose a bundle are known again, and left out of what
its certificates are proven, its frontier measured and its audits counted with.

A state is known by what a network sees of it, its observation and its legal actions, so that one that is written
otherwise, was reached by another way or is a mirror image is the same state.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import numpy as np

from escalade.domains.base import BoolArray, Domain, legal_mask
from escalade.neural.bundle import Bundle, read_taught
from escalade.neural.taught import DIGEST_BITS, Digests, is_among
from escalade.training.agreement import BATCH
from escalade.training.packed import Observations
from escalade.training.reference import Labelled
from escalade.training.window import position_keys

Of = Literal["weights", "bundle"]
"""Which states are left out: those that taught or chose the weights, or also those that its calibrators and
certificates were made from."""


def digests(domain: Domain[Any], observation: Observations, legal: BoolArray) -> Digests:
    """`[N]`: of states with observations `[N, *O]` and legal actions `[N, A]`; the same for symmetric images."""
    found = _lane(observation, legal)
    symmetries = domain.symmetries()
    for start in range(0, len(found) if symmetries else 0, 4096):
        part = slice(start, start + 4096)
        seen, allowed = np.asarray(observation[part]).astype(np.float32), legal[part]
        for symmetry in symmetries:
            turned = np.empty_like(allowed)
            turned[:, symmetry.actions] = allowed
            found[part] = np.minimum(found[part], _lane(symmetry.observations(seen.copy()), turned))
    return found


def digests_of(domain: Domain[Any], texts: Sequence[str]) -> Digests:
    """`[N]`: of states in text. Raises StateError for a text that is none."""
    parts: list[Digests] = [np.empty(0, np.uint64)]
    for start in range(0, len(texts), BATCH):
        states = [domain.parse(text) for text in texts[start : start + BATCH]]
        parts.append(digests(domain, domain.encode(states), legal_mask(domain, states)))
    return np.concatenate(parts)


def _lane(observation: Observations, legal: BoolArray) -> Digests:
    keys = position_keys(observation, legal).view(np.uint64).reshape(-1, 2)[:, 0]
    return keys >> np.uint64(64 - DIGEST_BITS)


@dataclass(frozen=True)
class LeftOut:
    """What was left out of labelled states, since it had taught or chosen the bundle."""

    count: int | None
    """States left out; None if the bundle records nothing of what taught it, and nothing could be checked."""
    of: int
    """States there were."""
    complete: bool = True
    """Whether the bundle records all that taught it."""

    def to_json(self) -> dict[str, Any]:
        """For reports."""
        return {"states": self.count, "of": self.of, "complete": self.complete}

    def __str__(self) -> str:
        if self.count is None:
            return (
                "this bundle does not record which states taught it, so that none of these did could not be checked: "
                "train it anew, or prove on states that are newer than its training"
            )
        some = f"{self.count:,} of {self.of:,} states left out: they taught or chose the bundle"
        if self.complete:
            return some
        return f"{some}; it began with weights that do not record what taught them, so that there may be others"


def untaught(domain: Domain[Any], bundle: Bundle, labelled: Labelled, of: Of = "weights") -> tuple[Labelled, LeftOut]:
    """The states that had no part in a bundle, perhaps none, and what was left out. Of a census nothing is: who looks
    at every state there is infers nothing from some to others."""
    known = np.empty(0, np.uint64) if labelled.census else known_states(bundle, of)
    if known is None:
        return labelled, LeftOut(None, len(labelled))
    if not len(known):
        return labelled, LeftOut(0, len(labelled), _is_complete(bundle) or labelled.census)
    taught = is_among(digests_of(domain, labelled.states), known)
    left = LeftOut(int(taught.sum()), len(labelled), _is_complete(bundle))
    kept = labelled.take(np.flatnonzero(~taught))
    return replace(kept, source=f"{labelled.source}; {left.count:,} that taught left out"), left


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
