"""The compiled pass that networks are asked by on the CPU says what their modules say."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch

from escalade.domains.evaluator import native_of
from escalade.neural import blas
from escalade.neural.forward import FEW
from escalade.neural.networks import PolicyValueNetwork, ValueNetwork, to_value

TRUNKS = [
    {"kind": "perceptron", "hidden": (16,)},
    {"kind": "perceptron", "hidden": (24, 8, 33)},
    {"kind": "perceptron", "hidden": (24, 8, 33), "norm": False},
    {"kind": "perceptron", "hidden": (1, 5), "norm": False},
    {"kind": "residual", "hidden": (16,)},
    {"kind": "residual", "hidden": (16, 16, 16)},
    {"kind": "residual", "hidden": (24, 8, 8, 33)},
    {"kind": "residual", "hidden": (5, 31, 5)},
    {"kind": "residual", "hidden": (16,), "passes": 4},
    {"kind": "residual", "hidden": (16, 16), "passes": 2},
]
BATCHES = [1, 3, 4, 5, 64]
"""Both sides of `FEW`, where the kernel goes over from sums of rows to matrix products."""


def trunk_name(fields: dict[str, object]) -> str:
    widths = "-".join(map(str, fields["hidden"]))
    widths += f"x{fields['passes']}" if "passes" in fields else ""
    return f"{fields['kind']}-{widths}{'' if fields.get('norm', True) else '-plain'}"


@pytest.fixture(params=TRUNKS, ids=trunk_name)
def trunk(request: pytest.FixtureRequest) -> dict[str, object]:
    return request.param


@pytest.fixture
def without_torchs_blas(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """As on a machine whose torch brings no sgemm that can be called: then SciPy's is taken."""
    before = blas.addresses()
    blas.addresses.cache_clear()
    with monkeypatch.context() as patch:
        patch.setattr(blas, "Path", lambda *_: Path("/nowhere"))
        after = blas.addresses()
    assert after[0] not in (0, before[0])
    assert after[1] == 0
    yield
    blas.addresses.cache_clear()


def stirred(module: PolicyValueNetwork | ValueNetwork) -> None:
    """Moves every weight, as norms begin as the identity and hide what becomes of them."""
    generator = torch.Generator().manual_seed(5)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn(parameter.shape, generator=generator))


