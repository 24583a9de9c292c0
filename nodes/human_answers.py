"""What a person's answer means, in any of the forms that people's tools send.

The forms: the name of a legal action, as a text, as `{"action_name": …}` or as the arguments of an action
(`{"action" or "name": …, "args": {"action_name": …}}`); those of Agent Inbox, `{"type": "accept" | "edit" |
"response" | "ignore", "args": …}`; those of LangChain's human-in-the-loop middleware, `{"type": "approve" | "edit" |
"reject" | "respond", …}`; any of these alone in a list, under `{"decisions": [...]}`, or as JSON in a text. An answer
that also names the `state` or `decision_id` it is for is refused where it is for another.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from escalade.domains.base import Domain
from escalade.domains.errors import ActionError, EscaladeError
from escalade.nodes.tool_arguments import as_whole

DECLINED = -1
"""The person leaves the decision to the other rungs."""
MOST_NAMED = 30
"""Legal actions named in a sentence at most."""

_ACCEPT = ("accept", "approve")
_TEXT = ("response", "respond", "reject")
_ABOUT = ("state", "decision_id")
_KEYS = {"action_name", "type", "args", "edited_action", "message", "action", "name", "description", *_ABOUT}


@dataclass(frozen=True)
class Asked:
    """What a question is about."""

    domain: Domain[Any]
    text: str
    """The canonical text of the state."""
    decision_id: str
    legal: Sequence[int]
    """The legal actions; at least one."""
    proposed: int | None
    """The action to accept or edit; None if no rung has proposed one."""

    def names(self) -> str:
        """The legal actions, for a sentence."""
        shown = [self.domain.action_name(action) for action in self.legal[:MOST_NAMED]]
        more = f", … ({len(self.legal)} in all)" if len(self.legal) > MOST_NAMED else ""
        return ", ".join(shown) + more


def read_answer(answer: Any, asked: Asked) -> int | None:
    """The legal action that an answer means, `DECLINED`, or None if it is no answer at all. Raises ActionError with
    what is wrong with it, in one sentence."""
    if answer is None:
        return None
    if isinstance(answer, str):
        return _read_text(answer, asked)
    if isinstance(answer, int | float) and not isinstance(answer, bool):
        return _named(answer, asked)
    if isinstance(answer, list | tuple):
        if len(answer) != 1:
            raise ActionError(f"the question is about one decision, and {len(answer)} answers were given: give one")
        return read_answer(answer[0], asked)
    if not isinstance(answer, dict):
        raise ActionError(f"{_shown(answer)} is no answer: name one of the legal actions: {asked.names()}")
    if "decisions" in answer:
        _check_about(answer, asked)
        return read_answer(answer["decisions"], asked)
    return _read_object(answer, asked)


def _read_text(answer: str, asked: Asked) -> int | None:
    """A name; else JSON, or the bare word for a form of answer (`accept`)."""
    text = answer.strip()
    try:
        return _named(text, asked)
    except ActionError:
        if text[:1] in ("{", "["):
            try:
                return read_answer(json.loads(text), asked)
            except (ValueError, RecursionError) as error:
                if isinstance(error, ActionError):
                    raise
        if text.casefold() in (*_ACCEPT, "ignore"):
            return _read_object({"type": text}, asked)
        raise


def _read_object(answer: dict[Any, Any], asked: Asked) -> int:
    unknown = [key for key in answer if key not in _KEYS]
    if unknown:
        raise ActionError(f"an answer has no field {_shown(unknown[0])}: give {{'action_name': …}}")
    _check_about(answer, asked)
    if "type" not in answer:
        return _action_of(answer, asked)
    kind = str(answer["type"]).strip().casefold()
    if kind in _ACCEPT:
        return _accepted(answer, asked)
    if kind == "edit":
        return _action_of({**answer, "type": None}, asked)
    if kind in _TEXT:
        said = next((answer[key] for key in ("args", "message") if answer.get(key) not in (None, "")), None)
        if said is None and kind == "reject":
            raise ActionError(f"to reject a proposal, name the action to take instead: {asked.names()}")
        if isinstance(said, dict):
            return _action_of(said, asked)
        return _named("" if said is None else said if isinstance(said, int | float) else str(said), asked)
    if kind == "ignore":
        if asked.proposed is None:
            raise ActionError(
                f"no other rung has proposed an action, so the question cannot be ignored: name one of {asked.names()}"
            )
        return DECLINED
    raise ActionError(
        f"{_shown(answer['type'])} is no type of answer: it is accept, edit, response or ignore, or approve, edit, "
        "reject or respond"
    )


def _accepted(answer: dict[Any, Any], asked: Asked) -> int:
    """Agent Inbox sends what it accepts along, which tells an answer to another question."""
    if asked.proposed is None:
        raise ActionError(f"no other rung has proposed an action to accept: name one of {asked.names()}")
    inner = answer.get("args")
    sent = inner if isinstance(inner, dict) else answer
    if any(sent.get(key) is not None for key in ("action_name", "args")) and _action_of(sent, asked) != asked.proposed:
        proposed = asked.domain.action_name(asked.proposed)
        raise ActionError(f"the answer accepts another action than the one proposed here, which is '{proposed}'")
    return asked.proposed


def _action_of(given: dict[Any, Any], asked: Asked) -> int:
    """The action of an object that holds its name: itself, or in its arguments."""
    _check_about(given, asked)
    if "action_name" in given:
        return _named(given["action_name"], asked)
    for key in ("edited_action", "args"):
        inner = given.get(key)
        if isinstance(inner, dict):
            return _action_of(inner, asked)
        if inner is not None:
            return _named(inner, asked)
    raise ActionError(f"the answer names no action: give {{'action_name': …}}, one of {asked.names()}")


def _named(name: Any, asked: Asked) -> int:
    """The legal action of a name; upper and lower case and white space do not matter where they tell no two apart."""
    if isinstance(name, int | float) and not isinstance(name, bool):
        name = str(as_whole(name))
    if not isinstance(name, str):
        raise ActionError(f"an action's name is a text, not {_shown(name)}: name one of {asked.names()}")
    domain, text = asked.domain, name.strip()
    try:
        action: int | None = domain.parse_action(text)
    except ActionError:
        alike = [one for one in asked.legal if _plain(domain.action_name(one)) == _plain(text)]
        action = alike[0] if len(alike) == 1 else None
    if action is None or action not in asked.legal:
        raise ActionError(f"{_shown(text)} is not a legal action here: name one of {asked.names()}")
    return int(action)


def _check_about(given: dict[Any, Any], asked: Asked) -> None:
    """Raises ActionError if an answer says that it is for another state or decision."""
    state, decision_id = given.get("state"), given.get("decision_id")
    if decision_id is not None and decision_id != asked.decision_id:
        raise ActionError(
            f"the answer is for decision {_shown(decision_id)}, and this question is for '{asked.decision_id}'"
        )
    if state is None or (isinstance(state, str) and _plain(state) == _plain(asked.text)):
        return
    try:
        same = asked.domain.format(asked.domain.parse(state)) == asked.text
    except EscaladeError:
        same = False
    if not same:
        raise ActionError(
            f"the answer is for the state {_shown(state)}, and this question is about '{asked.text[:80]}'"
        )


def _plain(text: str) -> str:
    return " ".join(text.split()).casefold()


def _shown(value: Any) -> str:
    return repr(value)[:60]
