"""The registry on real MLflow and real bundles. One database for all: making one takes seconds."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import network_for

from escalade.domains.errors import BundleError, RegistryError
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.neural.bundle import Bundle, read_bundle, write_bundle
from escalade.training.registry import Registry

SEEDS = itertools.count(100)


class Named(TicTacToe):
    """Tic-tac-toe under a name of its own: every test has a model to itself."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Registry:
    registry = Registry(f"sqlite:///{tmp_path_factory.mktemp('registry') / 'models.db'}")
    bundle = write_bundle(
        tmp_path_factory.mktemp("first") / "bundle", domain=Named("first"), network=network_for(TicTacToe())
    )
    assert registry.register(bundle.path, run_name="first") == 1
    return registry


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return re.sub(r"\W+", "_", request.node.name)


@pytest.fixture
def make_bundle(tmp_path: Path, name: str) -> Callable[..., Bundle]:
    def make(seed: int | None = None, **options: Any) -> Bundle:
        seed = next(SEEDS) if seed is None else seed
        path = tmp_path / f"bundle-{next(SEEDS)}"
        return write_bundle(path, domain=Named(name), network=network_for(TicTacToe(), seed), **options)

    return make


@pytest.fixture
def three(registry: Registry, make_bundle: Callable[..., Bundle]) -> Registry:
    """A model of three versions, none of them champion."""
    for number in (1, 2, 3):
        assert registry.register(make_bundle().path, run_name=f"run {number}") == number
    return registry


def champion(registry: Registry, name: str) -> int:
    (version,) = [one.version for one in registry.versions(name) if "champion" in one.aliases]
    return version


def test_versions_say_how_each_was_made(registry: Registry, name: str, make_bundle: Callable[..., Bundle]) -> None:
    first, second = make_bundle(metrics={"loss": 0.25}), make_bundle()
    registry.register(first.path, run_name="a", parameters={"epochs": 3, "rate": 0.1}, metrics={"accuracy": 0.5})
    registry.register(second.path, run_name="b")
    versions = registry.versions(name)
    assert [(one.name, one.version, one.run_name) for one in versions] == [(name, 1, "a"), (name, 2, "b")]
    assert versions[0].parameters == {"epochs": "3", "rate": "0.1"}
    assert versions[0].metrics == {"accuracy": 0.5, "loss": 0.25}
    assert [one.bundle_version for one in versions] == [first.version, second.version]
    assert versions[0].aliases == versions[1].aliases == ()
    assert versions[0].created <= versions[1].created
    assert versions[0].created.utcoffset() is not None
    assert name in registry.names()
    assert {one.name for one in registry.versions()} >= {name, "first"}


def test_the_folder_of_a_version_is_the_bundle(
    registry: Registry, name: str, make_bundle: Callable[..., Bundle]
) -> None:
    bundle = make_bundle()
    registry.register(bundle.path, run_name="a")
    shutil.rmtree(bundle.path)  # the registry has a copy of its own
    found = read_bundle(registry.folder(f"models:/{name}/1"), Named(name))
    assert found.hash == bundle.hash
    assert found.path.is_relative_to(registry.database.parent)


def test_a_bundle_registered_again_keeps_its_version(
    registry: Registry, name: str, make_bundle: Callable[..., Bundle]
) -> None:
    one, other = make_bundle(seed=1), make_bundle(seed=2)
    assert [registry.register(bundle.path, run_name="a") for bundle in (one, other, one)] == [1, 2, 1]
    same = make_bundle(seed=1, metrics={"measured": 1.0})  # decides the same
    assert same.hash == one.hash
    assert registry.register(same.path, run_name="b", metrics={"x": 1.0}) == 1
    assert [(found.run_name, found.metrics) for found in registry.versions(name)] == [("a", {}), ("a", {})]