def batch(rows: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Observations with many zeros, as boards have, and legal masks."""
    generator = np.random.default_rng(seed)
    observations = generator.standard_normal((rows, 3, 3, 3), dtype=np.float32)
    observations[generator.random(observations.shape) < 0.5] = 0
    return observations, np.ones((rows, 9), np.bool_)


def by_modules(
    network: PolicyValueNetwork | ValueNetwork, observations: np.ndarray
) -> tuple[np.ndarray | None, np.ndarray]:
    """Logits, if there is a policy, and values."""
    with torch.inference_mode():
        answer = network.eval()(torch.from_numpy(observations))
        if isinstance(network, PolicyValueNetwork):
            return answer[0].numpy(), to_value(answer[1], network.spec.value_head).numpy()
        return None, to_value(answer, network.spec.output).numpy()


def check(network: PolicyValueNetwork | ValueNetwork, rows: int, seed: int = 3) -> None:
    observations, legal = batch(rows, seed)
    expected_logits, expected_values = by_modules(network, observations)
    logits, values = network.evaluate(observations, legal)
    assert logits.dtype == values.dtype == np.float32
    np.testing.assert_allclose(values, expected_values, rtol=0, atol=1e-5)
    if expected_logits is None:
        assert not logits.any()
        np.testing.assert_array_equal(network.values(observations), values)
    else:
        scale = max(1.0, float(np.abs(expected_logits).max()))
        np.testing.assert_allclose(logits, expected_logits, rtol=0, atol=1e-5 * scale)
    if rows > 1:
        assert np.ptp(values) > 1e-3  # else nothing would be compared


# What it says


@pytest.mark.parametrize("value_head", ["tanh", "wdl"])
def test_a_policy_value_network_says_what_its_modules_say(make_network, trunk, value_head):
    network = make_network(value_head=value_head, dropout=0.2, **trunk)
    stirred(network)
    assert native_of(network) is not None
    for rows in BATCHES:
        check(network, rows)


@pytest.mark.parametrize("output", ["tanh", "sigmoid"])
def test_a_value_network_says_what_its_modules_say(make_value_network, trunk, output):
    network = make_value_network(output=output, dropout=0.2, **trunk)
    stirred(network)
    for rows in BATCHES:
        check(network, rows)


def test_both_ways_through_a_layer_are_tried_above():
    assert min(BATCHES) <= FEW < max(BATCHES)
    assert {FEW, FEW + 1} <= set(BATCHES)


@pytest.mark.parametrize("actions", [1, 300])
def test_any_number_of_actions(make_network, actions):
    network = make_network(num_actions=actions, hidden=(7,))
    for rows in BATCHES:
        observations, _ = batch(rows)
        logits, _ = network.evaluate(observations, np.ones((rows, actions), np.bool_))
        np.testing.assert_allclose(logits, by_modules(network, observations)[0], rtol=0, atol=1e-5)


@pytest.mark.parametrize("rows", [1, 64])
def test_observations_of_zeros_leave_the_biases(make_network, rows):
    network = make_network(hidden=(8, 8), norm=False)
    stirred(network)
    zeros = np.zeros((rows, 3, 3, 3), np.float32)
    logits, values = network.evaluate(zeros, np.ones((rows, 9), np.bool_))
    expected_logits, expected_values = by_modules(network, zeros)
    np.testing.assert_allclose(logits, expected_logits, rtol=0, atol=1e-5)
    np.testing.assert_allclose(values, expected_values, rtol=0, atol=1e-5)


def test_without_torchs_blas_scipys_says_the_same(make_network, make_value_network, trunk, without_torchs_blas):
    for network in (make_network(**trunk), make_value_network(**trunk)):
        stirred(network)
        program = native_of(network).integers
        assert tuple(program[:2]) == (blas.addresses()[0], 0)
        for rows in BATCHES:
            check(network, rows)


@pytest.mark.parametrize("rows", BATCHES)
@pytest.mark.parametrize("value_head", ["tanh", "wdl"])
def test_a_row_with_nan_answers_nan_and_spoils_no_other(make_network, trunk, rows, value_head):
    network = make_network(value_head=value_head, **trunk)
    stirred(network)
    observations, legal = batch(rows)
    expected_logits, expected_values = network.evaluate(observations, legal)
    spoilt = observations.copy()
    spoilt[-1, 1, 1, 1] = np.nan
    logits, values = network.evaluate(spoilt, legal)
    assert np.isnan(values[-1])
    assert np.isnan(logits[-1]).all()
    np.testing.assert_allclose(values[:-1], expected_values[:-1], rtol=0, atol=1e-5)
    np.testing.assert_allclose(logits[:-1], expected_logits[:-1], rtol=0, atol=1e-5)


# Weights that change


def trained_a_step(network: PolicyValueNetwork) -> None:
    optimiser = torch.optim.SGD(network.parameters(), lr=0.5)
    logits, output = network(torch.from_numpy(batch(8)[0]))
    torch.autograd.backward(logits.square().mean() + output.square().mean())
    optimiser.step()


def one_bias_moved(network: PolicyValueNetwork) -> None:
    with torch.no_grad():
        network.value_head.bias.add_(0.5)


def loaded(network: PolicyValueNetwork) -> None:
    network.load_state_dict({name: weight + 0.1 for name, weight in network.state_dict().items()})


def assigned(network: PolicyValueNetwork) -> None:
    network.load_state_dict({name: weight + 0.1 for name, weight in network.state_dict().items()}, assign=True)


def one_parameter_replaced(network: PolicyValueNetwork) -> None:
    network.value_head.bias = torch.nn.Parameter(network.value_head.bias.detach() + 0.5)


def through_another_type(network: PolicyValueNetwork) -> None:
    network.half().float()
    one_bias_moved(network)


CHANGES = [
    *(stirred, trained_a_step, one_bias_moved, loaded, through_another_type),
    assigned,
    one_parameter_replaced,
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("rows", [1, 64])
def test_changed_weights_are_noticed(make_network, change: Callable[[PolicyValueNetwork], None], rows):
    network = make_network()
    for _ in range(2):
        before = network.evaluate(*batch(rows))
        change(network)
        after = network.evaluate(*batch(rows))
        assert not np.allclose(before[1], after[1], rtol=0, atol=1e-4)
        check(network, rows)


def test_a_program_taken_before_a_change_stays_as_it_was(make_network):
    network = make_network()
    observations, legal = batch(8)
    before, taken = network.evaluate(observations, legal), native_of(network)
    one_bias_moved(network)
    logits, values = np.empty((8, 9), np.float32), np.empty(8, np.float32)
    taken.kernel(observations.reshape(8, -1), legal, taken.integers, taken.numbers, logits, values)
    np.testing.assert_array_equal(logits, before[0])
    np.testing.assert_array_equal(values, before[1])


def test_unchanged_weights_are_laid_out_once(make_network):
    network = make_network()
    network.evaluate(*batch(1))
    first = native_of(network)
    network.evaluate(*batch(64))
    assert native_of(network) is first
    one_bias_moved(network)
    assert native_of(network) is not first


def test_a_copy_changed_any_number_of_times_is_noticed(make_network):
    network = make_network()
    network.evaluate(*batch(1))
    for changes in range(1, 16):
        other = copy.deepcopy(network)
        for _ in range(changes):
            one_bias_moved(other)
        check(other, 1)


def test_asking_a_network_leaves_nothing_in_its_pickle(make_network):
    network = make_network().eval()
    before = pickle.dumps(network)
    network.evaluate(*batch(1))
    assert len(pickle.dumps(network)) == len(before)
    check(pickle.loads(before), 5)  # noqa: S301 - our own


@pytest.mark.parametrize("rows", [1, 4])
def test_weights_of_nan_answer_nan_even_where_the_input_is_zero(make_network, rows):
    network = make_network(norm=False)
    with torch.no_grad():
        network.trunk[0].weight.fill_(float("nan"))
    assert np.isnan(network.evaluate(np.zeros((rows, 3, 3, 3), np.float32), np.ones((rows, 9), np.bool_))[1]).all()


def test_weights_made_in_inference_mode_work(make_network):
    with torch.inference_mode():
        network = make_network()
    for rows in BATCHES:
        check(network, rows)


# Arrays and threads


@pytest.mark.parametrize("rows", BATCHES)
def test_observations_and_masks_may_lie_in_memory_as_they_like(make_network, make_value_network, rows):
    networks = make_network(), make_value_network()
    observations, legal = batch(rows)
    read_only = observations.copy()
    read_only.flags.writeable = False
    wide = np.zeros((rows, 3, 3, 6), np.float32)
    wide[..., ::2] = observations
    mask = np.asfortranarray(legal)
    mask.flags.writeable = False
    for network in networks:
        expected = network.evaluate(observations, legal)
        for same in (read_only, wide[..., ::2], np.asfortranarray(observations), observations[::-1].copy()[::-1]):
            kept = same.copy()
            for answer, wanted in zip(network.evaluate(same, mask), expected, strict=True):
                np.testing.assert_array_equal(answer, wanted)
            np.testing.assert_array_equal(same, kept)
    assert not read_only.flags.writeable


@pytest.mark.parametrize("rows", [1, 64])
def test_threads_at_once_get_what_one_alone_gets(make_network, rows):
    network = make_network(kind="residual", hidden=(64, 64))
    questions = [batch(rows, seed) for seed in range(8)]
    expected = [network.evaluate(*question) for question in questions]

    def ask(number: int) -> bool:
        answer = network.evaluate(*questions[number % 8])
        return all(np.array_equal(*pair) for pair in zip(answer, expected[number % 8], strict=True))

    with ThreadPoolExecutor(2) as pool:
        assert all(pool.map(ask, range(400)))


def test_threads_may_be_the_first_to_ask(make_network):
    for seed in range(20):
        network = make_network(seed)
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda _, n=network: n.evaluate(*batch(5))[1], range(2)))
        np.testing.assert_array_equal(answers[0], answers[1])
        np.testing.assert_allclose(answers[0], by_modules(network, batch(5)[0])[1], rtol=0, atol=1e-5)
