"""Figures of a run for trackers that people know: MLflow in the registry's SQLite file, Weights & Biases.

`metrics.jsonl` is always written by the run itself; these are told the same figures as they come, as events of the
training graph. A run that goes on with --resume goes on in the tracker.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from escalade.domains.errors import SettingsError
from escalade.neural.files import write_whole
from escalade.training.mlflow_store import alone, begin_database, database_file, is_installed, open_client

TRACKED = ("pass", "evaluation", "promotion")
EXPERIMENT = "escalade"


class Tracker(Protocol):
    """Hears the events of a run."""

    def hear(self, event: Mapping[str, Any]) -> None: ...

    def close(self) -> None: ...


def open_tracker(kind: str, folder: Path, parameters: Mapping[str, str], registry: str) -> Tracker:
    """A tracker by name, "mlflow" or "wandb", for the run in a folder. registry: the URI of MLflow's SQLite file.

    Raises SettingsError for another name or a package that is not installed, RegistryError for a file that cannot be
    used.
    """
    kinds = {"mlflow": MlflowTracker, "wandb": WandbTracker}
    if kind not in kinds:
        raise SettingsError(f"--track: '{kind}' is none of {', '.join(kinds)}")
    if kind == "wandb":
        return WandbTracker(folder, parameters)
    return MlflowTracker(folder, parameters, registry)


def figures(event: Mapping[str, Any]) -> dict[str, float]:
    """The numbers of an event, named after its kind; nothing for kinds that are not tracked."""
    kind = event.get("event")
    if kind not in TRACKED:
        return {}
    numbers = {name: float(value) for name, value in event.items() if isinstance(value, int | float)}
    return {
        f"{kind}/{name}": value
        for name, value in numbers.items()
        if math.isfinite(value) and name not in ("iteration", "pass", "steps")
    }


class _Steps:
    """Each event at a step of its own, in the order they came, kept over restarts."""

    def __init__(self, folder: Path, name: str) -> None:
        self._path = folder / f"{name}.json"
        try:
            self._known: dict[str, Any] = json.loads(self._path.read_bytes())
        except (FileNotFoundError, ValueError):
            self._known = {"run": None, "steps": {}}

    @property
    def run(self) -> str | None:
        found: str | None = self._known["run"]
        return found

    @run.setter
    def run(self, name: str) -> None:
        self._known["run"] = name
        self._write()

    def new(self, event: Mapping[str, Any]) -> int | None:
        """The step of an event, None if it was told before: an iteration that is done again is told once."""
        name = f"{event['event']}-{event.get('iteration')}-{event.get('pass', 0)}"
        if name in self._known["steps"]:
            return None
        step = len(self._known["steps"])
        self._known["steps"][name] = step
        self._write()
        return step

    def _write(self) -> None:
        write_whole(self._path, lambda file: file.write(json.dumps(self._known).encode()))


class MlflowTracker:
    """A run of the experiment "escalade" in the registry's file. Needs the extra `train`."""

    def __init__(self, folder: Path, parameters: Mapping[str, str], registry: str) -> None:
        database = database_file(registry)
        if not is_installed():
            raise SettingsError("--track mlflow needs MLflow: pip install 'escalade[train]'")
        with alone(database):
            begin_database(database)
        self._client = open_client(database)
        self._steps = _Steps(folder, "mlflow")
        if self._steps.run is None:
            experiment = self._client.get_experiment_by_name(EXPERIMENT)
            number = self._client.create_experiment(EXPERIMENT) if experiment is None else experiment.experiment_id
            run = self._client.create_run(number, run_name=folder.name)
            for name, value in parameters.items():
                self._client.log_param(run.info.run_id, name, value[:500])
            self._steps.run = run.info.run_id

    def hear(self, event: Mapping[str, Any]) -> None:
        numbers = figures(event)
        step = self._steps.new(event) if numbers else None
        if step is not None:
            for name, value in numbers.items():
                self._client.log_metric(self._steps.run, name, value, step=step)

    def close(self) -> None:
        self._client.set_terminated(self._steps.run)


class WandbTracker:
    """A run of the project "escalade" on Weights & Biases, or in a folder if WANDB_MODE says offline. Needs wandb."""

    def __init__(self, folder: Path, parameters: Mapping[str, str]) -> None:
        try:
            import wandb
        except ImportError:
            raise SettingsError("--track wandb needs wandb: pip install 'escalade[wandb]'") from None
        self._steps = _Steps(folder, "wandb")
        self._run = wandb.init(
            project=EXPERIMENT,
            name=folder.name,
            id=self._steps.run,
            resume="allow",
            dir=str(folder),
            config=dict(parameters),
        )
        self._steps.run = self._run.id

    def hear(self, event: Mapping[str, Any]) -> None:
        numbers = figures(event)
        step = self._steps.new(event) if numbers else None
        if step is not None:
            self._run.log(numbers, step=step)

    def close(self) -> None:
        self._run.finish()
