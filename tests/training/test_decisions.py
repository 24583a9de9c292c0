"""Decisions become rows that teach what they may, and a sink that costs rows but never decisions."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from experience import TTT

from escalade import Decision, DecisionContext, build_decision_graph
from escalade.domains.connect_four import ConnectFour
from escalade.domains.errors import SettingsError
from escalade.training.decisions import ExperienceSink, decision_rows
from escalade.training.rows import RowError
from escalade.training.store import ExperienceStore, StoreError


def decision(source: str = "search", number: int = 0, state: str = "51", action: int = 8, **fields: Any) -> Decision:
    rungs = {
        "policy": {"rung": "policy", "outcome": "escalated", "reason": "x", "value": 0.5, "details": {"bundle": "b-1"}},
        "reason": {"rung": "reason", "outcome": "failed", "reason": "x", "details": {"model": "gpt"}},
        "search": {"rung": "search", "outcome": "accepted", "reason": "x", "value": -0.25},
    }
    policy = [0.0, 0, 0.25, 0, 0, 0, 0, 0, 0.75] if source in ("policy", "search") else None
    given = {
        "decision_id": f"d-{number}", "domain": "tic_tac_toe", "state": state, "action": action,
        "action_name": str(action + 1), "source": source, "certified": False, "best_effort": False, "policy": policy,
        "cost_usd": 0, "latency_ms": 1, "rungs": [rungs[source]] if source in rungs else [],
    }  # fmt: skip
    return Decision.model_validate({**given, **fields})


def test_each_rung_teaches_what_it_may() -> None:
    sources = ("policy", "value", "reason", "search", "human")
    rows = decision_rows(TTT, [decision(source, number) for number, source in enumerate(sources)], "b-2")
    assert rows.source.tolist() == ["decision", "decision", "llm", "search", "human"]
    assert rows.model.tolist() == ["b-1", "", "gpt", "b-2", ""]
    assert np.isnan(rows.policy[:2]).all()
    one_hot = np.eye(9)[8]
    np.testing.assert_array_equal(rows.policy[2], one_hot)
    np.testing.assert_array_equal(rows.policy[3], [0, 0, 0.25, 0, 0, 0, 0, 0, 0.75])
    np.testing.assert_array_equal(rows.policy[4], one_hot)
    np.testing.assert_array_equal(rows.value, np.float32([np.nan, np.nan, np.nan, -0.25, np.nan]))
    assert np.isnan(rows.outcome).all()
    assert rows.decision.tolist() == rows.game.tolist() == [f"d-{number}" for number in range(5)]
    assert rows.action.tolist() == [8] * 5
    np.testing.assert_array_equal(rows.observation, TTT.encode([TTT.parse("51")] * 5))


def test_best_effort_of_a_network_has_no_policy_and_a_search_that_escalated_still_gives_its_value() -> None:
    search = {"rung": "search", "outcome": "escalated", "reason": "x", "value": 0.5}
    rows = decision_rows(TTT, [decision("policy", best_effort=True), decision("human", rungs=[search])])
    assert np.isnan(rows.policy[0]).all()
    assert rows.value[1] == 0.5


def test_a_decision_of_another_domain_is_refused() -> None:
    with pytest.raises(RowError, match="'d-0' is of domain 'tic_tac_toe', not 'connect_four'"):
        decision_rows(ConnectFour(), [decision()])


def test_real_decisions_of_a_graph_are_found_in_the_store(tmp_path: Path) -> None:
    sink = ExperienceSink(tmp_path, TTT, model="rollouts")
    graph = build_decision_graph("tic_tac_toe", sinks=[sink])
    states = ["", "5", "51", "519"]
    for state in states:
        graph.invoke({"state": state}, context=DecisionContext(simulations=20))
    assert (sink.written, sink.shed) == (0, 0)  # nobody waited for the disk
    sink.close()
    assert (sink.written, sink.shed) == (4, 0)
    rows = ExperienceStore(tmp_path, TTT).recent(10)
    assert rows is not None
    assert rows.state.tolist() == states
    assert set(rows.source.tolist()) == {"search"}
    assert set(rows.model.tolist()) == {"rollouts"}
    assert not np.isnan(rows.value).any()


def test_a_decision_that_makes_no_row_is_shed_alone(tmp_path: Path) -> None:
    sink = ExperienceSink(tmp_path, TTT)
    for number, state in enumerate(("51", "no state", "5")):
        sink(decision("reason", number, state))
    sink(decision("reason", 3, "51", action=4))  # taken
    sink.close()
    assert (sink.written, sink.shed) == (2, 2)


def test_a_decision_recorded_twice_counts_once(tmp_path: Path) -> None:
    for _ in range(2):  # a run killed after it decided, and resumed in another process
        sink = ExperienceSink(tmp_path, TTT)
        sink(decision("reason", 1))
        sink(decision("reason", 2))
        sink.close()
    rows = ExperienceStore(tmp_path, TTT).recent(10)
    assert rows is not None
    assert rows.decision.tolist() == ["d-1", "d-2"]


def test_a_folder_that_can_be_no_store_is_named_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SettingsError, match=r"experience: there can be no store in .*file"):
        ExperienceSink(tmp_path / "file", TTT)
    ExperienceStore(tmp_path / "store", ConnectFour())
    with pytest.raises(StoreError, match="another domain"):
        ExperienceSink(tmp_path / "store", TTT)


WRITER = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from test_decisions import TTT, ExperienceSink, decision
first = int(sys.argv[2])
sink = ExperienceSink(Path(sys.argv[1]), TTT, batch=20, seconds=0.05)
for number in range(first, first + 100_000):
    while sink.written < number - first - 60:
        pass
    sink(decision("search", number))
    if number % 10 == 0:
        print(sink.written, flush=True)
"""


