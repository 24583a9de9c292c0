"""Networks with convolutions on the CPU: what their modules say, whoever asks and in whatever company."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from escalade.domains.evaluator import native_of
from escalade.neural.convolution import ROWS, BoardFeatures, ConvolutionalBlock
from escalade.neural.device_forward import DeviceForward
from escalade.neural.networks import PolicyValueNetwork, to_value

TRUNK = {"kind": "convolutional", "hidden": (8, 8, 12), "features": 20, "value_head": "wdl", "num_actions": 7}
BOARDS = [
    {"observation_shape": (3, 6, 7)},
    {"observation_shape": (150,), "planes": (3, 6, 7)},
    {"observation_shape": (126,), "planes": (3, 6, 7)},
    {"observation_shape": (2, 1, 9)},
]
BATCHES = [1, 3, ROWS - 1, ROWS, ROWS + 1, 2 * ROWS + 5]


@pytest.fixture(params=BOARDS, ids=lambda fields: "-".join(map(str, fields["observation_shape"])))
def network(request: pytest.FixtureRequest, make_network: Callable[..., PolicyValueNetwork]) -> PolicyValueNetwork:
    made = make_network(dropout=0.2, **TRUNK, **request.param).eval()
    stir(made)
    return made


def stir(network: PolicyValueNetwork) -> None:
    """Moves every weight, as norms begin as the identity and hide what becomes of them."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))


