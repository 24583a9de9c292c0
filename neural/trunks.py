"""The layers between an observation and the heads."""

from __future__ import annotations

from torch import Tensor, nn

from escalade.neural.convolution import convolutional_trunk
from escalade.neural.spec import TrunkSpec


class ResidualBlock(nn.Module):
    """`[B, width_in]` to `[B, width_out]`: x + f(LayerNorm(x)), f two linear layers with a ReLU between them.

    Pre-activation as in K. He et al., "Identity mappings in deep residual networks", ECCV 2016; where the widths
    differ the shortcut is a linear projection without bias.
    """

    def __init__(self, width_in: int, width_out: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width_in)
        self.first = nn.Linear(width_in, width_out)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Linear(width_out, width_out)
        self.shortcut: nn.Module = (
            nn.Identity() if width_in == width_out else nn.Linear(width_in, width_out, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.second(self.dropout(self.first(self.norm(x)).relu()))
        return self.shortcut(x) + added


class Recursion(nn.Module):
    """`[B, width]` to `[B, width]`: the same blocks, `passes` times over. Few weights, which refine their own answer
    (A. Jolicoeur-Martineau, "Less is more: recursive reasoning with tiny networks", 2025)."""

    def __init__(self, blocks: list[ResidualBlock], passes: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*blocks)
        self.passes = passes

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(self.passes):
            x = self.blocks(x)
        return x


def build_trunk(spec: TrunkSpec) -> nn.Sequential:
    """Layers from `[B, observation_size]` to features `[B, spec.width]`."""
    if spec.kind == "convolutional":
        return convolutional_trunk(spec)
    layers: list[nn.Module] = []
    if spec.kind == "perceptron":
        width = spec.observation_size
        for out in spec.hidden:
            layers += [nn.Linear(width, out), *([nn.LayerNorm(out)] if spec.norm else []), nn.ReLU()]
            if spec.dropout:
                layers.append(nn.Dropout(spec.dropout))
            width = out
    else:
        width = spec.hidden[0]
        layers.append(nn.Linear(spec.observation_size, width))
        blocks = []
        for out in spec.hidden:
            blocks.append(ResidualBlock(width, out, spec.dropout))
            width = out
        layers += blocks if spec.passes is None else [Recursion(blocks, spec.passes)]
        layers += [nn.LayerNorm(width), nn.ReLU()]
    return nn.Sequential(*layers)
