"""Audits of certified decisions, and what an alarm changes."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from certificates import certificate
from typer.testing import CliRunner

from escalade.app.cli import app
from escalade.app.watch import LOOK_SECONDS, Watch, WatchConfig, accepted_action, is_chosen
from escalade.app.watch_file import open_watch_file, pending, watched
from escalade.domains.catalog import load_domain
from escalade.domains.decision import Decision, RungReport
from escalade.neural.certificate import Certificate

DOMAIN = load_domain("tic_tac_toe")
BOLD, TIMID = certificate(0.05, policy=0.8, value=0.7), certificate(0.01, policy=0.95, value=0.9)
EVERY = WatchConfig(share=1.0, false_alarms=0.05)


def decision(number: int, confidence: float = 0.99, action: int = 4, **more: Any) -> Decision:
    report = RungReport(
        rung="policy", outcome="accepted", reason="over_threshold", action=action, confidence=confidence
    )
    known: dict[str, Any] = {
        "decision_id": f"d{number}",
        "domain": "tic_tac_toe",
        "state": "1",
        "action": action,
        "action_name": str(action + 1),
        "source": "policy",
        "certified": True,
        "best_effort": False,
        "cost_usd": 0.0,
        "latency_ms": 1.0,
        "rungs": [report],
    }
    return Decision(**known | more)


def always_four(text: str) -> set[int]:
    return {4}


def unknown(text: str) -> None:
    return None


def said(confidence: float = 0.99, action: int = 4) -> Any:
    """What the networks say of any state."""
    rungs = decision(0, confidence, action).rungs
    return lambda _: rungs


def opened(
    path: Path, *, config: WatchConfig = EVERY, right: Any = always_four, reports: Any = None, **more: Any
) -> Watch:
    return Watch(path, DOMAIN, (BOLD, TIMID), right, reports or said(), config, **more)


def test_good_decisions_raise_no_alarm(tmp_path: Path) -> None:
    heard: list[str] = []
    watch = opened(tmp_path / "w", on_audit=heard.append)
    for number in range(200):
        watch(decision(number))
    watch.close()
    assert heard == ["right"] * 200
    assert watch.problem(BOLD) is None
    found = {one.alpha: one for one in watched(tmp_path / "w")}
    assert (found[0.05].audits, found[0.05].wrong, found[0.05].problem) == (200, 0, None)


def test_states_that_taught_are_left_out_and_counted(tmp_path: Path) -> None:
    heard: list[str] = []
    watch = opened(tmp_path / "w", on_audit=heard.append, taught=lambda text: text == "1")
    for number in range(30):
        watch(decision(number))
        watch(decision(100 + number, state="2"))
    watch.close()
    assert sorted(heard) == ["right"] * 30 + ["taught"] * 30
    assert [one.audits for one in watched(tmp_path / "w")] == [30, 30]
    shown = CliRunner().invoke(app, ["watch", str(tmp_path / "w")])
    assert "30 audits left out" in shown.stdout


def test_where_every_state_taught_and_was_looked_at_none_is_left_out(tmp_path: Path) -> None:
    heard: list[str] = []
    census = certificate(0.05, policy=0.8, value=0.7, census=True)
    watch = Watch(
        tmp_path / "w", DOMAIN, (census,), always_four, said(), EVERY, on_audit=heard.append, taught=lambda _: True
    )
    watch(decision(1))
    watch.close()
    assert heard == ["right"]


def test_bad_decisions_raise_one_and_it_survives_a_restart(tmp_path: Path) -> None:
    alarms: list[Certificate] = []
    watch = opened(tmp_path / "w", on_alarm=alarms.append, reports=said(action=0))
    for number in range(200):
        watch(decision(number, action=0))
    watch.close()
    assert {one.alpha for one in alarms} == {0.05, 0.01}
    assert len(alarms) == 2
    problem = opened(tmp_path / "w").problem(BOLD)
    assert problem is not None
    assert "certify again, with --delta" in problem


def test_only_certificates_that_would_have_accepted_learn(tmp_path: Path) -> None:
    """What the bold one accepts, and the timid one would not, says nothing of the timid one."""
    watch = opened(tmp_path / "w", reports=said(0.85, 0))
    for number in range(200):
        watch(decision(number, confidence=0.85, action=0))
    watch.close()
    assert watch.problem(BOLD) is not None
    assert watch.problem(TIMID) is None
    assert [one.alpha for one in watched(tmp_path / "w")] == [0.05]


@pytest.mark.parametrize(
    ("reports", "action"),
    [
        ([("policy", 0.85, 4, 0.0)], 4),
        ([("policy", 0.5, 4, 0.0), ("value", 0.7, 3, 0.0)], 3),
        ([("policy", 0.5, 4, 0.0), ("value", 0.6, 3, 0.0)], None),
        ([("policy", 0.5, 4, 0.0)], None),
        ([("value", 0.9, 3, 0.0)], None),
        ([("policy", 0.9, 4, 1.2)], None),
    ],
)
def test_what_a_certificate_would_have_accepted(reports: list[tuple[Any, ...]], action: int | None) -> None:
    rungs = [
        RungReport(
            rung=rung, outcome="escalated", reason="x", confidence=confidence, action=chosen, details={"novelty": far}
        )
        for rung, confidence, chosen, far in reports
    ]
    assert accepted_action(BOLD, rungs) == action


def test_the_share_is_kept_and_settled_by_the_id_alone() -> None:
    chosen = [is_chosen(f"id-{number}", 0.05) for number in range(20_000)]
    assert 0.045 < sum(chosen) / len(chosen) < 0.055
    assert all(is_chosen(f"id-{number}", 0.5) for number in range(20_000) if chosen[number])


def test_what_no_certificate_would_have_accepted_is_not_audited(tmp_path: Path) -> None:
    heard: list[str] = []
    watch = opened(tmp_path / "w", on_audit=heard.append, reports=said(0.5))
    watch(decision(1))
    watch.close()
    assert heard == []


def test_a_certificate_learns_what_had_come_of_it_whoever_decided(tmp_path: Path) -> None:
    """Those that another one, or a search, decided: were only its own to count, what it learns would depend on who else
    is in use."""
    watch = opened(tmp_path / "w", reports=said(0.97, 0))
    watch(decision(1, certified=False, source="search", rungs=[]))
    watch.close()
    assert {one.alpha: (one.audits, one.wrong) for one in watched(tmp_path / "w")} == {0.05: (1, 1), 0.01: (1, 1)}


def test_where_the_reference_cannot_be_asked_outcomes_are_waited_for(tmp_path: Path) -> None:
    heard: list[str] = []
    watch = opened(tmp_path / "w", right=unknown, on_audit=heard.append)
    for number in range(3):
        watch(decision(number))
    watch.flush()
    watch.close()
    watch = opened(tmp_path / "w", right=unknown, on_audit=heard.append, reports=said(0.0))  # a restart later
    watch.outcome("d1", 4)
    watch.outcome("d2", 0)
    watch.outcome("d2", 0)
    watch.outcome("unheard of", 0)
    watch.close()
    assert heard == ["pending"] * 3 + ["right", "wrong"]
    assert {(one.audits, one.wrong) for one in watched(tmp_path / "w")} == {(2, 1)}  # of what was accepted then


def test_a_person_s_decision_is_an_audit_where_nobody_else_can_be_asked(tmp_path: Path) -> None:
    heard: list[str] = []
    watch = opened(tmp_path / "w", right=unknown, on_audit=heard.append)
    watch(decision(1, action=4, source="human"))
    watch(decision(2, action=0, source="human"))
    watch.close()
    # What the networks would have done, 4, is wrong where the person did otherwise; the person is right in both.
    assert heard == ["right"] * 2
    assert {(one.audits, one.wrong) for one in watched(tmp_path / "w")} == {(2, 1)}
    watch = opened(tmp_path / "v", right=always_four, on_audit=heard.append)
    watch(decision(2, action=0, source="human"))
    watch.close()
    assert heard[2:] == ["wrong"]  # a reference that can be asked is asked


def test_a_reference_that_fails_costs_an_audit_and_no_more(tmp_path: Path) -> None:
    def failing(text: str) -> set[int]:
        raise RuntimeError("no connection")

    heard: list[str] = []
    watch = opened(tmp_path / "w", right=failing, on_audit=heard.append)
    watch(decision(1))
    watch.close()
    assert heard == ["failed"]


def test_many_processes_count_every_audit_once(tmp_path: Path) -> None:
    code = """
