"""`escalade serve` as a process: how fast it answers, what it refuses, and what becomes of clients that hang up."""

from __future__ import annotations

import http.client
import json
import re
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from served import Served, served

from escalade.app.http_errors import Pace, reason_of
from escalade.app.listening import listening
from escalade.app.settings import Settings, read_settings
from escalade.domains.errors import NoDecisionError, SettingsError
from escalade.nodes.context import DecisionContext, Limits, read_context

ROOT = Path(__file__).resolve().parents[2]
JSON = {"content-type": "application/json"}


@pytest.fixture(scope="module")
def server() -> Iterator[Served]:
    with served(ESCALADE_MAX_SIMULATIONS="900000", ESCALADE_MAX_DEADLINE_MS="90000") as running:
        yield running


def metric(url: str, line: str) -> float:
    found = re.search(rf"(?m)^{re.escape(line)} ([0-9.e+]+)$", httpx.get(f"{url}/metrics", timeout=30).text)
    return 0.0 if found is None else float(found[1])


def test_a_connection_that_is_kept_waits_for_no_delayed_acknowledgement(server: Served) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
    taken = []
    for _ in range(21):
        began = time.perf_counter()
        connection.request("POST", "/decide", '{"state": "51", "policy_threshold": 0}', JSON)
        answer = connection.getresponse()
        assert answer.status == 200, answer.read()
        answer.read()
        taken.append(time.perf_counter() - began)
    connection.close()
    assert statistics.median(taken[1:]) < 0.030  # a delayed acknowledgement takes 40 ms


def test_connections_of_its_socket_send_at_once() -> None:
    for host in ("127.0.0.1", "localhost", ""):
        with listening(host, 0) as listener:
            assert listener.proto == socket.IPPROTO_TCP
    with pytest.raises(SettingsError, match=r"--host nowhere\.invalid --port 1 cannot be listened on"):
        listening("nowhere.invalid", 1)
    for host in ("a..b", "x" * 300):
        with pytest.raises(SettingsError, match="is not the name of a host"):
            listening(host, 0)
    with listening("127.0.0.1", 0) as listener, pytest.raises(SettingsError, match="cannot be listened on"):
        listening("127.0.0.1", listener.getsockname()[1])


def test_uvloop_and_httptools_come_with_the_core() -> None:
    import tomllib

    core = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert any(one.startswith("uvicorn[standard]") for one in core)
    pinned = (ROOT / "constraints.txt").read_text().lower()
    for name in ("httptools", "python-dotenv", "pyyaml", "uvloop", "watchfiles", "websockets"):
        assert f"\n{name}==" in pinned


def test_the_benchmark_of_serving_runs() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "serving.py"), "--requests", "3"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    for word in ("/nothing", "/decide", "ratio", "p99"):
        assert word in done.stdout


# Clients that hang up


def hang_up(port: int, body: dict[str, Any]) -> socket.socket:
    """A request whose answer nobody waits for: closed once it is sent."""
    text = json.dumps(body)
    one = socket.create_connection(("127.0.0.1", port), timeout=60)
    head = f"POST /decide HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n\r\n"
    one.sendall((head + text).encode())
    return one


def test_searches_of_clients_that_hang_up_end_at_once(server: Served) -> None:
    normal = {"state": "51", "simulations": 20, "mode": "search_only"}
    assert httpx.post(f"{server.url}/decide", json=normal, timeout=60).status_code == 200
    before = metric(server.url, 'requests_failed_total{reason="client_left"}')
    large = {
        "domain": "connect_four",
        "state": "",
        "simulations": 900_000,
        "mode": "search_only",
        "deadline_ms": 90_000,
    }
    held = [hang_up(server.port, {**large, "seed": seed}) for seed in range(50)]
    time.sleep(0.3)
    for one in held:
        one.close()
    began = time.monotonic()
    answer = httpx.post(f"{server.url}/decide", json=normal, timeout=80)
    assert answer.status_code == 200, answer.text
    assert time.monotonic() - began < 20  # the searches would have gone on for 90 seconds
    until = time.monotonic() + 20
    while metric(server.url, "requests_under_way") > 0:
        assert time.monotonic() < until
        time.sleep(0.05)
    assert metric(server.url, 'requests_failed_total{reason="client_left"}') == before + 50


