"""What a run may begin with instead of random weights: those of a bundle, in a network that may be deeper."""

from __future__ import annotations

import shutil
import uuid
from pathlib import Path

import torch
from torch import nn

from escalade.domains.errors import SettingsError
from escalade.neural.networks import PolicyValueNetwork
from escalade.neural.spec import NetworkSpec


def check_start(old: NetworkSpec, new: NetworkSpec) -> None:
    """Raises SettingsError naming the field in which a network is not the other, or the other with more blocks."""
    same_begin = new.kind == "residual" and new.passes is None and new.hidden[: len(old.hidden)] == old.hidden
    deeper = same_begin and set(new.hidden[len(old.hidden) :]) <= {old.hidden[-1]}
    for name in sorted(NetworkSpec.model_fields.keys() - {"dropout"}):
        before, wanted = getattr(old, name), getattr(new, name)
        if before != wanted and not (name == "hidden" and deeper):
            raise SettingsError(
                f"start: its network has {name} {before}, and the recipe's {wanted}: they must be the same, but "
                "that a residual network may get more blocks of the same width"
            )


def grown(network: PolicyValueNetwork, spec: NetworkSpec, *, seed: int) -> PolicyValueNetwork:
    """A network of another spec that gives what this one gives. seed: of what is new.

    Blocks that it has more begin as the identity: what they add is multiplied by 0 first, and learns from there (as
    T. Chen et al., "Net2Net", ICLR 2016, deepen networks). Raises SettingsError as `check_start`.
    """
    check_start(network.spec, spec)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        found = PolicyValueNetwork(spec)
    more = len(spec.hidden) - len(network.spec.hidden)
    blocks = 1 + len(network.spec.hidden)  # after the first layer
    with torch.no_grad():
        for number, layer in enumerate(network.trunk):
            place = number if number < blocks else number + more
            found.trunk[place].load_state_dict(layer.state_dict())
        for number in range(blocks, blocks + more):
            second = found.trunk[number].second
            assert isinstance(second, nn.Linear)
            second.weight.zero_()
            second.bias.zero_()
        for head, old in zip(found.heads(), network.heads(), strict=True):
            head.load_state_dict(old.state_dict())
    return found


def copy_bundle(source: Path, target: Path) -> None:
    """Copy a bundle's folder, whole or not at all. One that is there already stays."""
    if target.exists():
        return
    partial = target.parent / f".{target.name}.{uuid.uuid4().hex}.partial"
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(source, partial)
    partial.rename(target)
