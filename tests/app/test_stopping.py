"""`escalade serve` ends in time whatever its clients do, and loses nothing that it has answered."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import Served, served

from escalade import load_domain
from escalade.app.ledger_totals import totals
from escalade.training.store import ExperienceStore
from tests import endpoints


def decide(server: Served, count: int) -> None:
    """So many decisions, each answered."""

    def one(number: int) -> None:
        body = {"state": "51", "policy_threshold": 0, "decision_id": f"d-{number}"}
        assert client.post("/decide", json=body).status_code == 200

    with httpx.Client(base_url=server.url, timeout=120) as client, ThreadPoolExecutor(8) as pool:
        list(pool.map(one, range(count)))


def half_a_request(server: Served) -> socket.socket:
    """A request whose body never comes to its end."""
    one = socket.create_connection(("127.0.0.1", server.port), timeout=60)
    one.sendall(
        b'POST /decide HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 99\r\n\r\n{"sta'
    )
    return one


def rows_in(folder: Path, domain: str = "tic_tac_toe") -> set[str]:
    rows = ExperienceStore(folder / domain, load_domain(domain)).recent(10_000)
    return set() if rows is None else set(rows.decision.tolist())


def wanted(count: int) -> set[str]:
    return {f"d-{number}" for number in range(count)}


def test_a_body_that_never_ends_does_not_hold_it_up_and_all_is_written(tmp_path: Path) -> None:
    kept = {"ESCALADE_EXPERIENCE": str(tmp_path), "ESCALADE_LEDGER": str(tmp_path / "ledger")}
    with served(**kept, ESCALADE_SHUTDOWN_S="16") as server:
        decide(server, 300)
        with half_a_request(server), half_a_request(server):
            began = time.monotonic()
            server.process.send_signal(signal.SIGTERM)
            server.process.wait(60)
            assert time.monotonic() - began < 30
        assert server.process.returncode == -signal.SIGTERM
        assert server.process.stderr is not None
        assert "Traceback" not in (log := server.process.stderr.read()), log
    assert rows_in(tmp_path) == wanted(300)
    assert totals(tmp_path / "ledger")[0].decisions == 300


def test_what_was_answered_is_on_disk_while_it_still_waits_for_clients(tmp_path: Path) -> None:
    with served(ESCALADE_EXPERIENCE=str(tmp_path), ESCALADE_SHUTDOWN_S="120") as server:
        decide(server, 200)
        with half_a_request(server):
            server.process.send_signal(signal.SIGTERM)
            until = time.monotonic() + 40
            while rows_in(tmp_path) != wanted(200):
                assert time.monotonic() < until
                time.sleep(0.1)
            assert server.process.poll() is None  # it would wait for a minute
            server.process.kill()
    assert rows_in(tmp_path) == wanted(200)


def test_requests_that_were_accepted_are_answered(tmp_path: Path) -> None:
    body = {
        "domain": "connect_four",
        "state": "",
        "simulations": 90_000,
        "mode": "search_only",
        "decision_id": "late",
        "deadline_ms": 2000,
    }
    answers: list[httpx.Response] = []
    with served(ESCALADE_EXPERIENCE=str(tmp_path), ESCALADE_SHUTDOWN_S="60") as server:
        decide(server, 1)
        thread = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{server.url}/decide", json=body, timeout=60))
        )
        thread.start()
        until = time.monotonic() + 20
        while "requests_under_way 1.0" not in httpx.get(f"{server.url}/metrics", timeout=30).text:
            assert time.monotonic() < until
        server.process.send_signal(signal.SIGTERM)
        thread.join()
        server.process.wait(60)
    assert [answer.status_code for answer in answers] == [200]
    assert rows_in(tmp_path) == {"d-0"}
    assert rows_in(tmp_path, "connect_four") == {"late"}


def test_runs_that_are_cut_are_in_the_ledger(tmp_path: Path) -> None:
    """Whatever comes first, their end or that of the sinks: thirty, while the model's endpoint does not answer."""
    never = threading.Event()

    def hang(body: dict[str, Any]) -> endpoints.Reply:
        never.wait(120)
        return endpoints.properly(body)

    ledger = tmp_path / "ledger"
    with endpoints.served(hang) as model:
        language_model = {"ESCALADE_LLM_MODEL": "m", "OPENAI_BASE_URL": model.url, "ESCALADE_LLM_AT_ONCE": "32"}
        with served(**language_model, ESCALADE_LEDGER=str(ledger), ESCALADE_SHUTDOWN_S="8") as server:
            body = {"state": "519", "ladder": ["reason"]}
            with ThreadPoolExecutor(30) as pool:
                asked = [
                    pool.submit(httpx.post, f"{server.url}/decide", json=body, timeout=60, trust_env=False)
                    for _ in range(30)
                ]
                until = time.monotonic() + 40
                while len(model.calls) < 30:
                    assert time.monotonic() < until
                    time.sleep(0.05)
                server.process.send_signal(signal.SIGTERM)
                server.process.wait(60)
            for one in asked:
                assert one.exception() is not None or one.result().status_code == 503
            assert server.process.stderr is not None
            log = server.process.stderr.read()
        never.set()
    assert "shed" not in log, log
    assert "Traceback" not in log, log
    (found,) = totals(ledger)
    assert (found.decisions, found.failures, found.failures_unpriced) == (0, 30, 30)


# The wall clock


def date_of(server: Served) -> datetime:
    return parsedate_to_datetime(httpx.get(f"{server.url}/health", timeout=30).headers["date"])


SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>
static long back(void) { const char *file = getenv("STEP_BACK"); return file && access(file, F_OK) == 0 ? 3600 : 0; }
int clock_gettime(clockid_t clock, struct timespec *now) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int code = real(clock, now);
  if (clock == CLOCK_REALTIME) now->tv_sec -= back();
  return code;
}
int gettimeofday(struct timeval *now, void *zone) {
  static int (*real)(struct timeval *, void *);
  if (!real) real = dlsym(RTLD_NEXT, "gettimeofday");
  int code = real(now, zone);
  now->tv_sec -= back();
  return code;
}
time_t time(time_t *kept) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (kept) *kept = now.tv_sec;
  return now.tv_sec;
}
"""


@pytest.mark.skipif(sys.platform != "linux" or shutil.which("cc") is None, reason="needs a C compiler on Linux")
def test_a_step_back_of_the_wall_clock_by_an_hour_holds_up_no_decision(tmp_path: Path) -> None:
    source, library, step = tmp_path / "shim.c", tmp_path / "shim.so", tmp_path / "step"
    source.write_text(SHIM)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True)
    body = {"domain": "connect_four", "state": "", "simulations": 90_000, "mode": "search_only", "deadline_ms": 3000}
    answers: list[httpx.Response] = []
    with served(LD_PRELOAD=str(library), STEP_BACK=str(step)) as server:
        before = date_of(server)
        thread = threading.Thread(
            target=lambda: answers.append(httpx.post(f"{server.url}/decide", json=body, timeout=90))
        )
        thread.start()
        time.sleep(0.5)
        step.write_text("")
        thread.join()
        until = time.monotonic() + 20
        while date_of(server) > before:  # so it did go back; the server makes it once a second
            assert time.monotonic() < until
            time.sleep(0.1)
    (answer,) = answers
    assert answer.status_code == 200, answer.text
    (rung,) = answer.json()["rungs"]
    assert rung["details"]["rootInfo"]["stopped"] == "deadline"  # and not its last simulation, much later
    assert answer.json()["latency_ms"] < 30_000
