"""One training row a position: what was seen, what was allowed, and what there is to learn from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from escalade.domains.base import BoolArray, FloatArray
from escalade.domains.errors import EscaladeError
from escalade.training.packed import Observations, concatenated

SOURCES = ("self_play", "solver", "search", "llm", "human", "decision")


class RowError(EscaladeError, ValueError):
    """Rows are not what training can learn from."""


@dataclass(frozen=True)
class Rows:
    """N positions, with A actions and observations of shape O. What is not known is NaN, -1 or "".

    Every value is from the view of the player to move in that position, in [-1, 1].
    """

    game: NDArray[np.str_]
    """`[N]`: which game or conversation a position is from; training and validation never share one."""
    ply: NDArray[np.int32]
    """`[N]`: its place there, from 0."""
    state: NDArray[np.str_]
    """`[N]`: as `Domain.format` writes it, so that it can be labelled or encoded anew."""
    observation: Observations
    """`[N, *O]` float32, or a smaller kind that holds the same numbers (`packed.compact`)."""
    legal: BoolArray
    """`[N, A]` bool."""
    policy: FloatArray
    """`[N, A]` float32: the distribution to learn, over all A actions; a row of NaN where there is none."""
    action: NDArray[np.int32]
    """`[N]`: what was done, -1 if nothing."""
    value: FloatArray
    """`[N]` float32: what the teacher thinks it worth (a search's root value), NaN if it said nothing."""
    outcome: FloatArray
    """`[N]` float32: how it ended, NaN if that is not known (yet)."""
    source: NDArray[np.str_]
    """`[N]`: who taught, one of SOURCES."""
    model: NDArray[np.str_]
    """`[N]`: with which weights or language model."""
    decision: NDArray[np.str_]
    """`[N]`: the id of the decision that it was, by which a late outcome is joined."""

    def __len__(self) -> int:
        return len(self.game)

    def take(self, chosen: NDArray[np.int64] | NDArray[np.bool_]) -> Rows:
        """Some of the rows."""
        return Rows(**{field.name: getattr(self, field.name)[chosen] for field in fields(self)})

    def check(self) -> None:
        """Raises RowError naming the first field and row at fault."""
        count, actions = self.legal.shape if self.legal.ndim == 2 else (-1, -1)
        kinds = {"game": "U", "ply": "i", "state": "U", "observation": "fu", "legal": "b", "policy": "f", "action": "i"}
        kinds |= {"value": "f", "outcome": "f", "source": "U", "model": "U", "decision": "U"}
        for field in fields(self):
            array = getattr(self, field.name)
            if array.dtype.kind not in kinds[field.name] or len(array) != count:
                raise RowError(f"{field.name} is {array.dtype} {list(array.shape)}; there are {count} rows")
        if count == 0:
            return
        if self.policy.shape != self.legal.shape:
            raise RowError(f"policy is {list(self.policy.shape)}, legal {list(self.legal.shape)}")
        told: Any = ~np.isnan(self.policy).all(axis=1)
        total = np.where(told[:, None], self.policy, 0).sum(axis=1)
        no_distribution = told & ~((self.policy >= 0).all(axis=1) & (abs(total - 1) < 1e-3))
        self._refuse(
            "observation", ~np.isfinite(np.asarray(self.observation).reshape(count, -1)).all(axis=1), "is not finite"
        )
        self._refuse("legal", ~self.legal.any(axis=1), "allows no action")
        self._refuse("policy", no_distribution, "does not add to 1")
        self._refuse("policy", told & (np.where(self.legal, 0, self.policy) > 0).any(axis=1), "plays illegal actions")
        self._refuse("action", (self.action < -1) | (self.action >= actions), f"is not in -1 .. {actions - 1}")
        done = self.action >= 0
        self._refuse("action", done & ~self.legal[np.arange(count), np.where(done, self.action, 0)], "is illegal")
        for name in ("value", "outcome"):
            self._refuse(name, abs(getattr(self, name)) > 1, "is not in [-1, 1]")
        self._refuse("source", ~np.isin(self.source, SOURCES), f"is none of {', '.join(SOURCES)}")
        self._refuse("game", self.game == "", "is empty")

    def _refuse(self, name: str, bad: Any, what: str) -> None:
        if bad.any():
            raise RowError(f"{name} of row {int(bad.argmax())} {what}")


def joined(parts: Sequence[Rows]) -> Rows:
    """Rows one after another; at least one part."""
    arrays = {field.name: [getattr(part, field.name) for part in parts] for field in fields(Rows)}
    observation = concatenated(arrays.pop("observation"))
    return Rows(observation=observation, **{name: np.concatenate(some) for name, some in arrays.items()})
