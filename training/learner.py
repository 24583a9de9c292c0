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
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save
from torch import Tensor, distributed, nn

from escalade.domains.base import Symmetry
from escalade.domains.errors import EscaladeError
from escalade.neural.files import write_whole
from escalade.neural.losses import policy_loss, value_loss
from escalade.neural.networks import PolicyValueNetwork
from escalade.neural.spec import NetworkSpec
from escalade.training.optimizers import LearnerConfig, has_bfloat16, optimizers
from escalade.training.start import grown
from escalade.training.validation import Validation, validate
from escalade.training.window import Targets, batches, times_shown

GRADIENT_NORM = 1.0
"""Gradients longer than this are shortened to it."""
BAD_STEPS, ROLLBACKS = 3, 3
"""After so many steps in a row without a number for a loss the weights go back to where the epoch began, with half the
learning rate; after going back so often without a pass in between that did not, training ends."""


class TrainingError(EscaladeError):
    """Training cannot go on."""


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
        self._optimizers = optimizers(self.network, self.config)
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
        planned = max(1, round(int(times_shown(targets, self.config.repeats).sum()) / size))
        rank, world = (distributed.get_rank(), distributed.get_world_size()) if distributed.is_initialized() else (0, 1)
        before = self._snapshot()
        totals, weights, made, skipped, bad, back = np.zeros(2), np.zeros(2), 0, 0, 0, 0
        end = span[1]
        with torch.random.fork_rng(devices=[]), torch_threads(self.config.threads):
            torch.manual_seed(int(random.integers(2**63)) + rank)
            self.network.train()
            shown = batches(targets, size, random, symmetries, (rank, world), self.config.repeats)
            for number, (batch, weight) in enumerate(shown):
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
        for optimizer in self._optimizers.values():
            optimizer.zero_grad()
        torch.autograd.backward(on_policy + self.config.value_weight * on_value)
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), GRADIENT_NORM)
        seen = torch.stack([on_policy.detach(), on_value.detach(), norm.detach()]) / world
        if world > 1:
            distributed.all_reduce(seen)
        first, second, length = seen.tolist()
        if not math.isfinite(first + second + length):
            return None
        for optimizer in self._optimizers.values():
            for group in optimizer.param_groups:
                group["lr"] = self._rate(progress)
            optimizer.step()
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
        for kind, optimizer in self._optimizers.items():
            for number, state in optimizer.state_dict()["state"].items():
                tensors |= {f"{kind}.{number}.{name}": value for name, value in state.items()}
        copies = {name: tensor.detach().clone() for name, tensor in tensors.items()}
        return copies, {"steps": self.steps, "slower": self._slower, "rollbacks": self._rollbacks}

    def _restore(self, snapshot: tuple[dict[str, Tensor], dict[str, float]]) -> None:
        tensors, numbers = snapshot
        parts: dict[str, dict[str, Tensor]] = {name: {} for name in ("network", "averaged", "kept", *self._optimizers)}
        for name, tensor in tensors.items():
            part, rest = name.split(".", 1)
            parts[part][rest] = tensor.clone()
        self.network.load_state_dict(parts["network"])
        self.averaged.load_state_dict(parts["averaged"])
        self.kept.load_state_dict(parts["kept"])
        for kind, optimizer in self._optimizers.items():
            states: dict[int, dict[str, Tensor]] = {}
            for name, tensor in parts[kind].items():
                number, rest = name.split(".", 1)
                states.setdefault(int(number), {})[rest] = tensor
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": states, "param_groups": groups})
        self.steps, self._rollbacks = int(numbers["steps"]), int(numbers["rollbacks"])
        self._slower = float(numbers["slower"])


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Torch's threads inside one operation, set for a while."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
