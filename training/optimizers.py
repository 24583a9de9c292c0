"""What steps the weights of a network, and the settings of that."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn

from escalade.domains.errors import SettingsError
from escalade.neural.networks import PolicyValueNetwork
from escalade.search.config import whole


@dataclass(frozen=True)
class LearnerConfig:
    """batch_size: positions a step, over all processes.
    learning_rate: of the first step; it falls to 0 at the end of the run.
    weight_decay: AdamW's, on matrices only; biases and norms keep their scale.
    optimizer: "adamw", or "muon" for the matrices of the trunk and AdamW for the rest (K. Jordan, "Muon: an optimizer
        for hidden layers in neural networks", 2024, with steps as long as AdamW's: J. Liu et al., arXiv 2502.16982).
        Muon's steps take up to twice the time, and fewer than half as many are needed.
    repeats: a position that counts for more than the mean is shown several times in a pass, at most so many times
        (`escalade.training.window.times_shown`).
    value_weight: what the value loss counts against the policy loss.
    average: share of the moving average that a step keeps, 0 for none; less in the first steps, which are soon
        forgotten.
    threads: that share one matrix product. More than the idle cores lose much.
    precision: of the matrix products; weights, sums and losses are float32. "bfloat16" takes a third to half of the
        time where the processor has units for it (AMX, AVX512-BF16, GPUs), "auto" chooses it there and float32
        elsewhere.
    """

    batch_size: int = 512
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    optimizer: Literal["adamw", "muon"] = "adamw"
    repeats: int = 1
    value_weight: float = 1.0
    average: float = 0.995
    threads: int = 1
    precision: Literal["float32", "bfloat16", "auto"] = "float32"

    def __post_init__(self) -> None:
        whole("batch_size", self.batch_size, 1)
        whole("threads", self.threads, 1)
        whole("repeats", self.repeats, 1)
        for name in ("learning_rate", "weight_decay", "value_weight"):
            if not 0 <= getattr(self, name) < math.inf or (name == "learning_rate" and not self.learning_rate):
                least = "above 0" if name == "learning_rate" else "at least 0"
                raise SettingsError(f"{name} must be a number {least}, not {getattr(self, name)!r}")
        if self.optimizer not in ("adamw", "muon"):
            raise SettingsError(f"optimizer must be adamw or muon, not {self.optimizer!r}")
        if self.precision not in ("float32", "bfloat16", "auto"):
            raise SettingsError(f"precision must be float32, bfloat16 or auto, not {self.precision!r}")
        if not 0 <= self.average < 1:
            raise SettingsError(f"average must be at least 0 and below 1, not {self.average!r}")


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 matrices faster than float32 ones."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def optimizers(network: PolicyValueNetwork, config: LearnerConfig) -> dict[str, torch.optim.Optimizer]:
    """What steps the weights of a network, by the names that a checkpoint has for them: "adam", and "muon" where the
    config asks for it."""
    parameters = list(network.parameters())
    found: dict[str, torch.optim.Optimizer] = {}
    if config.optimizer == "muon":
        matrices = [parameter for parameter in network.trunk.parameters() if parameter.ndim == 2]
        if matrices:
            found["muon"] = torch.optim.Muon(
                matrices, lr=config.learning_rate, weight_decay=config.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        stepped = {id(parameter) for parameter in matrices}
        parameters = [parameter for parameter in parameters if id(parameter) not in stepped]
    groups = parameter_groups(parameters, config.weight_decay)
    return {"adam": torch.optim.AdamW(groups, lr=config.learning_rate, fused=True), **found}


def parameter_groups(parameters: Sequence[nn.Parameter], weight_decay: float) -> list[dict[str, object]]:
    """AdamW's groups: matrices decay, vectors (biases, LayerNorm) do not."""
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
