"""Which of some allowed names a model means, where it does not write the name exactly as it was given.

Forms of writing are compared step by step, each step losing more of it than the one before: at the first at which the
text and a name are the same, that name is meant. Two names at one step are never chosen between. So names that differ
only by case or punctuation stay apart, as long as they are written as they are.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Callable, Collection, Sequence

from escalade.nodes.objections import others_named, rejects

NONE = ""
"""Among the names that a text can mean, that it may mean none of them."""
MOST_CHARACTERS = 2000
"""A longer text names nothing."""

_INVISIBLE = re.compile("[\u200b-\u200f\u2060\ufeff]")
_SPACES = re.compile(r"\s+")
_SEPARATORS = re.compile(r"(?<=\w)[\s_-]+(?=\w)")
_NUMERAL = re.compile(r"[+-]?\d{1,15}(?:\.0+)?")
_WRAPPERS = (
    *((mark, mark) for mark in ("```", "**", "__", "*", "_", "`", '"', "'", "$", "|")),
    *zip("([{<“‘„«「『【", ")]}>”’“»」』】", strict=True),
    ("\\boxed{", "}"),
)
_TAGGED = re.compile(r"<(\w{1,30})>(.*)</\1>", re.DOTALL)
_END = ".,;:!?。、，！？"
_WORDS = (
    "action|answer|move|choice|label|decision|intent|category|class|queue|tool|option|result|output|selection|"
    "aktion|antwort|zug|wahl|entscheidung|réponse|coup|choix|décision|acción|respuesta|jugada|elección|decisión|"
    "azione|risposta|mossa|scelta|ação|resposta|jogada|escolha|действие|ответ|ход|выбор|решение|"
    "动作|答案|行动|选择|决定|行動|回答|選択|동작|답|선택"
)
_ANNOUNCED = re.compile(
    rf"(?:the\s+)?(?:(?:final|best|chosen|selected|my|next)\s+)*(?:{_WORDS})\s*(?:name\s*)?"
    r"(?::|：|=|->|→|\bis\b:?)\s*(.+)",
    re.DOTALL | re.IGNORECASE,
)
_BULLET = re.compile(r"[-*•–]\s+(.+)", re.DOTALL)
_NUMBER = re.compile(r"\(?\d{1,3}[.)]\s+(.+)", re.DOTALL)
_EXPLAINED = re.compile(r"\s*(?:[:：(\[]|\s[-–—]\s|[–—]|->|→|=>)")
_EMPHASIS = re.compile(r"[*`\"“”]")

Step = Callable[[str], str]


def _tidy(text: str) -> str:
    return _SPACES.sub(" ", _INVISIBLE.sub("", unicodedata.normalize("NFC", text))).strip()


def _bare(text: str) -> str:
    """Out of quotes, brackets, tags and emphasis that go round all of it."""
    text = _tidy(text)
    while True:
        tagged = _TAGGED.fullmatch(text)
        inner = tagged[2] if tagged else _unwrapped(text)
        if inner is None or not inner.strip():
            return text
        text = inner.strip()


def _unwrapped(text: str) -> str | None:
    for opens, closes in _WRAPPERS:
        long_enough = len(text) > len(opens) + len(closes)
        if long_enough and text.startswith(opens) and text.endswith(closes):
            return text[len(opens) : -len(closes)]
    return None


def _unended(text: str) -> str:
    """Without the full stop of a sentence."""
    while (shorter := _bare(text).rstrip(_END).rstrip()) and shorter != text:
        text = shorter
    return text


def _number(text: str) -> str:
    text = _unended(text)
    return str(int(text.split(".")[0])) if _NUMERAL.fullmatch(text) else text


def _folded(text: str) -> str:
    return unicodedata.normalize("NFKC", _number(text)).casefold()


def _joined(text: str) -> str:
    """Whether words are parted by spaces, underscores or hyphens is no matter."""
    return _SEPARATORS.sub("_", _folded(text))


STEPS: tuple[Step, ...] = (str, _tidy, _bare, _unended, _number, _folded, _joined)


def names_meant(said: str, names: Sequence[str], listed: Collection[str] = ()) -> list[str]:
    """The names that a text can mean: none for a stranger, and more than one where it is not clear which.

    listed: lines in which the names were given to the model with a description each, `name: description`.
    """
    if said in names:
        return [said]
    if len(said) > MOST_CHARACTERS:
        return []
    known = tuple(names)
    found = _written(said, known)
    if found:
        return found
    # What stands before the name or after it is taken away; whatever is then named counts.
    meant: list[str] = []
    plain = _EMPHASIS.sub("", _tidy(said))
    for rest in _rests(plain, known):
        meant += _written(rest, known) or _explained(rest, known, listed)
    meant += _explained(plain, known, listed) + _written(plain.replace(" ", ""), known)
    return list(dict.fromkeys(meant))


def announced(text: str, names: Sequence[str]) -> list[str]:
    """The names on those lines of a text that announce one, such as "Action: 9"."""
    if len(text) > MOST_CHARACTERS:
        return []
    lines = (_EMPHASIS.sub("", _tidy(line)) for line in text.splitlines())
    meant = [name for line in lines if _ANNOUNCED.fullmatch(line) for name in names_meant(line, names)]
    return list(dict.fromkeys(meant))


def _written(said: str, names: tuple[str, ...]) -> list[str]:
    for step, forms in zip(STEPS, _forms(names), strict=True):
        found = forms.get(step(said))
        if found:
            return list(found)
    return []


@functools.lru_cache(maxsize=256)
def _forms(names: tuple[str, ...]) -> tuple[dict[str, tuple[str, ...]], ...]:
    """By step, the names by their form at that step."""
    steps = []
    for step in STEPS:
        forms: dict[str, tuple[str, ...]] = {}
        for name in names:
            form = step(name)
            forms[form] = (*forms.get(form, ()), name)
        steps.append(forms)
    return tuple(steps)


def _rests(text: str, names: tuple[str, ...]) -> list[str]:
    """What is left without an announcement such as "Action:", a bullet, or the number of an item where no name is a
    number."""
    numbered = not any(_NUMERAL.fullmatch(name) for name in names)
    patterns = (_ANNOUNCED, _BULLET, *([_NUMBER] if numbered else []))
    return [found[1] for pattern in patterns if (found := pattern.fullmatch(text))]


def _explained(text: str, names: tuple[str, ...], listed: Collection[str]) -> list[str]:
    """The names that a text begins with, followed by an explanation; more than one where the explanation names another
    or continues the name, and also NONE where it rejects it, unless the text is a line of the list itself."""
    folded = _tidy(text).casefold()
    starts = [
        name
        for name in names
        if folded.startswith(start := _tidy(name).casefold()) and _EXPLAINED.match(folded[len(start) :])
    ]
    if len(starts) != 1 or folded in {_tidy(line).casefold() for line in listed}:
        return starts
    if rejects(folded[len(_tidy(starts[0])) :]):
        return [*starts, NONE]
    return [*starts, *others_named(folded, starts[0], names)]
