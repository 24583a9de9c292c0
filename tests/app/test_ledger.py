"""What the ledger adds up, on decisions whose costs are known."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from escalade.app.cli import app
from escalade.app.counterfactual import Averages, Counterfactuals
from escalade.app.ledger import Ledger
from escalade.app.ledger_file import open_ledger
from escalade.app.ledger_totals import saving_of, totals
from escalade.app.prices import ModelPrice, Prices
from escalade.app.settings import Settings
from escalade.app.wiring import counterfactuals_of, open_decider
from escalade.domains.catalog import load_domain
from escalade.domains.decision import Decision, FailedDecision, RungReport
from escalade.domains.errors import SettingsError

DOMAIN = load_domain("tic_tac_toe")
PRICE = ModelPrice(input_usd_per_mtok=1.0, output_usd_per_mtok=10.0)
A_CALL = PRICE.cost(200, 10)


def decision(number: int, *reports: RungReport, unpriced: bool = False) -> Decision:
    costs = [report.cost_usd or 0.0 for report in reports]
    return Decision(
        decision_id=str(number),
        domain="tic_tac_toe",
        state="51",
        action=2,
        action_name="3",
        source=reports[-1].rung,
        certified=False,
        best_effort=False,
        cost_usd=None if unpriced else sum(costs),
        latency_ms=sum(report.latency_ms for report in reports),
        rungs=list(reports),
    )


def policy(outcome: str = "accepted", usd: float = 0.0, ms: float = 1.0) -> RungReport:
    return RungReport(rung="policy", outcome=outcome, reason="x", action=2, cost_usd=usd, latency_ms=ms, work_ms=ms)  # type: ignore[arg-type]


def llm() -> RungReport:
    details = {"tokens": {"input_tokens": 200, "output_tokens": 10}}
    return RungReport(
        rung="reason", outcome="accepted", reason="trusted", action=2, cost_usd=A_CALL, latency_ms=500, details=details
    )


def search(ms: float = 50.0) -> RungReport:
    return RungReport(
        rung="search", outcome="accepted", reason="trusted", action=2, cost_usd=0.0, latency_ms=ms, work_ms=ms
    )


def filled(path: Path, decisions: list[Decision], clock: Any = lambda: 0.0, **known: Any) -> list[Any]:
    ledger = Ledger(path, Counterfactuals(DOMAIN, PRICE, **known), clock=clock)
    for one in decisions:
        ledger(one)
    ledger.close()
    return totals(path)


def test_a_decision_that_falls_back_counts_once_and_saves_nothing(tmp_path: Path) -> None:
    (found,) = filled(tmp_path / "l", [decision(n, policy("escalated"), llm()) for n in range(20)])
    assert found.decisions == 20
    assert found.shares == {"reason": 1.0}
    assert found.usd == pytest.approx(20 * A_CALL)
    assert found.llm.saved == pytest.approx(0.0)
    assert found.llm.estimated == 0


def test_networks_that_cost_something_and_always_fall_back_lose(tmp_path: Path) -> None:
    decisions = [decision(n, policy("escalated", usd=A_CALL / 4), llm()) for n in range(20)]
    (found,) = filled(tmp_path / "l", decisions)
    assert found.llm.saved == pytest.approx(-0.25)


def test_what_networks_decide_is_saved_by_what_calls_have_cost(tmp_path: Path) -> None:
    decisions = [decision(n, policy("escalated"), llm()) for n in range(10)]
    decisions += [decision(n, policy()) for n in range(10, 40)]
    (found,) = filled(tmp_path / "l", decisions)
    assert found.shares == {"policy": 0.75, "reason": 0.25}
    assert found.llm.saved == pytest.approx(0.75)  # all prompts are alike here
    assert found.llm.estimated == 30
    assert found.llm.low < 0.75 < found.llm.high


def test_a_search_is_compared_in_work(tmp_path: Path) -> None:
    decisions = [decision(n, policy(ms=1.0)) for n in range(9)] + [decision(9, policy("escalated"), search(50.0))]
    (found,) = filled(tmp_path / "l", decisions)
    assert found.search_work.alone == pytest.approx(0.05)  # nothing was known of a search before the first
    assert found.search_work.count == 1
    (found,) = filled(tmp_path / "m", decisions[:9], search_seconds=0.04)
    assert found.search_work.alone == pytest.approx(9 * 0.04)
    assert found.search_work.cost == pytest.approx(9 * 0.001)
    assert found.search_work.saved == pytest.approx(1 - 0.001 / 0.04)


def test_searches_of_hard_states_do_not_stand_for_all(tmp_path: Path) -> None:
    """Those that networks leave to a search run 400 simulations in 40 ms; over all states a search runs 100, by the
    certificate in 10 ms."""
    hard = search(40.0).model_copy(update={"details": {"rootInfo": {"visits": 400}}})
    decisions = [decision(0, policy("escalated", ms=0.0), hard)] + [decision(n, policy(ms=0.0)) for n in range(1, 11)]
    (found,) = filled(tmp_path / "l", decisions, search_seconds=0.010, search_simulations=100.0)
    assert found.search_work.alone == pytest.approx(0.040 + 10 * 0.010)


def test_audits_cost_what_they_cost(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l", Counterfactuals(DOMAIN, PRICE), clock=lambda: 0.0)
    for number in range(10):
        ledger(decision(number, policy("escalated"), llm()) if number == 0 else decision(number, policy()))
    ledger.audited(A_CALL, 0.25)
    ledger.audited(None, 0.5)
    ledger.close()
    (found,) = totals(tmp_path / "l")
    assert (found.audits, found.audits_unpriced) == (2, 1)
    assert (found.audits_usd, found.audits_seconds) == pytest.approx((A_CALL, 0.75))
    assert found.usd == pytest.approx(A_CALL)
    assert found.llm is not None
    assert found.llm.cost == pytest.approx(2 * A_CALL)
    assert found.llm.saved == pytest.approx(0.8)
    shown = CliRunner().invoke(app, ["ledger", str(tmp_path / "l")])
    assert "2: " in shown.output
    assert "1 unpriced" in shown.output


def test_what_failed_decisions_cost_is_counted(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l", Counterfactuals(DOMAIN, PRICE), clock=lambda: 0.0)
    for cost, outcome in ((A_CALL, "failed"), (None, "cancelled"), (0.0, "refused")):
        ledger.failed(
            FailedDecision(
                decision_id="x",
                domain=DOMAIN.name,
                state="51",
                outcome=outcome,
                error="NoDecisionError",
                message="no rung could decide",
                cost_usd=cost,
                latency_ms=1.0,
                rungs=[policy("escalated", ms=250.0), llm()],
            )
        )
    ledger.close()
    (found,) = totals(tmp_path / "l")
    assert (found.decisions, found.failures, found.failures_unpriced) == (0, 2, 1)
    assert found.failures_usd == pytest.approx(A_CALL)
    assert found.failures_seconds > 0
    shown = CliRunner().invoke(app, ["ledger", str(tmp_path / "l")])
    assert "2 runs ended without a decision" in shown.output
    assert "1 of them unpriced" in shown.output


def test_an_older_ledger_goes_on(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l", Counterfactuals(DOMAIN, PRICE))
    ledger(decision(0, policy()))
    ledger.close()
    with sqlite3.connect(tmp_path / "l") as database:
        database.execute("DROP TABLE audits")
        database.execute("DROP TABLE failures")
    (found,) = totals(tmp_path / "l")
    assert (found.audits, found.failures) == (0, 0)


def test_the_first_searches_do_not_outweigh_the_certificate(tmp_path: Path) -> None:
    known = Counterfactuals(DOMAIN, search_seconds=0.001, search_simulations=100.0)
    proven = search(ms=40.0)  # at once, with the machine busy otherwise; it ran no simulation
    found = known.learned(decision(0, policy("escalated"), proven))
    known.averages.add(found)
    alone = known.search_alone(decision(1, policy()))
    assert alone is not None
    assert alone.seconds == pytest.approx((0.04 + 30 * 0.001) / (30 * 100) * 100)


def test_a_search_is_estimated_by_the_size_that_runs_have() -> None:
    settings = Settings(defaults={"simulations": 100})
    small = open_decider(settings, "tic_tac_toe")  # its champion's certificate is of searches of 25 simulations
    (certificate, *_) = small.resources.certificates
    known = counterfactuals_of(small.resources, Prices())
    small.close()
    alone = known.search_alone(decision(0, policy()))
    assert alone is not None
    assert alone.estimated
    assert alone.seconds == pytest.approx(certificate.cost_s["search"] * 100 / certificate.simulations)


def test_an_unpriced_decision_is_counted_as_such_and_saves_nothing(tmp_path: Path) -> None:
    (found,) = filled(tmp_path / "l", [decision(0, policy(), unpriced=True), decision(1, policy())])
    assert (found.decisions, found.unpriced) == (2, 1)
    assert found.llm.count == 1


def test_without_a_price_there_is_no_comparison_in_money(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "l", Counterfactuals(DOMAIN))
    ledger(decision(0, policy()))
    ledger.close()
    (found,) = totals(tmp_path / "l")
    assert found.llm is None
    assert found.search is None


def test_days_and_domains_are_kept_apart_and_added_up(tmp_path: Path) -> None:
    path = tmp_path / "l"
    filled(path, [decision(0, policy())], clock=lambda: 0.0)
    filled(path, [decision(1, policy()), decision(2, policy())], clock=lambda: 86_400.0)
    assert [(one.day, one.decisions) for one in totals(path, by_day=True)] == [("1970-01-01", 1), ("1970-01-02", 2)]
    assert [one.decisions for one in totals(path)] == [3]
    assert [one.decisions for one in totals(path, since="1970-01-02")] == [2]
    assert totals(path, domain="chess") == []


def test_what_calls_cost_is_remembered(tmp_path: Path) -> None:
    path = tmp_path / "l"
    filled(path, [decision(0, policy("escalated"), llm())])
    (found,) = filled(path, [decision(1, policy())])
    assert found.llm.alone == pytest.approx(2 * A_CALL)


def test_the_interval_covers_the_true_saving() -> None:
    random, inside = np.random.default_rng(1), 0
    for _ in range(400):
        y = random.gamma(4, 1, 300)
        x = y * (random.random(300) < 0.3) + 0.05
        sums = {"n": 300, "x": x.sum(), "y": y.sum(), "xx": (x * x).sum(), "yy": (y * y).sum(), "xy": (x * y).sum()}
        saving = saving_of({name: float(value) for name, value in sums.items()} | {"estimated": 0.0})
        assert saving is not None
        inside += saving.low <= 1 - (0.3 + 0.05 / 4) <= saving.high
    assert 0.91 <= inside / 400 <= 0.98


def test_many_processes_write_to_one_file(tmp_path: Path) -> None:
    code = """
