"""MLflow on one SQLite file, opened so that it says nothing and tells nobody.

MLflow is the extra `train`; it takes seconds to load, and is loaded only when a registry is first asked something.
"""

from __future__ import annotations

import fcntl
import glob
import importlib
import importlib.util
import logging
import os
import sqlite3
import uuid
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from escalade.domains.errors import RegistryError

SCHEME = "sqlite:///"
_PATIENCE_S = 30.0
# MLflow would load them when it first needs them, and find alembic missing only half-way.
_LOADED = ("alembic", "mlflow.store.tracking.sqlalchemy_store", "mlflow.store.model_registry.sqlalchemy_store")


def is_installed() -> bool:
    """Whether all there is to MLflow here is installed; known at once, without loading it."""
    return all(importlib.util.find_spec(package) is not None for package in ("mlflow", "alembic", "sqlalchemy"))


def database_file(uri: str) -> Path:
    """The absolute path in `sqlite:///relative.db` or `sqlite:////absolute.db`. Raises RegistryError."""
    path = uri.removeprefix(SCHEME)
    # "?" and "#" would begin options and a fragment; a registry in memory would forget.
    if path == uri or not path or path == ":memory:" or any(mark in path for mark in "?#"):
        raise RegistryError(f"the registry '{uri}' must be a local SQLite file, such as sqlite:///out/models.db")
    return Path(path).absolute()


@contextmanager
def alone(database: Path) -> Iterator[None]:
    """Wait until no other process or thread holds the registry. A process that is killed lets go."""
    with told(database):
        database.parent.mkdir(parents=True, exist_ok=True)
        lock = database.with_name(f".{database.name}.lock").open("ab")
    with lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


@contextmanager
def told(database: Path) -> Iterator[None]:
    """Errors of files, and whatever MLflow or its database raise, as RegistryError of one sentence."""
    try:
        yield
    except RegistryError:
        raise
    except OSError as error:
        where = f" ({error.filename})" if error.filename else ""
        raise RegistryError(f"the registry '{database}' cannot be used: {error.strerror or error}{where}") from error
    except Exception as error:
        if type(error).__module__.partition(".")[0] not in ("mlflow", "sqlalchemy", "alembic", "sqlite3"):
            raise
        first = str(error).strip().partition("\n")[0]
        raise RegistryError(f"the registry '{database}' cannot be used: {first}") from error


def open_client(database: Path) -> Any:
    """An `MlflowClient` of the file, which must be there."""
    with told(database):
        if not database.is_file():
            raise RegistryError(
                f"there is no registry at '{database}' yet: `escalade models register FOLDER` begins one"
            )
        try:  # here, for MLflow would try again for minutes
            with closing(sqlite3.connect(database, timeout=_PATIENCE_S)) as connection:
                connection.execute("SELECT version_num FROM alembic_version").fetchall()
        except sqlite3.DatabaseError as error:
            raise RegistryError(f"'{database}' is no registry, or a damaged one ({error}): name another") from None
        return _client(database)


def begin_database(database: Path) -> None:
    """Make the file if it is not there; call it while `alone`. Takes seconds, for MLflow applies all its migrations.

    Under another name first: a process killed half-way would leave tables that MLflow takes for those of an older
    version, and refuses ever after.
    """
    if database.exists():
        return
    with told(database):
        for leftover in database.parent.glob(f".{glob.escape(database.name)}.*.partial*"):
            leftover.unlink()
        # Never the same name twice: MLflow keeps a connection to every file it has opened.
        partial = database.with_name(f".{database.name}.{uuid.uuid4().hex}.partial")
        _client(partial)
        os.replace(partial, database)


def _client(database: Path) -> Any:
    try:
        _no_usage_reports()
        with warnings.catch_warnings():  # of MLflow's own use of SQLAlchemy
            warnings.simplefilter("ignore")
            for module in _LOADED:
                importlib.import_module(module)
            from mlflow.tracking import MlflowClient
    except ImportError as error:
        raise RegistryError("the model registry needs MLflow: pip install 'escalade[train]'") from error
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    return MlflowClient(tracking_uri=f"{SCHEME}{database}", registry_uri=f"{SCHEME}{database}")


def _no_usage_reports() -> None:
    """Throw MLflow's own switch before it is loaded: loading already leaves an installation id in the user's home.

    The switch is in a module that needs nothing else of MLflow, so that one is loaded by itself.
    """
    package = importlib.util.find_spec("mlflow")
    if package is None or package.origin is None:
        raise ImportError("mlflow")
    place = Path(package.origin).with_name("environment_variables.py")
    spec = importlib.util.spec_from_file_location("_mlflow_switches", place)
    if spec is None or spec.loader is None:
        raise ImportError("mlflow")
    switches = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(switches)
    switches.MLFLOW_DISABLE_TELEMETRY.set("true")
