"""The model registry: which bundles there are of each domain, how each was made, and which one serves.

MLflow keeps the records in one SQLite file; the bundles lie beside it, in the folder of the same name, each under its
own identity. A model is named after its domain and has versions 1, 2, 3 …; two aliases point at versions: `champion`
serves, `challenger` is to be measured against it. What was champion before is kept in order, so that a rollback can
be followed by another.

Every write is made by one process at a time, in an order that lets whoever was killed begin again.
"""

from __future__ import annotations

import json
import math
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from escalade.domains.errors import RegistryError
from escalade.neural.bundle import MANIFEST_FILE, WEIGHTS_FILE, Bundle, read_bundle
from escalade.neural.files import sync_directory, write_whole
from escalade.neural.taught import TAUGHT_FILE
from escalade.training.mlflow_store import alone, begin_database, database_file, open_client, told

CHAMPION, CHALLENGER = "champion", "challenger"
ALIASES = (CHAMPION, CHALLENGER)
SCHEME = "models:/"

_REFERENCE = re.compile(rf"{SCHEME}(?P<name>[^/@]+)(?:@(?P<alias>[^/@]+)|/(?P<version>[0-9]{{1,9}}))")
_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
# Tags of runs and versions.
_IDENTITY, _BUNDLE_VERSION = "escalade.identity", "escalade.bundle"
# Tag of a registered model: the versions that were made champion, as JSON, the serving one last.
_CHAMPIONS = "escalade.champions"
_REMEMBERED = 500


@dataclass(frozen=True)
class ModelVersion:
    """One bundle in the registry. created: aware, UTC. bundle_version: the first 12 digits of the bundle's hash."""

    name: str
    version: int
    aliases: tuple[str, ...]
    created: datetime
    run_name: str
    parameters: dict[str, str]
    metrics: dict[str, float]
    bundle_version: str


