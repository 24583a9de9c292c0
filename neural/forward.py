"""Forward passes on one CPU core without needless overhead: what `evaluate` runs instead of the modules.

A network is flattened once into a short program of linear layers and normalisations, with its weights laid out
input-major, which matrix libraries read up to a third faster than torch's own layout. One compiled kernel then makes
the whole pass, without the interpreter's lock and without a tensor library's microseconds a layer; a search may call it
from inside its own kernel.

- A few rows (`FEW`): a layer is a sum of rows of its weights. Zeros, half of what leaves a ReLU, cost nothing.
- More rows: BLAS.

Both agree with the modules up to the order of summation.
"""

from __future__ import annotations

import numpy as np
import torch
from numba import njit, types
from numpy.typing import NDArray
from torch import Tensor, nn

from escalade.domains.base import FloatArray
from escalade.domains.evaluator import NATIVE, NativeCall
from escalade.neural.blas import addresses, limit_threads, multiply_add
from escalade.neural.trunks import Recursion, ResidualBlock

FEW = 4
LINEAR, NORM = 0, 1
NO_BIAS = -1
TANH, SIGMOID, WDL = range(3)
"""What a value head's output means; see `escalade.neural.networks.to_value`."""
HEADER = 7
"""The program begins with: sgemm's address, the thread limiter's, the greatest width, numbers observed, actions, kind
of value head, and the most rows that count as few. Steps of nine numbers follow: LINEAR or NORM, source, target,
inputs, outputs, whether a ReLU follows, whether to add to the target, place of the weights, of the bias or NO_BIAS."""
STEP = 9


class Forward:
    """A network's pass as it was when this was made.

    trunk: its layers. heads: linear layers that read the features, the policy's, if there is one, before the value's.
    """

    def __init__(self, trunk: nn.Sequential, heads: list[nn.Linear], observed: int, kind: str) -> None:
        program = _Program()
        features = program.trunk(trunk)
        weight, bias = torch.cat([head.weight for head in heads]), torch.cat([head.bias for head in heads])
        program.linear(weight, bias, features, (features + 1) % 3)
        self.actions = heads[0].out_features if len(heads) > 1 else 0
        value_kind = {"tanh": TANH, "sigmoid": SIGMOID, "wdl": WDL}[kind]
        self.native = NativeCall(
            evaluate, *program.finished(observed, self.actions, value_kind), observed, self.actions or None
        )

    def __call__(self, observations: FloatArray, legal: NDArray[np.bool_]) -> tuple[FloatArray, FloatArray]:
        """observations `[B, I]` float32 and legal `[B, A]`, contiguous, to logits `[B, A]` and values `[B]`."""
        logits, values = np.empty(legal.shape, np.float32), np.empty(len(observations), np.float32)
        evaluate(observations, legal, self.native.integers, self.native.numbers, logits, values)
        return logits, values


class _Program:
    """Steps over three registers, each `[B, width]`; the observations begin in register 0."""

    def __init__(self) -> None:
        self._rows: list[tuple[int, ...]] = []
        self._tensors: list[tuple[Tensor, Tensor | None]] = []

    def trunk(self, trunk: nn.Sequential) -> int:
        """Add the trunk's steps. Returns the register its features end in."""
        at = 0
        for layer in trunk:
            at = self._layer(layer, at)
        return at

    def _layer(self, layer: nn.Module, at: int) -> int:
        """Add a layer's steps, from one register. Returns the one that its result is in."""
        if isinstance(layer, nn.Linear):
            self.linear(layer.weight, layer.bias, at, (at + 1) % 3)
            return (at + 1) % 3
        if isinstance(layer, ResidualBlock):
            return self._block(layer, at)
        if isinstance(layer, Recursion):
            for block in [*layer.blocks] * layer.passes:
                at = self._layer(block, at)
        elif isinstance(layer, nn.LayerNorm):
            self._norm(layer, at, at)
        elif isinstance(layer, nn.ReLU):
            self._rectify()
        elif not isinstance(layer, nn.Dropout):
            raise TypeError(f"no step for a layer of type {type(layer).__name__}")
        return at

    def _block(self, block: ResidualBlock, at: int) -> int:
        inner, other = (at + 1) % 3, (at + 2) % 3
        self._norm(block.norm, at, inner)
        self.linear(block.first.weight, block.first.bias, inner, other)
        self._rectify()
        if isinstance(block.shortcut, nn.Linear):
            self.linear(block.shortcut.weight, None, at, inner)
            self.linear(block.second.weight, block.second.bias, other, inner, add=True)
            return inner
        self.linear(block.second.weight, block.second.bias, other, at, add=True)
        return at

    def linear(self, weight: Tensor, bias: Tensor | None, source: int, target: int, add: bool = False) -> None:
        transposed = weight.detach().t().contiguous()
        self._rows.append((LINEAR, source, target, *transposed.shape, 0, int(add)))
        self._tensors.append((transposed, None if bias is None else bias.detach()))

    def _norm(self, layer: nn.LayerNorm, source: int, target: int) -> None:
        width = layer.normalized_shape[0]
        self._rows.append((NORM, source, target, width, width, 0, 0))
        self._tensors.append((layer.weight.detach(), layer.bias.detach()))

    def _rectify(self) -> None:
        """The last step is followed by a ReLU."""
        self._rows[-1] = (*self._rows[-1][:5], 1, self._rows[-1][6])

    def finished(self, observed: int, actions: int, kind: int) -> tuple[NDArray[np.int64], FloatArray]:
        """The program and all weights as kernels read them."""
        place, parts, steps = 0, [], []
        for row, (weight, bias) in zip(self._rows, self._tensors, strict=True):
            steps += [*row, place, NO_BIAS if bias is None else place + weight.numel()]
            for tensor in (weight, bias):
                if tensor is not None:
                    parts.append(tensor.float().numpy().reshape(-1))
                    place += tensor.numel()
        width = max(max(row[3], row[4]) for row in self._rows)
        weights = np.concatenate(parts)
        few = FEW if np.isfinite(weights).all() else 0  # leaving out zeros would hide what is not finite
        return np.array([*addresses(), width, observed, actions, kind, few, *steps], np.int64), weights


