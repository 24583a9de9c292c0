from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from escalade.neural.networks import PolicyValueNetwork, ValueNetwork
from escalade.neural.spec import MAX_PARAMETERS, NetworkSpec, ValueSpec

BOARD = {"observation_shape": (3, 6, 7)}


def test_defaults_are_the_documented_sizes():
    spec = NetworkSpec(**BOARD, num_actions=7)
    assert (spec.kind, spec.hidden, spec.value_head, spec.dropout) == ("perceptron", (256, 256, 128), "tanh", 0.0)
    assert ValueSpec(**BOARD).hidden == (512, 256, 128)


@pytest.mark.parametrize("kind", ["perceptron", "residual"])
@pytest.mark.parametrize("hidden", [(8,), (8, 8, 8), (12, 8, 16)])
@pytest.mark.parametrize("value_head", ["tanh", "wdl"])
def test_parameters_are_counted_without_building(kind, hidden, value_head):
    spec = NetworkSpec(kind=kind, hidden=hidden, value_head=value_head, num_actions=7, **BOARD)
    assert spec.parameters == sum(p.numel() for p in PolicyValueNetwork(spec).parameters())
    value_spec = ValueSpec(kind=kind, hidden=hidden, **BOARD)
    assert value_spec.parameters == sum(p.numel() for p in ValueNetwork(value_spec).parameters())


@given(
    shape=st.lists(st.integers(1, 6), max_size=3),
    hidden=st.lists(st.integers(1, 40), min_size=1, max_size=5),
    num_actions=st.integers(1, 50),
    value_head=st.sampled_from(["tanh", "wdl"]),
    dropout=st.sampled_from([0.0, 0.2]),
    norm=st.booleans(),
)
def test_parameters_are_counted_with_and_without_norms(shape, hidden, num_actions, value_head, dropout, norm):
    trunk = {"observation_shape": tuple(shape), "hidden": tuple(hidden), "dropout": dropout, "norm": norm}
    spec, value_spec = NetworkSpec(num_actions=num_actions, value_head=value_head, **trunk), ValueSpec(**trunk)
    with torch.device("meta"):
        networks = PolicyValueNetwork(spec), ValueNetwork(value_spec)
    for network in networks:
        assert network.spec.parameters == sum(p.numel() for p in network.parameters())
        norms = [layer for layer in network.trunk if isinstance(layer, torch.nn.LayerNorm)]
        assert len(norms) == (len(hidden) if norm else 0)


BOARD_BEFORE_MORE = {"observation_shape": (200,), "planes": (3, 6, 7)}


@pytest.mark.parametrize("observed", [BOARD, BOARD_BEFORE_MORE, {"observation_shape": (126,), "planes": (3, 6, 7)}])
@pytest.mark.parametrize("hidden", [(8,), (8, 8, 8), (12, 8, 16)])
def test_parameters_of_convolutions_are_counted_without_building(observed, hidden):
    trunk = {"kind": "convolutional", "hidden": hidden, "features": 10, "dropout": 0.1, **observed}
    networks = PolicyValueNetwork(NetworkSpec(num_actions=7, **trunk)), ValueNetwork(ValueSpec(**trunk))
    for network in networks:
        assert network.spec.parameters == sum(p.numel() for p in network.parameters())
    assert NetworkSpec.model_validate_json(networks[0].spec.model_dump_json()) == networks[0].spec


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"features": None}, "needs features"),
        ({"observation_shape": (540,)}, r"needs planes, .* observation_shape is \[540\], not \[C, H, W\]"),
        ({"observation_shape": (3, 6)}, "needs planes"),
        ({"planes": (4, 6, 7)}, r"planes \[4, 6, 7\] are 168 numbers, and an observation has 126"),
        ({"planes": (3, 6)}, "planes"),
        ({"planes": (3, 0, 7)}, "planes"),
        ({"planes": (126, 1, 1)}, "planes of one cell"),
        ({"norm": False}, "norm=False is for perceptrons"),
        ({"features": 0}, "features"),
        ({"kind": "convolutional", "passes": 2}, "passes is for residual networks; this one is a convolutional one"),
        ({"kind": "perceptron"}, "features is for convolutional networks; this one is a perceptron one"),
        ({"kind": "residual", "features": None, "planes": (3, 6, 7)}, "planes is for convolutional networks"),
        # Each alone would have a reader allocate far more than it should.
        ({"observation_shape": (1, 1024, 1024)}, "a block would leave 8388608 numbers a row"),
        ({"hidden": (8, 16384)}, "a block would leave"),
        ({"hidden": (2048,) * 4, "observation_shape": (3, 3, 3)}, str(MAX_PARAMETERS)),
        ({"features": 16384, "observation_shape": (1, 128, 128)}, str(MAX_PARAMETERS)),
    ],
)
def test_convolutions_that_make_no_sense_are_refused(fields, message):
    good = {"kind": "convolutional", "hidden": (8,), "features": 16, "num_actions": 7, **BOARD}
    assert NetworkSpec.model_validate(good).board == (3, 6, 7)
    with pytest.raises(ValidationError, match=message):
        NetworkSpec.model_validate({**good, **fields})


