from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from escalade.domains.evaluator import Evaluator
from escalade.neural.networks import DRAW, LOSS, WIN, PolicyValueNetwork, ValueNetwork, to_value
from escalade.neural.spec import NetworkSpec

CONVOLUTIONAL = {"kind": "convolutional", "features": 20}
VARIANTS = [
    {**kind, "value_head": head, "hidden": hidden}
    for kind in ({"kind": "perceptron"}, {"kind": "residual"}, CONVOLUTIONAL)
    for head in ("tanh", "wdl")
    for hidden in ((16,), (24, 8, 16))
]


@pytest.fixture(params=VARIANTS, ids=lambda v: f"{v['kind']}-{v['value_head']}-{len(v['hidden'])}")
def network(request, make_network):
    return make_network(dropout=0.3, **request.param)


@pytest.fixture(
    params=[
        (kind, output)
        for kind in ({"kind": "perceptron"}, {"kind": "residual"}, CONVOLUTIONAL)
        for output in ("tanh", "sigmoid")
    ],
    ids=lambda v: f"{v[0]['kind']}-{v[1]}",
)
def value_network(request, make_value_network):
    kind, output = request.param
    return make_value_network(**kind, output=output, dropout=0.3)


def test_an_evaluator_by_contract(network, positions):
    observations, legal = positions
    assert isinstance(network, Evaluator)
    logits, values = network.evaluate(observations, legal)
    assert (logits.shape, logits.dtype) == ((40, 9), np.float32)
    assert (values.shape, values.dtype) == ((40,), np.float32)
    assert np.isfinite(logits).all()
    assert (np.abs(values) <= 1).all()


def test_a_value_network_is_an_evaluator_without_opinion(value_network, positions):
    observations, legal = positions
    assert isinstance(value_network, Evaluator)
    logits, values = value_network.evaluate(observations, legal)
    assert logits.shape == legal.shape
    assert not logits.any()
    assert (values == value_network.values(observations)).all()
    assert (values.shape, values.dtype) == ((40,), np.float32)
    assert np.unique(values).size > 1


