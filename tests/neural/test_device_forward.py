"""Passes on an accelerator. Without one the same code runs eagerly on the CPU; what needs CUDA is skipped."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch

from escalade.neural.device_forward import BUCKETS, TOLERANCE, DeviceForward
from escalade.neural.networks import PolicyValueNetwork, ValueNetwork
from escalade.neural.spec import NetworkSpec, ValueSpec

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
CPU = torch.device("cpu")


def network(head: str = "tanh") -> PolicyValueNetwork:
    torch.manual_seed(0)
    spec = NetworkSpec(observation_shape=(2, 3), num_actions=5, hidden=(16, 8), value_head=head)
    return PolicyValueNetwork(spec).eval()


def rows(count: int) -> tuple[np.ndarray, np.ndarray]:
    observations = np.random.default_rng(count).normal(size=(count, 6)).astype(np.float32)
    return observations, np.ones((count, 5), np.bool_)


@pytest.mark.parametrize("head", ["tanh", "wdl"])
@pytest.mark.parametrize("count", [0, 1, 2, 9, 33, BUCKETS[-1] + 5])
def test_padded_and_cut_batches_give_what_the_flattened_pass_gives(count: int, head: str) -> None:
    ours = network(head)
    observations, legal = rows(count)
    expected = ours.evaluate(observations.reshape(-1, 2, 3), legal)
    found = DeviceForward(ours._answer, 6, CPU)(observations, legal)
    for left, right in zip(found, expected, strict=True):
        assert left.shape == right.shape
        assert left.dtype == np.float32
        np.testing.assert_allclose(left, right, atol=1e-5)


def test_a_smaller_batch_after_a_larger_one_sees_nothing_of_it() -> None:
    ours = network()
    forward = DeviceForward(ours._answer, 6, CPU)
    forward(*rows(8))
    observations, legal = rows(5)
    first = forward(observations, legal)[1].copy()
    forward(*rows(8))
    np.testing.assert_array_equal(forward(observations, legal)[1], first)


def test_a_network_without_a_policy_gives_zeros() -> None:
    torch.manual_seed(0)
    values = ValueNetwork(ValueSpec(observation_shape=(6,), hidden=(8,), output="sigmoid")).eval()
    observations, legal = rows(3)
    logits, found = DeviceForward(values._answer, 6, CPU)(observations, legal)
    assert not logits.any()
    np.testing.assert_allclose(found, values.values(observations), atol=1e-6)


def test_more_threads_than_lanes_take_turns() -> None:
    ours = network()
    forward = DeviceForward(ours._answer, 6, CPU)
    observations, legal = rows(20)
    expected = forward(observations, legal)[1]
    wrong = []

    def work() -> None:
        for _ in range(50):
            if not np.array_equal(forward(observations, legal)[1], expected):
                wrong.append(1)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@needs_cuda
def test_the_gpu_gives_what_the_cpu_gives_within_the_tolerance() -> None:
    ours = network()
    observations, legal = rows(700)
    shaped = observations.reshape(-1, 2, 3)
    logits, values = ours.evaluate(shaped, legal)
    moved = ours.to("cuda")
    found, guessed = moved.evaluate(shaped, legal)
    np.testing.assert_allclose(guessed, values, atol=2 * TOLERANCE)
    np.testing.assert_allclose(
        torch.softmax(torch.from_numpy(found), 1), torch.softmax(torch.from_numpy(logits), 1), atol=2 * TOLERANCE
    )


@needs_cuda
def test_learning_on_the_gpu_is_noticed() -> None:
    moved = network().to("cuda")
    observations, legal = rows(4)
    shaped = observations.reshape(-1, 2, 3)
    before = moved.evaluate(shaped, legal)[1]
    with torch.no_grad():
        moved.value_head.bias += 1.0
    assert not np.allclose(moved.evaluate(shaped, legal)[1], before, atol=0.05)
