"""From logits to actions: the softmax over legal actions, temperature, top-k and the draw.

Plain NumPy, as one decision at a time is the common case and a tensor library costs more than the arithmetic.
"""

from __future__ import annotations

import math
import operator

import numpy as np
from numpy.typing import NDArray

from escalade.domains.base import BoolArray, FloatArray, IntArray
from escalade.domains.errors import ActionError, SettingsError

_NEVER = np.float64(-np.inf)
# Colder than this is argmax for any two float32 logits that differ; dividing by less could overflow.
_COLDEST = 1e-200


def action_probabilities(
    logits: FloatArray, legal: BoolArray, temperature: float = 1.0, top_k: int | None = None
) -> FloatArray:
    """Softmax of `logits / temperature` over the legal actions.

    logits: `[B, A]` float32; entries of illegal actions are ignored, whatever they are. Of the legal ones -inf means
        never; at least one must be finite.
    legal: `[B, A]` bool, at least one True in each row.
    temperature: 0 puts everything on the largest logit (the lowest action of equals); large is uniform.
    top_k: keep only the k most likely legal actions (the lower actions of equals), 1 <= k <= A; None keeps all.

    Returns `[B, A]` float32: rows sum to 1, illegal and dropped actions are exactly 0.
    Raises SettingsError for a temperature or top_k out of range, ActionError for a row with no legal action, and
    ValueError for shapes, dtypes or a NaN or +inf among the legal logits.
    """
    masked, temperature = _checked(logits, legal, temperature, top_k)
    if temperature == 0.0:
        chosen = np.zeros(masked.shape, dtype=np.float32)
        chosen[np.arange(len(masked)), masked.argmax(axis=1)] = 1.0
        return chosen
    weights = _weights(masked, temperature, top_k)
    return (weights / weights.sum(axis=1, keepdims=True)).astype(np.float32)


def select_action(
    logits: FloatArray,
    legal: BoolArray,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: np.random.Generator | None = None,
) -> IntArray:
    """One legal action a row, drawn from `action_probabilities` of the same arguments.

    generator: the source of chance; one number is taken from it per row. Needed unless temperature is 0.

    Returns `[B]` int64. Raises as `action_probabilities` does, and SettingsError without a generator.
    """
    masked, temperature = _checked(logits, legal, temperature, top_k)
    if temperature == 0.0:
        return masked.argmax(axis=1)
    if generator is None:
        raise SettingsError(f"temperature {temperature:g} draws at random: give a generator, or temperature 0")
    heights = _weights(masked, temperature, top_k).cumsum(axis=1)
    # Below the total even when the random number is the largest below 1: the total is at least 1, so the product
    # does not round up to it.
    drawn = generator.random((len(heights), 1)) * heights[:, -1:]
    # The first height above the draw rose at that action, so its weight is not 0.
    return (heights > drawn).argmax(axis=1)


def _checked(
    logits: FloatArray, legal: BoolArray, temperature: float, top_k: int | None
) -> tuple[NDArray[np.float64], float]:
    """Logits as float64 with -inf at illegal actions, and the temperature."""
    if logits.ndim != 2 or logits.shape != legal.shape:
        raise ValueError(f"logits and legal must both be [B, A]; they are {logits.shape} and {legal.shape}")
    if logits.dtype != np.float32 or legal.dtype != np.bool_:
        raise ValueError(f"logits must be float32 and legal bool; they are {logits.dtype} and {legal.dtype}")
    temperature = float(temperature)
    if not 0.0 <= temperature < math.inf:  # False for NaN
        raise SettingsError(f"temperature must be a finite number of at least 0, not {temperature:g}")
    if top_k is not None:
        _check_top_k(top_k, logits.shape[1])
    masked = np.where(legal, logits, _NEVER)
    best = masked.max(axis=1, initial=_NEVER)
    if not np.isfinite(best).all():
        row = int(np.isfinite(best).argmin())
        if not legal[row].any():
            raise ActionError(f"row {row} has no legal action to choose from")
        raise ValueError(f"the logits of row {row} are NaN, +inf or all -inf at its legal actions")
    return masked, temperature


def _check_top_k(top_k: int, num_actions: int) -> None:
    try:
        inside = 1 <= operator.index(top_k) <= num_actions and not isinstance(top_k, bool)
    except TypeError:
        inside = False
    if not inside:
        raise SettingsError(f"top_k must be an integer from 1 to {num_actions}, the number of actions, not {top_k!r}")


def _weights(masked: NDArray[np.float64], temperature: float, top_k: int | None) -> NDArray[np.float64]:
    """Unnormalised probabilities `[B, A]`, the largest of each row 1."""
    if top_k is not None and top_k < masked.shape[1]:
        dropped = np.argsort(-masked, axis=1, kind="stable")[:, top_k:]
        masked[np.arange(len(masked))[:, None], dropped] = _NEVER
    masked -= masked.max(axis=1, keepdims=True)
    masked /= max(temperature, _COLDEST)
    return np.exp(masked, out=masked)
