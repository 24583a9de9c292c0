"""Which states taught or chose a bundle: no proof may rest on them (law 11).

A state is kept as a digest of 40 bits, so that another one is taken for it with a probability of about N / 2^40 (one in
a million where a million taught); who is left out so is settled by chance alone and biases nothing. In the file
`taught.safetensors` beside the weights the sorted digests are kept as their differences, about three bytes a state.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field
from safetensors import SafetensorError
from safetensors.numpy import load, save

from escalade.domains.errors import BundleError

TAUGHT_FILE = "taught.safetensors"
DIGEST_BITS = 40
_BYTES = DIGEST_BITS // 8

Digests = NDArray[np.uint64]
"""`[N]`, each below 2^DIGEST_BITS."""


def _none() -> Digests:
    return np.empty(0, np.uint64)


class TaughtSpec(BaseModel):
    """What a manifest records of `taught.safetensors`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    weights: int = Field(ge=0)
    """States that the networks learned from, or that chose them."""
    proof: int = Field(ge=0)
    """States that the calibrators, the novelty limit and the certificates were made from."""
    complete: bool
    """Whether that is all of them: not so where training began with a bundle that records none."""
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=1, le=2**31)


@dataclass(frozen=True, eq=False)
class Taught:
    """Digests of states, sorted and distinct."""

    weights: Digests = field(default_factory=_none)
    """Of states that the networks learned from, or that chose them."""
    proof: Digests = field(default_factory=_none)
    """Of states that the calibrators, the novelty limit and the certificates were made from."""
    complete: bool = True
    """Whether `weights` names all of them."""

    def with_weights(self, more: Iterable[Digests], *, complete: bool = True) -> Taught:
        """With more states that taught or chose the networks."""
        return Taught(_united([self.weights, *more]), self.proof, self.complete and complete)

    def with_proof(self, proof: Digests) -> Taught:
        """With other states behind its calibrators and certificates."""
        return Taught(self.weights, _united([proof]), self.complete)

    def to_bytes(self) -> bytes:
        """As `taught.safetensors` holds it."""
        return save({name: _packed(getattr(self, name)) for name in ("weights", "proof")})

    @staticmethod
    def from_bytes(raw: bytes, spec: TaughtSpec) -> Taught:
        """What `to_bytes` wrote. Raises BundleError."""
        try:
            tensors = load(raw)
            parts = {name: _unpacked(tensors[name], getattr(spec, name)) for name in ("weights", "proof")}
        except (SafetensorError, ValueError, KeyError, zlib.error) as error:
            raise BundleError(f"{TAUGHT_FILE} cannot be read: {error}") from None
        return Taught(**parts, complete=spec.complete)


def _united(parts: Iterable[Digests]) -> Digests:
    found: Digests = np.unique(np.concatenate([np.asarray(part, np.uint64) for part in parts]))
    return found


def is_among(digests: Digests, known: Digests) -> NDArray[np.bool_]:
    """`[N]` bool: which of digests `[N]` are among `known`, which is sorted."""
    if not len(known):
        return np.zeros(len(digests), np.bool_)
    place = np.minimum(np.searchsorted(known, digests), len(known) - 1)
    found: NDArray[np.bool_] = known[place] == digests
    return found


def _packed(digests: Digests) -> NDArray[np.uint8]:
    # Differences are small, so their high bytes compress to nearly nothing once they stand together.
    apart = np.diff(digests, prepend=np.uint64(0)).astype("<u8")
    planes = apart.view(np.uint8).reshape(-1, 8)[:, :_BYTES].T
    return np.frombuffer(zlib.compress(np.ascontiguousarray(planes).tobytes(), 1), np.uint8)


def _unpacked(packed: NDArray[np.uint8], count: int) -> Digests:
    reader = zlib.decompressobj()
    raw = reader.decompress(packed.tobytes(), count * _BYTES + 1)  # never more than was promised
    if len(raw) != count * _BYTES:
        raise ValueError(f"it does not hold {count} digests")
    bytes_ = np.zeros((count, 8), np.uint8)
    bytes_[:, :_BYTES] = np.frombuffer(raw, np.uint8).reshape(_BYTES, count).T
    found: Digests = np.cumsum(bytes_.reshape(-1).view("<u8"), dtype=np.uint64)
    return found
