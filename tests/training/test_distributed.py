"""A fit shared by processes is the fit of one."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
from training_runs import TINY

from escalade.neural.bundle import read_bundle
from escalade.training.collect import collect
from escalade.training.distributed import fit_in
from escalade.training.learner import TrainingError
from escalade.training.recipe import Network
from escalade.training.run import Run, RunConfig
from escalade.training.steps import fit, tasks

RECIPE = dataclasses.replace(TINY, network=Network(hidden=(32, 32)))


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that has collected and not fitted yet."""
    folder = tmp_path_factory.mktemp("runs") / "one"
    run = Run.begin(folder, RunConfig("tic_tac_toe", RECIPE))
    for task in tasks(run, 1, last=True):
        collect({**task, "root": str(folder)})
    return folder


@pytest.mark.slow
def test_two_processes_have_the_loss_curve_of_one(collected: Path) -> None:
    other = collected.parent / "two"
    shutil.copytree(collected, other)
    events: list[dict[str, object]] = []
    one = fit(Run.open(collected), 1, (0.0, 1.0), last=True)
    two = fit_in(2)(Run.open(other), 1, (0.0, 1.0), last=True, tell=events.append)
    assert len(one["lines"]) == len(two["lines"]) == RECIPE.last_passes
    for mine, theirs in zip(one["lines"], two["lines"], strict=True):
        assert mine.keys() == theirs.keys()
        for name, figure in mine.items():
            assert theirs[name] == pytest.approx(figure, abs=1e-4), name
    passes = [event for event in events if event["event"] == "pass"]
    assert [event["policy_loss"] for event in passes] == [line["policy_loss"] for line in two["lines"]]
    run = Run.open(other)
    assert read_bundle(run.bundle(1) or "", run.domain).network.spec == RECIPE.spec(run.domain)
    # What was done is not done again.
    assert fit_in(2)(run, 1, (0.0, 1.0), last=True) == two


@pytest.mark.slow
def test_what_goes_wrong_in_them_is_told(collected: Path, tmp_path: Path) -> None:
    shutil.copytree(collected, tmp_path / "broken")
    run = Run.open(tmp_path / "broken")
    shutil.rmtree(run.folder / "iterations", ignore_errors=True)
    shutil.rmtree(run.folder / "experience" / "shards")
    with pytest.raises(TrainingError, match=r"the fit in 2 processes failed: .*no experience"):
        fit_in(2)(run, 1, (0.0, 1.0), last=True)
