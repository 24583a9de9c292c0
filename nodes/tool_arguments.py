"""What tools that are given a state have in common: how the state is declared, read and told to a language model."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema, create_model

from escalade.domains.base import Domain

_KINDS: tuple[dict[str, Any], ...] = (
    {"type": "string"},
    {"type": "number"},
    {"type": "array", "items": {}},
    {"type": "object"},
)
"""What a state may be written as: a text or another JSON value, of which domains read what they know."""


def notation_of(domain: Domain[Any] | None) -> str:
    """How a domain's states are written, with an example; nothing where that is not known."""
    if domain is None:
        return ""
    examples = [json.dumps(text, ensure_ascii=False) for text in domain.examples()]
    return " ".join(filter(None, (domain.notation(), f"Examples: {', '.join(examples)}." if examples else "")))


def state_arguments(domain: Domain[Any] | None, **more: Any) -> type[BaseModel]:
    """The schema of a tool's arguments: `state`, and more as for `create_model`; a number may stand for a text."""
    examples = list(domain.examples()) if domain is not None else []
    schema = {"anyOf": list(_KINDS), "description": notation_of(domain) or "The state, as text or JSON."}
    if examples:
        schema["examples"] = examples
    state = Annotated[Any, WithJsonSchema(schema), Field(description=schema["description"])]
    config = ConfigDict(coerce_numbers_to_str=True)
    return create_model("StateArguments", __config__=config, state=(state, ...), **more)


def as_state(domain: Domain[Any] | None, given: Any) -> Any:
    """A state as clients write it. A number where a text was wanted, as in `{"state": 51}`, or 51.0 of clients whose
    numbers are all of one kind, is that text; of a domain that reads numbers it stays one."""
    if isinstance(given, bool) or not isinstance(given, int | float):
        return given
    if domain is not None:
        try:
            domain.parse(given)
        except Exception:  # noqa: BLE001, S110 -- whatever it raises, it does not read numbers
            pass
        else:
            return given
    return str(as_whole(given))


def as_whole(given: float) -> float | int:
    """A number without a fraction as a whole one."""
    return int(given) if isinstance(given, float) and given.is_integer() else given


def unfit(error: Any) -> str:
    """What is wrong with a call's arguments."""
    fault: Mapping[str, Any] = error.errors()[0]
    return f"{'.'.join(map(str, fault['loc']))}: {fault['msg']}"