# What is refused, and what fails


@pytest.mark.parametrize(
    ("option", "given", "most"), [("simulations", 900_001, 900_000), ("samples", 17, 16), ("deadline_ms", 9e4 + 1, 9e4)]
)
def test_what_is_above_a_ceiling_is_422_with_the_field_and_the_ceiling(
    server: Served, option: str, given: float, most: float
) -> None:
    before = metric(server.url, 'requests_refused_total{reason="options"}')
    answer = httpx.post(f"{server.url}/decide", json={"state": "51", option: given}, timeout=60)
    assert answer.status_code == 422, answer.text
    (fault,) = answer.json()["detail"]
    assert fault["loc"] == ["body", option]
    assert f"{most:.0f}" in fault["msg"]
    assert metric(server.url, 'requests_refused_total{reason="options"}') == before + 1


def test_refused_and_failed_requests_are_counted_by_reason(server: Served) -> None:
    cases: list[tuple[bytes, str, int]] = [
        (b'{"state": "5x"}', 'requests_refused_total{reason="state"}', 422),
        (b'{"state": "5", "domain": "chess"}', 'requests_refused_total{reason="domain"}', 422),
        (b'{"state": "5", "simulations": 0}', 'requests_refused_total{reason="invalid"}', 422),
        (b"[[", 'requests_refused_total{reason="invalid"}', 422),
        (b'{"state": "5", "mode": "llm_only"}', 'requests_failed_total{reason="not_set_up"}', 409),
    ]
    for body, line, status in cases:
        before = metric(server.url, line)
        answer = httpx.post(f"{server.url}/decide", content=body, headers=JSON)
        assert answer.status_code == status, answer.text
        assert metric(server.url, line) == before + 1
    assert "ESCALADE_LLM_MODEL" in answer.json()["detail"]  # what to set


def test_a_decision_that_may_be_had_later_is_503_with_when(server: Served) -> None:
    body = {"state": "", "mode": "neural_only", "deadline_ms": 1e-6}
    answer = httpx.post(f"{server.url}/decide", json=body, timeout=60)
    assert answer.status_code == 503, answer.text
    assert 1 <= int(answer.headers["retry-after"]) <= 120
    assert "deadline_ms" in answer.json()["detail"]


def test_while_an_endpoint_is_left_alone_clients_are_asked_to_wait_for_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as probe:
        nobody = f"http://127.0.0.1:{probe.getsockname()[1]}/v1"
    with served(OPENAI_BASE_URL=nobody, ESCALADE_LLM_MODEL="m") as running:
        for _ in range(10):
            answer = httpx.post(f"{running.url}/decide", json={"state": "51", "mode": "llm_only"}, timeout=60)
            assert answer.status_code == 503, answer.text
            (rung,) = answer.json()["rungs"]
            if rung["reason"] == "breaker_open":
                break
        assert rung["reason"] == "breaker_open"
        assert 2 <= int(answer.headers["retry-after"]) <= 10  # it rests for 5 seconds at first


def test_logs_name_reasons_and_nothing_that_a_client_wrote() -> None:
    secret = "canary-5d1c"  # noqa: S105
    with served(ESCALADE_API_KEYS=json.dumps(["a-key-of-sixteen-characters"])) as running:
        headers = {"x-api-key": "a-key-of-sixteen-characters"}
        for sent, key in (({"state": secret}, headers), ({"state": "5", "mode": "llm_only"}, headers), ({}, {})):
            httpx.post(f"{running.url}/decide", json={**sent, "decision_id": secret}, headers=key, timeout=60)
        running.process.terminate()
        assert running.process.stderr is not None
        log = running.process.stderr.read()
    assert "refused POST /decide: state" in log
    assert "refused POST /decide: unauthorized" in log
    assert "failed POST /decide: not_set_up: reason skipped (no_llm)" in log
    assert secret not in log
    assert "a-key-of" not in log


