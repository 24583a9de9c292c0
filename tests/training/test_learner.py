"""Descent on targets: exact resume, averaging, the guard against losses that are no numbers."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from experience import TTT, random_rows

from escalade.domains.errors import SettingsError
from escalade.neural.spec import NetworkSpec
from escalade.training.learner import ROLLBACKS, Learner, TrainingError
from escalade.training.optimizers import LearnerConfig, optimizers
from escalade.training.validation import validate
from escalade.training.window import Targets, WindowConfig, targets

SPEC = NetworkSpec(hidden=(32, 32), observation_shape=(3, 3, 3), num_actions=9, value_head="wdl", dropout=0.1)
CONFIG = LearnerConfig(batch_size=64, learning_rate=3e-3, average=0.9)
SMALL_BATCHES = dataclasses.replace(CONFIG, batch_size=8)
FOUND = targets(random_rows(0, 600), WindowConfig())


def passes(learner: Learner, first: int, last: int, found: Targets = FOUND) -> list[float]:
    done = [
        learner.learn(found, seed=(7, number), symmetries=TTT.symmetries(), span=(number / 6, (number + 1) / 6))
        for number in range(first, last)
    ]
    return [one.policy_loss + one.value_loss for one in done]


def everything(learner: Learner) -> dict[str, bytes]:
    networks = {"network": learner.network, "averaged": learner.averaged}
    return {f"{n}.{k}": t.numpy().tobytes() for n, net in networks.items() for k, t in net.state_dict().items()}


def test_what_is_learned_shows_in_validation() -> None:
    learner = Learner(SPEC, CONFIG, seed=1)
    before = learner.validate(FOUND)
    losses = passes(learner, 0, 6)
    after = learner.validate(FOUND)
    assert losses[-1] < losses[0]
    assert after.policy_loss < before.policy_loss
    assert after.value_loss < before.value_loss
    assert after.agreement > before.agreement
    assert after.positions == len(FOUND.value)
    assert learner.steps == 6 * round(len(FOUND.value) / 64)


@pytest.mark.parametrize("options", [{}, {"optimizer": "muon", "repeats": 3}])
def test_stopped_and_resumed_it_learns_the_same_to_the_last_bit(tmp_path: Path, options: Any) -> None:
    config = dataclasses.replace(CONFIG, **options)
    whole = Learner(SPEC, config, seed=1)
    curve = passes(whole, 0, 5)
    first = Learner(SPEC, config, seed=1)
    begun = passes(first, 0, 2)
    first.save(tmp_path / "checkpoint.safetensors", {"pass": 2})
    resumed = Learner(SPEC, config, seed=99)
    assert resumed.load(tmp_path / "checkpoint.safetensors") == {"pass": 2}
    torch.manual_seed(12345)  # nothing else in the process matters
    assert begun + passes(resumed, 2, 5) == curve
    assert everything(resumed) == everything(whole)


def test_muon_steps_the_matrices_of_the_trunk_and_adamw_the_rest() -> None:
    learner = Learner(SPEC, dataclasses.replace(CONFIG, optimizer="muon"), seed=1)
    stepped = {name: groups_of(optimizer) for name, optimizer in optimizers(learner.network, learner.config).items()}
    names = {id(parameter): name for name, parameter in learner.network.named_parameters()}
    matrices = {names[id(parameter)] for parameter in stepped["muon"]}
    assert matrices == {name for name, p in learner.network.trunk.named_parameters("trunk") if p.ndim == 2}
    assert {names[id(parameter)] for parameter in stepped["adam"]} == set(names.values()) - matrices
    losses = passes(learner, 0, 6)
    assert losses[-1] < losses[0]
    assert set(optimizers(learner.network, CONFIG)) == {"adam"}


def groups_of(optimizer: torch.optim.Optimizer) -> list[Any]:
    return [parameter for group in optimizer.param_groups for parameter in group["params"]]


def test_the_average_lags_behind_and_can_be_left_out() -> None:
    averaged, plain = Learner(SPEC, CONFIG, seed=1), Learner(SPEC, dataclasses.replace(CONFIG, average=0.0), seed=1)
    for learner in (averaged, plain):
        passes(learner, 0, 1)
    weight = "policy_head.weight"
    assert not torch.equal(averaged.averaged.state_dict()[weight], averaged.network.state_dict()[weight])
    assert torch.equal(plain.averaged.state_dict()[weight], plain.network.state_dict()[weight])
    assert torch.equal(plain.network.state_dict()[weight], averaged.network.state_dict()[weight])


def broken(found: Targets, share: float) -> Targets:
    """Some observations are no numbers."""
    observation = found.observation.copy()
    observation[np.random.default_rng(0).random(len(observation)) < share] = np.nan
    return found._replace(observation=observation)


def test_a_step_without_a_loss_is_skipped_and_changes_nothing() -> None:
    learner = Learner(SPEC, CONFIG, seed=1)
    found = FOUND._replace(observation=FOUND.observation.copy())
    found.observation[0] = np.nan
    done = learner.learn(found, seed=0)
    assert (done.skipped, done.rollbacks) == (1, 0)
    assert learner.steps == done.steps - 1
    assert math.isfinite(done.policy_loss + done.value_loss)
    assert all(weight.isfinite().all() for weight in learner.network.parameters())


def test_three_such_steps_in_a_row_go_back_at_half_the_rate() -> None:
    learner = Learner(SPEC, SMALL_BATCHES, seed=1)
    passes(learner, 0, 1)
    rate = learner.learn(FOUND, seed=3, span=(0, 0)).learning_rate
    done = learner.learn(broken(FOUND, 0.06), seed=1, span=(0, 0))
    assert 1 <= done.rollbacks <= ROLLBACKS
    assert done.learning_rate == rate / 2**done.rollbacks
    assert done.steps > done.skipped >= 3 * done.rollbacks


def test_a_loss_that_stays_without_a_number_ends_it_with_sound_weights() -> None:
    learner = Learner(SPEC, SMALL_BATCHES, seed=1)
    passes(learner, 0, 1)
    good = everything(learner)
    with pytest.raises(TrainingError, match="the loss is no number"):
        learner.learn(broken(FOUND, 0.9), seed=0)
    assert everything(learner) == good


def test_a_clean_pass_forgives() -> None:
    learner = Learner(SPEC, SMALL_BATCHES, seed=1)
    rollbacks = 0
    for number in range(8):
        rollbacks += learner.learn(broken(FOUND, 0.06), seed=number).rollbacks
        passes(learner, 0, 1)
    assert rollbacks > ROLLBACKS


def test_weights_count(tmp_path: Path) -> None:
    """Two positions of weight 1 and 0 are one position."""
    both, one = FOUND.take(np.arange(64)), FOUND.take(np.arange(32))
    half = np.arange(64) < 32
    both = both._replace(policy_weight=both.policy_weight * half, value_weight=both.value_weight * half)
    spec = SPEC.model_copy(update={"dropout": 0.0})
    curves = [Learner(spec, CONFIG, seed=1).learn(found, seed=2) for found in (both, one)]
    assert curves[0].policy_loss == pytest.approx(curves[1].policy_loss, rel=1e-5)
    assert curves[0].value_loss == pytest.approx(curves[1].value_loss, rel=1e-5)
    assert math.isnan(validate(Learner(spec, CONFIG, seed=1).network, FOUND.take(np.arange(0))).policy_loss)


def test_short_numbers_learn_nearly_the_same() -> None:
    spec = SPEC.model_copy(update={"dropout": 0.0})
    curves = [
        passes(Learner(spec, dataclasses.replace(CONFIG, precision=precision), seed=1), 0, 4)
        for precision in ("float32", "bfloat16")
    ]
    assert curves[0] != curves[1]
    assert curves[0] == pytest.approx(curves[1], rel=0.02)
    learner = Learner(spec, dataclasses.replace(CONFIG, precision="auto"), seed=1)
    assert passes(learner, 0, 4) in (curves[0], curves[1])
    assert all(weight.dtype == torch.float32 for weight in learner.averaged.parameters())


@pytest.mark.parametrize("kind", ["truncated", "another network", "missing", "not ours"])
def test_a_checkpoint_that_does_not_fit_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "checkpoint.safetensors"
    Learner(SPEC, CONFIG, seed=1).save(path)
    spec = SPEC
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "another network":
        spec = SPEC.model_copy(update={"hidden": (16, 16)})
    elif kind == "missing":
        path.unlink()
    else:
        path.write_bytes(b"hello")
    with pytest.raises(TrainingError, match=r"checkpoint 'checkpoint\.safetensors' cannot be used"):
        Learner(spec, CONFIG, seed=1).load(path)


@pytest.mark.parametrize(
    "options",
    [
        {"batch_size": 0},
        {"learning_rate": 0},
        {"weight_decay": -1},
        {"average": 1.0},
        {"value_weight": float("nan")},
        {"precision": "int8"},
    ],
)
def test_impossible_settings_are_refused(options: dict[str, float]) -> None:
    (name,) = options
    with pytest.raises(SettingsError, match=name):
        LearnerConfig(**options)  # type: ignore[arg-type]
