"""The one contract between looking ahead and estimating: search knows nothing else of a network."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numba import types

from escalade.domains.base import BoolArray, FloatArray, IntArray, KeyArray
from escalade.domains.errors import DomainFault, SettingsError


@dataclass(frozen=True)
class BatchHints:
    """How an evaluator likes to be asked. It may say so by an attribute `hints`; who does not gets all rows at once,
    and no second call before the first has returned.

    rows: a call of so many rows is as efficient as any; None if more are always better.
    calls: how many calls may run at the same time, each in a thread of its own, and gain from it.
    """

    rows: int | None = None
    calls: int = 1

    def __post_init__(self) -> None:
        for name, value in (("rows", 1 if self.rows is None else self.rows), ("calls", self.calls)):
            if not isinstance(value, int) or value < 1:
                raise SettingsError(f"{name} must be a whole number, at least 1, not {value!r}")


def usable_cores() -> int:
    """Processor cores this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def hints_of(evaluator: object) -> BatchHints:
    """What an evaluator says of itself, or the careful default."""
    hints = getattr(evaluator, "hints", None)
    return hints if isinstance(hints, BatchHints) else BatchHints()


@runtime_checkable
class Evaluator(Protocol):
    """Estimates states from what is encoded of them: a network, a uniform prior, a remote service.

    The arrays it is given may be used again once it has returned: an evaluator that keeps them makes copies.
    """

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        """observations `[B, *O]` float32 and legal `[B, A]` bool to prior logits `[B, A]` float32 (entries of illegal
        actions are ignored) and values `[B]` float32 in [-1, 1], from the view of the player to move."""
        ...


NATIVE = types.void(
    types.float32[:, ::1],
    types.boolean[:, ::1],
    types.int64[::1],
    types.float32[::1],
    types.float32[:, ::1],
    types.float32[::1],
)


@dataclass(frozen=True, eq=False)
class NativeCall:
    """An evaluator as a compiled function, which a search can call from inside its own kernels, never coming back to
    Python between waves. An evaluator offers one by a method `native()`, which may return None.

    kernel: `@njit(NATIVE, nogil=True)`, given observations `[B, K]` float32 (flattened), legal `[B, A]` bool, and the
    integers and numbers below; writes logits `[B, A]` and values `[B]`. observation_size, num_actions: its K and A, so
    that no search hands it arrays of other shapes; num_actions is None if any will do.
    """

    kernel: Any
    integers: IntArray
    numbers: FloatArray
    observation_size: int
    num_actions: int | None


def native_of(evaluator: object) -> NativeCall | None:
    """The evaluator as a compiled function, if it has one now."""
    offered = getattr(evaluator, "native", None)
    return offered() if callable(offered) else None


def checked_answer(answer: Any, rows: int, actions: int) -> tuple[FloatArray, FloatArray]:
    """What an evaluator gave, as arrays that kernels take. Raises DomainFault for anything else."""
    if not isinstance(answer, tuple | list) or len(answer) != 2:
        raise DomainFault(f"the evaluator must give logits and values, two arrays, not {type(answer).__name__}")
    logits, values = answer
    if np.shape(logits) != (rows, actions) or np.shape(values) != (rows,):
        raise DomainFault(
            f"the evaluator gave logits {np.shape(logits)} and values {np.shape(values)} for {rows} states; they must "
            f"be {(rows, actions)} and {(rows,)}"
        )
    for name, given in (("logits", logits), ("values", values)):
        if np.asarray(given).dtype.kind not in "fiub":
            raise DomainFault(f"the evaluator gave {name} that are not numbers but {np.asarray(given).dtype}")
    return np.require(logits, np.float32, ("C", "W")), np.require(values, np.float32, ("C", "W"))


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
