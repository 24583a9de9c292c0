"""Positions by what a network sees of them, its observation and its legal actions: however a state is written, and by
whatever way it was reached."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from escalade.domains.base import BoolArray, Domain, legal_mask
from escalade.neural.taught import DIGEST_BITS, Digests
from escalade.training.packed import Observations
from escalade.training.rows import Rows

BATCH = 1024
"""States that are encoded at once."""


def position_keys(observation: Observations, legal: BoolArray) -> NDArray[np.void]:
    """`[N]` of 16 bytes each, equal for positions that look the same to a network: same observation `[N, *O]`, same
    legal actions `[N, A]`. (A state's text may tell how it was reached.) Two sums over random numbers, one for each
    value at each place: positions that differ share a key with a chance of about 2^-100."""
    count = len(legal)
    size = math.prod(observation.shape[1:])
    random = np.random.default_rng(0x5EED)
    wide = size + legal.shape[1]
    factors = np.stack([random.integers(1, 2**64, wide, np.uint64) | np.uint64(1) for _ in range(2)])
    keys = np.empty((count, 2), np.uint64)
    for start in range(0, count, 4096):
        allowed = legal[start : start + 4096]
        seen = np.asarray(observation[start : start + 4096]).reshape(len(allowed), size)
        numbers = (seen + np.float32(0)).astype(np.float32, copy=False).view(np.uint32)  # -0 is 0
        _fill_keys(numbers, allowed, factors, keys[start : start + 4096])
    return keys.view(np.dtype((np.void, 16))).reshape(count)


@njit(nogil=True, cache=True)
def _fill_keys(numbers: Any, allowed: Any, factors: Any, out: Any) -> None:
    """numbers `[N, S]` uint32, allowed `[N, A]` bool, factors `[2, S + A]` and out `[N, 2]` uint64."""
    size = numbers.shape[1]
    golden, shift = np.uint64(0x9E3779B97F4A7C15), np.uint64(29)
    for row in range(len(numbers)):
        for lane in range(2):
            offset, total = np.uint64(lane + 1), np.uint64(0)
            for place in range(size):
                mixed = (np.uint64(numbers[row, place]) + offset) * golden
                total += (mixed ^ (mixed >> shift)) * factors[lane, place]
            for action in range(allowed.shape[1]):
                mixed = (np.uint64(allowed[row, action]) + offset) * golden
                total += (mixed ^ (mixed >> shift)) * factors[lane, size + action]
            out[row, lane] = total


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
    """`[N]`: of states in text, by `Domain.proof_text` where it gives one. Raises StateError for what is no state."""
    parts: list[Digests] = [np.empty(0, np.uint64)]
    for start in range(0, len(texts), BATCH):
        states = [domain.parse(text) for text in texts[start : start + BATCH]]
        known = [domain.proof_text(state) for state in states]
        if None in known:
            parts.append(digests(domain, domain.encode(states), legal_mask(domain, states)))
        else:
            parts.append(np.array([_digest(text) for text in known if text is not None], np.uint64))
    return np.concatenate(parts)


def digests_of_rows(domain: Domain[Any], rows: Rows) -> Digests:
    """`[N]`: of the states of rows; as `digests_of`, without reading texts where what a network sees settles it."""
    if len(rows) and domain.proof_text(domain.parse(str(rows.state[0]))) is not None:
        return digests_of(domain, rows.state.tolist())
    return digests(domain, rows.observation, rows.legal)


def _digest(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8]) >> (64 - DIGEST_BITS)


def _lane(observation: Observations, legal: BoolArray) -> Digests:
    keys = position_keys(observation, legal).view(np.uint64).reshape(-1, 2)[:, 0]
    return keys >> np.uint64(64 - DIGEST_BITS)