import sys; from pathlib import Path
sys.path[:0] = sys.argv[3:]
from test_watch import *
watch = opened(Path(sys.argv[1]))
for number in range(100):
    watch(decision(int(sys.argv[2]) * 1000 + number))
watch.close()
"""
    places = [str(Path(__file__).parent), str(Path(__file__).parents[1])]
    workers = [
        subprocess.Popen([sys.executable, "-c", code, str(tmp_path / "w"), str(number), *places]) for number in range(3)
    ]
    assert [worker.wait(120) for worker in workers] == [0] * 3
    assert {one.audits for one in watched(tmp_path / "w")} == {300}


def test_the_command_line_shows_it_and_fails_on_an_alarm(tmp_path: Path) -> None:
    watch = opened(tmp_path / "w")
    watch(decision(0))
    watch.flush()
    shown = CliRunner().invoke(app, ["watch", str(tmp_path / "w")])
    assert shown.exit_code == 0, shown.output
    assert "tic_tac_toe" in shown.output
    watch.close()
    watch = opened(tmp_path / "w", reports=said(action=0))
    for number in range(1, 200):
        watch(decision(number, action=0))
    watch.close()
    shown = CliRunner().invoke(app, ["watch", str(tmp_path / "w")])
    assert shown.exit_code == 1
    assert "broken" in shown.output


def test_an_alarm_that_another_process_raised_is_soon_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[float] = []
    idle = opened(tmp_path / "w", on_alarm=lambda one: heard.append(one.alpha))
    busy = opened(tmp_path / "w", reports=said(action=0))
    for number in range(200):
        busy(decision(number, action=0))
    busy.close()
    assert idle.problem(BOLD) is None
    monkeypatch.setattr("escalade.app.watch.LOOK_SECONDS", 0.0)
    assert LOOK_SECONDS < 60
    idle.problem(BOLD)
    idle.flush()
    assert idle.problem(BOLD) is not None
    assert sorted(heard) == [0.01, 0.05]


def test_an_outcome_may_come_before_its_audit(tmp_path: Path) -> None:
    watch = opened(tmp_path / "w", right=unknown)
    watch.outcome("d1", 0)
    watch.flush()
    watch(decision(1))
    watch.close()
    assert {(one.audits, one.wrong) for one in watched(tmp_path / "w")} == {(1, 1)}
    assert pending(tmp_path / "w") == {}


def test_the_same_id_in_two_domains_is_two_decisions(tmp_path: Path) -> None:
    watch = opened(tmp_path / "w", right=unknown)
    other = Watch(tmp_path / "w", load_domain("connect_four"), (BOLD,), unknown, said(), EVERY)
    for one in (watch, other):
        one(decision(1))
        one.flush()
    assert pending(tmp_path / "w") == {"tic_tac_toe": 1, "connect_four": 1}
    watch.outcome("d1", 4)
    watch.close()
    other.close()
    assert pending(tmp_path / "w") == {"connect_four": 1}
    shown = CliRunner().invoke(app, ["watch", str(tmp_path / "w")])
    assert "connect_four: 1 audits wait" in shown.output


def test_a_file_that_another_process_is_making_is_waited_for(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "w", check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.3, other.rollback).start()
    open_watch_file(tmp_path / "w").close()
    assert watched(tmp_path / "w") == []


def test_a_file_that_was_locked_counts_every_audit_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("escalade.app.sqlite_file.WAIT_S", 0.05)
    asked: list[str] = []
    locks = [sqlite3.connect(tmp_path / "w", check_same_thread=False)]

    def right(text: str) -> set[int]:
        asked.append(text)
        if len(asked) == 3:
            locks[0].execute("BEGIN IMMEDIATE")
            threading.Timer(1.0, locks[0].rollback).start()
        return {4}

    heard: list[str] = []
    watch = opened(tmp_path / "w", right=right, on_audit=heard.append)
    for number in range(5):
        watch(decision(number))
    for _ in range(300):  # it is tried again after some seconds
        if watched(tmp_path / "w"):
            break
        time.sleep(0.1)
    watch.close()
    assert {one.audits for one in watched(tmp_path / "w")} == {5}
    assert heard == ["right"] * 5
    assert len(asked) == 5


def test_with_other_settings_it_begins_afresh(tmp_path: Path) -> None:
    for share, audits in ((1.0, 3), (1.0, 6), (0.999999, 3)):
        watch = opened(tmp_path / "w", config=WatchConfig(share))
        for number in range(3):
            watch(decision(number))
        watch.close()
        found = watched(tmp_path / "w")
        assert {(one.audits, one.limit) for one in found} == {(audits, WatchConfig(share).limit)}


def test_each_recertification_is_to_be_twice_as_sure(tmp_path: Path) -> None:
    told = []
    for bundle in ("ab", "cd", "ef"):
        certificates = (certificate(0.05, bundle=bundle * 32),)
        watch = Watch(tmp_path / "w", DOMAIN, certificates, always_four, said(action=0), EVERY)
        for number in range(100):
            watch(decision(number, action=0))
        watch.close()
        told.append(str(watch.problem(certificates[0])).rsplit(" ", 1)[-1])
    assert told == ["0.025", "0.013", "0.0063"]


def test_a_file_of_states_is_audited_to_its_end_and_paid_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    states = tmp_path / "states.txt"
    texts = sorted({f"{a}{b}{c}" for a in range(1, 10) for b in range(1, 10) for c in range(1, 10) if a != b != c != a})
    states.write_text("\n".join(texts[:60]))
    monkeypatch.setenv("ESCALADE_WATCH", str(tmp_path / "w"))
    monkeypatch.setenv("ESCALADE_LEDGER", str(tmp_path / "l"))
    monkeypatch.setenv("ESCALADE_AUDIT_SHARE", "1")
    arguments = ["decide", "tic_tac_toe", "--input", str(states), "--output", str(tmp_path / "out.jsonl")]
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert {one.audits for one in watched(tmp_path / "w")} == {60}
    shown = CliRunner().invoke(app, ["ledger", "--json"])
    assert shown.exit_code == 0, shown.output
    assert json.loads(shown.output)[0]["audits"] == 60


def test_audits_that_take_too_long_at_the_end_are_shed_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    go_on = threading.Event()

    def slow(text: str) -> set[int]:
        go_on.wait(30)
        return {4}

    heard: list[str] = []
    watch = opened(tmp_path / "w", right=slow, on_audit=heard.append)
    for number in range(40):
        watch(decision(number))
    watch.close(0.2)
    assert heard.count("shed") >= 40 - 16
    assert "no time left" in caplog.text
    go_on.set()
