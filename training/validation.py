"""What a network is worth on positions that it did not learn from, and whether it is better there than another one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from escalade.neural.losses import policy_losses, value_losses
from escalade.neural.networks import PolicyValueNetwork, to_value
from escalade.training.intervals import NORMAL
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


class RowFigures(NamedTuple):
    """A network on N positions, each array `[N]` float64. policy_loss, value_loss: as trained. agrees: 1 where its
    first legal choice is a most likely one of the target, else 0. value_error: squared."""

    policy_loss: NDArray[np.float64]
    agrees: NDArray[np.float64]
    value_loss: NDArray[np.float64]
    value_error: NDArray[np.float64]


@torch.inference_mode()
def row_figures(network: PolicyValueNetwork, targets: Targets, rows: int = 4096) -> RowFigures:
    """A network on each of the targets, `rows` at a time. Where a target has no weight, its figure means nothing."""
    network.eval()
    device, parts = network.device, [np.zeros((4, 0))]
    for start in range(0, len(targets.value), rows):
        batch = targets.take(np.arange(start, min(start + rows, len(targets.value))))
        observation, legal, policy, value = (torch.from_numpy(np.asarray(array)).to(device) for array in batch[:4])
        logits, output = network(observation.float())
        chosen = logits.masked_fill(~legal, -torch.inf).argmax(dim=1, keepdim=True)
        figures = (
            policy_losses(logits, legal, policy),
            policy.gather(1, chosen)[:, 0] >= policy.amax(dim=1) - 1e-6,
            value_losses(output, value, network.spec.value_head),
            (to_value(output, network.spec.value_head) - value).square(),
        )
        parts.append(np.stack([figure.double().cpu().numpy() for figure in figures]))
    return RowFigures(*np.concatenate(parts, axis=1))


def validate(network: PolicyValueNetwork, targets: Targets, rows: int = 4096) -> Validation:
    """What a network is worth on targets; `rows` at a time."""
    found = row_figures(network, targets, rows)
    policies, values = targets.policy_weight, targets.value_weight
    return Validation(
        positions=len(targets.value),
        policy_loss=weighted(found.policy_loss, policies)[0],
        agreement=weighted(found.agrees, policies)[0],
        value_loss=weighted(found.value_loss, values)[0],
        value_error=weighted(found.value_error, values)[0],
    )


def held_out_figures(
    network: PolicyValueNetwork, held: Targets, champion: PolicyValueNetwork | None = None
) -> dict[str, Any] | None:
    """A network on held-out rows, as plain numbers for a line of metrics; None where no row has a target.

    count: rows with a target. validation_loss: mean cross-entropy of the policy in nats, or, where no row teaches a
    policy, the loss of the value. validation_accuracy: share of rows whose label is the first choice; only of policies.
    With a champion also loss_change: this loss less the champion's on the same rows, negative where it is better.
    `_low` and `_high` are 95 % intervals (normal; that of the accuracy Wilson's). Rows weigh as in training.

    The change is by pairs, so what makes a row hard for both cancels, and its interval is much narrower than those of
    the two losses. It is the loss that compares, not the share of errors: it sees how sure a network is of each row,
    where an error counts only what crosses over, so on as many rows it tells smaller differences apart.
    """
    of_policy = bool(held.policy_weight.any())
    weight = np.asarray(held.policy_weight if of_policy else held.value_weight, np.float64)
    if not weight.any():
        return None
    mine = row_figures(network, held)
    losses = mine.policy_loss if of_policy else mine.value_loss
    loss, error = weighted(losses, weight)
    figures: dict[str, Any] = {"count": int(np.count_nonzero(weight)), **_interval("validation_loss", loss, error)}
    if of_policy:
        share, _ = weighted(mine.agrees, weight)
        low, high = _wilson(share, float(weight.sum() ** 2 / np.square(weight).sum()))
        figures |= {"validation_accuracy": share, "validation_accuracy_low": low, "validation_accuracy_high": high}
    if champion is not None:
        other = row_figures(champion, held)
        change, error = weighted(losses - (other.policy_loss if of_policy else other.value_loss), weight)
        figures |= _interval("loss_change", change, error)
    return figures


def weighted(figures: NDArray[Any], weight: NDArray[Any]) -> tuple[float, float]:
    """The weighted mean of `[N]` figures, and its standard error; NaN where there is no weight."""
    weight = np.asarray(weight, np.float64)
    total = float(weight.sum())
    if not total > 0:
        return math.nan, math.nan
    known = weight > 0
    shares, figures = weight[known] / total, figures[known]
    mean = float((shares * figures).sum())
    several = len(figures) / max(len(figures) - 1, 1)
    return mean, math.sqrt(several * float(np.square(shares * (figures - mean)).sum()))


def _interval(name: str, mean: float, error: float) -> dict[str, float]:
    return {name: mean, f"{name}_low": mean - NORMAL * error, f"{name}_high": mean + NORMAL * error}


def _wilson(share: float, count: float) -> tuple[float, float]:
    """Wilson's interval of a share over `count` rows, which need not be whole (E. B. Wilson, JASA 22, 1927)."""
    squared = NORMAL**2
    middle = (share + squared / (2 * count)) / (1 + squared / count)
    reach = NORMAL / (1 + squared / count) * math.sqrt(share * (1 - share) / count + squared / (4 * count**2))
    return max(0.0, middle - reach), min(1.0, middle + reach)
