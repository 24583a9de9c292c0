"""What in a text speaks against the action that it seems to name: another allowed name, or words that reject it.

Reading is careful here, as a question asked twice costs less than a wrong action: a word is enough.
"""

from __future__ import annotations

import functools
import re
import unicodedata
from collections.abc import Sequence

_CJK = "\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af"
_TOKEN = re.compile(rf"[{_CJK}]|\d+(?:[.,]\d+)+|[^\W_{_CJK}]+(?:'[^\W_{_CJK}]+)*")
_COMPARED = re.compile(
    r"\b(?:better|safer|stronger|more \w+|besser|stärker|mejor|meilleur|mieux)\s+(?:than|als|que)\s+"
)
_LESSER = "betterthan"
"""Stands in a text for the words that make the name after it the lesser one."""
_HARMLESS = re.compile(r"\b(?:no (?:problem|doubt|further|trouble)|do(?:n't| not) hesitate|not only)\b")
_FORMAT = re.compile(r"\bformat (?:would be|looks like|is|for)\b")
_WORDS = (
    "not never no none nothing nor neither cannot illegal invalid wrong incorrect false error bad worse worst "
    "terrible poor weak loses lose losing forbidden unavailable impossible unsafe "
    "wait actually instead however but rather scratch oops sorry hmm changed unless example template placeholder "
    "nicht kein keine keinen keiner nie falsch schlecht verliert verboten ungültig unmöglich sondern stattdessen aber "
    "ne pas jamais non faux mauvais mauvaise perd perdant interdit illégal invalide plutôt mais attends "
    "nunca mal malo mala pierde ilegal inválido incorrecto prohibido espera pero sino "
    "mai sbagliato cattivo perde illegale invalido vietato aspetta invece ma "
    "não nunca errado ruim ilegal proibido espere mas "
    "не нет никогда плохо плохой проигрывает нельзя неверно ошибка запрещено но"
)
_REJECTS = frozenset(_WORDS.split())
_STEMS = (
    *("avoid", "mistak", "reject", "refus", "discard", "exclud", "dismiss", "blunder", "reconsider", "correction"),
    *("corrected", "revis", "retract", "hypothetic", "considered", "tempt", "disadvantag", "inadvis", "wrongly"),
    *("vermeid", "ablehn", "abgelehnt", "fehler", "évite", "éviter", "rejet", "evita", "rechaz", "descart", "rifiut"),
)
_PARTS = ("不", "错", "錯", "避免", "非法", "禁止", "输", "ない", "違", "避け", "아니", "않", "잘못", "금지", "피하")


def objected(text: str, chosen: str, names: Sequence[str]) -> bool:
    """Whether a text that stands beside a choice names another allowed action, or rejects the one that was chosen."""
    others, left = _scanned(text, chosen, tuple(names))
    return bool(others) or _rejecting(left) or _FORMAT.search(_plain(text)) is not None


def others_named(text: str, chosen: str, names: Sequence[str]) -> list[str]:
    """The allowed names besides the chosen one that stand in a text as words. Where names overlap, the longest counts;
    what the text calls the lesser one ("better than 8") does not."""
    return _scanned(text, chosen, tuple(names))[0]


def rejects(text: str) -> bool:
    """Whether a text holds a word that rejects something, or takes it back."""
    return _rejecting(_TOKEN.findall(_HARMLESS.sub(" ", _plain(text))))


def _rejecting(words: Sequence[str]) -> bool:
    if any(word in _REJECTS or word.endswith("n't") or word.startswith(_STEMS) for word in words):
        return True
    joined = "".join(word for word in words if not word.isascii())
    return any(part in joined for part in _PARTS)


def _plain(text: str) -> str:
    return unicodedata.normalize("NFKC", text).replace("’", "'").casefold()


def _scanned(text: str, chosen: str, names: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """The other names in a text, and its words that are part of no name."""
    forms, most = _forms(names)
    words = _TOKEN.findall(_COMPARED.sub(f" {_LESSER} ", _HARMLESS.sub(" ", _plain(text))))
    found: list[str] = []
    left: list[str] = []
    place = 0
    while place < len(words):
        size = next((n for n in range(most, 0, -1) if tuple(words[place : place + n]) in forms), 0)
        if not size:
            left.append(words[place])
        elif place == 0 or words[place - 1] != _LESSER:
            found += forms[tuple(words[place : place + size])]
        place += size or 1
    # Names that this way of comparing cannot tell from the chosen one count where they are written as they are.
    same = next((alike for alike in forms.values() if chosen in alike), ())
    others = [name for name in dict.fromkeys(found) if name not in same]
    rest = text
    for name in sorted((*same, *(name for name in names if not _words(name))), key=len, reverse=True):
        pattern = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
        if name and pattern.search(rest):
            others += [name] if name not in (chosen, *others) else []
            rest = pattern.sub(" ", rest)
    return others, left


def _words(name: str) -> tuple[str, ...]:
    return tuple(_TOKEN.findall(_plain(name)))


@functools.lru_cache(maxsize=64)
def _forms(names: tuple[str, ...]) -> tuple[dict[tuple[str, ...], tuple[str, ...]], int]:
    """The names by their words, and the most words that one has."""
    forms: dict[tuple[str, ...], tuple[str, ...]] = {}
    for name in names:
        if words := _words(name):
            forms[words] = (*forms.get(words, ()), name)
    return forms, max(map(len, forms), default=0)
