"""The networks: a trunk of linear layers, or of convolutions, with heads for the policy and the value.

Conventions. Observations are float32 `[B, *O]`, flattened to `[B, prod(O)]`. LayerNorm (J. L. Ba et al., 2016)
rather than batch normalisation, so a row's estimate does not depend on what shares its batch and a batch of one
works. `forward` returns what the heads give before any squashing, which is what losses want; `to_value` is the one
place where that becomes a value in [-1, 1] from the view of the player to move.

Inference. `evaluate`, `values` and what builds on them turn dropout off, track no gradients and may be called from
many threads. On one CPU a row's result can differ in the last bits with the size of its batch, as the matrix library
picks another order of summation.

Threads. How many threads share one matrix product is a setting of the whole process, so it is left to the
application: `torch.set_num_threads(1)` at its start is right for serving, and wherever search or an event loop works
beside the networks. The threads of a product wait for each other actively, so a core that is busy with anything else
delays all of them by whole time slices; more than one pays only for batches of 64 rows and up on cores that are idle.
A call of `evaluate` on a CPU takes one thread, wherever that can be set for one call.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from escalade.domains.base import BoolArray, FloatArray, IntArray
from escalade.domains.evaluator import BatchHints, NativeCall, usable_cores
from escalade.neural import actions
from escalade.neural.convolution import ModuleForward
from escalade.neural.device_forward import LANES, DeviceForward
from escalade.neural.forward import Forward
from escalade.neural.spec import NetworkSpec, TrunkSpec, ValueSpec
from escalade.neural.trunks import build_trunk

ValueKind = Literal["tanh", "sigmoid", "wdl"]
WIN, DRAW, LOSS = 0, 1, 2
"""Order of the win-draw-loss logits, from the view of the player to move."""


def to_value(output: Tensor, kind: ValueKind) -> Tensor:
    """What a value head gives, as values `[B]` in [-1, 1].

    output: `[B, 1]` (tanh, sigmoid: before squashing) or `[B, 3]` (wdl: logits of win, draw, loss).
    A sigmoid's [0, 1] is stretched to [-1, 1]; win-draw-loss gives P(win) - P(loss).
    """
    if kind == "wdl":
        chances = output.softmax(dim=1)
        return chances[:, WIN] - chances[:, LOSS]
    if kind == "sigmoid":
        return output[:, 0].sigmoid() * 2.0 - 1.0
    return output[:, 0].tanh()


class EvaluatingNetwork(nn.Module):
    """A trunk with heads, and how it is asked fast: on the CPU by a flattened copy of its weights, made again once they
    have changed (`escalade.neural.forward`), or by a copy of its modules if they are convolutions
    (`escalade.neural.convolution`); elsewhere by its modules in prepared passes (`escalade.neural.device_forward`).

    Changes are noticed where torch counts them: in-place operations and replaced parameters. After others (`.data`, a
    fused optimiser, a NumPy view) call `eval()`.
    """

    spec: Any  # a NetworkSpec or a ValueSpec
    trunk: nn.Sequential
    value_head: nn.Linear

    def __init__(self) -> None:
        super().__init__()
        self._fast: tuple[list[_Seen], _Pass] | None = None

    @property
    def observation_shape(self) -> tuple[int, ...]:
        shape: tuple[int, ...] = self.spec.observation_shape
        return shape

    @property
    def device(self) -> torch.device:
        return self.value_head.weight.device

    @property
    def hints(self) -> BatchHints:
        """On the CPU 64 rows use a core about as well as any number do, and other cores may run other calls."""
        if self.device.type == "cpu":
            return BatchHints(rows=64, calls=usable_cores())
        return BatchHints(calls=LANES)

    def heads(self) -> list[nn.Linear]:
        """The policy's, if there is one, before the value's."""
        raise NotImplementedError

    def native(self) -> NativeCall | None:
        """On the CPU, the network as it is now as a compiled function; None if it has convolutions."""
        forward = self._forward()
        return forward.native if isinstance(forward, Forward) else None

    def _estimate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        """Logits `[B, A]` (zeros if there is no policy) and values `[B]` for observations `[B, *O]` float32."""
        flat = np.require(observations.reshape(len(observations), self.spec.observation_size), None, ("C", "W"))
        return self._forward()(flat, np.require(legal, None, ("C", "W")))

    def _forward(self) -> _Pass:
        if self.training:
            self.eval()
        fast = self._fast
        if fast is None or not _unchanged(fast[0]):
            seen = [
                (module._parameters, name, weight, _version(weight))
                for module in self.modules()
                for name, weight in module._parameters.items()
            ]
            size = self.spec.observation_size
            forward: _Pass
            if self.device.type != "cpu":
                forward = DeviceForward(self._answer, size, self.device)
            elif self.spec.kind == "convolutional":
                forward = ModuleForward(copy.deepcopy(self).eval()._answer)
            else:
                forward = Forward(self.trunk, self.heads(), size, self._value_kind)
            fast = (seen, forward)
            self._fast = fast
        return fast[1]

    def _answer(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        """Observations `[B, I]` to logits `[B, A]` (A is 0 without a policy) and values `[B]`, on the device."""
        features = self.trunk(observations)
        *policy, output = (head(features) for head in self.heads())
        logits = policy[0] if policy else features[:, :0]
        return logits, to_value(output.float(), self._value_kind)

    @property
    def _value_kind(self) -> ValueKind:
        kind: ValueKind = self.spec.value_head if isinstance(self.spec, NetworkSpec) else self.spec.output
        return kind

    def _apply(self, function: Any, recurse: bool = True) -> Self:
        self._fast = None  # moved, or of another type
        return super()._apply(function, recurse)  # type: ignore[no-untyped-call]

    def train(self, mode: bool = True) -> Self:
        self._fast = None
        return super().train(mode)

    def __getstate__(self) -> dict[str, Any]:
        """Copies make their own flattened weights: those hold addresses of this process."""
        return {**self.__dict__, "_fast": None}


_Pass = Forward | ModuleForward | DeviceForward
_Seen = tuple[dict[str, nn.Parameter | None], str, nn.Parameter | None, int]
"""Where a weight is, which it was, and how often it had been changed."""


def _version(weight: Tensor | None) -> int:
    return 0 if weight is None or weight.is_inference() else weight._version


def _unchanged(seen: list[_Seen]) -> bool:
    for owner, name, weight, version in seen:
        if owner.get(name) is not weight or _version(weight) != version:
            return False
    return True


class PolicyValueNetwork(EvaluatingNetwork):
    """One trunk, two heads; an `Evaluator`.

    forward: observations `[B, *O]` float32 to logits `[B, A]` and the value head's output (`to_value` reads it).
    """

    spec: NetworkSpec

    def __init__(self, spec: NetworkSpec) -> None:
        super().__init__()
        self.spec = spec
        self.trunk = build_trunk(spec)
        self.policy_head = nn.Linear(spec.width, spec.num_actions)
        self.value_head = nn.Linear(spec.width, 3 if spec.value_head == "wdl" else 1)

    @property
    def num_actions(self) -> int:
        return self.spec.num_actions

    def heads(self) -> list[nn.Linear]:
        return [self.policy_head, self.value_head]

    def forward(self, observations: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(_flat(observations, self.spec))
        return self.policy_head(features), self.value_head(features)

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        """observations `[B, *O]` float32 and legal `[B, A]` bool to logits `[B, A]` float32 (not masked) and values
        `[B]` float32 in [-1, 1]. Raises ValueError for other shapes or dtypes. Leaves the network in eval mode."""
        _check(observations, self.spec)
        _check_legal(legal, len(observations), self.spec.num_actions)
        return self._estimate(observations, legal)

    def action_probabilities(
        self, observations: FloatArray, legal: BoolArray, temperature: float = 1.0, top_k: int | None = None
    ) -> FloatArray:
        """`[B, A]` float32; see `escalade.neural.actions.action_probabilities`."""
        logits, _ = self.evaluate(observations, legal)
        return actions.action_probabilities(logits, legal, temperature, top_k)

    def select_action(
        self,
        observations: FloatArray,
        legal: BoolArray,
        temperature: float = 1.0,
        top_k: int | None = None,
        generator: np.random.Generator | None = None,
    ) -> IntArray:
        """`[B]` int64; see `escalade.neural.actions.select_action`."""
        logits, _ = self.evaluate(observations, legal)
        return actions.select_action(logits, legal, temperature, top_k, generator)


class ValueNetwork(EvaluatingNetwork):
    """The value alone; an `Evaluator` without an opinion on actions.

    forward: observations `[B, *O]` float32 to `[B, 1]`, before squashing.
    """

    spec: ValueSpec

    def __init__(self, spec: ValueSpec) -> None:
        super().__init__()
        self.spec = spec
        self.trunk = build_trunk(spec)
        self.value_head = nn.Linear(spec.width, 1)

    def heads(self) -> list[nn.Linear]:
        return [self.value_head]

    def forward(self, observations: Tensor) -> Tensor:
        output: Tensor = self.value_head(self.trunk(_flat(observations, self.spec)))
        return output

    def values(self, observations: FloatArray) -> FloatArray:
        """observations `[B, *O]` float32 to values `[B]` float32 in [-1, 1], whatever the range of the head.
        Raises ValueError for another shape or dtype. Leaves the network in eval mode."""
        _check(observations, self.spec)
        return self._estimate(observations, np.zeros((len(observations), 0), np.bool_))[1]

    def evaluate(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        """As `PolicyValueNetwork.evaluate`, with logits all 0: a uniform prior."""
        values = self.values(observations)
        _check_legal(legal, len(values), legal.shape[-1] if legal.ndim else 0)
        return np.zeros(legal.shape, dtype=np.float32), values


def _check_legal(legal: BoolArray, rows: int, num_actions: int) -> None:
    if legal.shape != (rows, num_actions) or legal.dtype != np.bool_:
        raise ValueError(f"legal must be bool {[rows, num_actions]}, not {legal.dtype} {list(legal.shape)}")


def _flat(observations: Tensor, spec: TrunkSpec) -> Tensor:
    return observations.reshape(len(observations), spec.observation_size)


def _check(observations: FloatArray, spec: TrunkSpec) -> None:
    if observations.ndim == 0 or observations.shape[1:] != spec.observation_shape:
        raise ValueError(f"observations must be {_batch_of(spec.observation_shape)}, not {list(observations.shape)}")
    if observations.dtype != np.float32:
        raise ValueError(f"observations must be float32, not {observations.dtype}")


def _batch_of(shape: Sequence[int]) -> str:
    return f"[{', '.join(['B', *map(str, shape)])}]"
