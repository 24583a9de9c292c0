"""The one contract between looking ahead and estimating: search knows nothing else of a network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, runtime_checkable

from escalade.domains.base import BoolArray, FloatArray, IntArray, KeyArray


@runtime_checkable
class Evaluator(Protocol):
    """Estimates states from what is encoded of them: a network, a uniform prior, a remote service."""

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        """observations `[B, *O]` float32 and legal `[B, A]` bool to prior logits `[B, A]` float32 (entries of illegal
        actions are ignored) and values `[B]` float32 in [-1, 1], from the view of the player to move."""
        ...


@runtime_checkable
class StateEvaluator(Protocol):
    """Estimates states from the states themselves, where an encoding would not do: rollouts, exact solvers.

    `states` is a sequence of the domain's states, or int64 rows `[B, W]` where the domain is an `ArrayDomain`.
    `keys` `[B]` uint64 are the only source of chance, so a result does not depend on what else is in the batch.
    """

    def evaluate_states(
        self, states: Sequence[Any] | IntArray, legal: BoolArray, keys: KeyArray
    ) -> tuple[FloatArray, FloatArray]:
        """Prior logits `[B, A]` float32 and values `[B]` float32, as `Evaluator.evaluate`."""
        ...


AnyEvaluator = Evaluator | StateEvaluator
