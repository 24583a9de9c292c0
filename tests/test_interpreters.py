"""The schemas, and a decision, on every newer Python that is on this machine: with the wheel and its real dependencies,
in an environment of its own, which is kept beside this one's packages and used again."""

from __future__ import annotations

import glob
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = ("app", "domains", "escalade", "graph", "neural", "nodes", "search", "training")
KEPT = Path(sys.prefix) / "other-pythons"
VERSIONS = ("3.12", "3.13")
QUIET = ("--quiet", "--disable-pip-version-check")


def interpreter(version: str) -> Path | None:
    """A Python of this version, on the path or of pyenv."""
    found = shutil.which(f"python{version}")
    places = [*glob.glob(str(Path.home() / f".pyenv/versions/{version}.*/bin/python")), *([found] if found else [])]
    for place in places:
        program = "import ensurepip, sys; print('%d.%d' % sys.version_info[:2])"
        told = subprocess.run([place, "-c", program], capture_output=True, text=True, check=False)
        if told.stdout.strip() == version:
            return Path(place)
    return None


def wheel(folder: Path) -> Path:
    """Built from a copy, as building leaves files in its folder."""
    source = folder / "source"
    source.mkdir()
    for file in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / file, source)
    for room in ROOMS:
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    build = [sys.executable, "-m", "pip", "wheel", *QUIET, "--no-deps", "--no-index", "--no-build-isolation"]
    subprocess.run([*build, "--wheel-dir", str(folder), str(source)], check=True, capture_output=True)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.parametrize("version", VERSIONS)
def test_schemas_and_a_decision_on(version: str, tmp_path: Path) -> None:
    if sys.version_info[:2] == tuple(map(int, version.split("."))):
        pytest.skip("this is the Python that runs all tests")
    found = interpreter(version)
    if found is None:
        pytest.skip(f"there is no Python {version} on this machine")
    place = KEPT / version
    python = place / "bin" / "python"
    fresh = not python.exists()
    if fresh:
        subprocess.run([str(found), "-m", "venv", str(place)], check=True)
    built = wheel(tmp_path)
    install = [
        str(python),
        "-m",
        "pip",
        "install",
        *QUIET,
        "--no-compile",
        "--constraint",
        str(ROOT / "constraints.txt"),
    ]
    done = subprocess.run([*install, str(built), "pytest"], capture_output=True, text=True, check=False)
    if done.returncode and "No matching distribution" in done.stderr:
        pytest.skip(f"the package registry has not what is needed for Python {version}: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    if not fresh:
        reinstall = [*install, "--no-deps", "--force-reinstall", str(built)]
        again = subprocess.run(reinstall, capture_output=True, check=False)
        assert again.returncode == 0, again.stderr
    tests = ROOT / "tests" / "graph" / "test_schemas.py"
    options = (
        "-c",
        os.devnull,
        "--noconftest",
        "-p",
        "no:cacheprovider",
        "-q",
        "-W",
        "error",
        "--rootdir",
        str(tmp_path),
        *(() if version == VERSIONS[-1] else ("-k", "schema or form or types")),  # kernels are compiled on one of them
    )
    ran = subprocess.run(
        [str(python), "-m", "pytest", *options, "--import-mode=importlib", str(tests)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-3000:]
    assert " passed" in ran.stdout