class Registry:
    """The registry in the SQLite file of `uri`, such as "sqlite:///out/models.db".

    Nothing is opened or made before it is first asked. Safe for many processes and threads. Every method raises
    RegistryError, one sentence, for what is not there and for a registry that cannot be used.
    """

    def __init__(self, uri: str) -> None:
        self.database = database_file(uri)
        self.bundles_folder = self.database.with_suffix("") if self.database.suffix else Path(f"{self.database}.d")
        self._opened: Any = None

    # Asking

    def names(self) -> list[str]:
        """Names of all models, sorted."""
        with told(self.database):
            return sorted(model.name for model in self._client().search_registered_models())

    def versions(self, name: str | None = None) -> list[ModelVersion]:
        """Every version of a model, or of all, oldest first."""
        with told(self.database):
            models = [self._model(name)] if name is not None else self._client().search_registered_models()
            return [
                self._described(found, model)
                for model in sorted(models, key=lambda model: str(model.name))
                for found in self._found(model.name)
            ]

    def folder(self, reference: str) -> Path:
        """The folder behind `models:/NAME@ALIAS` or `models:/NAME/VERSION`, for `read_bundle`, which checks it."""
        parts = _REFERENCE.fullmatch(reference)
        if parts is None:
            raise RegistryError(f"'{reference}' is not of the form {SCHEME}NAME@ALIAS or {SCHEME}NAME/VERSION")
        with told(self.database):
            model = self._model(parts["name"])
            if parts["alias"] is not None:
                version = self._aliases(model).get(parts["alias"])
                if version is None:
                    there = ", ".join(sorted(self._aliases(model))) or "none"
                    raise RegistryError(f"model '{model.name}' has no alias '{parts['alias']}'; it has: {there}")
            else:
                version = int(parts["version"])
            found = self._version(model.name, version)
        # Not the path in MLflow's record: the registry may have been moved as a whole.
        folder = self.bundles_folder / found.tags.get(_IDENTITY, "")
        if _IDENTITY not in found.tags or not folder.is_dir():
            raise RegistryError(f"model '{model.name}' version {version} has no bundle in '{self.bundles_folder}'")
        return folder

    def alias(self, name: str, alias: str) -> int | None:
        """The version of a model that an alias points at, None if it points at none."""
        with told(self.database):
            return self._aliases(self._model(name)).get(alias)

    # Changing

    def register(
        self,
        folder: Path | str,
        *,
        run_name: str,
        parameters: Mapping[str, Any] | None = None,
        metrics: Mapping[str, float] | None = None,
    ) -> int:
        """Copy a bundle into the registry, as the next version of the model named after the bundle's domain.

        parameters: how it was made; what is no text is written as `str` does. metrics: finite numbers, beside those in
        the bundle. Returns the version. A bundle that is there already, by what decides and by its certificates, keeps
        its version, its parameters and its metrics.
        Raises BundleError for a damaged bundle.
        """
        bundle = read_bundle(folder)
        measured = {name: float(figure) for name, figure in {**bundle.metrics, **(metrics or {})}.items()}
        for figure_name, figure in measured.items():
            if not math.isfinite(figure):
                raise RegistryError(f"metric '{figure_name}' is {figure}, not a finite number")
        name, identity = bundle.manifest.domain.name, _identity(bundle)
        if not _NAME.fullmatch(name):
            raise RegistryError(f"domain '{name}' cannot name a model: up to 100 letters, digits, '_', '.' and '-' can")
        with self._alone():
            begin_database(self.database)
            client = self._client()
            stored = self._store(bundle, identity)
            if name not in self.names():
                client.create_registered_model(name)
            for known in self._found(name):
                if known.tags.get(_IDENTITY) == identity:
                    return int(known.version)
            run = self._run(name, identity, run_name, parameters or {}, measured)
            tags = {_IDENTITY: identity, _BUNDLE_VERSION: bundle.version}
            return int(client.create_model_version(name, stored.as_uri(), run, tags=tags).version)

    def set_alias(self, name: str, alias: str, version: int) -> None:
        """Point an alias, `champion` or `challenger`, at a version; it leaves the one it pointed at."""
        if alias not in ALIASES:
            raise RegistryError(f"there is no alias '{alias}': choose one of {', '.join(ALIASES)}")
        if alias == CHAMPION:
            self.promote(name, version)
            return
        with self._alone():
            self._version(self._model(name).name, version)
            self._client().set_registered_model_alias(name, alias, str(version))

    def promote(self, name: str, version: int) -> None:
        """Make a version the champion; the one before is remembered for `rollback`. It is no challenger any more."""
        with self._alone():
            model = self._model(name)
            self._version(name, version)
            history = self._history(model)
            if history[-1:] != [version]:
                self._write_history(name, [*history, version])
            self._client().set_registered_model_alias(name, CHAMPION, str(version))
            if self._aliases(model).get(CHALLENGER) == version:
                self._client().delete_registered_model_alias(name, CHALLENGER)

    def rollback(self, name: str) -> int:
        """Make the champion before this one champion again, and forget this one's turn. Returns its version."""
        with self._alone():
            history = self._history(self._model(name))
            if len(history) < 2:
                now = f"version {history[0]} is the first" if history else "there has been none"
                raise RegistryError(f"model '{name}' has no earlier champion to go back to: {now}")
            before = history[-2]
            # The alias first, so that who is killed here has gone back once; see _history.
            self._client().set_registered_model_alias(name, CHAMPION, str(before))
            self._write_history(name, history[:-1])
            return before

    # The parts

    @contextmanager
    def _alone(self) -> Iterator[None]:
        with alone(self.database), told(self.database):
            yield

    def _client(self) -> Any:
        if self._opened is None:
            self._opened = open_client(self.database)
        return self._opened

    def _model(self, name: str) -> Any:
        for model in self._client().search_registered_models():
            if model.name == name:
                return model
        raise RegistryError(f"the registry has no model '{name}'; it has: {', '.join(self.names()) or 'none'}")

    def _found(self, name: str) -> list[Any]:
        return sorted(self._client().search_model_versions(f"name='{name}'"), key=lambda found: int(found.version))

    def _version(self, name: str, version: int) -> Any:
        found = {int(found.version): found for found in self._found(name)}
        if version not in found:
            raise RegistryError(
                f"model '{name}' has no version {version}; it has: {', '.join(map(str, found)) or 'none'}"
            )
        return found[version]

    def _aliases(self, model: Any) -> dict[str, int]:
        return {alias: int(version) for alias, version in model.aliases.items()}

    def _history(self, model: Any) -> list[int]:
        """The champions in order. The alias is the truth: what follows it in the record is of somebody who was killed
        between writing both; what is not in it was set by other hands."""
        history: list[int] = json.loads(model.tags.get(_CHAMPIONS, "[]"))
        champion = self._aliases(model).get(CHAMPION)
        if champion is None:
            return []
        while history and history[-1] != champion:
            history.pop()
        return history or [*json.loads(model.tags.get(_CHAMPIONS, "[]")), champion]

    def _write_history(self, name: str, history: list[int]) -> None:
        self._client().set_registered_model_tag(name, _CHAMPIONS, json.dumps(history[-_REMEMBERED:]))

    def _store(self, bundle: Bundle, identity: str) -> Path:
        """The bundle's copy beside the database. Its name appears when all of it is on the disk."""
        target = self.bundles_folder / identity
        if not target.is_dir():
            partial = self.bundles_folder / f".{identity}.partial"
            shutil.rmtree(partial, ignore_errors=True)
            partial.mkdir(parents=True)
            names = [WEIGHTS_FILE, MANIFEST_FILE] + ([TAUGHT_FILE] if bundle.manifest.taught else [])
            for name in names:
                contents = (bundle.path / name).read_bytes()
                write_whole(partial / name, lambda file, contents=contents: file.write(contents))  # type: ignore[misc]
            read_bundle(partial)
            os.rename(partial, target)
            sync_directory(self.bundles_folder)
        return target

    def _run(
        self, name: str, identity: str, run_name: str, parameters: Mapping[str, Any], metrics: Mapping[str, float]
    ) -> str:
        """A finished run with what is known of the bundle, in the experiment named after the model."""
        from mlflow.entities import Metric, Param

        client = self._client()
        experiment = client.get_experiment_by_name(name)
        place = experiment.experiment_id if experiment else client.create_experiment(name, self.bundles_folder.as_uri())
        # Of somebody who was killed before there was a version.
        for left in client.search_runs([place], f"tags.`{_IDENTITY}` = '{identity}'"):
            client.delete_run(left.info.run_id)
        run = client.create_run(place, run_name=run_name, tags={_IDENTITY: identity})
        now = run.info.start_time
        client.log_batch(
            run.info.run_id,
            metrics=[Metric(key, figure, now, 0) for key, figure in metrics.items()],
            params=[Param(key, str(value)) for key, value in parameters.items()],
        )
        client.set_terminated(run.info.run_id)
        return str(run.info.run_id)

    def _described(self, found: Any, model: Any) -> ModelVersion:
        version = int(found.version)
        run = self._client().get_run(found.run_id) if found.run_id else None
        return ModelVersion(
            name=str(model.name),
            version=version,
            aliases=tuple(sorted(alias for alias, at in self._aliases(model).items() if at == version)),
            created=datetime.fromtimestamp(found.creation_timestamp / 1000, UTC),
            run_name=str(run.info.run_name) if run else "",
            parameters=dict(run.data.params) if run else {},
            metrics=dict(run.data.metrics) if run else {},
            bundle_version=found.tags.get(_BUNDLE_VERSION, ""),
        )


def _identity(bundle: Bundle) -> str:
    """The bundle's hash, which covers the weights; with its certificates, if it has any, which the hash leaves out."""
    certificates = bundle.manifest.certificates_hash()
    return bundle.hash if certificates is None else f"{bundle.hash}-{certificates[:16]}"
