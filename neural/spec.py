"""What a network is made of, as frozen configs that a bundle records and a reader can trust.

Sizes are bounded, so that a hostile `bundle.json` cannot ask for more memory than `MAX_PARAMETERS` float32 numbers.
"""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

MAX_OBSERVATION_SIZE = 2**20
MAX_ACTIONS = 2**16
MAX_WIDTH = 2**14
MAX_LAYERS = 64
MAX_PARAMETERS = 2**27  # half a GiB of float32
MAX_ACTIVATIONS = 2**18  # numbers a convolution may leave of one row; a 19 x 19 board has room for 726 channels

Dimension = Annotated[int, Field(ge=1, le=MAX_OBSERVATION_SIZE)]
Width = Annotated[int, Field(ge=1, le=MAX_WIDTH)]
TrunkKind = Literal["perceptron", "residual", "convolutional"]
ValueHead = Literal["tanh", "wdl"]
ValueOutput = Literal["tanh", "sigmoid"]
LATER_FIELDS = ("planes", "features", "passes")
"""Fields that the first bundles did not have. They are written only where they are set, so that a network that could be
described without them is still written, and hashed, as it was."""


class TrunkSpec(BaseModel):
    """What both kinds of network share: observations `[B, *observation_shape]` to features `[B, width]`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kind: TrunkKind = Field(
        default="perceptron",
        description="'perceptron': linear, LayerNorm, ReLU per layer. 'residual': pre-norm residual blocks. "
        "'convolutional': such blocks of 3 x 3 convolutions on planes, then one linear layer.",
    )
    hidden: tuple[Width, ...] = Field(
        min_length=1,
        max_length=MAX_LAYERS,
        description="Width of each layer (perceptron) or of each block (residual), channels of each block "
        "(convolutional). Where the width of blocks changes, the shortcut is a linear projection.",
    )
    observation_shape: tuple[Dimension, ...] = Field(
        max_length=8, description="O, the shape of one observation; it is flattened. () is one number."
    )
    norm: bool = Field(default=True, description="Norm after each layer of a perceptron; residual blocks need it.")
    dropout: float = Field(default=0.0, ge=0.0, lt=1.0, description="Share of features dropped in training only.")
    planes: tuple[Dimension, Dimension, Dimension] | None = Field(
        default=None,
        description="[C, H, W] of the planes that a flattened observation begins with, for convolutions; what follows "
        "them joins after the blocks. None: observation_shape is [C, H, W].",
    )
    features: Width | None = Field(
        default=None, description="Width of the linear layer after the blocks of a convolutional network."
    )
    passes: Annotated[int, Field(ge=1, le=MAX_LAYERS)] | None = Field(
        default=None,
        description="The blocks of a residual network are gone through so often, with the same weights: a small "
        "recursive network. All blocks must have one width then.",
    )

    @property
    def observation_size(self) -> int:
        return math.prod(self.observation_shape)

    @property
    def board(self) -> tuple[int, int, int]:
        """[C, H, W], what a convolutional network convolves."""
        channels, height, width = self.planes or self.observation_shape
        return channels, height, width

    @property
    def joined(self) -> int:
        """Numbers that meet in the linear layer of a convolutional network: the last block's, flattened, and those of
        the observation that are no planes."""
        channels, height, width = self.board
        return self.observation_size + (self.hidden[-1] - channels) * height * width

    @property
    def width(self) -> int:
        """Numbers that the heads read."""
        return self.features or self.hidden[-1]

    @property
    def outputs(self) -> int:
        """Numbers that leave the last linear layers, all heads together."""
        raise NotImplementedError

    @property
    def parameters(self) -> int:
        """How many float32 numbers the network has; known without building it."""
        count, width = 0, self.hidden[0]
        if self.kind == "perceptron":
            width = self.observation_size
            for out in self.hidden:
                count += (width + 1) * out + (2 * out if self.norm else 0)
                width = out
        else:
            convolves = self.kind == "convolutional"
            seen, inputs = (9, self.board[0]) if convolves else (1, self.observation_size)  # cells at once, channels
            count += (seen * inputs + 1) * width
            for out in self.hidden:
                count += 2 * width + (seen * width + 1) * out + (seen * out + 1) * out
                count += width * out if width != out else 0
                width = out
            count += 2 * width
            if convolves:
                count += (self.joined + 1) * self.width + 2 * self.width
        return count + (self.width + 1) * self.outputs

    @model_serializer(mode="wrap")
    def _written(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """See LATER_FIELDS."""
        plain: dict[str, Any] = write(self)
        return {name: value for name, value in plain.items() if value is not None or name not in LATER_FIELDS}

    @model_validator(mode="after")
    def _bounded(self) -> TrunkSpec:
        if self.kind != "perceptron" and not self.norm:
            raise ValueError("norm=False is for perceptrons: residual blocks do not train without it")
        if self.observation_size > MAX_OBSERVATION_SIZE:
            raise ValueError(f"observation_shape holds {self.observation_size} numbers, over {MAX_OBSERVATION_SIZE}")
        if self.kind == "convolutional":
            self._check_board()
        for name in LATER_FIELDS:
            kind = "residual" if name == "passes" else "convolutional"
            if getattr(self, name) is not None and self.kind != kind:
                raise ValueError(f"{name} is for {kind} networks; this one is a {self.kind} one")
        if self.passes is not None and len(set(self.hidden)) > 1:
            raise ValueError("hidden must be of one width where passes says that the blocks come again")
        if self.passes is not None and self.passes * len(self.hidden) > 2 * MAX_LAYERS:
            raise ValueError(f"passes times blocks is {self.passes * len(self.hidden)}, over {2 * MAX_LAYERS}")
        if self.parameters > MAX_PARAMETERS:
            raise ValueError(f"the network would have {self.parameters} parameters, over the {MAX_PARAMETERS} allowed")
        return self

    def _check_board(self) -> None:
        if self.features is None:
            raise ValueError("a convolutional network needs features, the width of the linear layer after its blocks")
        if self.planes is None and len(self.observation_shape) != 3:
            raise ValueError(
                "a convolutional network needs planes, the [C, H, W] that its observations begin with: "
                f"observation_shape is {list(self.observation_shape)}, not [C, H, W]"
            )
        channels, height, width = self.board
        if channels * height * width > self.observation_size:
            raise ValueError(
                f"planes {[channels, height, width]} are {channels * height * width} numbers, and an observation has "
                f"{self.observation_size}"
            )
        if height * width == 1:
            raise ValueError("planes of one cell have no neighbours to convolve with: use another kind")
        if (most := max(self.hidden) * height * width) > MAX_ACTIVATIONS:
            raise ValueError(f"a block would leave {most} numbers a row, over the {MAX_ACTIVATIONS} allowed")


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
