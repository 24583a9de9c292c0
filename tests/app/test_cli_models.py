"""`escalade models`, as a person runs it, and decisions served from the registry."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support import network_for
from typer.testing import CliRunner

from escalade.app.cli import app
from escalade.app.settings import Settings
from escalade.app.wiring import open_decider
from escalade.domains.errors import BundleError, RegistryError
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.neural.bundle import Bundle, write_bundle
from escalade.training.registry import Registry

Run = Callable[..., Any]


@pytest.fixture(scope="module")
def uri(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"sqlite:///{tmp_path_factory.mktemp('registry') / 'models.db'}"


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory, uri: str) -> list[Bundle]:
    """Two, registered as versions 1 and 2; nothing in these tests depends on who is champion before."""
    folder = tmp_path_factory.mktemp("made")
    made = [
        write_bundle(
            folder / str(seed), domain=TicTacToe(), network=network_for(TicTacToe(), seed), metrics={"loss": seed / 4}
        )
        for seed in (1, 2)
    ]
    for bundle in made:
        done = run_with(uri, "models", "register", str(bundle.path), "--run-name", f"run of {bundle.path.name}")
        assert done.exit_code == 0, done.output
    return made


def run_with(uri: str, *arguments: str) -> Any:
    return CliRunner().invoke(app, arguments, env={"COLUMNS": "250", "ESCALADE_REGISTRY": uri})


@pytest.fixture
def run(uri: str, bundles: list[Bundle]) -> Run:
    return lambda *arguments: run_with(uri, *arguments)


@pytest.fixture
def settings(uri: str, bundles: list[Bundle]) -> Settings:
    return Settings(registry=uri, bundles={"tic_tac_toe": "models:/tic_tac_toe@champion"})


def served(settings: Settings, **options: Any) -> str | None:
    """The version of the bundle that a newly opened decider decides with."""
    decider = open_decider(settings, "tic_tac_toe", **options)
    try:
        decision = decider.graph.invoke({"state": "51"}, context={"policy_threshold": 0})["decision"]
    finally:
        decider.close()
    assert decision["source"] == "policy"
    return decision["rungs"][0]["details"]["bundle"]


def test_ls_shows_versions_aliases_and_metrics(run: Run, bundles: list[Bundle]) -> None:
    assert run("models", "promote", "tic_tac_toe", "2").exit_code == 0
    lines = run("models", "ls").stdout.splitlines()
    assert lines[0].split()[:3] == ["model", "version", "aliases"]
    assert lines[2].split()[:3] == ["tic_tac_toe", "2", "champion"]
    for word in (bundles[1].version, "run of 2", "loss 0.5"):
        assert word in lines[2]
    listed = json.loads(run("models", "ls", "tic_tac_toe", "--json").stdout)
    assert [(one["version"], one["metrics"]) for one in listed] == [(1, {"loss": 0.25}), (2, {"loss": 0.5})]
    assert listed[1]["aliases"] == ["champion"]


def test_a_bundle_registered_again_keeps_its_version(run: Run, bundles: list[Bundle]) -> None:
    done = run("models", "register", str(bundles[0].path))
    assert done.stdout == f"tic_tac_toe version 1: bundle {bundles[0].version}\n"
    assert len(json.loads(run("models", "ls", "--json").stdout)) == 2


def test_promote_and_rollback_are_seen_by_the_next_that_is_opened(
    run: Run, settings: Settings, bundles: list[Bundle]
) -> None:
    one, two = (bundle.version for bundle in bundles)
    assert run("models", "promote", "tic_tac_toe", "1").exit_code == 0
    assert served(settings) == one
    open_before = open_decider(settings, "tic_tac_toe")
    done = run("models", "promote", "tic_tac_toe", "2")
    assert (done.exit_code, done.stdout) == (0, "tic_tac_toe version 2: champion\n")
    assert served(settings) == two
    assert open_before.resources.bundle_version == one
    open_before.close()
    done = run("models", "rollback", "tic_tac_toe", "--json")
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"name": "tic_tac_toe", "version": 1})
    assert served(settings) == one


def test_a_version_or_a_folder_may_be_asked_for_in_place_of_the_champion(
    run: Run, settings: Settings, bundles: list[Bundle]
) -> None:
    run("models", "promote", "tic_tac_toe", "1")
    assert served(settings, bundle="models:/tic_tac_toe/2") == bundles[1].version
    assert served(settings, bundle=str(bundles[1].path)) == bundles[1].version
    assert served(settings, bundle=bundles[1].path) == bundles[1].version


def test_decide_takes_a_registered_bundle(run: Run, bundles: list[Bundle]) -> None:
    decide = ("decide", "tic_tac_toe", "51", "--threshold", "policy=0", "--json", "--bundle")
    done = run(*decide, "models:/tic_tac_toe/2")
    assert done.exit_code == 0, done.output
    decision = json.loads(done.stdout)
    assert (decision["source"], decision["rungs"][0]["details"]["bundle"]) == ("policy", bundles[1].version)


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["models", "ls", "chess"], RegistryError, "the registry has no model 'chess'; it has: tic_tac_toe"),
        (["models", "promote", "tic_tac_toe", "9"], RegistryError, "has no version 9; it has: 1, 2"),
        (["models", "rollback", "chess"], RegistryError, "the registry has no model 'chess'"),
        (["models", "register", "/no/such"], BundleError, "bundle '/no/such' refused: there is no such directory"),
        (["models", "register", "builtin:none"], BundleError, "there is no bundle 'builtin:none'"),
        (
            ["decide", "tic_tac_toe", "5", "--bundle", "models:/tic_tac_toe@challenger"],
            RegistryError,
            "has no alias 'challenger'",
        ),
        (["decide", "connect_four", "4", "--bundle", "models:/tic_tac_toe/1"], BundleError, "not 'connect_four'"),
    ],
)
def test_what_is_not_there_is_told(run: Run, arguments: list[str], error: type[Exception], words: str) -> None:
    done = run(*arguments)
    assert isinstance(done.exception, error)
    assert words in str(done.exception)


def test_no_registry_is_begun_by_asking(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(app, ["models", "ls"])
    assert isinstance(done.exception, RegistryError)
    assert f"there is no registry at '{tmp_path}/out/models.db' yet" in str(done.exception)
    assert Registry(Settings().registry).database == tmp_path / "out" / "models.db"
    assert list(tmp_path.iterdir()) == []
