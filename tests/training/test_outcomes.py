"""Outcomes that arrive late are found by the rows of their decisions, and are as safe as the rows are."""

from __future__ import annotations

import datetime
import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experience import TTT, random_rows, report_many

from escalade.domains.errors import OverloadedError
from escalade.training.outcomes import Outcome, OutcomeSink, decided_state
from escalade.training.query import query
from escalade.training.rows import RowError, Rows
from escalade.training.store import ExperienceStore


@pytest.fixture
def store(tmp_path: Path) -> ExperienceStore:
    """Rows of 40 positions, some of them decisions."""
    store = ExperienceStore(tmp_path, TTT)
    store.add(random_rows(0, 40))
    store.refresh()
    return store


def recent(store: ExperienceStore) -> Rows:
    rows = store.recent(1000)
    assert rows is not None
    return rows


def decided(rows: Rows) -> list[int]:
    return np.flatnonzero(rows.decision != "").tolist()


def test_an_outcome_fills_the_row_and_the_last_one_counts(store: ExperienceStore) -> None:
    before = recent(store)
    first, second, *_ = decided(before)
    store.outcomes.add([Outcome(str(before.decision[first]), 1.0, at=2), Outcome(str(before.decision[second]), 0.5)])
    store.outcomes.add([Outcome(str(before.decision[first]), -1.0, at=1), Outcome("nobody's", 1.0)])
    after = recent(store)
    assert (after.outcome[first], after.outcome[second]) == (1, 0.5)
    store.outcomes.add([Outcome(str(before.decision[first]), 0.0, at=3)])
    after = recent(ExperienceStore(store.folder, TTT))
    assert after.outcome[first] == 0
    others = np.delete(np.arange(40), [first, second])
    np.testing.assert_array_equal(after.outcome[others], before.outcome[others])
    for name in ("policy", "source", "action", "value"):
        np.testing.assert_array_equal(getattr(after, name), getattr(before, name))


def test_a_right_action_is_a_policy_that_a_person_gave(store: ExperienceStore) -> None:
    before = recent(store)
    row, other, *_ = decided(before)
    right = int(np.flatnonzero(before.legal[row])[-1])
    store.outcomes.add([Outcome(str(before.decision[row]), action=right), Outcome(str(before.decision[other]), 0.25)])
    after = recent(store)
    np.testing.assert_array_equal(after.policy[row], np.eye(9)[right])
    assert after.source[row] == "human"
    np.testing.assert_array_equal(after.outcome[row], before.outcome[row])
    assert after.action[row] == before.action[row]
    after.check()


def test_a_right_action_that_was_illegal_is_passed_over(store: ExperienceStore) -> None:
    before = recent(store)
    row = next(row for row in decided(before) if not before.legal[row].all())
    store.outcomes.add([Outcome(str(before.decision[row]), action=int((~before.legal[row]).argmax()))])
    after = recent(store)
    np.testing.assert_array_equal(after.policy, before.policy)
    np.testing.assert_array_equal(after.source, before.source)