import sys; from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_ledger import *
filled(Path(sys.argv[1]), [decision(n, policy()) for n in range(50)])
"""
    command = [sys.executable, "-c", code, str(tmp_path / "l"), str(Path(__file__).parent)]
    workers = [subprocess.Popen(command) for _ in range(4)]
    assert [worker.wait(120) for worker in workers] == [0] * 4
    assert totals(tmp_path / "l")[0].decisions == 200


HOLDER = """
import sqlite3, sys
database = sqlite3.connect(sys.argv[1], isolation_level=None)
database.execute("BEGIN EXCLUSIVE")
print("held", flush=True)
sys.stdin.read()
"""


def test_entries_wait_while_another_process_holds_the_file_for_longer_than_the_time_out(tmp_path: Path) -> None:
    path = tmp_path / "l"
    ledger = Ledger(path, Counterfactuals(DOMAIN, PRICE), seconds=0.05, retry_seconds=0.05, wait_s=0.1, most=400)
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for number in range(500):
            ledger(decision(number, policy("escalated"), llm()))
            time.sleep(0.002)
        assert (ledger.written, ledger.shed) == (0, 100)  # a bounded number waits, through several tries
        holder.stdin.close()
    until = time.monotonic() + 60
    while ledger.written < 400:
        assert time.monotonic() < until
        time.sleep(0.01)
    ledger.close()
    (found,) = totals(path)
    assert found.decisions == 400
    assert found.usd == pytest.approx(400 * A_CALL)
    with closing(open_ledger(path)) as database:  # what was tried in vain has taught nothing
        assert database.execute("SELECT calls FROM averages").fetchone() == (400,)


def test_a_ledger_that_is_held_when_it_is_opened_is_read_later(tmp_path: Path) -> None:
    path = tmp_path / "l"
    filled(path, [decision(0, policy("escalated"), llm())])
    with closing(sqlite3.connect(path, isolation_level=None)) as database:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("BEGIN EXCLUSIVE")
        ledger = Ledger(path, Counterfactuals(DOMAIN, PRICE), clock=lambda: 0.0, retry_seconds=0.05, wait_s=0.1)
        ledger(decision(1, policy()))
    ledger.close()
    (found,) = totals(path)
    assert found.decisions == 2
    assert found.llm.alone == pytest.approx(2 * A_CALL)  # what the first call cost was known when it was written


FULL_DISK = """
import resource, signal, sys, time; from pathlib import Path
sys.path.insert(0, sys.argv[2])
from test_ledger import *
path = Path(sys.argv[1])
ledger = Ledger(path, Counterfactuals(DOMAIN, PRICE), seconds=0.01, retry_seconds=0.05, wait_s=0.5)
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
for number in range(100):
    ledger(decision(number, policy()))
