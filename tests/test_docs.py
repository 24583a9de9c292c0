"""What the README and the docs show is run, and what they list is complete."""

from __future__ import annotations

import importlib.util
import re
import runpy
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from in_process import escalade

from escalade import Decision, RungReport

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text()
PAGES = {"README": README} | {
    name: (ROOT / "docs" / f"{name}.md").read_text()
    for name in ("training", "certificates", "language_models", "embedding", "files")
}
DECISION = (ROOT / "docs" / "decision.md").read_text()


def blocks(language: str, *pages: str) -> list[str]:
    text = "\n".join(PAGES[page] for page in pages or PAGES)
    return re.findall(rf"(?s)```{language}\n(.*?)```", text)


@pytest.mark.parametrize("snippet", blocks("python"))
@pytest.mark.filterwarnings("ignore:create_react_agent has been moved:DeprecationWarning")  # langgraph-supervisor's own
def test_every_python_snippet_runs(
    snippet: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    script = tmp_path / "snippet.py"
    script.write_text(snippet)
    monkeypatch.chdir(tmp_path)
    modules = set(sys.modules)
    runpy.run_path(str(script), run_name="__main__")  # in this process: another one would import for seconds
    for name in set(sys.modules) - modules:
        if str(getattr(sys.modules[name], "__file__", "")).startswith(str(tmp_path)):
            del sys.modules[name]
    printed = capsys.readouterr().out
    assert printed.strip()
    assert "False" not in printed


def test_there_are_snippets_to_run() -> None:
    assert len(blocks("python")) >= 3
    assert len(blocks("sh")) >= 2


@pytest.mark.parametrize("page", [page for page in PAGES if blocks("sh", page)])
def test_every_command_of_a_page_runs(page: str, tmp_path: Path) -> None:
    """In one folder and in order: later lines use what earlier ones wrote."""
    for line in (line for block in blocks("sh", page) for line in block.strip().splitlines()):
        program, *arguments = shlex.split(line)
        if program == ".venv/bin/escalade":
            done = escalade(*arguments, cwd=tmp_path)
        else:
            done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (line, done.stdout + done.stderr)


def test_every_make_target_of_the_readme_is_there() -> None:
    targets = set(re.findall(r"(?m)(?:^    |`)make ([a-z-]+)", README))
    assert {"run", "test", "setup"} <= targets
    for target in targets:
        done = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def test_the_domain_of_the_readme_takes_about_forty_lines() -> None:
    (snippet,) = [block for block in blocks("python") if "class Nim" in block]
    body = snippet[snippet.index("class Nim") : snippet.index("print(")]
    assert len([line for line in body.splitlines() if line.strip()]) <= 40


def test_the_drawing_and_the_settings_are_those_of_the_program() -> None:
    spec = importlib.util.spec_from_file_location("refresh", ROOT / "docs" / "refresh.py")
    assert spec is not None
    assert spec.loader is not None
    refresh: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(refresh)
    for path, content in refresh.pages().items():
        assert path.read_text() == content, "run `make docs`"
    assert "router -.-> policy" in README


def test_every_field_and_reason_is_explained() -> None:
    for field in (*Decision.model_fields, *RungReport.model_fields):
        assert f"`{field}`" in DECISION
    files = ("router", "deliberate", "check", "agree", "step", "call_failed", "guards", "endpoint_errors", "endings")
    written = "".join((ROOT / "nodes" / f"{name}.py").read_text() for name in files)
    reasons = set(re.findall(r'(?:failed\(|Failed\(|return |accepted", |escalated", |reason = )"([a-z_]+)"', written))
    assert {"no_model", "timeout", "under_threshold", "malformed_answer"} <= reasons
    for reason in reasons:
        assert f"`{reason}`" in DECISION, reason