def test_a_batch_of_one_gives_what_the_row_gives_in_company(network, positions):
    observations, legal = positions
    logits, values = network.evaluate(observations, legal)
    for row in range(len(legal)):
        one = slice(row, row + 1)
        alone_logits, alone_values = network.evaluate(observations[one], legal[one])
        np.testing.assert_allclose(alone_logits, logits[one], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(alone_values, values[one], rtol=1e-4, atol=1e-5)


def test_a_permuted_batch_gives_permuted_answers(network, positions):
    observations, legal = positions
    order = np.random.default_rng(1).permutation(len(legal))
    logits, values = network.evaluate(observations, legal)
    permuted_logits, permuted_values = network.evaluate(observations[order], legal[order])
    np.testing.assert_allclose(permuted_logits, logits[order], rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(permuted_values, values[order], rtol=1e-4, atol=1e-5)


def test_an_empty_batch_gives_nothing(network, value_network):
    observations, legal = np.zeros((0, 3, 3, 3), dtype=np.float32), np.zeros((0, 9), dtype=np.bool_)
    logits, values = network.evaluate(observations, legal)
    assert (logits.shape, values.shape) == ((0, 9), (0,))
    assert value_network.values(observations).shape == (0,)


def test_dropout_works_in_training_and_never_in_inference(network, positions):
    observations, legal = positions
    x = torch.from_numpy(observations)
    network.train()
    assert not torch.equal(network(x)[0], network(x)[0])
    first = network.evaluate(observations, legal)
    second = network.evaluate(observations, legal)
    assert not network.training
    assert all((a == b).all() for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e3])
def test_values_stay_in_range_however_large_the_weights(network, value_network, positions, scale):
    observations, legal = positions
    for module in (network, value_network):
        with torch.no_grad():
            for parameter in module.parameters():
                parameter.mul_(scale)
        assert (np.abs(module.evaluate(observations, legal)[1]) <= 1.0).all()


def test_every_parameter_is_trained_by_both_heads_together(network, positions):
    x = torch.from_numpy(positions[0])
    logits, output = network.eval()(x)
    torch.autograd.backward(logits.pow(2).sum() + output.pow(2).sum())
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_heads_are_converted_to_values_in_one_place():
    np.testing.assert_allclose(to_value(torch.tensor([[0.0], [2.0], [-99.0]]), "tanh"), [0, np.tanh(2), -1], rtol=1e-6)
    np.testing.assert_allclose(
        to_value(torch.tensor([[0.0], [2.0], [-99.0]]), "sigmoid"), [0, 2 / (1 + np.exp(-2)) - 1, -1], rtol=1e-6
    )
    logits = torch.full((4, 3), -99.0)
    logits[0, WIN] = logits[1, DRAW] = logits[2, LOSS] = logits[3, WIN] = logits[3, LOSS] = 0.0
    np.testing.assert_allclose(to_value(logits, "wdl"), [1, 0, -1, 0], atol=1e-6)


def test_any_memory_layout_will_do(network, positions):
    observations, legal = positions
    expected = network.evaluate(np.ascontiguousarray(observations[::-1]), legal)
    read_only = np.ascontiguousarray(observations[::-1])
    read_only.flags.writeable = False
    wide = np.zeros((40, 3, 3, 6), dtype=np.float32)
    wide[..., ::2] = observations[::-1]
    for same in (observations[::-1], read_only, np.asfortranarray(observations[::-1]), wide[..., ::2]):
        assert (network.evaluate(same, legal)[0] == expected[0]).all()
    assert not read_only.flags.writeable


def test_wrong_shapes_and_dtypes_are_refused(network, value_network, positions):
    observations, legal = positions
    for bad in (observations[:, 0], observations[0], observations.reshape(40, 27), np.float32(1).reshape(())):
        with pytest.raises(ValueError, match="observations must be"):
            network.evaluate(bad, legal)
        with pytest.raises(ValueError, match="observations must be"):
            value_network.values(bad)
    with pytest.raises(ValueError, match="float32, not float64"):
        network.evaluate(observations.astype(np.float64), legal)
    for bad_legal in (legal[:-1], legal[:, :8], legal[:, :1], legal.astype(np.uint8)):
        with pytest.raises(ValueError, match="legal must be bool"):
            network.evaluate(observations, bad_legal)


def test_actions_come_from_the_networks_own_logits(network, positions):
    observations, legal = positions
    logits, _ = network.evaluate(observations, legal)
    probabilities = network.action_probabilities(observations, legal, temperature=0.5, top_k=3)
    assert (probabilities[~legal] == 0).all()
    assert ((probabilities > 0).sum(axis=1) <= 3).all()
    greedy = network.select_action(observations, legal, temperature=0.0)
    assert (greedy == np.where(legal, logits, -np.inf).argmax(axis=1)).all()
    drawn = [network.select_action(observations, legal, generator=np.random.default_rng(s)) for s in (5, 5, 6)]
    assert (drawn[0] == drawn[1]).all()
    assert (drawn[0] != drawn[2]).any()
    assert legal[np.arange(40), drawn[0]].all()


def test_many_threads_may_evaluate_at_once(network, positions):
    observations, legal = positions
    expected, _ = network.evaluate(observations, legal)
    network.train()  # the first of them turns it off
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: network.evaluate(observations, legal)[0], range(64)))
    assert all((answer == expected).all() for answer in answers)


def test_an_observation_may_be_one_number():
    network = PolicyValueNetwork(NetworkSpec(hidden=(4,), observation_shape=(), num_actions=2))
    logits, values = network.evaluate(np.zeros(3, dtype=np.float32), np.ones((3, 2), dtype=np.bool_))
    assert (logits.shape, values.shape) == ((3, 2), (3,))


def test_the_residual_shortcut_carries_the_input(make_network):
    """With its second layer at 0 a block of equal widths is the identity."""
    network = make_network(kind="residual", hidden=(16, 16))
    block = network.trunk[1]
    with torch.no_grad():
        block.second.weight.zero_()
        block.second.bias.zero_()
    x = torch.randn(4, 16)
    assert torch.equal(block(x), x)


def test_value_network_has_its_own_default_size():
    from escalade.neural.spec import ValueSpec

    network = ValueNetwork(ValueSpec(observation_shape=(3, 6, 7)))
    widths = [layer.out_features for layer in network.trunk if isinstance(layer, torch.nn.Linear)]
    assert widths == [512, 256, 128]
