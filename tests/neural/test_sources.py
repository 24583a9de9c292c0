"""How a bundle is named: a folder, or `builtin:NAME`."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from escalade import build_decision_graph
from escalade.domains.errors import BundleError
from escalade.neural import sources
from escalade.neural.bundle import Bundle
from escalade.neural.sources import builtin_names, bundle_folder


@pytest.fixture
def champions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tic_tac_toe_bundle: Bundle) -> Path:
    """As if the package came with one bundle."""
    folder = tmp_path / "champions"
    shutil.copytree(tic_tac_toe_bundle.path, folder / "tic_tac_toe")
    monkeypatch.setattr(sources, "_CHAMPIONS", folder)
    return folder


def test_a_folder_is_itself(tmp_path: Path) -> None:
    assert bundle_folder(tmp_path) == tmp_path
    assert bundle_folder("runs/best") == Path("runs/best")
    # Only a text can name anything else.
    assert bundle_folder(Path("builtin:x")) == Path("builtin:x")


def test_a_builtin_is_found_and_decides(champions: Path, tic_tac_toe_bundle: Bundle) -> None:
    assert builtin_names() == ["tic_tac_toe"]
    assert bundle_folder("builtin:tic_tac_toe") == champions / "tic_tac_toe"
    graph = build_decision_graph("tic_tac_toe", bundle="builtin:tic_tac_toe")
    decision = graph.invoke({"state": "51"}, context={"policy_threshold": 0})["decision"]
    assert decision["source"] == "policy"
    assert decision["rungs"][0]["details"]["bundle"] == tic_tac_toe_bundle.version


@pytest.mark.parametrize("name", ["no_such", "", "..", "../champions/tic_tac_toe", "tic_tac_toe/"])
def test_a_builtin_that_is_not_there_is_named_with_those_that_are(champions: Path, name: str) -> None:
    with pytest.raises(
        BundleError, match=r"there is no bundle 'builtin:.*those that came with this version: tic_tac_toe"
    ):
        bundle_folder(f"builtin:{name}")


def test_without_any_builtin_it_says_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sources, "_CHAMPIONS", tmp_path / "none")
    with pytest.raises(BundleError, match="those that came with this version: none"):
        build_decision_graph("connect_four", bundle="builtin:connect_four")


def test_every_builtin_of_the_package_is_whole() -> None:
    from escalade.domains.catalog import load_domain
    from escalade.neural.bundle import read_bundle

    there = [read_bundle(bundle_folder(f"builtin:{name}"), load_domain(name)).path.name for name in builtin_names()]
    assert there == builtin_names()


def test_a_registered_bundle_is_the_applications_to_look_up() -> None:
    with pytest.raises(BundleError, match=r"'models:/tic_tac_toe@champion' is in a registry, which is not known here"):
        build_decision_graph("tic_tac_toe", bundle="models:/tic_tac_toe@champion")
