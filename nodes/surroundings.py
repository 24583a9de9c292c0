"""What surrounds the JSON of an answer, and what is in it besides: wrappers, other keys, prose. An action that these
contradict is not taken."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice
from typing import Any

from escalade.nodes.json_in_text import OBJECT
from escalade.nodes.named_choice import names_meant
from escalade.nodes.objections import objected, rejects
from escalade.nodes.structured import Form

SYNONYMS = (
    *("answer", "choice", "move", "label", "decision", "selection", "category", "intent", "class"),
    *("finalanswer", "result", "response", "output", "arguments", "bestmove", "nextaction", "bestaction", "nextmove"),
)
"""Keys under which models give the lone field, as `key_of` writes them."""
INNER = (*SYNONYMS, "action", "name", "id", "value")
"""Keys of an object that stands for a text."""
_WRAPPERS = (
    *SYNONYMS,
    *("answers", "results", "parameters", "params", "args", "input", "inputs", "data", "json", "object", "properties"),
    *("function", "functioncall", "toolcall", "toolcalls", "tool", "call", "action", "actions", "content", "message"),
    *("final", "text", "body", "return", "reply", "required", "functionname"),
)
_OTHERWISE = re.compile(r"second|alternat|previous|last|other|runner|oppon|enem|possible|candidate|worst|time|count")
"""Keys of something else than what was chosen."""
_CHOSEN = {
    *("action", "answer", "choice", "move", "label", "decision", "selection", "category", "intent", "class", "final"),
    *("best", "result", "response", "output", "chosen", "choose", "selected", "select", "pick", "picked", "correct"),
    *(
        "corrected",
        "correction",
        "recommended",
        "recommendation",
        "next",
        "play",
        "use",
        "instead",
        "better",
        "revised",
    ),
    *("override", "conclusion", "verdict", "arguments", "parameters"),
}
MOST_MEMBERS = 200
"""An answer with more values than these beside the lone field is not compared, and is none."""
_WORD = re.compile(r"[A-Z]?[a-z]+|[A-Z]+|\d+|[^\W\d_]+")
_MARKUP = re.compile(r"<[^<>]{0,80}>|```\w*|\[/?[A-Z_]{3,}\]")
_FAILURE = ("error", "errors", "failed", "failure", "refusal")


def key_of(name: Any) -> str:
    """A key without regard to case and punctuation."""
    return re.sub(r"[\W_]", "", str(name)).casefold()


def wraps(name: Any, form: str, *, alone: bool) -> bool:
    """Whether a key may stand before an object that holds the answer: one that means nothing in particular, or the
    form's name; alone in its object, any that does not reject."""
    key = key_of(name)
    return key in _WRAPPERS or key == form or (alone and not _turned_down(name))


def other_function(value: dict[str, Any], form: str) -> bool:
    """Whether an object is a call of another function than the form's."""
    name = value.get("name")
    called = isinstance(name, str) and not value.keys().isdisjoint({"arguments", "parameters"})
    return called and key_of(str(name).split(":")[0].split(".")[-1]) != form


def contradicts(answer: dict[str, Any], values: list[Any], around: str, form: Form) -> bool:
    """Whether something speaks against the lone field of an answer.

    values: all the JSON that came. around: the text that stands around it, with OBJECT in its place.
    """
    if form.lone is None:
        return False
    chosen, names = answer[form.lone], form.properties[form.lone].get("enum", ())
    around = _MARKUP.sub(" ", around).replace(OBJECT, f" {chosen} ")  # what stands beside it may continue the name
    if around.count("{") > around.count("}") or objected(around, chosen, names):
        return True
    others = {key_of(name) for name in form.properties if name != form.lone}
    members = list(islice(_members(values), MOST_MEMBERS + 1))
    if len(members) > MOST_MEMBERS:
        return True
    for name, value in members:
        key = key_of(name)
        if key in others:
            continue
        if key in _FAILURE and value and str(value).casefold() not in ("none", "null", "false"):
            return True
        if _turned_down(name) and value is True:
            return True
        if key != key_of(form.lone) and _is_chosen(name) and _differs(value, chosen, names):
            return True
        if key == key_of(form.lone) and _other_name(value, chosen, names):
            return True
    return False


def _turned_down(name: Any) -> bool:
    words = " ".join(_WORD.findall(str(name)))
    return rejects(words) or _OTHERWISE.search(words.casefold()) is not None


def _is_chosen(name: Any) -> bool:
    words = {word.casefold() for word in _WORD.findall(str(name))}
    return (bool(words & _CHOSEN) or key_of(name) in SYNONYMS) and not _OTHERWISE.search(str(name).casefold())


def _differs(value: Any, chosen: str, names: Any) -> bool:
    return _other_name(value, chosen, names) or (isinstance(value, str) and objected(value, chosen, names))


def _other_name(value: Any, chosen: str, names: Any) -> bool:
    scalar = isinstance(value, str | int | float) and not isinstance(value, bool)
    return scalar and any(name not in ("", chosen) for name in names_meant(str(value)[:2001], names))


def _members(value: Any, key: Any = "", depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Each key with its value, however deep; the items of a list under the list's key."""
    if depth > 6:
        return
    if isinstance(value, dict):
        for name, one in value.items():
            yield from _members(one, name, depth + 1)
    elif isinstance(value, list):
        for one in value:
            yield from _members(one, key, depth + 1)
    else:
        yield key, value
