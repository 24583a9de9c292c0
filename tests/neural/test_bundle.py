"""Bundles: what is written comes back to the bit, and what no one could read is not written."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime

import pytest
import torch

from escalade.domains.errors import BundleError
from escalade.neural import manifest as manifest_module
from escalade.neural.bundle import MANIFEST_FILE, WEIGHTS_FILE, read_bundle, write_bundle
from escalade.neural.calibration import IdentityCalibrator
from escalade.neural.manifest import DomainStamp, Manifest
from escalade.neural.spec import NetworkSpec, ValueSpec


@pytest.mark.parametrize(
    "kind", [{"kind": "perceptron"}, {"kind": "residual"}, {"kind": "convolutional", "features": 12}], ids=str
)
@pytest.mark.parametrize("value_head", ["tanh", "wdl"])
def test_outputs_are_the_same_to_the_bit(
    tmp_path, domain, make_network, make_value_network, positions, kind, value_head
):
    network = make_network(**kind, value_head=value_head, dropout=0.2)
    value_network = make_value_network(**kind, output="sigmoid")
    write_bundle(tmp_path / "a" / "model", domain=domain, network=network, value_network=value_network)
    back = read_bundle(tmp_path / "a" / "model", domain)
    for original, read in ((network, back.network), (value_network, back.value_network)):
        for ours, theirs in zip(original.evaluate(*positions), read.evaluate(*positions), strict=True):
            assert ours.tobytes() == theirs.tobytes()
        assert not any(parameter.requires_grad for parameter in read.parameters())
    assert back.network.spec == network.spec
    assert back.value_network.spec == value_network.spec


def test_the_hash_of_older_bundles_stays(domain):
    """As it was before there were convolutions; a certificate is bound to it."""
    manifest = Manifest.model_construct(
        domain=DomainStamp.of(domain),
        network=NetworkSpec(kind="residual", hidden=(8, 4), observation_shape=(3, 3, 3), num_actions=9),
        value_network=ValueSpec(hidden=(16,), observation_shape=(3, 3, 3)),
        weights_sha256="ab" * 32,
    )
    assert manifest.identity() == "677eb307f870d426f951679be16a80ea22943a8cc8d2f2540341bbc0052493f3"


def test_what_a_bundle_tells(bundle, domain):
    assert bundle.metrics == {"optimal": 0.97}
    assert bundle.certificates == ()
    assert bundle.calibrator("policy") == IdentityCalibrator()
    assert bundle.calibrator("value") == IdentityCalibrator()
    assert re.fullmatch(r"[0-9a-f]{12}", bundle.version)
    assert bundle.hash.startswith(bundle.version)
    assert bundle.manifest.created == datetime(2026, 1, 2, 3, 4, tzinfo=UTC)
    assert sorted(os.listdir(bundle.path)) == [MANIFEST_FILE, WEIGHTS_FILE]
    assert os.listdir(bundle.path.parent) == ["model"]
    assert read_bundle(bundle.path, domain).hash == bundle.hash
    assert read_bundle(str(bundle.path)).hash == bundle.hash


def test_a_bundle_needs_no_value_network(tmp_path, domain, make_network):
    assert write_bundle(tmp_path / "model", domain=domain, network=make_network()).value_network is None


def test_the_hash_is_of_what_decides(tmp_path, domain, make_network):
    def made(name: str, seed: int, **options: object):
        return write_bundle(tmp_path / name, domain=domain, network=make_network(seed), **options).hash

    first = made("a", 0)
    assert first == made("b", 0, metrics={"anything": 1.0}, created=datetime(2020, 1, 1, tzinfo=UTC))
    assert first != made("c", 1)
    assert first != made("d", 0, calibrators={"value": IdentityCalibrator()})


# What is not written


def test_a_bundle_is_never_overwritten(path, domain, make_network):
    before = {name: (path / name).read_bytes() for name in os.listdir(path)}
    with pytest.raises(BundleError, match="exists already"):
        write_bundle(path, domain=domain, network=make_network(1))
    assert {name: (path / name).read_bytes() for name in os.listdir(path)} == before
    (path.parent / "file").write_text("")
    with pytest.raises(BundleError, match="exists already"):
        write_bundle(path.parent / "file", domain=domain, network=make_network(1))
    (path.parent / "dangling").symlink_to("nowhere")
    with pytest.raises(BundleError, match="exists already"):
        write_bundle(path.parent / "dangling", domain=domain, network=make_network(1))


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_no_one_could_read_is_not_written(tmp_path, domain, make_network, make_value_network, bad):
    sick = make_network()
    with torch.no_grad():
        sick.policy_head.weight[0, 0] = bad
    cases = {
        "NaN or infinite": {"network": sick},
        "float16, not float32": {"network": make_network().half()},
        "actions": {"network": make_network(num_actions=8)},
        "observation_shape": {"network": make_network(observation_shape=(27,))},
        "value_network has another": {
            "network": make_network(),
            "value_network": make_value_network(observation_shape=(27,)),
        },
        "metrics": {"network": make_network(), "metrics": {"optimal": bad}},
        "calibrators": {"network": make_network(), "calibrators": {"human": IdentityCalibrator()}},
        "created": {"network": make_network(), "created": datetime(2026, 1, 1)},  # naive on purpose
    }
    for message, options in cases.items():
        with pytest.raises(BundleError, match=message):
            write_bundle(tmp_path / "model", domain=domain, **options)
    assert os.listdir(tmp_path) == []


def test_a_place_that_cannot_be_written_gives_one_sentence(tmp_path, domain, make_network):
    (tmp_path / "file").write_text("")
    with pytest.raises(BundleError, match="cannot be written"):
        write_bundle(tmp_path / "file" / "model", domain=domain, network=make_network())


def test_the_schema_is_what_the_module_says():
    named = set(re.findall(r"`(\w+)`", manifest_module.__doc__ or ""))
    assert set(Manifest.model_fields) <= named
