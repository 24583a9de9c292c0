"""Convolutions for boards: residual blocks on planes, and how a network of them is asked on the CPU.

Norms are GroupNorm (Y. Wu, K. He, ECCV 2018) with one group: each row is scaled by the mean and the variance of all its
cells and channels. Unlike batch normalisation that does not depend on what shares the batch, so a batch of one works;
unlike LayerNorm over the channels of each cell it keeps how cells differ in strength, and needs no transposing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor, nn

from escalade.domains.base import BoolArray, FloatArray
from escalade.neural.spec import TrunkSpec

ROWS = 64
"""Rows a pass on the CPU: more gain nothing there, and take room in proportion."""


class ConvolutionalBlock(nn.Module):
    """`[B, C_in, H, W]` to `[B, C_out, H, W]`: x + f(norm(x)), f two 3 x 3 convolutions with a ReLU between them.

    Pre-activation as in K. He et al., "Identity mappings in deep residual networks", ECCV 2016; where the channels
    differ the shortcut is a linear projection of each cell without bias.
    """

    def __init__(self, channels_in: int, channels_out: int, dropout: float) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(1, channels_in)
        self.first = nn.Conv2d(channels_in, channels_out, 3, padding=1)
        self.dropout = nn.Dropout(dropout)
        self.second = nn.Conv2d(channels_out, channels_out, 3, padding=1)
        self.shortcut: nn.Module = (
            nn.Identity() if channels_in == channels_out else nn.Conv2d(channels_in, channels_out, 1, bias=False)
        )

    def forward(self, x: Tensor) -> Tensor:
        added: Tensor = self.second(self.dropout(self.first(self.norm(x)).relu()))
        return self.shortcut(x) + added


class BoardFeatures(nn.Module):
    """Observations `[B, observation_size]` to `[B, joined]`: their planes through the blocks, flattened, and then the
    numbers that are no planes, as they are. Flattened rather than pooled: on small boards it matters where things
    stand, and there are few cells."""

    def __init__(self, spec: TrunkSpec) -> None:
        super().__init__()
        self._board = spec.board
        channels = spec.hidden[0]
        self.stem = nn.Conv2d(spec.board[0], channels, 3, padding=1)
        self.blocks = nn.Sequential()
        for out in spec.hidden:
            self.blocks.append(ConvolutionalBlock(channels, out, spec.dropout))
            channels = out
        self.norm = nn.GroupNorm(1, channels)

    def forward(self, observations: Tensor) -> Tensor:
        size = math.prod(self._board)
        planes = observations[:, :size].reshape(len(observations), *self._board)
        found = self.norm(self.blocks(self.stem(planes))).relu()
        return torch.cat((found.flatten(1), observations[:, size:]), dim=1)


def convolutional_trunk(spec: TrunkSpec) -> nn.Sequential:
    """Layers from `[B, observation_size]` to features `[B, features]`."""
    linear = nn.Linear(spec.joined, spec.width)
    return nn.Sequential(BoardFeatures(spec), linear, nn.LayerNorm(spec.width), nn.ReLU(), nn.Dropout(spec.dropout))


class ModuleForward:
    """A network's pass on the CPU as it was when this was made, by its modules: for what the compiled pass of
    `escalade.neural.forward` has no steps for. Any number of threads may call it, and each works alone: cores are for
    other calls, and threads that share an operation wait for each other whenever one of them has lost its core.

    answer: maps observations `[B, I]` to logits `[B, A]` (A is 0 without a policy) and values `[B]`; of a copy of the
    network in eval mode, which nobody else has and so nobody changes.
    """

    def __init__(self, answer: Callable[[Tensor], tuple[Tensor, Tensor]]) -> None:
        self._answer = answer

    def __call__(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        """observations `[B, I]` float32 and legal `[B, A]` to logits `[B, A]` and values `[B]`, float32."""
        logits, values = np.zeros(legal.shape, np.float32), np.empty(len(observations), np.float32)
        with torch.inference_mode(), _alone():
            for start in range(0, len(observations), ROWS):
                part = slice(start, start + ROWS)
                found, guessed = self._answer(torch.from_numpy(observations[part]))
                if found.shape[1]:
                    logits[part] = found.numpy()
                values[part] = guessed.numpy()
        return logits, values


@contextmanager
def _alone() -> Iterator[None]:
    """Operations of this thread take no others to help. Torch's setting is one of the calling thread; one that begins
    meanwhile may inherit it."""
    before = torch.get_num_threads()
    if before > 1:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if before > 1:
            torch.set_num_threads(before)
