"""Descent: a network, its moving average and the optimizer, through batches of targets.

AdamW (I. Loshchilov, F. Hutter, ICLR 2019), gradients clipped, a learning rate that falls along half a cosine, and an
exponential moving average of the weights, which is what plays and is kept. With several processes (torchrun) each takes
its share of every batch; sums and gradients are those of the whole batch, so the losses are those of one process up to
rounding.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, distributed, nn

from escalade.domains.base import Symmetry
from escalade.domains.errors import EscaladeError, SettingsError
from escalade.neural.files import write_whole
from escalade.neural.losses import policy_loss, value_loss
from escalade.neural.networks import PolicyValueNetwork
from escalade.neural.spec import NetworkSpec
from escalade.search.config import whole
from escalade.training.start import grown
from escalade.training.validation import Validation, validate
from escalade.training.window import Targets, batches

GRADIENT_NORM = 1.0
"""Gradients longer than this are shortened to it."""
BAD_STEPS, ROLLBACKS = 3, 3
"""After so many steps in a row without a number for a loss the weights go back to where the epoch began, with half the
learning rate; after going back so often without a pass in between that did not, training ends."""


class TrainingError(EscaladeError):
    """Training cannot go on."""


@dataclass(frozen=True)
class LearnerConfig:
    """batch_size: positions a step, over all processes.
    learning_rate: of the first step; it falls to 0 at the end of the run.
    weight_decay: AdamW's, on matrices only; biases and norms keep their scale.
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
    value_weight: float = 1.0
    average: float = 0.995
    threads: int = 1
    precision: Literal["float32", "bfloat16", "auto"] = "float32"

    def __post_init__(self) -> None:
        whole("batch_size", self.batch_size, 1)
        whole("threads", self.threads, 1)
        for name in ("learning_rate", "weight_decay", "value_weight"):
            if not 0 <= getattr(self, name) < math.inf or (name == "learning_rate" and not self.learning_rate):
                least = "above 0" if name == "learning_rate" else "at least 0"
                raise SettingsError(f"{name} must be a number {least}, not {getattr(self, name)!r}")
        if self.precision not in ("float32", "bfloat16", "auto"):
            raise SettingsError(f"precision must be float32, bfloat16 or auto, not {self.precision!r}")
        if not 0 <= self.average < 1:
            raise SettingsError(f"average must be at least 0 and below 1, not {self.average!r}")


@dataclass(frozen=True)
class Pass:
    """One pass over the targets. policy_loss (cross-entropy, nats), value_loss: means as the batches were met, before
    each step. skipped: steps without a number for a loss. rollbacks: how often the weights went back."""

    policy_loss: float
    value_loss: float
    learning_rate: float
    steps: int
    skipped: int = 0
    rollbacks: int = 0