time.sleep(0.5)
before = (ledger.written, ledger.shed)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
ledger.close()
print(before, ledger.written, ledger.shed)
"""


def test_entries_wait_while_files_may_not_grow(tmp_path: Path) -> None:
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "l"), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == "(0, 0) 100 0\n", done.stderr
    assert totals(tmp_path / "l")[0].decisions == 100


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", str(place)], capture_output=True)
    if made.returncode:
        pytest.skip("file systems may not be mounted here")
    yield place
    subprocess.run(["umount", str(place)], check=True)


def test_entries_wait_while_the_disk_is_full(tiny_disk: Path) -> None:
    ledger = Ledger(tiny_disk / "l", Counterfactuals(DOMAIN, PRICE), seconds=0.01, retry_seconds=0.05, wait_s=0.5)
    filling = tiny_disk / "filling"
    with suppress(OSError), filling.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 4096)
    for number in range(100):
        ledger(decision(number, policy()))
    time.sleep(0.3)
    assert (ledger.written, ledger.shed) == (0, 0)
    filling.unlink()
    ledger.close()
    assert (ledger.written, ledger.shed) == (100, 0)
    assert totals(tiny_disk / "l")[0].decisions == 100


def test_a_file_that_is_no_ledger_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("no database, but a long enough text to be sure of it" * 10)
    other = sqlite3.connect(tmp_path / "other")
    other.execute("CREATE TABLE things (a)")
    other.commit()
    for name in ("text", "other"):
        with pytest.raises(SettingsError, match="ledger"):
            Ledger(tmp_path / name, Counterfactuals(DOMAIN))


def test_the_averages_are_plain_sums() -> None:
    averages = Averages(calls=1, read=10)
    averages.add(Averages(calls=2, read=5, seconds=1))
    assert averages == Averages(calls=3, read=15, seconds=1)


def test_the_command_line_adds_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.sqlite"
    runner = CliRunner()
    monkeypatch.setenv("ESCALADE_LEDGER", str(path))
    for number in range(3):
        given = ["decide", "tic_tac_toe", "51", "--threshold", "policy=0.01", "--seed", str(number)]
        assert runner.invoke(app, given).exit_code == 0
    shown = runner.invoke(app, ["ledger"])
    assert shown.exit_code == 0, shown.output
    for word in ("tic_tac_toe", "3", "policy 100.0%"):
        assert word in shown.output
    missing = runner.invoke(app, ["ledger", str(tmp_path / "none")])
    assert "there is no ledger" in str(missing.exception)
