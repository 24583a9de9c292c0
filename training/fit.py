"""Fitting a policy-value network to labelled positions: what a solver, a search or a person says of each."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from escalade.domains.base import BoolArray, FloatArray
from escalade.neural.networks import PolicyValueNetwork
from escalade.neural.spec import NetworkSpec
from escalade.training.learner import Learner
from escalade.training.optimizers import LearnerConfig
from escalade.training.window import Targets


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

    Returns the network in eval mode, on the CPU. Raises ValueError for rows that are not as described, TrainingError
    if the loss stays without a number.
    """
    _check_rows(network_spec, observations, legal, target_policy, target_value)
    if min(epochs, batch_size, threads) < 1:
        raise ValueError("epochs, batch_size and threads must be at least 1")
    if not 0.0 < learning_rate < math.inf or not 0.0 <= weight_decay < math.inf:
        raise ValueError("learning_rate must be over 0 and weight_decay at least 0")
    ones = np.ones(len(observations), np.float32)
    targets = Targets(observations, legal, target_policy, target_value, ones, ones)
    config = LearnerConfig(
        batch_size=batch_size, learning_rate=learning_rate, weight_decay=weight_decay, average=0.0, threads=threads
    )
    learner = Learner(network_spec, config, seed=seed)
    for epoch in range(1, epochs + 1):
        done = learner.learn(targets, seed=(seed, epoch), span=((epoch - 1) / epochs, epoch / epochs))
        if on_epoch is not None:
            report = EpochReport(epoch, epochs, done.policy_loss, done.value_loss, done.learning_rate)
            on_epoch(report, learner.network)
    return learner.network.eval()


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
