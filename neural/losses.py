"""What training makes small. Each returns one number, the mean over the batch or, with weights, the weighted sum, and
checks its shapes: a `[B, 1]` that broadcasts against `[B]` would train on the mean of the batch without a word."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from escalade.neural.networks import ValueKind, to_value


def policy_loss(logits: Tensor, legal: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
    """Cross-entropy `-sum_a target(a) log p(a)`, p the softmax over the legal actions.

    logits: `[B, A]` float32. legal: `[B, A]` bool, at least one True a row.
    target: `[B, A]` float32, each row a distribution over the legal actions (visit shares, optimal moves, a label).
    weight: `[B]` float32, what each row adds to the sum; None is 1 / B.
    """
    return _total(policy_losses(logits, legal, target), weight)


def policy_losses(logits: Tensor, legal: Tensor, target: Tensor) -> Tensor:
    """The same row by row, `[B]`."""
    _same_shape("policy target", target, "logits", logits)
    _same_shape("legal", legal, "logits", logits)
    log_probabilities = logits.masked_fill(~legal, -torch.inf).log_softmax(dim=1)
    # -inf times a target of 0 would be NaN.
    return -(target * log_probabilities.masked_fill(~legal, 0.0)).sum(dim=1)


def value_loss(output: Tensor, target: Tensor, kind: ValueKind, weight: Tensor | None = None) -> Tensor:
    """Mean squared error of the value (tanh, sigmoid), or cross-entropy of win, draw and loss (wdl).

    output: what the head gives, `[B, 1]` or, for wdl, `[B, 3]`.
    target: `[B]` float32 in [-1, 1], from the view of the player to move. weight: as in `policy_loss`.
    """
    return _total(value_losses(output, target, kind), weight)


def value_losses(output: Tensor, target: Tensor, kind: ValueKind) -> Tensor:
    """The same row by row, `[B]`."""
    if target.ndim != 1 or output.ndim != 2 or len(output) != len(target):
        raise ValueError(f"value target must be [B] and output [B, heads], not {_sizes(target)} and {_sizes(output)}")
    if kind == "wdl":
        return functional.cross_entropy(output, outcome_chances(target), reduction="none")
    value = to_value(output, kind)
    _same_shape("value target", target, "value", value)
    return (value - target).square()


def td_target(reward: Tensor, next_value: Tensor, sign: Tensor, terminal: Tensor, gamma: float = 1.0) -> Tensor:
    """TD(0) targets `[B]` (R. Sutton, "Learning to predict by the methods of temporal differences", 1988): the reward,
    and, unless the game ended, `gamma` times the value of the next state as the player to move here sees it. No
    gradient flows back through `next_value`.

    reward `[B]` float32, of the player to move here. next_value `[B]`, of the player to move there, in [-1, 1].
    sign `[B]`: -1 where another player moves there (zero-sum games: r - gamma V(s')), 1 where the same one does.
    terminal `[B]` bool: the game ended with this step.
    """
    for name, tensor in (("next_value", next_value), ("sign", sign), ("terminal", terminal)):
        _same_shape(name, tensor, "reward", reward)
    return reward + (gamma * sign * next_value.detach()).masked_fill(terminal, 0.0)


def outcome_chances(value: Tensor) -> Tensor:
    """Values `[B]` in [-1, 1] as chances of win, draw and loss `[B, 3]` with that expectation: what is missing from
    certainty is a draw."""
    return torch.stack([value.clamp(min=0.0), 1.0 - value.abs(), (-value).clamp(min=0.0)], dim=1)


def _total(losses: Tensor, weight: Tensor | None) -> Tensor:
    if weight is None:
        return losses.mean()
    _same_shape("weight", weight, "loss", losses)
    return (losses * weight).sum()


def _same_shape(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    if tensor.shape != other.shape:
        raise ValueError(f"{name} must have the shape {_sizes(other)} of {other_name}, not {_sizes(tensor)}")


def _sizes(tensor: Tensor) -> list[int]:
    return list(tensor.shape)
