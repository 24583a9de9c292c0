"""A run that begins with a bundle: the same answers first, and a champion that must be beaten."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from training_runs import run_to_the_end, tiny

from escalade.domains.errors import BundleError, SettingsError
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.neural.bundle import halved, read_bundle, write_bundle
from escalade.neural.networks import PolicyValueNetwork
from escalade.neural.spec import NetworkSpec
from escalade.training.learner import Learner
from escalade.training.optimizers import LearnerConfig
from escalade.training.run import Run
from escalade.training.start import grown
from escalade.training.window import Targets

RESIDUAL: dict[str, Any] = {"kind": "residual", "observation_shape": (3, 3, 3), "num_actions": 9}


def network(seed: int = 0, **fields: Any) -> PolicyValueNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return PolicyValueNetwork(NetworkSpec(**{**RESIDUAL, "hidden": (16, 16), **fields}))


def asked(net: PolicyValueNetwork, rows: int) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(0)
    return net.evaluate(random.random((rows, 3, 3, 3), np.float32), np.ones((rows, 9), np.bool_))


@pytest.mark.parametrize("rows", [1, 50])
@pytest.mark.parametrize("hidden", [(16, 16), (16, 16, 16, 16, 16)])
def test_a_deeper_network_begins_with_the_same_answers(hidden: tuple[int, ...], rows: int) -> None:
    old = network(3)
    new = grown(old, old.spec.model_copy(update={"hidden": hidden}), seed=1)
    assert new.spec.hidden == hidden
    for mine, theirs in zip(asked(new, rows), asked(old, rows), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=1e-6)


def test_what_is_new_learns() -> None:
    old = network(3)
    learner = Learner(old.spec.model_copy(update={"hidden": (16,) * 3}), LearnerConfig(batch_size=8), seed=0, start=old)
    random = np.random.default_rng(0)
    policy = np.eye(9, dtype=np.float32)[random.integers(9, size=64)]
    ones = np.ones(64, np.float32)
    seen = random.random((64, 3, 3, 3), np.float32)
    learner.learn(Targets(seen, np.ones((64, 9), np.bool_), policy, ones, ones, ones), seed=0)
    added: Any = learner.network.trunk[3]
    assert added.second.weight.abs().max() > 0
    assert added.second.bias.abs().max() > 0


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"hidden": (16,)}, "hidden"),
        ({"hidden": (16, 8, 8)}, "hidden"),
        ({"hidden": (16, 16, 8)}, "hidden"),
        ({"hidden": (32, 32, 32)}, "hidden"),
        ({"kind": "perceptron"}, "kind"),
        ({"value_head": "tanh"}, "value_head"),
        ({"observation_shape": (3, 3, 2)}, "observation_shape"),
        ({"hidden": (16, 16, 16), "passes": 2}, "hidden"),
        ({"passes": 2}, "passes"),
    ],
)
def test_what_is_no_continuation_is_refused(fields: dict[str, Any], named: str) -> None:
    spec = NetworkSpec(**{**RESIDUAL, "hidden": (16, 16), "value_head": "wdl", **fields})
    with pytest.raises(SettingsError, match=f"start: its network has {named} "):
        grown(network(value_head="wdl"), spec, seed=0)


def begun_with(tmp_path: Path, seed: int = 5, **recipe: Any) -> tuple[Path, dict[str, Any]]:
    """A folder of runs with a bundle, and what a run is given to begin with it."""
    first = tmp_path / "first"
    write_bundle(first, domain=TicTacToe(), network=network(seed, value_head="wdl"))
    shape = {"kind": "residual", "hidden": [16, 16, 16]}
    return first, {"recipe": tiny(iterations=1) | {"network": shape, **recipe}, "start": str(first)}


def test_a_run_is_judged_against_what_it_began_with(tmp_path: Path) -> None:
    first, given = begun_with(tmp_path, half_weights=True)
    state = run_to_the_end(tmp_path, "run", **given)
    run = Run.open(tmp_path / "run", alone=False)
    begun = run.bundle(0)
    assert begun is not None
    assert read_bundle(begun).hash == read_bundle(first).hash
    before, after = (run.read(run.iteration(number) / "evaluation.json")["score"] for number in (0, 1))
    assert before != after  # as always with chance weights
    assert state["champion"]["iteration"] == int(after > before)
    assert [line["iteration"] for line in state["history"]] == [0, 1]
    assert state["history"][0]["score"] == before
    assert state["seconds"] > state["history"][0]["seconds"] > 0
    made = read_bundle(run.plain_bundle(1))
    assert made.network.spec.hidden == (16, 16, 16)
    assert made.manifest.weights_bytes < 3 * made.network.spec.parameters
    for weight in made.network.parameters():
        assert torch.equal(weight, weight.half().float())


def test_who_is_not_beaten_stays_champion(tmp_path: Path) -> None:
    given = begun_with(tmp_path)[1]
    # It learns from next to nothing, at a rate that destroys what was known.
    given["recipe"] |= {"games": 2, "games_a_task": 2, "learner": {"learning_rate": 10.0, "average": 0.0}}
    good = Path(run_to_the_end(tmp_path, "better", **begun_with(tmp_path / "b")[1])["bundle"])
    given["start"] = str(good)
    state = run_to_the_end(tmp_path, "run", **given)
    assert state["champion"]["iteration"] == 0
    assert read_bundle(tmp_path / "run" / "champion").hash == read_bundle(good).hash


def test_a_bundle_that_does_not_fit_begins_no_run(tmp_path: Path) -> None:
    given = begun_with(tmp_path)[1]
    for number, (start, error, message) in enumerate(
        (
            ("builtin:tic_tac_toe", SettingsError, "start: its network has hidden"),
            ("builtin:connect_four", BundleError, "made for|domain"),
            ("builtin:nothing", BundleError, "there is no bundle 'builtin:nothing'"),
            (str(tmp_path / "nowhere"), BundleError, "no such directory"),
            (7, SettingsError, "start: the name of a bundle"),
        )
    ):
        with pytest.raises(error, match=message):
            run_to_the_end(tmp_path, f"none{number}", **{**given, "start": start})
        assert not (tmp_path / f"none{number}" / "run.json").exists()


def test_a_halved_network_is_half_as_long_and_read_as_it_was(tmp_path: Path) -> None:
    net = halved(network())
    bundle = write_bundle(tmp_path / "half", domain=TicTacToe(), network=net)
    whole = write_bundle(tmp_path / "whole", domain=TicTacToe(), network=network())
    assert bundle.manifest.weights_bytes < 0.6 * whole.manifest.weights_bytes
    for name, weight in bundle.network.state_dict().items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, net.state_dict()[name])
    for mine, theirs in zip(asked(bundle.network, 3), asked(network(), 3), strict=True):
        np.testing.assert_allclose(mine, theirs, atol=0.02)
