from __future__ import annotations

import pytest
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
