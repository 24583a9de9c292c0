"""What a network is made of, as frozen configs that a bundle records and a reader can trust.

Sizes are bounded, so that a hostile `bundle.json` cannot ask for more memory than `MAX_PARAMETERS` float32 numbers.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

MAX_OBSERVATION_SIZE = 2**20
MAX_ACTIONS = 2**16
MAX_WIDTH = 2**14
MAX_LAYERS = 64
MAX_PARAMETERS = 2**27  # half a GiB of float32

Dimension = Annotated[int, Field(ge=1, le=MAX_OBSERVATION_SIZE)]
Width = Annotated[int, Field(ge=1, le=MAX_WIDTH)]
TrunkKind = Literal["perceptron", "residual"]
ValueHead = Literal["tanh", "wdl"]
ValueOutput = Literal["tanh", "sigmoid"]


class TrunkSpec(BaseModel):
    """What both kinds of network share: observations `[B, *observation_shape]` to features `[B, hidden[-1]]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: TrunkKind = Field(
        default="perceptron",
        description="'perceptron': linear, LayerNorm, ReLU per layer. 'residual': pre-norm residual blocks.",
    )
    hidden: tuple[Width, ...] = Field(
        min_length=1,
        max_length=MAX_LAYERS,
        description="Width of each layer (perceptron) or of each block (residual; where the width changes, the "
        "shortcut is a linear projection).",
    )
    observation_shape: tuple[Dimension, ...] = Field(
        max_length=8, description="O, the shape of one observation; it is flattened. () is one number."
    )
    norm: bool = Field(default=True, description="LayerNorm after each layer of a perceptron; residual blocks need it.")
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0, description="Share of features dropped in training only.")

    @property
    def observation_size(self) -> int:
        return math.prod(self.observation_shape)

    @property
    def outputs(self) -> int:
        """Numbers that leave the last linear layers, all heads together."""
        raise NotImplementedError

    @property
    def parameters(self) -> int:
        """How many float32 numbers the network has; known without building it."""
        width, count = self.hidden[0], 0
        if self.kind == "perceptron":
            width = self.observation_size
            for out in self.hidden:
                count += (width + 1) * out + (2 * out if self.norm else 0)
                width = out
        else:
            count += (self.observation_size + 1) * width
            for out in self.hidden:
                count += 2 * width + (width + 1) * out + (out + 1) * out + (width * out if width != out else 0)
                width = out
            count += 2 * width
        return count + (width + 1) * self.outputs

    @model_validator(mode="after")
    def _bounded(self) -> TrunkSpec:
        if self.kind == "residual" and not self.norm:
            raise ValueError("norm=False is for perceptrons: residual blocks do not train without it")
        if self.observation_size > MAX_OBSERVATION_SIZE:
            raise ValueError(f"observation_shape holds {self.observation_size} numbers, over {MAX_OBSERVATION_SIZE}")
        if self.parameters > MAX_PARAMETERS:
            raise ValueError(f"the network would have {self.parameters} parameters, over the {MAX_PARAMETERS} allowed")
        return self


class NetworkSpec(TrunkSpec):
    """A policy-value network: one trunk, two heads (D. Silver et al., Nature 550, 2017)."""

    hidden: tuple[Width, ...] = Field(
        default=(256, 256, 128), min_length=1, max_length=MAX_LAYERS, description="As in TrunkSpec."
    )
    num_actions: int = Field(ge=1, le=MAX_ACTIONS, description="A, the size of the action space.")
    value_head: ValueHead = Field(
        default="tanh",
        description="'tanh': one number in [-1, 1]. 'wdl': logits of win, draw and loss, whose expectation is the "
        "value; it can tell a sure draw from an even gamble.",
    )

    @property
    def outputs(self) -> int:
        return self.num_actions + (3 if self.value_head == "wdl" else 1)


class ValueSpec(TrunkSpec):
    """A network that estimates the value alone."""

    hidden: tuple[Width, ...] = Field(
        default=(512, 256, 128), min_length=1, max_length=MAX_LAYERS, description="As in TrunkSpec."
    )
    output: ValueOutput = Field(
        default="tanh",
        description="Range of the head: 'tanh' is [-1, 1], 'sigmoid' is [0, 1]. Callers see [-1, 1] either way.",
    )

    @property
    def outputs(self) -> int:
        return 1