def test_kill_9_loses_only_what_was_not_written(tmp_path: Path) -> None:
    program = WRITER.format(tests=str(Path(__file__).parent))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    chance, least = random.Random(0), 0
    for kill in range(4):
        with subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path), str(kill * 1_000_000)],
            stdout=subprocess.PIPE, env=environment, text=True,
        ) as process:  # fmt: skip
            assert process.stdout is not None
            for _ in range(10):
                told = process.stdout.readline()
            time.sleep(chance.random() / 3)
            process.send_signal(signal.SIGKILL)
            lines = [line for line in process.stdout.read().split("\n")[:-1] if line]
        least += int(lines[-1] if lines else told)
    store = ExperienceStore(tmp_path, TTT)
    assert store.damaged == []
    assert store.rows >= least
    rows = store.recent(10**6)
    assert rows is not None
    assert len(rows) == store.rows == len(set(rows.decision.tolist()))
    numbers = np.array([int(name.removeprefix("d-")) for name in rows.decision.tolist()])
    for kill in range(4):  # without a gap: only the end is lost
        mine = np.sort(numbers[numbers // 1_000_000 == kill]) % 1_000_000
        np.testing.assert_array_equal(mine, np.arange(len(mine)))


FULL = """
import resource, sys
sys.path.insert(0, {tests!r})
from test_decisions import TTT, DecisionContext, ExperienceSink, build_decision_graph
from pathlib import Path
import time
sink = ExperienceSink(Path(sys.argv[1]), TTT, batch=5, seconds=0.01, retry_seconds=0.05, most=20)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
graph = build_decision_graph("tic_tac_toe", sinks=[sink])
for number in range(40):
    given = {{"state": "51", "decision_id": f"d-{{number}}"}}
    assert graph.invoke(given, context=DecisionContext(simulations=5))["decision"]
time.sleep(0.3)
print(sink.written, sink.shed)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
sink.close()
print(sink.written, sink.shed)
"""


def test_a_full_disk_costs_rows_but_no_decision(tmp_path: Path) -> None:
    program = FULL.format(tests=str(Path(__file__).parent))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path)], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:2] == ["0 20", "20 20"]  # full, and with room again
    assert "cannot be written, and will be tried again" in done.stderr
    rows = ExperienceStore(tmp_path, TTT).recent(100)
    assert rows is not None
    assert rows.decision.tolist() == [f"d-{number}" for number in range(20)]
    assert not list(tmp_path.rglob("*.partial"))


def test_a_disk_that_is_full_at_the_start_is_no_reason_not_to_start(tmp_path: Path) -> None:
    program = FULL.replace("sink = ", "resource.setrlimit(resource.RLIMIT_FSIZE, (1, resource.RLIM_INFINITY))\nsink = ")
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", program.format(tests=str(Path(__file__).parent)), str(tmp_path)],
        capture_output=True, text=True, env=environment, check=False,
    )  # fmt: skip
    assert done.stdout.split("\n")[:2] == ["0 20", "20 20"], done.stderr
