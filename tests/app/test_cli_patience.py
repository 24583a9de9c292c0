"""Files decided while the language model's endpoint limits calls, is down for a while, or does not come back."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from in_process import escalade

from tests.endpoints import Reply as PageReply
from tests.endpoints import served as endpoint
from tests.loopback_llm import Call, Loopback, Reply, loopback


def slow(*values: Any) -> Any:
    """A case like the others, for `make test-all`: each is some processes that wait."""
    return pytest.param(*values, marks=pytest.mark.slow)


pytestmark = pytest.mark.endpoint_row(15, 16)

LABELS = ["card lost", "loan", "refund"]
PROGRAM = str(Path(sys.executable).with_name("escalade"))


@pytest.fixture
def texts(tmp_path: Path) -> Path:
    (tmp_path / "labels.csv").write_text("label\n" + "\n".join(LABELS) + "\n")
    return tmp_path


def environment(url: str, **settings: str) -> dict[str, str]:
    own = {name: value for name, value in os.environ.items() if not name.startswith(("ESCALADE_", "OPENAI_"))}
    given = {"ESCALADE_LLM_MODEL": "m", "OPENAI_BASE_URL": url, "ESCALADE_LLM_BATCH_MS": "0", **settings}
    prices = {"ESCALADE_LLM_INPUT_USD_PER_MTOK": "1", "ESCALADE_LLM_OUTPUT_USD_PER_MTOK": "10"}
    return own | prices | given


def arguments(folder: Path, *more: str) -> list[str]:
    files = ["--input", str(folder / "in.txt"), "--output", str(folder / "out.jsonl")]
    return [PROGRAM, "decide", "intents", "-o", f"labels={folder / 'labels.csv'}", *files, *more]


def run(folder: Path, url: str, *more: str, **settings: str) -> subprocess.CompletedProcess[str]:
    return escalade(*arguments(folder, *more)[1:], **environment(url, **settings))


def lines_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]


class Limiter:
    """Takes so many calls in each second; the others get 429 and are asked to come back after one."""

    def __init__(self, a_second: int, *, dated: bool = False) -> None:
        self.a_second, self.dated, self.taken = a_second, dated, dict[int, int]()
        self.lock = threading.Lock()

    def __call__(self, call: Call) -> Reply:
        with self.lock:
            second = int(call.seconds)
            self.taken[second] = self.taken.get(second, 0) + 1
            if self.taken[second] <= self.a_second:
                return Reply()
        after = formatdate(time.time() + 1, usegmt=True) if self.dated else "1"
        return Reply(429, headers={"retry-after": after})


@pytest.mark.parametrize(("dated", "batch_ms"), [(False, "0"), slow(True, "0"), slow(False, "2")])
def test_a_rate_limit_is_waited_for(texts: Path, dated: bool, batch_ms: str) -> None:
    (texts / "in.txt").write_text("".join(f"text {number}\n" for number in range(20)))
    with loopback(Limiter(5, dated=dated)) as served:
        done = run(texts, served.url, ESCALADE_LLM_BATCH_MS=batch_ms, ESCALADE_LLM_BATCH_MOST="2")
    assert done.returncode == 0, done.stderr
    lines = lines_of(texts)
    assert [line["state"] for line in lines] == [f"text {number}" for number in range(20)]
    assert {line["source"] for line in lines} == {"reason"}
    assert 429 in served.statuses


@pytest.mark.parametrize("status", [503, slow(500), slow(429)])
def test_an_outage_that_passes_costs_no_line_and_no_fallback(texts: Path, status: int) -> None:
    states = [f"{a}{b}" for a in "123456789" for b in "123456789" if a != b][:60]
    (texts / "in.txt").write_text("\n".join(states) + "\n")
    down: list[float] = []

    def script(call: Call) -> Reply:
        if call.number >= 30 and not down:
            down.append(call.seconds)
        return Reply(status) if down and call.seconds < down[0] + 2 else Reply()

    with loopback(script) as served:
        files = ["--input", str(texts / "in.txt"), "--output", str(texts / "out.jsonl")]
        options = ["--ladder", "reason,search", "--simulations", "10"]
        done = escalade("decide", "tic_tac_toe", *files, *options, **environment(served.url))
    assert done.returncode == 0, done.stderr
    assert [(line["state"], line["source"]) for line in lines_of(texts)] == [(state, "reason") for state in states]
    assert status in served.statuses
    assert served.answered == len(states)


@pytest.fixture
def port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


def test_an_endpoint_that_is_not_there_yet_is_waited_for(texts: Path, port: int) -> None:
    (texts / "in.txt").write_text("".join(f"text {number}\n" for number in range(10)))
    process = subprocess.Popen(
        arguments(texts), env=environment(f"http://127.0.0.1:{port}/v1"), stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    told = iter(process.stderr.readline, "")
    assert any("waiting for the endpoint (unreachable)" in line for line in told)
    with loopback(port=port):
        assert process.wait(timeout=60) == 0
    process.stderr.close()
    assert {line["source"] for line in lines_of(texts)} == {"reason"}


def test_when_patience_ends_the_rest_is_left_and_a_second_run_decides_only_that(texts: Path, port: int) -> None:
    given = [f"text {number}" for number in range(30)]
    given[3] = " "  # no state at all
    (texts / "in.txt").write_text("\n".join(given) + "\n")
    ledger = texts / "ledger.db"
    with loopback(lambda call: Reply() if call.number < 12 else Reply(503), port=port) as first:
        began = time.monotonic()
        done = run(texts, first.url, "--patience", "1.5", ESCALADE_LEDGER=str(ledger))
        assert time.monotonic() - began < 60
    assert done.returncode == 75
    assert "Traceback" not in done.stderr
    assert "17 of 30 lines are left" in done.stderr
    assert not (texts / "out.jsonl").exists()
    with loopback(port=port) as second:
        # What concerns the endpoint alone may have been changed meanwhile, as the message suggests.
        done = run(texts, second.url, "--patience", "1.5", ESCALADE_LEDGER=str(ledger), ESCALADE_LLM_AT_ONCE="3")
    assert done.returncode == 1  # one line is no state
    assert (first.answered, second.answered) == (12, 17)
    assert "taking up after 13 lines" in done.stderr
    lines = lines_of(texts)
    assert [line["state"].strip() for line in lines] == [text.strip() for text in given]
    assert ["error" in line for line in lines] == [text == " " for text in given]
    assert [path.name for path in texts.glob(".*")] == []


def test_without_patience_what_failed_is_left_too(texts: Path, port: int) -> None:
    (texts / "in.txt").write_text("".join(f"text {number}\n" for number in range(8)))
    done = run(texts, f"http://127.0.0.1:{port}/v1", "--patience", "0")
    assert done.returncode == 75
    assert "8 of 8 lines are left" in done.stderr
    with loopback(port=port) as served:
        assert run(texts, served.url, "--patience", "0").returncode == 0
    assert served.answered == 8


def test_a_page_where_answers_should_be_leaves_the_lines_and_names_the_setting(texts: Path) -> None:
    (texts / "in.txt").write_text("".join(f"text {number}\n" for number in range(5)))
    page = b"<html><h1>Welcome to nginx</h1></html>"
    with endpoint(lambda _: PageReply(page, kind="text/html")) as scripted:
        done = run(texts, scripted.url, "--patience", "1")
    assert done.returncode == 75
    assert "5 of 5 lines are left" in done.stderr
    assert "look at OPENAI_BASE_URL" in done.stderr
    assert not (texts / "out.jsonl").exists()


@pytest.mark.parametrize("status", [401, slow(404)])
def test_a_wrong_setting_is_not_waited_for_and_not_kept(texts: Path, status: int) -> None:
    (texts / "in.txt").write_text("".join(f"text {number}\n" for number in range(40)))
    with loopback(lambda _: Reply(status)) as served:
        began = time.monotonic()
        done = run(texts, served.url)
        assert time.monotonic() - began < 60
    assert done.returncode == 75
    assert "40 of 40 lines are left" in done.stderr


def test_one_line_that_breaks_the_endpoint_is_refused_alone(texts: Path) -> None:
    (texts / "in.txt").write_text("".join(f"text {number}\n" for number in range(600)).replace("text 7\n", "poison\n"))

    def script(call: Call) -> Reply:
        return Reply(500) if "poison" in json.dumps(call.body) else Reply(after_s=0.01)

    with loopback(script) as served:
        done = run(texts, served.url, "--patience", "5")
    assert done.returncode in (1, 75), done.stderr
    if done.returncode == 1:
        assert [line["state"] for line in lines_of(texts) if "error" in line] == ["poison"]
    else:  # the others were done before it had failed often enough
        assert "1 of 600 lines are left" in done.stderr
    assert served.answered == 599


def test_what_an_undecided_line_has_cost_stands_in_it(texts: Path) -> None:
    (texts / "in.txt").write_text("fine\nodd\n")

    def script(call: Call) -> Reply:
        return Reply(content='{"action": "no such label"}' if "odd" in json.dumps(call.body) else None)

    with loopback(script) as served:
        assert run(texts, served.url).returncode == 1
    fine, odd = lines_of(texts)
    a_call = (100 * 1 + 10 * 10) / 1e6
    assert fine["cost_usd"] == pytest.approx(a_call)
    assert odd["cost_usd"] == pytest.approx((served.answered - 1) * a_call)
    assert odd["decision_id"]


def answered_after(served: Loopback, count: int) -> None:
    until = time.monotonic() + 60
    while served.answered < count:
        assert time.monotonic() < until
        time.sleep(0.01)


def test_a_killed_run_pays_for_little_twice(texts: Path, port: int) -> None:
    (texts / "in.txt").write_text("".join(f"text {number}\n" for number in range(200)))
    with loopback(lambda _: Reply(after_s=0.02), port=port) as first:
        process = subprocess.Popen(arguments(texts), env=environment(first.url), stderr=subprocess.DEVNULL)
        answered_after(first, 60)
        process.send_signal(signal.SIGKILL)
        process.wait()
    with loopback(port=port) as second:
        assert run(texts, second.url).returncode == 0
    assert len(lines_of(texts)) == 200
    assert first.answered + second.answered <= 200 + 2 * 16


def test_a_single_decision_does_not_wait(texts: Path) -> None:
    with loopback(lambda _: Reply(429, headers={"retry-after": "3000"})) as served:
        began = time.monotonic()
        rungs = ["--ladder", "reason,search", "--json"]
        done = escalade("decide", "tic_tac_toe", "51", *rungs, **environment(served.url))
        assert time.monotonic() - began < 120
        assert json.loads(done.stdout)["source"] == "search"
        refused = run(texts, served.url, "--patience", "-1")
    assert refused.returncode == 2


def test_labelling_by_a_language_model_waits_too_and_goes_on_where_it_stopped(texts: Path, port: int) -> None:
    (texts / "in.txt").write_text("".join(f"text {number}\n" for number in range(40)))
    files = ["-o", f"labels={texts / 'labels.csv'}", "--input", str(texts / "in.txt"), "--store", str(texts / "store")]
    command = ["data", "label", "intents", "--teacher", "llm", *files, "--json", "--patience"]

    def labelled(url: str, seconds: str) -> subprocess.CompletedProcess[str]:
        return escalade(*command, seconds, **environment(url))

    with loopback(lambda call: Reply() if call.number < 16 else Reply(503), port=port) as first:
        stopped = labelled(first.url, "1.5")
    assert stopped.returncode == 75, stopped.stderr
    assert "stopped after 16 of 40 positions" in stopped.stderr
    assert "Traceback" not in stopped.stderr
    with loopback(lambda call: Reply() if call.seconds > 6 else Reply(503), port=port) as second:
        done = labelled(second.url, "60")
    assert done.returncode == 0, done.stderr
    summary = json.loads(done.stdout)
    assert (summary["rows"], summary["labelled_before"], summary["llm_failed"]) == (24, 16, {})
    assert (first.answered, second.answered) == (16, 24)


def test_patience_is_refused_where_nothing_waits(texts: Path) -> None:
    for arguments_ in (
        ["decide", "tic_tac_toe", "51", "--patience", "5"],
        ["data", "label", "tic_tac_toe", "--teacher", "solver", "--count", "1", "--patience", "5"],
    ):
        done = escalade(*arguments_)
        assert done.returncode == 2
        assert "--patience is for" in done.stderr
