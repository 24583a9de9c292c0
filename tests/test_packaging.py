"""The wheel, built and installed beside a host project that has top-level packages `graph` and `app` of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("app", "domains", "graph", "neural", "nodes", "search", "training")

HOST = """
import importlib, json, sys
from importlib.metadata import distribution, entry_points, version

import app, graph
from graph.flow import FLOW

places = {name: importlib.import_module(name).__file__ for name in sys.argv[1:]}
from escalade.domains.catalog import load_domain
print(json.dumps({
    "host": [app.NAME, graph.NAME, FLOW],
    "host files": [app.__file__, graph.__file__],
    "places": places,
    "metadata": str(distribution("escalade").locate_file("")),
    "version": version("escalade"),
    "version in the code": sys.modules["escalade"].__version__,
    "domains": {point.name: point.value for point in entry_points(group="escalade.domains")},
    "scripts": [point.value for point in entry_points(group="console_scripts", name="escalade")],
    "played": load_domain("tic_tac_toe").format(load_domain("tic_tac_toe").parse("51")),
    "loaded from": sys.modules["escalade.domains.tic_tac_toe"].__file__,
}))
"""


def run(*command: str, cwd: Path, **environment: str) -> str:
    done = subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False, env={**os.environ, **environment}
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def pip(*arguments: str, cwd: Path) -> str:
    return run(
        sys.executable, "-m", "pip", *arguments, "--no-deps", "--no-index", cwd=cwd, PIP_DISABLE_PIP_VERSION_CHECK="1"
    )


@pytest.fixture(scope="module")
def source(tmp_path_factory) -> Path:
    """A copy of the project to build from, as building leaves files in its folder."""
    copy = tmp_path_factory.mktemp("source") / "project"
    copy.mkdir()
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, copy)
    for folder in ("escalade", *ROOMS):
        shutil.copytree(ROOT / folder, copy / folder, ignore=shutil.ignore_patterns("__pycache__"))
    # Strays that must not find their way into the wheel.
    for folder in (".", "tests", "benchmarks", "docs", "examples", "typings"):
        (copy / folder).mkdir(exist_ok=True)
        (copy / folder / "stray.py").write_text("")
    return copy


@pytest.fixture(scope="module")
def wheel(source) -> Path:
    folder = source.parent / "wheels"
    pip("wheel", ".", "--no-build-isolation", "--wheel-dir", str(folder), cwd=source)
    (built,) = folder.iterdir()
    return built


def test_the_wheel_holds_every_module_and_no_strays(source, wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if not name.endswith("/")}
    info = {name for name in names if name.split("/")[0].endswith(".dist-info")}
    code = names - info
    assert "escalade/py.typed" in code
    assert any(name.endswith("/licenses/LICENSE") for name in info)
    assert {name.split("/")[0] for name in code} == {"escalade"}
    assert {name.split("/")[1] for name in code if name.count("/") > 1} == set(ROOMS)
    # A subfolder that pyproject.toml does not list would be missing here.
    wanted = {f"escalade/{path.name}" for path in (source / "escalade").glob("*.py")}
    for room in ROOMS:
        wanted |= {f"escalade/{path.relative_to(source).as_posix()}" for path in (source / room).rglob("*.py")}
    assert {name for name in code if name.endswith(".py")} == wanted


@pytest.mark.parametrize("kind", ["wheel", "editable"])
def test_building_warns_of_nothing(source, tmp_path, kind):
    """`make run` would print it before its result. Data in a folder that pyproject.toml does not list is warned of."""
    expected = "ignore:Editable installation"  # as in the Makefile
    build = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    run(sys.executable, "-W", "error", "-W", expected, "-c", build, str(tmp_path), cwd=source)
    assert expected in (ROOT / "Makefile").read_text()
    assert [path.suffix for path in tmp_path.iterdir()] == [".whl"]


def test_it_works_beside_a_host_with_its_own_graph_and_app(wheel, tmp_path):
    target, host = tmp_path / "site", tmp_path / "host"
    pip("install", "--target", str(target), str(wheel), cwd=tmp_path)
    for package in ("graph", "app"):
        (host / package).mkdir(parents=True)
        (host / package / "__init__.py").write_text(f"NAME = 'the {package} of the host'\n")
    (host / "graph" / "flow.py").write_text("FLOW = 'the flow of the host'\n")
    (host / "main.py").write_text(HOST)
    modules = ["escalade", *(f"escalade.{room}" for room in ROOMS)]
    # The target stands before the packages of this environment, where the checkout is installed too.
    told = json.loads(run(sys.executable, "main.py", *modules, cwd=host, PYTHONPATH=str(target)))

    assert told["host"] == ["the app of the host", "the graph of the host", "the flow of the host"]
    assert all(Path(place).is_relative_to(host) for place in told["host files"])
    assert set(told["places"]) == set(modules)
    for name, place in told["places"].items():
        assert Path(place) == target.joinpath(*name.split("."), "__init__.py")
    assert Path(told["loaded from"]) == target / "escalade" / "domains" / "tic_tac_toe.py"
    assert told["played"] == "51"

    assert Path(told["metadata"]) == target
    assert told["version"] == told["version in the code"]
    assert told["domains"] == {
        "connect_four": "escalade.domains.connect_four:ConnectFour",
        "intents": "escalade.domains.intents:Intents",
        "tic_tac_toe": "escalade.domains.tic_tac_toe:TicTacToe",
    }
    assert told["scripts"] == ["escalade.app.cli:main"]
