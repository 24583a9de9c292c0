"""What is decided, and what became of it, is found in the experience store: from the server and the command line."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from escalade import load_domain
from escalade.app.cli import app as program
from escalade.app.metrics import Metrics
from escalade.app.server import create_app
from escalade.app.settings import Settings
from escalade.domains.errors import ActionError, EscaladeError, SettingsError
from escalade.training.rows import RowError, Rows
from escalade.training.store import ExperienceStore

TTT = load_domain("tic_tac_toe")


def rows_in(folder: Path) -> Rows:
    rows = ExperienceStore(folder / "tic_tac_toe", TTT).recent(1000)
    assert rows is not None
    return rows


def cli(folder: Path, *command: str) -> Any:
    return CliRunner().invoke(program, command, env={"COLUMNS": "200", "ESCALADE_EXPERIENCE": str(folder)})


@pytest.fixture
def decided(tmp_path: Path) -> str:
    """The id of a decision that the command line made and recorded."""
    done = cli(tmp_path, "decide", "tic_tac_toe", "51", "--mode", "search_only", "--simulations", "20", "--json")
    return str(json.loads(done.stdout)["decision_id"])


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    folder = tmp_path_factory.mktemp("experience")
    settings = Settings(domains=("tic_tac_toe", "connect_four"), experience=folder)
    with TestClient(create_app(settings, Metrics())) as http:
        yield http


def test_a_real_server_leaves_nothing_behind_unwritten(tmp_path: Path) -> None:
    environment = {**os.environ, "ESCALADE_EXPERIENCE": str(tmp_path)}
    command = [str(Path(sys.executable).with_name("escalade")), "serve", "tic_tac_toe", "--port", "0"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        base = server.stderr.readline().split()[-1]
        for number in range(20):
            body = {"state": "51", "decision_id": f"d-{number}", "simulations": 10}
            for _ in range(200):
                try:
                    assert httpx.post(f"{base}/decide", json=body, timeout=30).status_code == 200
                    break
                except httpx.ConnectError:
                    pass
        reported = {"decision_id": "d-3", "value": -1, "action": "9", "by": "ann"}
        answer = httpx.post(f"{base}/outcomes", json=reported, timeout=30)
        assert (answer.status_code, answer.json()) == (202, {"status": "accepted"})
        server.send_signal(signal.SIGTERM)
        server.wait(30)
    rows = rows_in(tmp_path)
    assert rows.decision.tolist() == [f"d-{number}" for number in range(20)]
    assert rows.outcome[3] == -1
    assert rows.source[3] == "human"
    np.testing.assert_array_equal(rows.policy[3], np.eye(9)[8])
    assert np.isnan(rows.outcome[4])


def test_rows_are_counted(tmp_path: Path) -> None:
    metrics = Metrics()
    with TestClient(create_app(Settings(domains=("tic_tac_toe",), experience=tmp_path), metrics)) as http:
        for _ in range(3):
            assert http.post("/decide", json={"state": "5", "simulations": 5}).status_code == 200
        http.post("/outcomes", json={"decision_id": "x", "value": 1})
    text = metrics.exposition().decode()
    assert 'experience_rows_total{domain="tic_tac_toe",fate="written",kind="decisions"} 3.0' in text
    assert 'experience_rows_total{domain="tic_tac_toe",fate="written",kind="outcomes"} 1.0' in text


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"value": 1}, "decision_id"),
        ({"decision_id": "", "value": 1}, "decision_id"),
        ({"decision_id": "x" * 201, "value": 1}, "decision_id"),
        ({"decision_id": "a\nb", "value": 1}, "decision_id"),
        ({"decision_id": "a", "value": 1.01}, "value"),
        ({"decision_id": "a", "value": "much"}, "value"),
        ({"decision_id": "a", "value": True}, "value"),
        ({"decision_id": "a", "action": "10"}, "action"),
        ({"decision_id": "a", "action": "9" * 10_001}, "action"),
        ({"decision_id": "a", "value": 1, "by": "x" * 201}, "by"),
        ({"decision_id": "a", "value": 1, "domain": "chess"}, "domain"),
        ({"decision_id": "a", "value": 1, "wrong": 1}, "wrong"),
        ({"decision_id": "a"}, "body"),
    ],
)
def test_a_bad_report_is_422_with_the_field(client: TestClient, body: dict[str, Any], field: str) -> None:
    answer = client.post("/outcomes", json=body)
    assert answer.status_code == 422
    assert field in answer.json()["detail"][0]["loc"]
    assert len(answer.content) < 2000


def test_numbers_that_json_does_not_have_are_422(client: TestClient) -> None:
    for value in (b"NaN", b"Infinity", b"1e400"):
        body = b'{"decision_id": "a", "value": ' + value + b"}"
        assert client.post("/outcomes", content=body).status_code == 422


def test_where_nothing_is_kept_the_route_says_so() -> None:
    with TestClient(create_app(Settings(domains=("tic_tac_toe",)), Metrics())) as http:
        answer = http.post("/outcomes", json={"decision_id": "a", "value": 1})
        assert answer.status_code == 404
        assert "ESCALADE_EXPERIENCE" in answer.json()["detail"]


def test_the_command_line_records_what_it_decides(tmp_path: Path, decided: str) -> None:
    rows = rows_in(tmp_path)
    assert (rows.decision.tolist(), rows.source.tolist()) == ([decided], ["search"])
    (tmp_path / "states").write_text("5\n51\nno state\n")
    options = ("--input", str(tmp_path / "states"), "--output", str(tmp_path / "out"), "--simulations", "10")
    assert cli(tmp_path, "decide", "tic_tac_toe", *options).exit_code == 1
    assert len(rows_in(tmp_path)) == 3
    stats = json.loads(cli(tmp_path, "data", "stats", "tic_tac_toe", "--json").stdout)
    assert stats["all"][0]["rows"] == 3


def test_an_outcome_is_reported_on_the_command_line(tmp_path: Path, decided: str) -> None:
    done = cli(tmp_path, "data", "outcome", "tic_tac_toe", decided, "--value", "-1", "--action", "9", "--by", "ann")
    assert done.exit_code == 0, done.output
    rows = rows_in(tmp_path)
    assert (rows.outcome[0], rows.source[0], rows.policy[0, 8]) == (-1, "human", 1)
    asked = cli(tmp_path, "data", "query", "tic_tac_toe", "SELECT * FROM outcomes", "--json")
    (line,) = json.loads(asked.stdout)
    assert (line["decision"], line["outcome"], line["action"], line["told_by"]) == (decided, -1, 8, "ann")
    (line,) = json.loads(cli(tmp_path, "data", "query", "tic_tac_toe", "FROM experience", "--json").stdout)
    assert (line["outcome"], line["source"]) == (-1, "human")
    (line,) = json.loads(cli(tmp_path, "data", "stats", "tic_tac_toe", "--json").stdout)["source"]
    assert (line["name"], line["outcomes"], line["mean_outcome"]) == ("human", 1, -1)
    checked = cli(tmp_path, "data", "check", "tic_tac_toe")
    assert "outcomes reported and sound: 1" in checked.stdout
    (path,) = (tmp_path / "tic_tac_toe" / "outcomes").iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    checked = cli(tmp_path, "data", "check", "tic_tac_toe", "--json")
    assert checked.exit_code == 1
    assert json.loads(checked.stdout)["set_aside"][0]["name"] == path.name


@pytest.mark.parametrize(
    ("arguments", "kind", "words"),
    [
        (["unknown", "--value", "1"], SettingsError, "DECISION_ID: there is no decision 'unknown' in"),
        (["ID"], RowError, "value or action must be given"),
        (["ID", "--action", "5"], SettingsError, "--action: '5' was not legal in the state decided, '51'"),
        (["ID", "--action", "10"], ActionError, "'10'"),
    ],
)
def test_what_cannot_be_an_outcome_is_refused(
    tmp_path: Path, decided: str, arguments: list[str], kind: type[EscaladeError], words: str
) -> None:
    given = [argument.replace("ID", decided) for argument in arguments]
    done = cli(tmp_path, "data", "outcome", "tic_tac_toe", *given)
    assert isinstance(done.exception, kind)
    assert re.search(words, str(done.exception))
    assert ExperienceStore(tmp_path / "tic_tac_toe", TTT).outcomes.table().num_rows == 0


def test_a_folder_for_experience_that_cannot_be_is_named(tmp_path: Path) -> None:
    (tmp_path / "tic_tac_toe").write_text("")
    done = cli(tmp_path, "decide", "tic_tac_toe", "51")
    assert isinstance(done.exception, SettingsError)
    assert "experience: there can be no store" in str(done.exception)
