"""Digests of what taught a bundle: kept whole, small, and refused when they are not those that were written."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import network_for

from escalade.domains.errors import BundleError
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.neural.bundle import MANIFEST_FILE, Bundle, read_bundle, read_taught, write_bundle
from escalade.neural.taught import DIGEST_BITS, TAUGHT_FILE, Taught, TaughtSpec, is_among

DOMAIN = TicTacToe()
digests = st.lists(st.integers(0, 2**DIGEST_BITS - 1), max_size=60).map(lambda numbers: np.array(numbers, np.uint64))


def spec_of(taught: Taught, raw: bytes) -> TaughtSpec:
    count = {"weights": len(taught.weights), "proof": len(taught.proof)}
    return TaughtSpec(**count, complete=taught.complete, sha256="0" * 64, bytes=len(raw))


@given(digests, digests, digests)
def test_what_was_written_is_read_and_membership_is_exact(first, second, proof) -> None:
    taught = Taught().with_weights([first]).with_weights([second]).with_proof(proof)
    raw = taught.to_bytes()
    read = Taught.from_bytes(raw, spec_of(taught, raw))
    assert read.weights.tolist() == sorted({*first.tolist(), *second.tolist()})
    assert read.proof.tolist() == sorted(set(proof.tolist()))
    everything = np.concatenate((first, proof))
    assert is_among(everything, read.weights).tolist() == np.isin(everything, np.concatenate((first, second))).tolist()


def test_a_million_states_take_three_bytes_each() -> None:
    taught = Taught().with_weights([np.random.default_rng(0).integers(0, 2**DIGEST_BITS, 10**6, np.uint64)])
    assert len(taught.to_bytes()) < 3.2e6


def test_a_file_of_more_or_fewer_digests_than_promised_is_refused() -> None:
    taught = Taught().with_weights([np.arange(100, dtype=np.uint64)])
    raw = taught.to_bytes()
    for count in (99, 101, 10**8):
        with pytest.raises(BundleError, match="does not hold"):
            Taught.from_bytes(raw, spec_of(taught, raw).model_copy(update={"weights": count}))


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    taught = Taught(complete=False).with_weights([np.arange(50, dtype=np.uint64)])
    return write_bundle(tmp_path / "bundle", domain=DOMAIN, network=network_for(DOMAIN), taught=taught)


def test_a_bundle_carries_them_and_its_identity_does_not_change(bundle: Bundle, tmp_path: Path) -> None:
    taught = read_bundle(bundle.path, DOMAIN).taught()
    assert taught is not None
    assert (len(taught.weights), taught.complete) == (50, False)
    assert read_taught(bundle.path).weights.tolist() == list(range(50))  # type: ignore[union-attr]
    without = write_bundle(tmp_path / "other", domain=DOMAIN, network=bundle.network)
    assert without.taught() is None
    assert read_taught(without.path) is None
    assert without.hash == bundle.hash  # the same answers


@pytest.mark.parametrize("damage", ["gone", "longer", "changed", "unannounced", "a folder"])
def test_a_file_that_is_not_the_one_that_was_written_is_refused(bundle: Bundle, damage: str, tmp_path: Path) -> None:
    path = bundle.path / TAUGHT_FILE
    raw = path.read_bytes()
    if damage == "unannounced":
        other = write_bundle(tmp_path / "other", domain=DOMAIN, network=bundle.network)
        (bundle.path / MANIFEST_FILE).write_bytes((other.path / MANIFEST_FILE).read_bytes())
    else:
        path.unlink()
    if damage == "longer":
        path.write_bytes(raw + b"x")
    if damage == "changed":
        path.write_bytes(raw[:-1] + bytes([raw[-1] ^ 1]))
    if damage == "a folder":
        os.mkdir(path)
    with pytest.raises(BundleError, match=TAUGHT_FILE):
        read_bundle(bundle.path, DOMAIN).taught()
