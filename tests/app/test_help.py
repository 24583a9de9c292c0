"""Help of every command and description of every option and setting: there, and in the terms of the field."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
import typer

from escalade.app.cli import app
from escalade.app.settings import Settings
from escalade.nodes.context import DecisionContext

DIALECT = re.compile(r"\b(tells?|told|say|says|said|hears?|doubts?|source of all chance|in new nodes|so many)\b", re.I)


def commands(command: Any, name: str = "escalade") -> Iterator[tuple[str, Any]]:
    yield name, command
    for short, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{name} {short}")


COMMANDS = dict(commands(typer.main.get_command(app)))


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_and_option_has_help_in_plain_terms(name: str) -> None:
    command = COMMANDS[name]
    texts = {"": command.help, **{option.name: getattr(option, "help", None) for option in command.params}}
    for option, text in texts.items():
        assert text, f"{name} {option} has no help"
        assert not DIALECT.search(text), f"{name} {option}: {text}"

        assert text.rstrip().endswith("."), f"{name} {option}: {text}"


@pytest.mark.parametrize("model", [Settings, DecisionContext])
def test_each_setting_is_described_in_plain_terms(model: Any) -> None:
    for name, field in model.model_fields.items():
        assert field.description, name
        assert not DIALECT.search(field.description), f"{name}: {field.description}"
