"""Nothing but a whole, unchanged bundle of the right domain is let in, and nothing in one can run."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save

from escalade.domains.connect_four import ConnectFour
from escalade.domains.errors import BundleError
from escalade.domains.intents import Intents
from escalade.neural.bundle import MANIFEST_FILE, WEIGHTS_FILE, read_bundle, write_bundle


def rewrite(path: Path, *, weights: bytes | None = None, rehash: bool = True, **changes: object) -> None:
    """Change a bundle as a forger would who knows the format: hashes made to fit."""
    document = json.loads((path / MANIFEST_FILE).read_text())
    if weights is not None:
        (path / WEIGHTS_FILE).write_bytes(weights)
        document |= {"weights_sha256": hashlib.sha256(weights).hexdigest(), "weights_bytes": len(weights)}
    document |= changes
    if rehash:
        deciding = ("schema_version", "domain", "network", "value_network", "weights_sha256", "calibrators")
        parts = {key: document[key] for key in deciding if key in document}
        document["hash"] = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    (path / MANIFEST_FILE).write_text(json.dumps(document))


def refused(path: Path, message: str, domain: object = None) -> None:
    """Refused in one sentence that names the bundle and the fault."""
    with pytest.raises(BundleError, match=message) as caught:
        read_bundle(path, domain)  # type: ignore[arg-type]
    text = str(caught.value)
    assert f"'{path}'" in text
    assert "\n" not in text.strip()


def test_no_bundle_there(tmp_path):
    refused(tmp_path / "nothing", "no such directory")
    (tmp_path / "file").write_text("")
    refused(tmp_path / "file", "not a directory")


@pytest.mark.parametrize("name", [MANIFEST_FILE, WEIGHTS_FILE])
def test_a_missing_file(path, name):
    (path / name).unlink()
    refused(path, f"{name} is missing")


@pytest.mark.parametrize("name", [MANIFEST_FILE, WEIGHTS_FILE])
def test_a_file_that_would_hang_the_reader(path, name):
    (path / name).unlink()
    os.mkfifo(path / name)
    refused(path, f"{name} is not a regular file")


def test_any_other_file(path):
    (path / "model.pt").write_bytes(b"")
    refused(path, "holds 'model.pt'")


@pytest.mark.parametrize(
    "text",
    [b"", b"{", b"\xff\xfe", b"[" * 100_000, b"[1]", b"null", b'{"schema_version": NaN}', b"1" * 5000, b" " * 2**21],
)
def test_bad_json(path, text):
    (path / MANIFEST_FILE).write_bytes(text)
    refused(path, "bundle.json")


@pytest.mark.parametrize("version", [0, 2, "1", None, True, 1.5, [1]])
def test_an_unknown_schema_version(path, version):
    rewrite(path, schema_version=version)
    refused(path, "schema_version")


@pytest.mark.parametrize(
    "changes",
    [
        {"surprise": 1},
        {"certificate": {"alpha": 0.05}},
        {"metrics": {"optimal": "high"}},
        {"metrics": {"optimal": 1e999}},
        {"network": None},
        {"network": {"hidden": [2**14] * 64, "observation_shape": [3, 3, 3], "num_actions": 9}},
        {"network": {"hidden": [10**30], "observation_shape": [3, 3, 3], "num_actions": 9}},
        {"domain": {"name": "tic_tac_toe"}},
        {"weights_sha256": "../../etc/passwd"},
        {"weights_bytes": 2**60},
        {"created": "yesterday"},
    ],
)
def test_a_manifest_that_is_not_one(path, changes):
    rewrite(path, **changes)
    refused(path, "bundle.json")


def test_unknown_calibrators(path):
    rewrite(path, calibrators={"policy": {"kind": "os.system"}})
    refused(path, "calibrator kind 'os.system' is not known")


def test_a_manifest_changed_by_hand(path):
    document = json.loads((path / MANIFEST_FILE).read_text())
    document["value_network"]["output"] = "tanh"  # same shapes, other values
    rewrite(path, rehash=False, value_network=document["value_network"])
    refused(path, "its hash does not fit")


def test_weights_of_another_bundle(path, tmp_path, domain, make_network, make_value_network):
    other = write_bundle(
        tmp_path / "other", domain=domain, network=make_network(1), value_network=make_value_network(1)
    )
    shutil.copy(other.path / WEIGHTS_FILE, path / WEIGHTS_FILE)
    refused(path, "hash differs")


def test_every_flipped_bit_in_the_weights_is_noticed(path):
    whole = (path / WEIGHTS_FILE).read_bytes()
    generator = np.random.default_rng(0)
    places = [*range(16), *generator.integers(0, len(whole), 200), len(whole) - 1]
    for place in places:
        damaged = bytearray(whole)
        damaged[place] ^= 1 << int(generator.integers(8))
        (path / WEIGHTS_FILE).write_bytes(damaged)
        refused(path, "hash differs")


@pytest.mark.parametrize("size", [0, 7, 8, 100, -1, +1, +100_000])
def test_truncated_and_lengthened_weights(path, size):
    whole = (path / WEIGHTS_FILE).read_bytes()
    (path / WEIGHTS_FILE).write_bytes((whole + bytes(200_000))[: size if 0 <= size <= 100 else len(whole) + size])
    refused(path, "hash differs")


def test_every_flipped_byte_in_the_manifest_is_noticed_or_harmless(path, domain):
    whole = (path / MANIFEST_FILE).read_bytes()
    original = read_bundle(path, domain)
    noticed = 0
    for place in range(0, len(whole), 5):
        damaged = bytearray(whole)
        damaged[place] ^= 0x01
        (path / MANIFEST_FILE).write_bytes(damaged)
        try:
            assert read_bundle(path, domain).hash == original.hash
        except BundleError:
            noticed += 1
    assert noticed > len(whole) / 5 / 2


def forged(path: Path, change) -> None:
    tensors = load_file(path / WEIGHTS_FILE)
    change(tensors)
    rewrite(path, weights=save(tensors))


def test_forged_tensors_with_fitting_hashes(path):
    original = (path / WEIGHTS_FILE).read_bytes()
    name = "network.policy_head.bias"

    def swap(tensors, value):
        tensors[name] = value

    # Each keeps the size of the file plausible, so that the tensors themselves are what is looked at.
    cases = {
        f"tensor '{name}' is missing": lambda t: t.pop(name),
        "holds tensor 'network.extra'": lambda t: t.update({"network.extra": torch.zeros(2)}),
        r"tensor 'network.policy_head.bias' is \[9, 1\], and its network has \[9\]": lambda t: swap(
            t, torch.zeros(9, 1)
        ),
        r"is \[10\], and its network has \[9\]": lambda t: swap(t, torch.zeros(10)),
        "is int32, not float32": lambda t: swap(t, torch.zeros(9, dtype=torch.int32)),
        "is float64, not float32": lambda t: swap(t, torch.zeros(9, dtype=torch.float64)),
        "NaN or infinite": lambda t: t[name].fill_(float("nan")),
        "holds NaN or infinite weights": lambda t: t["value_network.value_head.bias"].fill_(float("-inf")),
    }
    for message, change in cases.items():
        (path / WEIGHTS_FILE).write_bytes(original)
        forged(path, change)
        refused(path, message)


def test_a_value_network_that_is_not_declared(path):
    rewrite(path, value_network=None)
    refused(path, "weights_bytes|holds tensor")


class Canary:
    """Unpickled, it would leave a file behind."""

    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (Path.touch, (self.target,))


@pytest.mark.parametrize("form", ["pickle", "torch", "padded"])
def test_pickles_are_refused_and_never_run(path, tmp_path, form):
    canary = tmp_path / "canary"
    whole = (path / WEIGHTS_FILE).read_bytes()
    if form == "torch":
        torch.save(Canary(canary), path / WEIGHTS_FILE)
        evil = (path / WEIGHTS_FILE).read_bytes()
    else:
        evil = pickle.dumps(Canary(canary))
    if form == "padded":  # as large as the true weights, so that nothing but the contents is wrong
        evil = evil.ljust(len(whole), b"\0")
    rewrite(path, weights=evil)
    refused(path, "not a safetensors file|weights_bytes")
    # Without a forged hash too, and beside the weights, and in place of the JSON.
    rewrite(path, weights=whole)
    (path / WEIGHTS_FILE).write_bytes(evil)
    refused(path, "hash differs")
    (path / WEIGHTS_FILE).write_bytes(whole)
    (path / "extra.pkl").write_bytes(evil)
    refused(path, "extra.pkl")
    (path / "extra.pkl").unlink()
    (path / MANIFEST_FILE).write_bytes(evil)
    refused(path, "not valid JSON|larger")
    assert not canary.exists()
    pickle.loads(pickle.dumps(Canary(canary)))  # noqa: S301 - the canary does sing when it is let out
    assert canary.exists()


def test_hostile_safetensors_headers(path):
    whole = (path / WEIGHTS_FILE).read_bytes()
    length = int.from_bytes(whole[:8], "little")
    header = json.loads(whole[8 : 8 + length])
    first = next(name for name in header if name != "__metadata__")

    def with_header(raw: bytes) -> bytes:
        return (len(raw).to_bytes(8, "little") + raw + whole[8 + length :])[: len(whole) + 1000].ljust(
            len(whole), b"\0"
        )

    overlapping = {**header, first: {**header[first], "data_offsets": [0, 2**50]}}
    for evil in (
        (2**63).to_bytes(8, "little") + whole[8:],
        with_header(b"{" * length),
        with_header(json.dumps(overlapping).encode()),
        with_header(b'{"network.policy_head.bias": 1}'),
    ):
        rewrite(path, weights=evil)
        refused(path, "not a safetensors file")


def test_a_bundle_of_another_domain(path, domain):
    refused(path, "made for the domain 'tic_tac_toe', not 'connect_four'", ConnectFour())

    class Renumbered(type(domain)):
        num_actions = 10
        move_characters = "1234567890"

    class Reshaped(type(domain)):
        observation_shape = (27,)

    class Relabelled(type(domain)):
        move_characters = "987654321"

    refused(path, "num_actions 9, not 10", Renumbered())
    refused(path, r"observation_shape \(3, 3, 3\), not \(27,\)", Reshaped())
    refused(path, "named or ordered otherwise", Relabelled())


def test_labels_in_another_order_are_another_domain(tmp_path, make_network):
    intents = Intents(["card", "loan", "other"])
    network = make_network(observation_shape=intents.observation_shape, num_actions=3)
    path = write_bundle(tmp_path / "model", domain=intents, network=network).path
    assert read_bundle(path, Intents(["card", "loan", "other"]))
    refused(path, "named or ordered otherwise", Intents(["loan", "card", "other"]))


def test_unreadable_files_give_one_sentence(path):
    (path / WEIGHTS_FILE).unlink()
    (path / WEIGHTS_FILE).symlink_to(path / WEIGHTS_FILE)  # a loop
    refused(path, "cannot be read")