def test_an_outcome_and_an_action_told_apart_both_count(store: ExperienceStore) -> None:
    before = recent(store)
    row = decided(before)[0]
    name, right = str(before.decision[row]), int(before.legal[row].argmax())
    store.outcomes.add([Outcome(name, action=right)])
    store.outcomes.add([Outcome(name, 1.0)])
    after = recent(store)
    assert (after.outcome[row], after.source[row], after.policy[row, right]) == (1, "human", 1)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"decision": ""}, "decision must be a text of 1 to 200 printable"),
        ({"decision": "a\n", "value": 1}, "decision must be"),
        ({"decision": "a", "by": "x" * 201, "value": 1}, "by must be"),
        ({"decision": "a"}, "value or action must be given"),
        ({"decision": "a", "value": 1.5}, r"value must be in \[-1, 1\], not 1.5"),
        ({"decision": "a", "value": True}, "value must be a number"),
        ({"decision": "a", "value": float("nan")}, "value must be"),
    ],
)
def test_what_is_no_outcome_is_refused(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(RowError, match=words):
        Outcome(**fields)


def test_an_action_that_the_domain_does_not_have_is_refused(store: ExperienceStore) -> None:
    with pytest.raises(RowError, match=r"action must be in 0 .. 8, not 9"):
        store.outcomes.add([Outcome("a", action=9)])


def test_every_damage_is_found_and_set_aside(store: ExperienceStore) -> None:
    whole = store.outcomes.add([Outcome(f"d-{number}", 1.0, by="judge") for number in range(200)])
    raw = whole.read_bytes()
    for place in (*range(0, len(raw), 97), None):
        broken = raw[: len(raw) // 2] if place is None else raw[:place] + bytes([raw[place] ^ 4]) + raw[place + 1 :]
        whole.write_bytes(broken)
        opened = ExperienceStore(store.folder, TTT)
        (damage,) = opened.check()
        assert damage.name == whole.name
        assert not whole.exists()
        assert len(recent(opened)) == 40
        (store.damaged_folder / whole.name).unlink()
    whole.write_bytes(raw)
    assert ExperienceStore(store.folder, TTT).check() == []
    assert ExperienceStore(store.folder, TTT).outcomes.table().num_rows == 200


def test_many_processes_report_at_once(store: ExperienceStore) -> None:
    context = multiprocessing.get_context("spawn")
    writers = [context.Process(target=report_many, args=(store.folder, number)) for number in range(2)]
    for process in writers:
        process.start()
    while any(process.is_alive() for process in writers):
        assert store.outcomes.refresh() == []
    names = store.outcomes.table().column("decision").to_pylist()
    assert sorted(names) == sorted(f"{writer}-{number}" for writer in range(2) for number in range(20))


def test_they_can_be_asked_about_in_sql(store: ExperienceStore) -> None:
    assert query(store, "SELECT count(*) FROM outcomes").lines == [(0,)]
    name = str(recent(store).decision[decided(recent(store))[0]])
    store.outcomes.add([Outcome(name, -0.5, 3, "ann", at=86_400.0)])
    answer = query(store, "SELECT o.* FROM outcomes o JOIN experience e USING (decision)")
    assert answer.columns == ["decision", "outcome", "action", "told_at", "told_by"]
    assert answer.lines == [(name, -0.5, 3, datetime.datetime(1970, 1, 2), "ann")]
    assert query(store, "SELECT told_at, told_by FROM outcomes WHERE told_by = 'ann'").lines == [answer.lines[0][3:]]


def test_sql_sees_the_rows_as_learning_does(store: ExperienceStore) -> None:
    before = recent(store)
    row, other, *_ = decided(before)
    right = int(np.flatnonzero(before.legal[row])[-1])
    store.add(before.take(np.array([other])))  # recorded twice
    store.outcomes.add([Outcome(str(before.decision[row]), 0.5, right), Outcome(str(before.decision[other]), -1.0)])
    store.refresh()
    learned = recent(store)
    asked = query(store, "SELECT state, outcome, source, policy, coalesce(decision, '') FROM experience")
    wanted = []
    for each in range(len(learned)):
        outcome = None if np.isnan(learned.outcome[each]) else float(learned.outcome[each])
        policy = None if np.isnan(learned.policy[each]).all() else tuple(learned.policy[each].tolist())
        wanted.append(
            (str(learned.state[each]), outcome, str(learned.source[each]), policy, str(learned.decision[each]))
        )
    assert sorted(map(repr, asked.lines)) == sorted(map(repr, wanted))


def test_a_decision_is_found_by_its_id(store: ExperienceStore) -> None:
    rows = recent(store)
    row = decided(rows)[-1]
    assert decided_state(store, str(rows.decision[row])) == rows.state[row]
    assert decided_state(store, "nobody's") is None


def test_a_sink_writes_what_was_reported_and_says_when_it_is_full(tmp_path: Path) -> None:
    sink = OutcomeSink(tmp_path, TTT, seconds=30, most=2)
    sink.report(Outcome("a", 1.0))
    sink.report(Outcome("b", action=2, by="ann"))
    with pytest.raises(OverloadedError, match="report this one again later"):
        sink.report(Outcome("c", 1.0))
    sink.close()
    table = ExperienceStore(tmp_path, TTT).outcomes.table()
    assert table.column("decision").to_pylist() == ["a", "b"]
    assert all(moment.year > 2000 for moment in table.column("at").to_pylist())
