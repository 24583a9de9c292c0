"""Errors of ours are of kinds whose text the LangGraph API server passes on."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from escalade.domains.errors import EscaladeError
from escalade.nodes.patience import PatienceOver

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("app", "domains", "graph", "neural", "nodes", "search", "training")


def kinds(kind: type[EscaladeError] = EscaladeError) -> Iterator[type[EscaladeError]]:
    yield kind
    for further in kind.__subclasses__():
        yield from kinds(further)


def test_the_text_of_every_error_of_ours_is_passed_on() -> None:
    serde = pytest.importorskip("langgraph_api.serde")
    for room in ROOMS:
        for module in pkgutil.iter_modules([str(ROOT / room)]):
            if (room, module.name) not in (("app", "studio"), ("app", "server")):  # these read the settings
                importlib.import_module(f"escalade.{room}.{module.name}")
    found = set(kinds())
    assert len(found) > 15
    for kind in found:
        error = PatienceOver("timeout", 2.0) if kind is PatienceOver else kind("a sentence")
        assert str(error)
        assert serde.default(error) == {"error": kind.__name__, "message": str(error)}

    class Foreign(Exception):
        pass

    assert "a sentence" not in str(serde.default(Foreign("a sentence")))