def batch(network: PolicyValueNetwork, rows: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    observations = np.random.default_rng(seed).integers(0, 2, (rows, *network.observation_shape)).astype(np.float32)
    return observations, np.ones((rows, network.num_actions), np.bool_)


def by_modules(network: PolicyValueNetwork, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    with torch.inference_mode():
        logits, output = copy.deepcopy(network).eval()(torch.from_numpy(observations))
        return logits.numpy(), to_value(output, network.spec.value_head).numpy()


def close(answer: tuple[np.ndarray, ...], expected: tuple[np.ndarray, ...]) -> None:
    for given, wanted in zip(answer, expected, strict=True):
        assert given.dtype == np.float32
        np.testing.assert_allclose(given, wanted, rtol=0, atol=1e-5)


# What they say


@pytest.mark.parametrize("rows", BATCHES)
def test_evaluate_says_what_forward_says(network, rows):
    observations, legal = batch(network, rows)
    close(network.evaluate(observations, legal), by_modules(network, observations))


def test_a_row_is_the_same_in_any_company(network):
    observations, legal = batch(network, 2 * ROWS + 5)
    logits, values = network.evaluate(observations, legal)
    assert np.ptp(values) > 1e-3  # else nothing would be compared
    for rows in (slice(0, 1), slice(5, 8), slice(ROWS, ROWS + 1), slice(40, 120)):
        close(network.evaluate(observations[rows], legal[rows]), (logits[rows], values[rows]))


def test_a_row_with_nan_spoils_no_other(network):
    observations, legal = batch(network, 6)
    logits, values = network.evaluate(observations, legal)
    spoilt = observations.copy()
    spoilt.reshape(6, -1)[2, 0] = np.nan
    others = np.arange(6) != 2
    found = network.evaluate(spoilt, legal)
    assert np.isnan(found[1][2])
    close((found[0][others], found[1][others]), (logits[others], values[others]))


def test_a_block_is_the_identity_where_it_adds_nothing():
    block = ConvolutionalBlock(4, 4, 0.0)
    with torch.no_grad():
        block.second.weight.zero_()
        block.second.bias.zero_()
    x = torch.randn(2, 4, 5, 3)
    assert torch.equal(block(x), x)


def test_a_convolution_sees_only_its_neighbourhood(make_network):
    """Planes are read row by row: through stem and one block, 3 x 3 each, a cell in a corner reaches 4 x 4 places. (The
    norms, which see the whole board, are taken out.)"""
    network = make_network(**{**TRUNK, "hidden": (4,)}, observation_shape=(2, 6, 7))
    features = network.trunk[0]
    assert isinstance(features, BoardFeatures)
    features.norm = features.blocks[0].norm = torch.nn.Identity()
    one, other = torch.randn(1, 84), torch.randn(1, 84)
    other[:, 1:42], other[:, 43:] = one[:, 1:42], one[:, 43:]  # all but cell 0 of both planes
    changed = (features(one) != features(other)).reshape(4, 6, 7).any(dim=0)
    assert changed.any()
    assert not changed[4:].any()
    assert not changed[:, 4:].any()


def test_numbers_that_are_no_planes_join_as_they_are(make_network):
    network = make_network(**TRUNK, observation_shape=(150,), planes=(3, 6, 7))
    observations = torch.from_numpy(batch(network, 3)[0])
    joined = network.trunk[0](observations)
    assert joined.shape == (3, network.spec.joined) == (3, 12 * 42 + 24)
    assert torch.equal(joined[:, -24:], observations[:, 126:])


# Who asks


def test_there_is_no_compiled_pass(network):
    assert native_of(network) is None


def test_many_threads_may_ask_while_it_is_called_to_train(network):
    """Training mode, with its dropout, is never seen by who evaluates."""
    questions = [batch(network, rows, rows) for rows in (1, 5, ROWS + 3)]
    expected = [by_modules(network, observations) for observations, _ in questions]

    def ask(number: int) -> None:
        if number % 5 == 0:
            network.train()
        close(network.evaluate(*questions[number % 3]), expected[number % 3])

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(ask, range(60)))


def test_a_call_takes_one_thread_and_leaves_the_setting(network, monkeypatch):
    seen = []
    monkeypatch.setattr(PolicyValueNetwork, "_answer", spy(PolicyValueNetwork._answer, seen))
    before = torch.get_num_threads()
    try:
        for threads in (2, 1):
            torch.set_num_threads(threads)
            network.evaluate(*batch(network, 3))
            assert torch.get_num_threads() == threads
            with pytest.raises(RuntimeError):
                network._forward()(np.zeros((1, 5), np.float32), np.ones((1, 7), np.bool_))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert seen == [1] * 4


def spy(answer: Callable, seen: list[int]) -> Callable:
    def spied(self: PolicyValueNetwork, observations: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        seen.append(torch.get_num_threads())
        return answer(self, observations)

    return spied


def moved(network: PolicyValueNetwork) -> None:
    with torch.no_grad():
        network.trunk[0].blocks[1].second.bias.add_(torch.randn(8))


def replaced(network: PolicyValueNetwork) -> None:
    old = network.trunk[0].stem.weight
    network.trunk[0].stem.weight = torch.nn.Parameter(old.detach() + 0.5 * torch.randn(old.shape))


def loaded(network: PolicyValueNetwork) -> None:
    network.load_state_dict({name: w + 0.3 * torch.randn(w.shape) for name, w in network.state_dict().items()})


@pytest.mark.parametrize("change", [stir, moved, replaced, loaded])
def test_changed_weights_are_noticed(network, change):
    observations, legal = batch(network, 5)
    before = network.evaluate(observations, legal)
    change(network)
    after = network.evaluate(observations, legal)
    assert not np.allclose(before[0], after[0], rtol=0, atol=1e-4)
    close(after, by_modules(network, observations))


def test_unchanged_weights_are_copied_once(network):
    network.evaluate(*batch(network, 1))
    first = network._forward()
    network.evaluate(*batch(network, 9))
    assert network._forward() is first


def test_asking_leaves_nothing_in_the_pickle(network):
    before = len(pickle.dumps(network))
    network.evaluate(*batch(network, 2))
    assert len(pickle.dumps(network)) == before


def test_weights_made_in_inference_mode_work(make_network):
    with torch.inference_mode():
        network = make_network(**TRUNK, observation_shape=(3, 6, 7))
    observations, legal = batch(network, 5)
    close(network.evaluate(observations, legal), by_modules(network, observations))


def test_the_pass_of_accelerators_takes_them_too(network):
    """Here on the CPU, where it runs the same code eagerly."""
    observations, legal = batch(network, 11)
    forward = DeviceForward(network._answer, network.spec.observation_size, network.device)
    close(forward(observations.reshape(11, -1), legal), by_modules(network, observations))