@njit(nogil=True, cache=True, fastmath={"contract", "nsz"}, error_model="numpy")
def _sum_of_rows(x, y, weights, used):  # type: ignore[no-untyped-def]
    """y += x w, of one row x `[K]`, y `[N]`, weights `[K * N]`: four inputs at a time, so that y is read and written
    less often. used `[>= K]` int64 is room for the places of what is not zero."""
    outputs = y.shape[0]
    count = 0
    for i in range(x.shape[0]):
        used[count] = i
        count += x[i] != 0
    k = 0
    while k + 4 <= count:
        i0, i1, i2, i3 = used[k], used[k + 1], used[k + 2], used[k + 3]
        w0, w1 = weights[i0 * outputs : (i0 + 1) * outputs], weights[i1 * outputs : (i1 + 1) * outputs]
        w2, w3 = weights[i2 * outputs : (i2 + 1) * outputs], weights[i3 * outputs : (i3 + 1) * outputs]
        x0, x1, x2, x3 = x[i0], x[i1], x[i2], x[i3]
        for j in range(outputs):
            y[j] += x0 * w0[j] + x1 * w1[j] + x2 * w2[j] + x3 * w3[j]
        k += 4
    while k < count:
        row = weights[used[k] * outputs : (used[k] + 1) * outputs]
        for j in range(outputs):
            y[j] += x[used[k]] * row[j]
        k += 1


@njit(nogil=True, cache=True, fastmath={"contract", "nsz", "reassoc"}, error_model="numpy")
def _normalise(x, y, gain, shift):  # type: ignore[no-untyped-def]
    """LayerNorm of one row, with torch's eps of 1e-5."""
    size = x.shape[0]
    mean = np.float32(0)
    for i in range(size):
        mean += x[i]
    mean /= np.float32(size)
    variance = np.float32(0)
    for i in range(size):
        variance += (x[i] - mean) * (x[i] - mean)
    factor = np.float32(1) / np.sqrt(variance / np.float32(size) + np.float32(1e-5))
    for i in range(size):
        y[i] = (x[i] - mean) * factor * gain[i] + shift[i]


@njit(nogil=True, cache=True, error_model="numpy")
def _value(head, kind):  # type: ignore[no-untyped-def]
    if kind == TANH:
        return np.tanh(head[0])
    if kind == SIGMOID:
        return np.tanh(head[0] * np.float32(0.5))  # 2 sigmoid(x) - 1
    top = max(head[0], max(head[1], head[2]))
    win, draw, loss = np.exp(head[0] - top), np.exp(head[1] - top), np.exp(head[2] - top)
    return (win - loss) / (win + draw + loss)


@njit(types.void(*NATIVE.args), nogil=True, cache=True, error_model="numpy")
def evaluate(observations, legal, program, weights, logits, values):  # type: ignore[no-untyped-def]
    """One pass. observations `[B, I]`; logits `[B, A]` and values `[B]` are written. See HEADER for the program."""
    rows, width = observations.shape[0], program[2]
    room = np.empty(3 * rows * width, np.float32)
    few = rows <= program[6]
    used = np.empty(max(width, program[3]) if few else 0, np.int64)
    threads = np.int64(0)
    if not few and program[1] != 0:
        threads = limit_threads(program[1], 1)  # cores are for other calls, not for one product
    source = observations
    for at in range(HEADER, program.shape[0], STEP):
        inputs, outputs, place, bias = program[at + 3], program[at + 4], program[at + 7], program[at + 8]
        if at > HEADER:
            start = program[at + 1] * rows * width
            source = room[start : start + rows * inputs].reshape(rows, inputs)
        start = program[at + 2] * rows * width
        target = room[start : start + rows * outputs].reshape(rows, outputs)
        if program[at] == NORM:
            for b in range(rows):
                _normalise(source[b], target[b], weights[place : place + inputs], weights[bias : bias + inputs])
        else:
            matrix, add = weights[place : place + inputs * outputs], program[at + 6] == 1
            if few:
                for b in range(rows):
                    for j in range(outputs):
                        target[b, j] = target[b, j] if add else np.float32(0)
                    _sum_of_rows(source[b], target[b], matrix, used)
            else:
                kept = np.float32(1) if add else np.float32(0)
                multiply_add(program[0], source, matrix.reshape(inputs, outputs), kept, target)
            if bias >= 0:
                shift, least = weights[bias : bias + outputs], np.float32(0 if program[at + 5] else -np.inf)
                for b in range(rows):
                    for j in range(outputs):
                        target[b, j] = max(target[b, j] + shift[j], least)
                continue
        if program[at + 5]:
            for b in range(rows):
                for j in range(outputs):
                    target[b, j] = max(target[b, j], np.float32(0))
    if not few and program[1] != 0:
        limit_threads(program[1], threads)
    start, outputs, actions = program[-7] * rows * width, program[-5], program[4]
    result = room[start : start + rows * outputs].reshape(rows, outputs)
    for b in range(rows):
        for a in range(logits.shape[1]):
            logits[b, a] = result[b, a] if actions > 0 else np.float32(0)
        values[b] = _value(result[b, actions:], program[5])
