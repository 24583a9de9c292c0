"""One request to the batcher: what it asks, when it is bad, and what counts as an answer."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future

import numpy as np

from escalade.domains.base import BoolArray, FloatArray

Answer = tuple[FloatArray, FloatArray]
"""Logits `[k, A]` and values `[k]`, float32."""


class Item(Future[Answer]):
    """One request: a future that takes itself out of the queue when it is cancelled. batch, batch_rows: number and size
    of the batch that answered it, 0 until then."""

    batch = 0
    batch_rows = 0

    def __init__(
        self, observations: FloatArray, legal: BoolArray, deadline: float | None, forget: Callable[[Item], None]
    ) -> None:
        super().__init__()
        self.observations = observations
        self.legal = legal
        self.deadline = deadline
        self._forget = forget

    def cancel(self) -> bool:
        cancelled = super().cancel()
        if cancelled:
            self._forget(self)
        return cancelled


def fault_of(logits: FloatArray, values: FloatArray, legal: BoolArray) -> str | None:
    """Why these are no answer, if they are none."""
    # Written so that NaN, for which every comparison is False, is a fault.
    if not (np.abs(values) <= 1.0 + 1e-5).all():
        return "the evaluator gave a value that is NaN or outside [-1, 1]"
    if not (np.isfinite(logits) | ~legal).all():
        return "the evaluator gave a logit that is not finite for a legal action"
    return None