def test_a_client_is_asked_to_wait_until_what_is_under_way_is_done() -> None:
    now = [0.0]
    pace = Pace(clock=lambda: now[0])
    assert pace.seconds() == 1.0
    for _ in range(10):
        with pace.deciding():
            now[0] += 2.0
    now[0] += 3600.0  # nobody asks
    for _ in range(50):
        with pytest.raises(ValueError, match="refused"), pace.deciding():
            raise ValueError("refused")
    assert pace.seconds() == pytest.approx(2.0)
    with pace.deciding():
        now[0] += 30.0
        assert pace.seconds() == pytest.approx(30.0)


def undecided(reason: str, **details: Any) -> tuple[str, bool]:
    report = {"rung": "reason", "outcome": "failed", "reason": reason, "details": details}
    skipped = {"rung": "human", "outcome": "skipped", "reason": "no_person"}
    return reason_of(NoDecisionError("none", reports=[report, skipped]))


def test_whoever_can_change_it_is_told() -> None:
    """A later time, the sender, who set the server up, or we."""
    for reason in ("timeout", "rate_limited", "breaker_open", "deadline", "malformed_answer"):
        assert undecided(reason) == ("no_decision", False)
    assert undecided("token_cap", cap="hour") == ("no_decision", False)
    for reason in ("no_llm", "no_model", "unauthorized", "quota"):
        assert undecided(reason) == ("not_set_up", False)
    assert undecided("token_cap", cap="decision") == ("not_set_up", False)
    assert undecided("refused", status=404) == ("not_set_up", False)
    assert undecided("budget") == ("budget", True)
    assert undecided("content_filter", status=400) == ("state", True)
    assert undecided("error", error="ValueError", message="a domain's own") == ("internal", False)


# Limits


def test_a_body_that_is_too_large_is_refused_and_not_parsed(server: Served) -> None:
    body = json.dumps({"state": [1] * 1_000_000}).encode()
    for content in (body, iter([body[:600_000], body[600_000:]])):  # with its length, and in chunks
        answer = httpx.post(f"{server.url}/decide", content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 413
        (fault,) = answer.json()["detail"]
        assert (fault["loc"], "larger than 1000000 bytes" in fault["msg"]) == (["body"], True)
    assert httpx.post(f"{server.url}/decide", json={"state": "51"}).status_code == 200


def test_options_that_were_not_given_are_lowered_to_the_limits() -> None:
    limits, defaults = Limits(100, 4, 5000.0, 2000.0), DecisionContext()
    applied = limits.applied(defaults, defaults)
    assert (applied.simulations, applied.samples, applied.deadline_ms) == (100, 1, 2000.0)
    own = DecisionContext(deadline_ms=3000.0)
    assert limits.applied(DecisionContext(deadline_ms=None), own).deadline_ms == 3000.0
    assert limits.applied(DecisionContext(deadline_ms=1.0), defaults).deadline_ms == 1.0
    with pytest.raises(SettingsError, match=r"option simulations: at most 100 on this server, not 101"):
        limits.applied(DecisionContext(simulations=101), defaults)


def test_a_graph_s_own_default_is_lowered_and_not_blamed_on_the_client() -> None:
    limits, defaults = Limits(100, None, None, None), DecisionContext(simulations=500)
    assert limits.applied(read_context({}, defaults), defaults).simulations == 100
    with pytest.raises(SettingsError, match="at most 100 on this server, not 101"):
        limits.applied(read_context(DecisionContext(simulations=101), defaults), defaults)


def test_the_default_deadline_is_no_longer_than_the_longest() -> None:
    assert Settings(max_deadline_ms=10.0).limits.default_deadline_ms == 10.0


def test_defaults_above_a_limit_are_refused_by_servers_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ESCALADE_DEFAULTS", '{"simulations": 200000}')
    assert read_settings().defaults.simulations == 200_000  # commands have no limits
    with pytest.raises(SettingsError, match=r"ESCALADE_DEFAULTS.simulations is 200000.*ESCALADE_MAX_SIMULATIONS"):
        _ = read_settings().limits
    monkeypatch.setenv("ESCALADE_MAX_SIMULATIONS", "200000")
    assert read_settings().limits.simulations == 200_000
    monkeypatch.setenv("PROMETHEUS_MULTIPROC_DIR", "/nowhere/at/all")
    with pytest.raises(SettingsError, match="PROMETHEUS_MULTIPROC_DIR: '/nowhere/at/all' must be a folder"):
        read_settings()