def test_what_older_networks_did_not_have_is_not_written():
    spec = NetworkSpec(kind="residual", hidden=(8, 4), num_actions=7, **BOARD)
    assert list(spec.model_dump(mode="json")) == [
        *("kind", "hidden", "observation_shape", "norm", "dropout", "num_actions", "value_head")
    ]


def test_residual_blocks_without_norms_are_refused():
    for spec, fields in ((NetworkSpec, {"num_actions": 7}), (ValueSpec, {})):
        with pytest.raises(ValidationError, match="norm=False is for perceptrons: residual blocks do not train"):
            spec(kind="residual", norm=False, **fields, **BOARD)
        assert spec(kind="residual", norm=True, **fields, **BOARD).norm
        assert not spec(kind="perceptron", norm=False, **fields, **BOARD).norm


@pytest.mark.parametrize(
    "fields",
    [
        {"hidden": ()},
        {"hidden": (0,)},
        {"hidden": (2**20,)},
        {"hidden": (1,) * 65},
        {"hidden": (16384,) * 2},
        {"num_actions": 0},
        {"num_actions": 2**40},
        {"observation_shape": (2**12, 2**12)},
        {"observation_shape": (0,)},
        {"observation_shape": (-3, 3)},
        {"dropout": 1.0},
        {"dropout": float("nan")},
        {"kind": "transformer"},
        {"value_head": "sigmoid"},
        {"surprise": 1},
    ],
)
def test_hostile_or_wrong_specs_are_refused(fields):
    with pytest.raises(ValidationError):
        NetworkSpec.model_validate({"num_actions": 7, **BOARD, **fields})


def test_the_largest_spec_is_bounded():
    with pytest.raises(ValidationError, match=str(MAX_PARAMETERS)):
        NetworkSpec(hidden=(16384, 16384), num_actions=1, **BOARD)


def test_specs_are_frozen_and_survive_json():
    spec = NetworkSpec(kind="residual", hidden=(8, 4), num_actions=7, value_head="wdl", dropout=0.1, **BOARD)
    with pytest.raises(ValidationError, match="frozen"):
        spec.dropout = 0.5  # type: ignore[misc]
    assert NetworkSpec.model_validate_json(spec.model_dump_json()) == spec


def test_a_recursive_network_counts_its_weights_once():
    fields = {"kind": "residual", "hidden": (8, 8), "observation_shape": (5,), "num_actions": 3}
    recursive = NetworkSpec(**fields, passes=6)
    assert recursive.parameters == NetworkSpec(**fields).parameters
    assert recursive.parameters == sum(p.numel() for p in PolicyValueNetwork(recursive).parameters())
    assert "passes" in recursive.model_dump()
    assert "passes" not in NetworkSpec(**fields).model_dump()
    with pytest.raises(ValidationError, match="of one width"):
        NetworkSpec(**{**fields, "hidden": (8, 9)}, passes=2)
    with pytest.raises(ValidationError, match="passes times blocks"):
        NetworkSpec(**{**fields, "hidden": (8,) * 3}, passes=64)
