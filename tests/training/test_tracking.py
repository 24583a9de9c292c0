"""Trackers hear every figure of a run once, over restarts too."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from escalade.app.cli import app
from escalade.domains.errors import RegistryError, SettingsError
from escalade.training.mlflow_store import database_file, open_client
from escalade.training.tracking import EXPERIMENT, figures, open_tracker


def passed(iteration: int, number: int, loss: float) -> dict[str, Any]:
    return {"event": "pass", "iteration": iteration, "pass": number, "policy_loss": loss, "validation_loss": None}


EVENTS = [
    {"event": "plan", "iteration": 1, "tasks": 3},
    passed(1, 1, 1.5),
    passed(1, 2, 1.25),
    {"event": "evaluation", "iteration": 1, "by": "agreement", "optimal_0": 0.5},
    {"event": "promotion", "iteration": 1, "promoted": True, "score": 0.5},
]


def test_numbers_are_named_after_what_they_are_of() -> None:
    assert [figures(event) for event in EVENTS] == [
        {},
        {"pass/policy_loss": 1.5},
        {"pass/policy_loss": 1.25},
        {"evaluation/optimal_0": 0.5},
        {"promotion/promoted": 1.0, "promotion/score": 0.5},
    ]
    assert figures(passed(1, 1, float("nan"))) == {}


def test_mlflow_keeps_the_curve_of_a_run_that_was_stopped_and_resumed(tmp_path: Path) -> None:
    registry = f"sqlite:///{tmp_path / 'models.db'}"
    (tmp_path / "run").mkdir()
    for events in (EVENTS[:3], EVENTS):  # after the restart the first ones come again
        tracker = open_tracker("mlflow", tmp_path / "run", {"domain": "tic_tac_toe"}, registry)
        for event in events:
            tracker.hear(event)
        tracker.close()
    client = open_client(database_file(registry))
    experiment = client.get_experiment_by_name(EXPERIMENT)
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.params == {"domain": "tic_tac_toe"}
    assert run.data.tags["mlflow.runName"] == "run"
    assert run.info.status == "FINISHED"
    curve = client.get_metric_history(run.info.run_id, "pass/policy_loss")
    assert [(point.step, point.value) for point in curve] == [(0, 1.5), (1, 1.25)]
    assert run.data.metrics["evaluation/optimal_0"] == 0.5


def test_unknown_trackers_and_absent_ones_are_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="'comet' is none of mlflow, wandb"):
        open_tracker("comet", tmp_path, {}, "sqlite:///x.db")
    with pytest.raises(RegistryError, match="must be a local SQLite file"):
        open_tracker("mlflow", tmp_path, {}, "http://somewhere")
    without = "import sys; sys.modules['wandb'] = None\n"
    code = without + (
        "from pathlib import Path\n"
        "from escalade.domains.errors import SettingsError\n"
        "from escalade.training.tracking import open_tracker\n"
        "try: open_tracker('wandb', Path('.'), {}, '')\n"
        "except SettingsError as error: print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'escalade[wandb]'" in done.stdout


@pytest.mark.parametrize("missing", ["mlflow", "alembic"])
def test_without_mlflow_a_run_is_refused_before_it_collects(
    missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, missing, None)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SettingsError, match=r"^--track mlflow needs MLflow: pip install 'escalade\[train\]'$"):
        open_tracker("mlflow", tmp_path, {}, "sqlite:///x.db")
    done = CliRunner().invoke(app, ["train", "tic_tac_toe", "--register"])
    assert isinstance(done.exception, SettingsError)
    assert str(done.exception) == "--register needs MLflow: pip install 'escalade[train]'"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.filterwarnings("ignore")  # wandb's own
def test_wandb_takes_the_same_figures_offline(tmp_path: Path) -> None:
    pytest.importorskip("wandb")
    code = (
        "import sys; from pathlib import Path\n"
        "from escalade.training.tracking import open_tracker\n"
        "tracker = open_tracker('wandb', Path(sys.argv[1]), {'domain': 'x'}, '')\n"
        "tracker.hear({'event': 'pass', 'iteration': 1, 'pass': 1, 'policy_loss': 1.5})\n"
        "tracker.close()\n"
    )
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], env=environment, check=True, capture_output=True)
    assert list((tmp_path / "wandb").glob("offline-run-*"))
    assert '"pass-1-1"' in (tmp_path / "wandb.json").read_text()
