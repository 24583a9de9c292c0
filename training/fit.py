"""Fitting a policy-value network to labelled positions: what a solver, a search or a person says of each."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from escalade.domains.base import BoolArray, FloatArray
from escalade.domains.errors import EscaladeError
from escalade.neural.losses import policy_loss, value_loss
from escalade.neural.networks import PolicyValueNetwork
from escalade.neural.spec import NetworkSpec

GRADIENT_NORM = 1.0
"""Gradients longer than this are shortened to it."""


@dataclass(frozen=True)
class EpochReport:
    """Means over the rows of one epoch, as they were seen (before each step, with dropout)."""

    epoch: int
    """From 1 to `epochs`."""
    epochs: int
    policy_loss: float
    """Cross-entropy in nats; its floor is the entropy of the targets."""
    value_loss: float
    learning_rate: float
    """That of the next step."""


def fit_labelled(
    network_spec: NetworkSpec,
    observations: FloatArray,
    legal: BoolArray,
    target_policy: FloatArray,
    target_value: FloatArray,
    *,
    epochs: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
    weight_decay: float = 0.01,
    threads: int = 1,
    on_epoch: Callable[[EpochReport, PolicyValueNetwork], None] | None = None,
) -> PolicyValueNetwork:
    """A new network fitted to N rows: policy cross-entropy plus value loss, in equal parts.

    observations: `[N, *O]` float32, finite. legal: `[N, A]` bool, at least one True a row.
    target_policy: `[N, A]` float32, each row a distribution, 0 where illegal.
    target_value: `[N]` float32 in [-1, 1], from the view of the player to move.
    learning_rate: of the first step; it falls to 0 along half a cosine (I. Loshchilov, F. Hutter, ICLR 2017).
    weight_decay: AdamW's, on the matrices only; biases and norms keep their scale.
    seed: of initial weights, order of rows and dropout. Equal seeds and threads give equal weights on one machine, if
        nothing else in the process draws from torch's generator meanwhile.
    threads: that share one matrix product, while this runs. Networks of this size gain nothing from more, and lose
        much if the cores have other work (see `escalade.neural.networks`).
    on_epoch: called after each epoch with its report and the network so far, which it may evaluate.

    Returns the network in eval mode, on the CPU. Raises ValueError for rows that are not as described, EscaladeError
    if the loss stops being a number.
    """
    _check_rows(network_spec, observations, legal, target_policy, target_value)
    if min(epochs, batch_size, threads) < 1:
        raise ValueError("epochs, batch_size and threads must be at least 1")
    if not 0.0 < learning_rate < math.inf or not 0.0 <= weight_decay < math.inf:
        raise ValueError("learning_rate must be over 0 and weight_decay at least 0")
    rows = [torch.from_numpy(array.copy()) for array in (observations, legal, target_policy, target_value)]
    with torch.random.fork_rng(devices=[]), _threads(threads):  # leaves the caller's random numbers as they were
        torch.manual_seed(seed)
        network = PolicyValueNetwork(network_spec)
        optimizer = torch.optim.AdamW(parameter_groups(network, weight_decay), lr=learning_rate)
        steps = epochs * math.ceil(len(observations) / batch_size)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
        for epoch in range(1, epochs + 1):
            network.train()
            totals = np.zeros(2)
            order = torch.randperm(len(observations))
            for start in range(0, len(order), batch_size):
                chosen = order[start : start + batch_size]
                losses = _step(network, optimizer, [array[chosen] for array in rows])
                schedule.step()
                totals += np.array(losses) * len(chosen)
            if on_epoch is not None:
                policy_mean, value_mean = (totals / len(observations)).tolist()
                on_epoch(EpochReport(epoch, epochs, policy_mean, value_mean, float(schedule.get_last_lr()[0])), network)
    return network.eval()


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Torch's threads inside one operation, set for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """AdamW's groups: matrices decay, vectors (biases, LayerNorm) do not."""
    parameters = list(module.parameters())
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


def _step(network: PolicyValueNetwork, optimizer: torch.optim.Optimizer, rows: list[Tensor]) -> tuple[float, float]:
    """One step of descent on these rows; the policy and the value loss before it."""
    observations, legal, target_policy, target_value = rows
    logits, output = network(observations)
    on_policy = policy_loss(logits, legal, target_policy)
    on_value = value_loss(output, target_value, network.spec.value_head)
    losses = on_policy.item(), on_value.item()
    if not math.isfinite(sum(losses)):
        raise EscaladeError(f"training stopped: the loss is {sum(losses)}; a lower learning_rate may help")
    optimizer.zero_grad()
    torch.autograd.backward(on_policy + on_value)
    nn.utils.clip_grad_norm_(network.parameters(), GRADIENT_NORM)
    optimizer.step()
    return losses


def _check_rows(
    spec: NetworkSpec, observations: FloatArray, legal: BoolArray, target_policy: FloatArray, target_value: FloatArray
) -> None:
    count = len(observations)
    for name, array, dtype, shape in (
        ("observations", observations, np.float32, spec.observation_shape),
        ("legal", legal, np.bool_, (spec.num_actions,)),
        ("target_policy", target_policy, np.float32, (spec.num_actions,)),
        ("target_value", target_value, np.float32, ()),
    ):
        if array.shape != (count, *shape) or array.dtype != dtype:
            raise ValueError(
                f"{name} must be {dtype.__name__} {[count, *shape]}, not {array.dtype} {list(array.shape)}"
            )
    if count == 0:
        raise ValueError("there are no rows to fit to")
    if not np.isfinite(observations).all():
        raise ValueError("observations hold NaN or infinite numbers")
    if not legal.any(axis=1).all():
        raise ValueError(f"row {int(legal.any(axis=1).argmin())} has no legal action")
    # Negated comparisons, so that NaN is a fault too.
    bad = ~((target_policy >= 0).all(axis=1) & (np.abs(target_policy.sum(axis=1) - 1.0) < 1e-3))
    if (bad | (target_policy * ~legal).any(axis=1)).any():
        row = int((bad | (target_policy * ~legal).any(axis=1)).argmax())
        raise ValueError(f"target_policy of row {row} is not a distribution over its legal actions")
    if not (np.abs(target_value) <= 1.0).all():
        raise ValueError("target_value must lie in [-1, 1]")
