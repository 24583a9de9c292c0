"""What training makes small. Each returns the mean over the batch as one number, and checks its shapes: a `[B, 1]`
that broadcasts against `[B]` would train on the mean of the batch without a word."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from escalade.neural.networks import ValueKind, to_value


def policy_loss(logits: Tensor, legal: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy `-sum_a target(a) log p(a)`, p the softmax over the legal actions.

    logits: `[B, A]` float32. legal: `[B, A]` bool, at least one True a row.
    target: `[B, A]` float32, each row a distribution over the legal actions (visit shares, optimal moves, a label).
    """
    _same_shape("policy target", target, "logits", logits)
    _same_shape("legal", legal, "logits", logits)
    log_probabilities = logits.masked_fill(~legal, -torch.inf).log_softmax(dim=1)
    # -inf times a target of 0 would be NaN.
    return -(target * log_probabilities.masked_fill(~legal, 0.0)).sum(dim=1).mean()


def value_loss(output: Tensor, target: Tensor, kind: ValueKind) -> Tensor:
    """Mean squared error of the value (tanh, sigmoid), or cross-entropy of win, draw and loss (wdl).

    output: what the head gives, `[B, 1]` or, for wdl, `[B, 3]`.
    target: `[B]` float32 in [-1, 1], from the view of the player to move.
    """
    if target.ndim != 1 or output.ndim != 2 or len(output) != len(target):
        raise ValueError(f"value target must be [B] and output [B, heads], not {_sizes(target)} and {_sizes(output)}")
    if kind == "wdl":
        return functional.cross_entropy(output, outcome_chances(target))
    value = to_value(output, kind)
    _same_shape("value target", target, "value", value)
    return functional.mse_loss(value, target)


def outcome_chances(value: Tensor) -> Tensor:
    """Values `[B]` in [-1, 1] as chances of win, draw and loss `[B, 3]` with that expectation: what is missing from
    certainty is a draw."""
    return torch.stack([value.clamp(min=0.0), 1.0 - value.abs(), (-value).clamp(min=0.0)], dim=1)


def _same_shape(name: str, tensor: Tensor, other_name: str, other: Tensor) -> None:
    if tensor.shape != other.shape:
        raise ValueError(f"{name} must have the shape {_sizes(other)} of {other_name}, not {_sizes(tensor)}")


def _sizes(tensor: Tensor) -> list[int]:
    return list(tensor.shape)
