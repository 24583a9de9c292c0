"""The house rules: who may import whom, who reads the environment, and what nobody does.

Sources are parsed, not run, so imports inside functions and under `if TYPE_CHECKING` count too.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

LOWER = {"domains", "search", "neural"}
MAY_IMPORT = {
    "domains": set(),
    "search": {"domains"},
    "neural": {"domains"},
    "training": LOWER,
    "nodes": LOWER,
    "graph": LOWER | {"nodes", "training"},
    "app": LOWER | {"nodes", "training", "graph", "escalade"},
    "escalade": LOWER | {"nodes", "training", "graph", "app"},
}
"""By folder; "escalade" is the face. Every room may also import itself."""

LANGGRAPH = {
    "langgraph",
    "langgraph_sdk",
    "langgraph_api",
    "langsmith",
    "langchain",
    "langchain_core",
    "langchain_openai",
}
FOREIGN = {"domains": {"torch"} | LANGGRAPH, "search": {"torch"} | LANGGRAPH, "neural": LANGGRAPH}
"""Other people's packages that a room must know nothing of."""

SETTINGS = "app/settings.py"
READS_ENVIRONMENT = {"environ", "environb", "getenv", "getenvb", "putenv", "unsetenv"}
SETTINGS_PACKAGES = {"pydantic_settings", "dotenv"}
RUNS_CODE = {"pickle", "_pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}


def faults(source: str, path: str) -> list[str]:
    """What a file does that its place forbids. `path` is relative to the root, such as "search/tree.py"."""
    try:
        tree = ast.parse(source)
    except SyntaxError as error:
        return [f"{path}:{error.lineno}: does not parse"]
    room = path.split("/")[0]
    found = [
        (line, what)
        for line, module, name in imported(tree)
        for what in import_faults(module, name, room, path == SETTINGS)
    ]
    found += list(call_faults(tree, path == SETTINGS))
    return [f"{path}:{line}: {what}" for line, what in sorted(set(found))]


def imported(tree: ast.AST) -> Iterator[tuple[int, str, str]]:
    """Line, module and (for `from module import name`) name of every import; "." for a relative one."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name, ""
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                yield node.lineno, "." if node.level else node.module or "", alias.name
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            function = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            if function in ("import_module", "__import__", "find_spec", "run_module") and isinstance(
                node.args[0].value, str
            ):
                module = node.args[0].value
                yield node.lineno, "." if module.startswith(".") else module, ""


def import_faults(module: str, name: str, room: str, is_settings: bool) -> Iterator[str]:
    top, *rest = module.split(".")
    if module == ".":
        yield "relative import; write escalade.<room>.<module>"
    elif top in MAY_IMPORT and top != "escalade":
        yield f"'{top}' is a second copy of our module; import escalade.{top}"
    elif top == "escalade":
        # `from escalade import search` names a room by its last part.
        wanted = rest[0] if rest else name
        wanted = wanted if wanted in MAY_IMPORT else "escalade"
        if wanted != room and wanted not in MAY_IMPORT[room]:
            yield f"{room} must not import {wanted if wanted != 'escalade' else 'the face'}"
    if top in FOREIGN.get(room, ()):
        yield f"{room} must not import {top}"
    if top in RUNS_CODE:
        yield f"{top} can run code that it loads"
    if (module, name) in (("torch", "load"), ("builtins", "eval"), ("builtins", "exec")):
        yield f"{module}.{name} runs code"
    if not is_settings and (top in SETTINGS_PACKAGES or (module == "os" and name in READS_ENVIRONMENT)):
        yield f"only {SETTINGS} reads the environment"


def call_faults(tree: ast.AST, is_settings: bool) -> Iterator[tuple[int, str]]:
    modules = {
        alias.asname or alias.name.split(".")[0]: alias.name if alias.asname else alias.name.split(".")[0]
        for node in ast.walk(tree)
        if isinstance(node, ast.Import)
        for alias in node.names
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Name) and node.id in ("eval", "exec"):
            yield node.lineno, f"{node.id} runs code"
        elif isinstance(node, ast.Attribute):
            root: ast.expr = node
            while isinstance(root, ast.Attribute):
                root = root.value
            package = modules.get(root.id, "") if isinstance(root, ast.Name) else ""
            if package == "os" and node.attr in READS_ENVIRONMENT and not is_settings:
                yield node.lineno, f"only {SETTINGS} reads the environment"
            if package.split(".")[0] == "torch" and node.attr == "load":
                yield node.lineno, "torch.load runs code; weights are safetensors"
            if package == "builtins" and node.attr in ("eval", "exec"):
                yield node.lineno, f"{node.attr} runs code"
        elif isinstance(node, ast.keyword):
            if node.arg == "allow_pickle" and not (isinstance(node.value, ast.Constant) and node.value.value is False):
                yield node.value.lineno, "allow_pickle runs code"
            if node.arg == "envvar" and not is_settings:
                yield node.value.lineno, f"only {SETTINGS} reads the environment"


SOURCES = sorted(path for room in MAY_IMPORT for path in (ROOT / room).rglob("*.py"))


def test_every_room_keeps_the_house_rules():
    assert {path.relative_to(ROOT).parts[0] for path in SOURCES} == set(MAY_IMPORT)
    found = [
        fault
        for path in SOURCES
        for fault in faults(path.read_text(encoding="utf-8"), path.relative_to(ROOT).as_posix())
    ]
    assert found == []


def test_lower_rooms_load_nothing_of_the_upper_ones():
    """The same from the other side: what is in memory after every module of a room was imported."""
    modules = {
        room: [
            ".".join(("escalade", *path.relative_to(ROOT).with_suffix("").parts)).removesuffix(".__init__")
            for path in SOURCES
            if path.relative_to(ROOT).parts[0] == room
        ]
        for room in ("domains", "search")
    }
    program = (
        "import importlib, json, sys\n"
        f"for room, modules in {modules!r}.items():\n"
        "    for module in modules:\n"
        "        importlib.import_module(module)\n"
        f"    loaded = sorted({{'torch', *{sorted(LANGGRAPH)!r}}} & set(sys.modules))\n"
        "    assert not loaded, f'{room} loads {loaded}'\n"
    )
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


@pytest.mark.parametrize(
    ("path", "source", "what"),
    [
        ("domains/a.py", "import escalade.search", "domains must not import search"),
        ("domains/a.py", "from escalade import __version__", "domains must not import the face"),
        ("domains/a.py", "import escalade", "domains must not import the face"),
        ("domains/a.py", "import torch.nn as nn", "domains must not import torch"),
        ("search/a.py", "from torch import Tensor", "search must not import torch"),
        ("search/a.py", "from escalade.neural.bundle import load", "search must not import neural"),
        ("search/a.py", "from escalade import neural", "search must not import neural"),
        ("search/a.py", "def f():\n    from langgraph.graph import END", "search must not import langgraph"),
        ("neural/a.py", "from escalade.search.tree import Tree", "neural must not import search"),
        ("neural/a.py", "from langchain_core.messages import AIMessage", "neural must not import langchain_core"),
        ("training/a.py", "import escalade.nodes.state", "training must not import nodes"),
        ("nodes/a.py", "from escalade.training import store", "nodes must not import training"),
        (
            "nodes/a.py",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from escalade.graph.decision import build",
            "nodes must not import graph",
        ),
        ("graph/a.py", "import escalade.app.settings", "graph must not import app"),
        ("graph/a.py", "import importlib\nimportlib.import_module('escalade.app.server')", "graph must not import app"),
        (
            "nodes/a.py",
            "from importlib import import_module as i\n__import__('escalade.app')",
            "nodes must not import app",
        ),
        ("domains/deep/a.py", "class A:\n    def f(self):\n        import escalade.app", "domains must not import app"),
        ("search/a.py", "from . import tree", "relative import; write escalade.<room>.<module>"),
        ("app/a.py", "from ..graph import decision", "relative import; write escalade.<room>.<module>"),
        ("app/a.py", "import graph.decision", "'graph' is a second copy of our module; import escalade.graph"),
        ("graph/a.py", "from nodes import state", "'nodes' is a second copy of our module; import escalade.nodes"),
        ("nodes/a.py", "import os\nkey = os.environ['KEY']", "only app/settings.py reads the environment"),
        ("app/a.py", "import os as o\nkey = o.getenv('KEY')", "only app/settings.py reads the environment"),
        ("app/a.py", "from os import environ as e", "only app/settings.py reads the environment"),
        ("graph/a.py", "from pydantic_settings import BaseSettings", "only app/settings.py reads the environment"),
        ("app/a.py", "import typer\ntyper.Option(envvar='KEY')", "only app/settings.py reads the environment"),
        ("training/a.py", "import pickle", "pickle can run code that it loads"),
        ("app/a.py", "def f():\n    from marshal import loads", "marshal can run code that it loads"),
        (
            "neural/a.py",
            "import torch\ntorch.load('x', weights_only=True)",
            "torch.load runs code; weights are safetensors",
        ),
        ("neural/a.py", "import torch as t\nt.jit.load('x')", "torch.load runs code; weights are safetensors"),
        ("neural/a.py", "from torch import load", "torch.load runs code"),
        ("neural/a.py", "import numpy\nnumpy.load('x', allow_pickle=True)", "allow_pickle runs code"),
        ("app/a.py", "def (", "does not parse"),
        ("app/a.py", "eval('1')", "eval runs code"),
        ("app/a.py", "run = exec", "exec runs code"),
        ("app/a.py", "import builtins\nbuiltins.eval('1')", "eval runs code"),
    ],
)
def test_the_checker_finds(path, source, what):
    (fault,) = faults(source, path)
    assert fault.startswith(f"{path}:")
    assert fault.endswith(f": {what}")


@pytest.mark.parametrize(
    ("path", "source"),
    [
        ("search/a.py", "from escalade.domains.base import Domain\nfrom escalade.search import tree\nimport numpy"),
        ("training/a.py", "import torch, escalade.search.tree, escalade.neural.bundle, escalade.domains"),
        ("nodes/a.py", "from langgraph.types import interrupt\nfrom escalade.neural import batcher"),
        ("graph/a.py", "import escalade.training.store\nfrom escalade.nodes import state"),
        ("app/a.py", "import escalade\nfrom escalade import __version__\nfrom escalade.graph import decision"),
        ("escalade/__init__.py", "from escalade.app.settings import Settings\nfrom escalade import domains"),
        ("neural/a.py", "import torch\nmodel = torch.nn.Linear(1, 1).eval()\nstore.load('x')"),
        ("app/settings.py", "import os\nfrom pydantic_settings import BaseSettings\nos.environ.get('KEY')"),
        ("app/a.py", "import os\nos.cpu_count()\nimport numpy\nnumpy.load('x', allow_pickle=False)"),
        ("domains/a.py", "import importlib\nimportlib.import_module(name)\n'import torch; eval(1)'"),
    ],
)
def test_the_checker_lets_pass(path, source):
    assert faults(source, path) == []