@pytest.mark.parametrize(
    "step", ["create_registered_model", "create_experiment", "create_run", "log_batch", "create_model_version"]
)
@pytest.mark.parametrize("after", [False, True])
def test_killed_at_any_step_it_is_registered_once_when_called_again(
    registry: Registry,
    tmp_path: Path,
    step: str,
    after: bool,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    name = f"killed_{step}_{after}"
    bundle = write_bundle(tmp_path / "bundle", domain=Named(name), network=network_for(TicTacToe()))

    class Killed(BaseException):
        pass

    client = registry._client()
    real = getattr(client, step)

    def kill(*arguments: Any, **options: Any) -> None:
        if after:
            real(*arguments, **options)
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(client, step, kill)
        with pytest.raises(Killed):
            registry.register(bundle.path, run_name="a", parameters={"epochs": 1})
    fresh = Registry(f"sqlite:///{registry.database}")
    assert fresh.register(bundle.path, run_name="b", parameters={"epochs": 2}) == 1
    (version,) = fresh.versions(name)
    # Only one who came as far as the version was the first to register it.
    finished = step == "create_model_version" and after
    assert (version.run_name, version.parameters) == (("a", {"epochs": "1"}) if finished else ("b", {"epochs": "2"}))
    experiment = client.get_experiment_by_name(name)
    assert len(client.search_runs([experiment.experiment_id])) == 1


def test_a_torn_copy_of_one_who_was_killed_is_made_anew(
    registry: Registry, name: str, make_bundle: Callable[..., Bundle]
) -> None:
    bundle = make_bundle()
    partial = registry.bundles_folder / f".{bundle.hash}.partial"
    partial.mkdir()
    (partial / "weights.safetensors").write_bytes(b"half")
    registry.register(bundle.path, run_name="a")
    assert read_bundle(registry.folder(f"models:/{name}/1")).hash == bundle.hash
    assert not partial.exists()


def test_a_lost_copy_is_told_and_comes_back_when_registered_again(
    registry: Registry, name: str, make_bundle: Callable[..., Bundle]
) -> None:
    bundle = make_bundle()
    registry.register(bundle.path, run_name="a")
    shutil.rmtree(registry.folder(f"models:/{name}/1"))
    with pytest.raises(RegistryError, match=rf"model '{name}' version 1 has no bundle in"):
        registry.folder(f"models:/{name}/1")
    assert registry.register(bundle.path, run_name="a") == 1
    assert read_bundle(registry.folder(f"models:/{name}/1")).hash == bundle.hash


def test_changed_weights_are_refused_when_read(
    registry: Registry, name: str, make_bundle: Callable[..., Bundle]
) -> None:
    registry.register(make_bundle().path, run_name="a")
    weights = registry.folder(f"models:/{name}/1") / "weights.safetensors"
    raw = bytearray(weights.read_bytes())
    raw[-1] ^= 1
    weights.write_bytes(raw)
    with pytest.raises(BundleError, match="its hash differs"):
        read_bundle(registry.folder(f"models:/{name}/1"))


def test_a_damaged_bundle_is_not_registered(registry: Registry, name: str, make_bundle: Callable[..., Bundle]) -> None:
    bundle = make_bundle()
    (bundle.path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(BundleError, match="hash differs"):
        registry.register(bundle.path, run_name="a")
    assert name not in registry.names()


def test_a_metric_that_is_no_number_is_not_registered(
    registry: Registry, name: str, make_bundle: Callable[..., Bundle]
) -> None:
    with pytest.raises(RegistryError, match="metric 'loss' is nan, not a finite number"):
        registry.register(make_bundle().path, run_name="a", metrics={"loss": float("nan")})
    assert name not in registry.names()


def test_promoted_versions_are_champion_in_turn(three: Registry, name: str) -> None:
    for version in (1, 3, 2, 2):
        three.promote(name, version)
        assert champion(three, name) == version
        assert three.folder(f"models:/{name}@champion") == three.folder(f"models:/{name}/{version}")


def test_rollback_goes_back_through_the_whole_history(three: Registry, name: str) -> None:
    for version in (1, 3, 2, 2, 3):
        three.promote(name, version)
    assert [three.rollback(name) for _ in range(3)] == [2, 3, 1]
    assert champion(three, name) == 1
    with pytest.raises(RegistryError, match=rf"model '{name}' has no earlier champion.*version 1 is the first"):
        three.rollback(name)
    three.promote(name, 2)
    assert three.rollback(name) == 1


def test_a_model_without_a_champion_cannot_be_rolled_back(three: Registry, name: str) -> None:
    with pytest.raises(RegistryError, match="no earlier champion to go back to: there has been none"):
        three.rollback(name)


def test_a_challenger_stands_beside_the_champion_until_it_becomes_one(three: Registry, name: str) -> None:
    three.set_alias(name, "champion", 1)
    three.set_alias(name, "challenger", 2)
    three.set_alias(name, "challenger", 3)
    assert [one.aliases for one in three.versions(name)] == [("champion",), (), ("challenger",)]
    three.promote(name, 3)
    assert [one.aliases for one in three.versions(name)] == [(), (), ("champion",)]
    assert three.rollback(name) == 1


@pytest.mark.parametrize("step", ["set_registered_model_tag", "set_registered_model_alias"])
def test_killed_while_promoting_the_old_champion_stays(
    three: Registry, name: str, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    three.promote(name, 1)
    three.promote(name, 2)
    with monkeypatch.context() as patch:
        patch.setattr(three._client(), step, lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            three.promote(name, 3)
    assert champion(three, name) == 2
    three.promote(name, 3)
    assert [three.rollback(name), three.rollback(name)] == [2, 1]


def test_killed_while_rolling_back_it_has_gone_back_once(
    three: Registry, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for version in (1, 2, 3):
        three.promote(name, version)
    with monkeypatch.context() as patch:
        patch.setattr(three._client(), "set_registered_model_tag", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            three.rollback(name)
    assert champion(three, name) == 2
    assert three.rollback(name) == 1


def test_a_champion_set_by_other_hands_can_be_rolled_back(three: Registry, name: str) -> None:
    three.promote(name, 1)
    three._client().set_registered_model_alias(name, "champion", "3")
    assert three.rollback(name) == 1


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("models:/nothing@champion", r"the registry has no model 'nothing'; it has: .*first"),
        ("models:/first@champion", "model 'first' has no alias 'champion'; it has: none"),
        ("models:/first/7", "model 'first' has no version 7; it has: 1"),
        ("models:/first", r"'models:/first' is not of the form models:/NAME@ALIAS or models:/NAME/VERSION"),
        ("models:/first/latest", "is not of the form"),
        ("models:/../first@champion", "is not of the form"),
        ("models:/first/1@champion", "is not of the form"),
    ],
)
def test_what_is_not_there_is_named_with_what_is(registry: Registry, reference: str, words: str) -> None:
    with pytest.raises(RegistryError, match=words):
        registry.folder(reference)


def test_only_versions_that_are_there_become_champion(registry: Registry) -> None:
    with pytest.raises(RegistryError, match="model 'first' has no version 2; it has: 1"):
        registry.promote("first", 2)
    with pytest.raises(RegistryError, match="there is no alias 'best': choose one of champion, challenger"):
        registry.set_alias("first", "best", 1)
    with pytest.raises(RegistryError, match="has no model 'it's'; it has: "):
        registry.promote("it's", 1)
    assert [one.aliases for one in registry.versions("first")] == [()]


def test_a_name_that_no_model_can_have_is_refused(registry: Registry, tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path / "b", domain=Named("a/b"), network=network_for(TicTacToe()))
    with pytest.raises(RegistryError, match="domain 'a/b' cannot name a model"):
        registry.register(bundle.path, run_name="a")


@pytest.mark.parametrize(
    "uri", ["out/models.db", "sqlite://", "sqlite:///", "sqlite:///:memory:", "http://x", "sqlite:///a.db?mode=ro"]
)
def test_a_registry_is_a_local_file(uri: str) -> None:
    with pytest.raises(RegistryError, match=r"must be a local SQLite file, such as sqlite:///out/models\.db"):
        Registry(uri)


def test_a_registry_that_is_not_there_is_not_begun_by_asking(tmp_path: Path) -> None:
    registry = Registry(f"sqlite:///{tmp_path / 'none' / 'models.db'}")
    for ask in (registry.names, registry.versions, lambda: registry.folder("models:/first@champion")):
        with pytest.raises(
            RegistryError, match=r"there is no registry at .*`escalade models register FOLDER` begins one"
        ):
            ask()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("contents", "why"),
    [
        (b"something else", "not a database"),
        (b"SQLite format 3\0" + b"x" * 4096, "not a database"),
        (b"", "no such table"),
    ],
)
def test_a_file_that_is_no_registry_is_told_and_left_alone(
    contents: bytes, why: str, registry: Registry, tmp_path: Path
) -> None:
    file = tmp_path / "models.db"
    file.write_bytes(contents)
    other = Registry(f"sqlite:///{file}")
    bundle = registry.folder("models:/first/1")
    for ask in (other.names, lambda: other.register(bundle, run_name="a")):
        with pytest.raises(
            RegistryError, match=rf"models\.db' is no registry, or a damaged one \(.*{why}.*\): name another"
        ):
            ask()
    assert file.read_bytes() == contents


def test_a_registry_may_be_moved_as_a_whole(registry: Registry, tmp_path: Path) -> None:
    shutil.copytree(registry.database.parent, tmp_path / "moved")
    moved = Registry(f"sqlite:///{tmp_path / 'moved' / 'models.db'}")
    folder = moved.folder("models:/first/1")
    assert folder.is_relative_to(tmp_path / "moved")
    assert read_bundle(folder).manifest.domain.name == "first"


def test_threads_that_register_at_once_agree(registry: Registry, name: str, make_bundle: Callable[..., Bundle]) -> None:
    bundles = [make_bundle(seed) for seed in (1, 2)]
    versions: list[tuple[int, int]] = []

    def register(index: int) -> None:
        own = Registry(f"sqlite:///{registry.database}")
        versions.append((index, own.register(bundles[index].path, run_name="a")))

    threads = [threading.Thread(target=register, args=(number % 2,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(versions) == 6
    assert len(set(versions)) == 2
    assert len(registry.versions(name)) == 2


QUIET = """
import sys
def refuse(event, arguments):
    if event in ("socket.connect", "socket.getaddrinfo", "socket.sendto"):
        raise SystemExit(f"network: {event} {arguments}")
sys.addaudithook(refuse)
from escalade.training.registry import Registry
print(Registry(sys.argv[1]).register(sys.argv[2], run_name="a"))
from mlflow.telemetry.client import get_telemetry_client
assert get_telemetry_client() is None
"""
# Where MLflow reports nothing of its own accord.
SILENCING = ("PYTEST_", "CI", "GITHUB_", "DO_NOT_TRACK", "MLFLOW_", "JENKINS_URL", "RUNBOT_")


def start(program: str, *arguments: str, home: Path) -> subprocess.Popen[str]:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(SILENCING)}
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program, *arguments],
        env={**environment, "HOME": str(home), "XDG_CONFIG_HOME": str(home / "config")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_two_processes_that_begin_a_registry_at_once_agree_and_tell_nobody(
    tmp_path: Path, name: str, make_bundle: Callable[..., Bundle]
) -> None:
    bundle, home = make_bundle(), tmp_path / "home"
    home.mkdir()
    uri = f"sqlite:///{tmp_path / 'new' / 'models.db'}"
    killed = tmp_path / "new" / ".models.db.0.partial"  # of one who was killed while beginning it
    killed.parent.mkdir()
    killed.write_bytes(b"half")
    processes = [start(QUIET, uri, str(bundle.path), home=home) for _ in range(2)]
    said = [process.communicate(timeout=120) for process in processes]
    assert said == [("1\n", ""), ("1\n", "")]
    assert [one.version for one in Registry(uri).versions(name)] == [1]
    assert list(home.iterdir()) == []
    assert not list(killed.parent.glob(".*.partial"))


@pytest.mark.parametrize("missing", ["mlflow", "alembic"])
def test_without_the_extra_it_says_what_to_install(missing: str, registry: Registry, tmp_path: Path) -> None:
    program = (
        "import sys\n"
        "class Missing:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name.partition('.')[0] == {missing!r}:\n"
        "            raise ModuleNotFoundError(name)\n"
        "sys.meta_path.insert(0, Missing())\n"
        "from escalade.training.registry import Registry, RegistryError\n"
        "try:\n"
        "    Registry(sys.argv[1]).names()\n"
        "except RegistryError as error:\n"
        "    print(error)\n"
    )
    said, errors = start(program, f"sqlite:///{registry.database}", home=tmp_path).communicate(timeout=60)
    assert (said, errors) == ("the model registry needs MLflow: pip install 'escalade[train]'\n", "")


def test_nothing_in_the_registry_can_run_code(registry: Registry) -> None:
    files = {path.name for path in registry.bundles_folder.rglob("*") if path.is_file()}
    assert files == {"bundle.json", "weights.safetensors"}
    for manifest in registry.bundles_folder.rglob("bundle.json"):
        assert json.loads(manifest.read_text())["schema_version"] == 1
