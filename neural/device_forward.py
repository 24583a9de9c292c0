"""Forward passes on an accelerator without needless overhead: what `evaluate` runs there instead of the modules.

- Batches are padded to a few sizes (`BUCKETS`), so that each size is prepared once and replayed as a CUDA graph: one
  launch a pass instead of one a layer.
- Observations and answers travel through pinned memory with copies that do not block, on a stream of their own; several
  lanes let one thread's copies and kernels run while another thread's search selects.
- Products are made in bfloat16 where the answers stay close enough (`TOLERANCE`) to those of float32 on a probe, and in
  float32 otherwise.

Without a GPU the same code runs eagerly on the CPU, which is how its tests run there.
"""

from __future__ import annotations

import queue
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import numpy as np
import torch
from torch import Tensor

from escalade.domains.base import BoolArray, FloatArray

BUCKETS = (1, 8, 32, 128, 256, 512, 1024, 2048, 4096)
"""Rows a pass; larger batches are cut."""
TOLERANCE = 0.01
"""How far bfloat16 may move a probability of the policy, or a value, on the probe."""
PROBE_ROWS = 256
Network = Callable[[Tensor], tuple[Tensor, Tensor]]
LANES = 2


class DeviceForward:
    """A network's pass on its device as it was when this was made.

    network: maps observations `[B, I]` to policy logits `[B, A]` and values `[B]` in [-1, 1]. probe: observations that
    the choice of the number format is made on; random zeros and ones by default, as encodings of boards are.
    """

    def __init__(self, network: Network, inputs: int, device: torch.device, probe: FloatArray | None = None) -> None:
        self._network = network
        self._inputs = inputs
        self._device = device
        if probe is None:
            probe = np.random.default_rng(0).integers(0, 2, (PROBE_ROWS, inputs)).astype(np.float32)
        self.bfloat16, self.difference = self._choose(torch.from_numpy(probe).to(device))
        self._lanes: queue.LifoQueue[_Lane] = queue.LifoQueue()
        for _ in range(LANES):
            self._lanes.put(_Lane(self))

    def __call__(self, observations: FloatArray, legal: BoolArray) -> tuple[FloatArray, FloatArray]:
        """observations `[B, I]` float32 and legal `[B, A]` to logits `[B, A]` and values `[B]`, float32."""
        logits, values = np.empty(legal.shape, np.float32), np.empty(len(observations), np.float32)
        lane = self._lanes.get()
        try:
            for first in range(0, len(observations), BUCKETS[-1]):
                last = min(first + BUCKETS[-1], len(observations))
                found, guessed = lane.run(observations[first:last])
                logits[first:last] = found[:, : legal.shape[1]] if found.shape[1] else 0
                values[first:last] = guessed
        finally:
            self._lanes.put(lane)
        return logits, values

    def compute(self, observations: Tensor, bfloat16: bool) -> tuple[Tensor, Tensor]:
        """On the device, in one of the two formats; the answers are float32."""
        lowered = torch.autocast(self._device.type, torch.bfloat16) if bfloat16 else nullcontext()
        with torch.inference_mode(), lowered:
            logits, values = self._network(observations)
        return logits.float(), values.float()

    def _choose(self, probe: Tensor) -> tuple[bool, float]:
        """Whether bfloat16 is close enough, and how far off it is."""
        if self._device.type != "cuda":
            return False, 0.0
        exact, close = self.compute(probe, False), self.compute(probe, True)
        differences = [(exact[1] - close[1]).abs().max()]
        if exact[0].shape[1]:
            differences.append((exact[0].softmax(dim=1) - close[0].softmax(dim=1)).abs().max())
        worst = float(torch.stack(differences).max())
        return worst <= TOLERANCE, worst


class _Lane:
    """Buffers and recorded passes of one call at a time."""

    def __init__(self, owner: DeviceForward) -> None:
        self._owner = owner
        self._cuda = owner._device.type == "cuda"
        self._stream: Any = torch.cuda.Stream(owner._device) if self._cuda else None  # type: ignore[no-untyped-call]
        self._passes: dict[int, tuple[Tensor, Tensor, Any, Tensor, Tensor, Tensor, Tensor]] = {}

    def run(self, observations: FloatArray) -> tuple[FloatArray, FloatArray]:
        rows = len(observations)
        bucket = next(size for size in BUCKETS if size >= rows)
        if bucket not in self._passes:
            self._passes[bucket] = self._prepared(bucket)
        host, given, graph, logits, values, host_logits, host_values = self._passes[bucket]
        host[:rows].copy_(torch.from_numpy(np.ascontiguousarray(observations)))
        with torch.cuda.stream(self._stream) if self._cuda else nullcontext():
            given[:rows].copy_(host[:rows], non_blocking=True)
            if graph is not None:
                graph.replay()
            else:
                logits, values = self._owner.compute(given, self._owner.bfloat16)
            host_logits[:rows].copy_(logits[:rows], non_blocking=True)
            host_values[:rows].copy_(values[:rows], non_blocking=True)
        if self._stream is not None:
            self._stream.synchronize()
        return host_logits[:rows].numpy().copy(), host_values[:rows].numpy().copy()

    def _prepared(self, bucket: int) -> tuple[Tensor, Tensor, Any, Tensor, Tensor, Tensor, Tensor]:
        owner = self._owner
        host = torch.zeros(bucket, owner._inputs, pin_memory=self._cuda)
        given = torch.zeros(bucket, owner._inputs, device=owner._device)
        graph = None
        if self._cuda:
            assert self._stream is not None
            self._stream.wait_stream(torch.cuda.current_stream(owner._device))
            with torch.cuda.stream(self._stream):
                for _ in range(3):  # libraries set themselves up before a pass can be recorded
                    owner.compute(given, owner.bfloat16)
            self._stream.synchronize()
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=self._stream):
                logits, values = owner.compute(given, owner.bfloat16)
        else:
            logits, values = owner.compute(given, owner.bfloat16)
        host_logits = torch.zeros(logits.shape, pin_memory=self._cuda)
        host_values = torch.zeros(values.shape, pin_memory=self._cuda)
        return host, given, graph, logits, values, host_logits, host_values
