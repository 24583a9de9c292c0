"""One text, however a system spells its accents: composed (NFC) as most do, or decomposed (NFD) as macOS does."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalade import ActionError, Domain, StateError
from escalade.domains.intents import Intents
from escalade.nodes.parse import canonical_text
from escalade.training.reference import file_labels

pytestmark = pytest.mark.endpoint_row(23)

FORMS = ("NFC", "NFD")
LABELS = ["Überweisung", "carte perdue", "Angström", "해지"]


def spelled(text: str, form: Any) -> str:
    return unicodedata.normalize(form, text)


@given(st.text(min_size=1, max_size=50))
def test_both_spellings_are_one_state(text: str) -> None:
    domain = Intents(LABELS)
    try:
        parsed = domain.parse(text)
    except StateError:
        return
    assert domain.parse(domain.format(parsed)) == parsed
    assert unicodedata.is_normalized("NFC", parsed)
    for form in FORMS:
        assert domain.parse(spelled(text, form)) == parsed
        assert canonical_text(domain, spelled(text, form)) == parsed


@pytest.mark.parametrize("form", FORMS)
def test_labels_are_the_same_whatever_the_file_holds(tmp_path: Path, form: str) -> None:
    written = [spelled(label, form) for label in LABELS]
    (tmp_path / "l.csv").write_text("label\n" + "\n".join([*written, *LABELS]) + "\n")
    (tmp_path / "l.json").write_text(json.dumps({label: f"über {label}" for label in written}))
    for name in ("l.csv", "l.json"):
        domain = Intents(tmp_path / name)
        assert list(domain.labels) == [spelled(label, "NFC") for label in LABELS]
        assert [domain.parse_action(spelled(label, other)) for label in LABELS for other in FORMS] == [
            action for action in range(4) for _ in FORMS
        ]
    assert domain.descriptions[domain.labels[0]] == "über Überweisung"


@pytest.mark.parametrize("form", FORMS)
def test_a_file_of_right_answers_names_them_in_any_form(tmp_path: Path, form: str) -> None:
    rows = "".join(f"{spelled('Wo bleibt die Ü' + str(n), form)},{spelled(LABELS[0], form)}\n" for n in range(3))
    (tmp_path / "s.csv").write_text("text,label\n" + rows)
    found = file_labels(Intents(LABELS), tmp_path / "s.csv")
    assert found.states == tuple(f"Wo bleibt die Ü{n}" for n in range(3))
    assert found.acceptable[:, 0].all()


def test_a_users_own_names_are_found_in_any_form_and_exactly_where_they_differ() -> None:
    class Own(Intents):
        names = ("Ä", spelled("Ö", "NFD"), "Ö")
        parse_action = Domain.parse_action

        def action_name(self, action: int) -> str:
            return self.names[action]

    domain = Own(["a", "b", "c"])
    assert domain.parse_action(spelled("Ä", "NFD")) == 0
    assert [domain.parse_action(name) for name in Own.names] == [0, 1, 2]
    with pytest.raises(ActionError):
        domain.parse_action("A")


@pytest.mark.parametrize("form", FORMS)
def test_the_place_of_a_fault_is_that_in_the_text_given(form: str) -> None:
    text = spelled("ééé\0", form)
    with pytest.raises(StateError) as refused:
        Intents(LABELS).parse(text)
    assert refused.value.position == text.index("\0") + 1