class Learner:
    """A new network, or one that goes on. seed: of its first weights. start: whose weights it has instead
    (`escalade.training.start.grown`)."""

    def __init__(
        self,
        spec: NetworkSpec,
        config: LearnerConfig,
        *,
        seed: int,
        device: str = "cpu",
        start: PolicyValueNetwork | None = None,
    ) -> None:
        self.config = config
        self.device = torch.device(device)
        self._short = config.precision == "bfloat16" or (config.precision == "auto" and has_bfloat16(self.device))
        if start is None:
            with torch.random.fork_rng(devices=[]):  # leaves the caller's random numbers as they were
                torch.manual_seed(seed)
                self.network = PolicyValueNetwork(spec).to(self.device)
        else:
            self.network = grown(start, spec, seed=seed).to(self.device)
        self.averaged = copy.deepcopy(self.network).eval()
        self.kept = copy.deepcopy(self.averaged)
        self.steps = 0
        self._slower = 1.0  # factor on the learning rate, halved by each rollback
        self._rollbacks = 0  # since the last pass without any
        self._begin_descent()

    def _begin_descent(self) -> None:
        self._optimizer = torch.optim.AdamW(
            parameter_groups(self.network, self.config.weight_decay), lr=self.config.learning_rate, fused=True
        )
        self._trained: nn.Module = self.network
        if distributed.is_initialized():
            self._trained = nn.parallel.DistributedDataParallel(self.network)

    def learn(
        self,
        targets: Targets,
        *,
        seed: int | Sequence[int],
        symmetries: Sequence[Symmetry] = (),
        span: tuple[float, float] = (0.0, 1.0),
        on_step: Callable[[int, int], None] | None = None,
        by_clock: Callable[[], tuple[float, bool]] | None = None,
    ) -> Pass:
        """One pass over all targets in random order. seed: of the order, the symmetries and dropout; one a pass.

        span: how far the run is, from 0 to 1, when the pass begins and ends; the learning rate follows.
        on_step: hears how many steps are made, and of how many.
        by_clock: before each step, how far the run is at least, and whether the time for the fit is over: then the pass
            ends.
        Raises TrainingError if losses stay without a number.
        """
        random = np.random.default_rng(seed)
        size = self.config.batch_size
        planned = max(1, round(len(targets.value) / size))
        rank, world = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
        before = self._snapshot()
        totals, weights, made, skipped, bad, back = np.zeros(2), np.zeros(2), 0, 0, 0, 0
        end = span[1]
        with torch.random.fork_rng(devices=[]), torch_threads(self.config.threads):
            torch.manual_seed(int(random.integers(2**63)) + rank)
            self.network.train()
            for number, (batch, weight) in enumerate(batches(targets, size, random, symmetries, part=(rank, world))):
                progress = span[0] + (span[1] - span[0]) * (number + 1) / planned
                if by_clock is not None:
                    timed, over = self._agreed(by_clock())
                    progress = max(progress, timed)
                    if over and made:
                        end = progress
                        break
                losses = self._step(batch, weight, world, progress)
                if losses is None:
                    skipped, bad = skipped + 1, bad + 1
                    if bad == BAD_STEPS:
                        back, bad = back + 1, 0
                        self._go_back(before)
                else:
                    bad = 0
                    totals += np.array(losses) * weight
                    weights += weight
                made += 1
                if on_step is not None:
                    on_step(made, planned)
            self.network.eval()
        if made and skipped == made:
            raise TrainingError("the loss is no number at any step: lower learning_rate, or look for wrong targets")
        self._rollbacks = self._rollbacks if back else 0
        means = (totals / np.where(weights > 0, weights, np.nan)).tolist()
        return Pass(means[0], means[1], self._rate(end), made, skipped, back)

    def _agreed(self, timed: tuple[float, bool]) -> tuple[float, bool]:
        """What the first of several processes read off its clock."""
        if not distributed.is_initialized():
            return timed
        said = torch.tensor([timed[0], float(timed[1])], device=self.device)
        distributed.broadcast(said, 0)
        return float(said[0]), bool(said[1])

    def _go_back(self, before: tuple[dict[str, Tensor], dict[str, float]]) -> None:
        rollbacks, slower = self._rollbacks + 1, self._slower / 2
        if rollbacks > ROLLBACKS:
            raise TrainingError(
                f"the loss is no number, even after {ROLLBACKS} returns to earlier weights and lower learning rates: "
                "lower learning_rate, or look for wrong targets"
            )
        self._restore(before)
        self._rollbacks, self._slower = rollbacks, slower

    def _step(
        self, batch: Targets, weight: tuple[float, float], world: int, progress: float
    ) -> tuple[float, float] | None:
        """One step; both losses before it, None if they are no numbers. weight: sums of the policies' and the values'
        weights over the whole batch, of which this process may have a part."""
        observation, legal, policy, value, policies, values = (
            torch.from_numpy(np.asarray(array)).to(self.device, non_blocking=True) for array in batch
        )
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._short):
            logits, output = (head.float() for head in self._trained(observation.float()))
        # Gradients of processes are averaged; these are sums.
        on_policy = policy_loss(logits, legal, policy, policies * (world / max(weight[0], 1e-9)))
        on_value = value_loss(output, value, self.network.spec.value_head, values * (world / max(weight[1], 1e-9)))
        self._optimizer.zero_grad()
        torch.autograd.backward(on_policy + self.config.value_weight * on_value)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM)
        seen = torch.stack([on_policy.detach(), on_value.detach(), norm.detach()]) / world
        if world > 1:
            distributed.all_reduce(seen)
        first, second, length = seen.tolist()
        if not math.isfinite(first + second + length):
            return None
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate(progress)
        self._optimizer.step()
        self.steps += 1
        self._average()
        return first, second

    def _rate(self, progress: float) -> float:
        """Half a cosine (I. Loshchilov, F. Hutter, "SGDR", ICLR 2017), never quite 0 before the end."""
        return self.config.learning_rate * self._slower * 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))

    @torch.no_grad()
    def _average(self) -> None:
        kept = min(self.config.average, self.steps / (self.steps + 10)) if self.config.average else 0.0
        torch._foreach_lerp_(list(self.averaged.parameters()), list(self.network.parameters()), 1 - kept)

    def validate(self, targets: Targets) -> Validation:
        """What the averaged network is worth on other targets."""
        return validate(self.averaged, targets)

    def keep(self) -> None:
        """Remember the average as it is now: the best so far."""
        self.kept.load_state_dict(self.averaged.state_dict())

    # Going on elsewhere

    def save(self, path: Path, notes: dict[str, Any] | None = None) -> None:
        """Write all that descent goes on from, atomically, with notes (JSON) that `load` returns."""
        tensors, numbers = self._snapshot()
        about = {"numbers": json.dumps(numbers), "notes": json.dumps(notes or {})}
        raw = save({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, about)
        write_whole(path, lambda file: file.write(raw))

    def load(self, path: Path) -> dict[str, Any]:
        """Go on from what `save` wrote. Raises TrainingError if it is damaged or of another network."""
        try:
            with safe_open(path, "pt") as file:
                about = file.metadata() or {}
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            self._restore((tensors, json.loads(about["numbers"])))
            notes: dict[str, Any] = json.loads(about["notes"])
        except Exception as error:
            raise TrainingError(f"checkpoint '{path.name}' cannot be used: {error}") from error
        return notes

    def _snapshot(self) -> tuple[dict[str, Tensor], dict[str, float]]:
        tensors = {f"network.{name}": tensor for name, tensor in self.network.state_dict().items()}
        tensors |= {f"averaged.{name}": tensor for name, tensor in self.averaged.state_dict().items()}
        tensors |= {f"kept.{name}": tensor for name, tensor in self.kept.state_dict().items()}
        for number, state in self._optimizer.state_dict()["state"].items():
            tensors |= {f"adam.{number}.{name}": value for name, value in state.items()}
        copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        return copies, {"steps": self.steps, "slower": self._slower, "rollbacks": self._rollbacks}

    def _restore(self, snapshot: tuple[dict[str, Tensor], dict[str, float]]) -> None:
        tensors, numbers = snapshot
        parts: dict[str, dict[str, Tensor]] = {"network": {}, "averaged": {}, "kept": {}, "adam": {}}
        for name, tensor in tensors.items():
            part, rest = name.split(".", 1)
            parts[part][rest] = tensor.clone()
        self.network.load_state_dict(parts["network"])
        self.averaged.load_state_dict(parts["averaged"])
        self.kept.load_state_dict(parts["kept"])
        states: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["adam"].items():
            number, rest = name.split(".", 1)
            states.setdefault(int(number), {})[rest] = tensor
        groups = self._optimizer.state_dict()["param_groups"]
        self._optimizer.load_state_dict({"state": states, "param_groups": groups})
        self.steps, self._rollbacks = int(numbers["steps"]), int(numbers["rollbacks"])
        self._slower = float(numbers["slower"])


def has_bfloat16(device: torch.device) -> bool:
    """Whether a device multiplies bfloat16 matrices faster than float32 ones."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def parameter_groups(module: nn.Module, weight_decay: float) -> list[dict[str, object]]:
    """AdamW's groups: matrices decay, vectors (biases, LayerNorm) do not."""
    parameters = list(module.parameters())
    return [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch's threads inside one operation, set for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
