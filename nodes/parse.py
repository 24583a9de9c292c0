"""The first node: a text or JSON value becomes a state of the domain, or is refused with the place of the fault."""

from __future__ import annotations

import unicodedata
import uuid
from collections.abc import Callable
from typing import Any, TypeVar, cast

from langgraph.config import get_config
from langgraph.runtime import get_runtime

from escalade.domains.base import Domain
from escalade.domains.errors import DomainFault, EscaladeError, StateError
from escalade.nodes.context import DecisionContext, check_place
from escalade.nodes.resources import Resources
from escalade.nodes.state import MAX_ID_LENGTH, DecisionInput, DecisionState
from escalade.nodes.step import Step, Update
from escalade.nodes.tool_arguments import as_state


class Parse(Step):
    needs = ()
    begins = True

    def _begin(self, state: DecisionState) -> tuple[DecisionState, DecisionContext, float]:
        # Of what an earlier run on this thread left behind, nothing counts.
        return super()._begin(cast(DecisionState, {name: state.get(name) for name in DecisionInput.__annotations__}))


def parse_node(resources: Resources) -> Step:
    def run(state: DecisionState, context: DecisionContext) -> Update:
        check_place(get_config()["configurable"], get_runtime().context)
        domain = resources.domain
        text = canonical_text(domain, state.get("state"))
        rungs = guarded(domain, domain.rungs_for, text)
        return {
            "text": text,
            "rungs": None if rungs is None else list(rungs),
            "id": _decision_id(state.get("decision_id")),
            # A thread may decide many times: what the last run left behind is cleared, the caller's id with it.
            "decision_id": None,
            "reports": [],
            "proposal": None,
            "elapsed_ms": 0.0,
        }

    return Parse("parse", resources, run)


def legal_in(domain: Domain[Any], text: str) -> list[int]:
    """The legal actions of a state. Raises StateError and DomainFault as `canonical_text`."""
    return guarded(domain, lambda state: [int(action) for action in domain.legal_actions(state)], text)


def canonical_text(domain: Domain[Any], source: Any) -> str:
    """The canonical text of a state that can be decided. Raises StateError for anything else, and DomainFault if the
    domain itself fails."""
    if source is None:
        raise StateError("no state was given: put it in the field 'state'")
    if isinstance(source, str):  # what looks the same is the same, whichever system wrote it
        source = unicodedata.normalize("NFC", source)
    source = as_state(domain, source)
    text, finished = guarded(domain, lambda state: (domain.format(state), domain.is_terminal(state)), source)
    if finished:
        raise StateError(f"the state '{text[:80]}' is finished: there is nothing to decide", position=len(text))
    return text


T = TypeVar("T")


def guarded(domain: Domain[Any], ask: Callable[[Any], T], source: Any) -> T:
    """What a domain says of the state in a text. Raises StateError if there is none in it, and DomainFault if the
    domain itself fails."""
    try:
        return ask(domain.parse(source))
    except EscaladeError:
        raise
    except Exception as error:
        what = f"{type(error).__name__}: {error}".removesuffix(": ")
        raise DomainFault(
            f"domain '{domain.name}' failed on this state ({what}); `escalade domains check` finds out why"
        ) from error


def _decision_id(given: Any) -> str:
    if given is None:
        return str(uuid.uuid4())
    if not isinstance(given, str) or not 0 < len(given) <= MAX_ID_LENGTH or not given.isprintable():
        raise StateError(f"decision_id must be a text of 1 to {MAX_ID_LENGTH} printable characters")
    return given
