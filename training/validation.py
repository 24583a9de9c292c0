"""What a network is worth on positions that it did not learn from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from escalade.neural.losses import policy_loss, value_loss
from escalade.neural.networks import PolicyValueNetwork, to_value
from escalade.training.window import Targets


@dataclass(frozen=True)
class Validation:
    """What a network is worth on positions that it did not learn from; NaN where nothing is known of them.

    policy_loss: cross-entropy in nats. agreement: share whose first legal choice is a most likely one of the target.
    value_loss: as trained. value_error: mean squared error of the value.
    """

    positions: int
    policy_loss: float
    agreement: float
    value_loss: float
    value_error: float


@torch.inference_mode()
def validate(network: PolicyValueNetwork, targets: Targets, rows: int = 4096) -> Validation:
    """What a network is worth on targets; `rows` at a time."""
    network.eval()
    device, sums, weights = network.device, np.zeros(4), np.zeros(2)
    for start in range(0, len(targets.value), rows):
        batch = targets.take(np.arange(start, min(start + rows, len(targets.value))))
        observation, legal, policy, value, policies, values = (
            torch.from_numpy(np.asarray(array)).to(device) for array in batch
        )
        logits, output = network(observation.float())
        chosen = logits.masked_fill(~legal, -torch.inf).argmax(dim=1, keepdim=True)
        agrees = policy.gather(1, chosen)[:, 0] >= policy.amax(dim=1) - 1e-6
        error = (to_value(output, network.spec.value_head) - value).square()
        sums += [
            float(policy_loss(logits, legal, policy, policies)),
            float((agrees * policies).sum()),
            float(value_loss(output, value, network.spec.value_head, values)),
            float((error * values).sum()),
        ]
        weights += [float(policies.sum()), float(values.sum())]
    policy_sum, agreement, value_sum, error_sum = (sums / np.where(weights > 0, weights, np.nan)[[0, 0, 1, 1]]).tolist()
    return Validation(len(targets.value), policy_sum, agreement, value_sum, error_sum)
