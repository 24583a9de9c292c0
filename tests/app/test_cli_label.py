"""`escalade data label`: positions labelled by each teacher, as a person runs it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytest_httpserver import HTTPServer
from typer.testing import CliRunner
from werkzeug import Request, Response

from escalade import DecisionContext, load_domain
from escalade.app.cli import app
from escalade.domains.errors import EscaladeError, SettingsError
from escalade.graph.decision import build_decision_graph
from escalade.neural.bundle import Bundle
from escalade.search.solvers import exact_solver, optimal_actions
from escalade.training.rows import Rows
from escalade.training.store import ExperienceStore

TTT = load_domain("tic_tac_toe")
PROGRAM = str(Path(sys.executable).with_name("escalade"))


def label(folder: Path, *arguments: str, domain: str = "tic_tac_toe", **environment: str) -> Any:
    command = ["data", "label", domain, "--store", str(folder), *arguments]
    return CliRunner().invoke(app, command, env={"COLUMNS": "200", **environment})


def rows_in(folder: Path, domain: Any = TTT) -> Rows:
    rows = ExperienceStore(folder, domain).recent(10_000)
    assert rows is not None
    return rows


def ranked_last_first(request: Request) -> Response:
    """The allowed actions in reverse; no usable answer about the empty board."""
    body = json.loads(request.data)
    allowed = body["response_format"]["json_schema"]["schema"]["properties"]["ranking"]["items"]["enum"]
    ranking = ["none"] if len(allowed) == 9 else allowed[::-1]
    call = {"name": "rank_actions", "arguments": json.dumps({"ranking": ranking})}
    message = {"role": "assistant", "tool_calls": [{"id": "1", "type": "function", "function": call}]}
    usage = {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010}
    choices = [{"index": 0, "finish_reason": "stop", "message": message}]
    answer = {"id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": choices, "usage": usage}
    return Response(json.dumps(answer), content_type="application/json")


@pytest.fixture
def endpoint(httpserver: HTTPServer) -> dict[str, str]:
    httpserver.expect_request("/v1/chat/completions").respond_with_handler(ranked_last_first)
    return {"ESCALADE_LLM_MODEL": "scripted", "OPENAI_BASE_URL": httpserver.url_for("/v1")}


def test_the_solver_labels_casual_positions_exactly(tmp_path: Path) -> None:
    done = label(tmp_path, "--teacher", "solver", "--count", "150", "--first-ply", "2", "--last-ply", "4")
    assert done.exit_code == 0, done.output
    assert "150 rows to" in done.stdout
    rows, solver = rows_in(tmp_path), exact_solver(TTT)
    assert solver is not None
    assert set(rows.ply.tolist()) == {2, 3, 4}
    assert len(set(rows.game.tolist())) == 150
    for row, text in enumerate(rows.state.tolist()):
        assert np.flatnonzero(rows.policy[row]).tolist() == optimal_actions(solver.scores(TTT.parse(text)))


def test_a_search_labels_the_lines_of_a_file(tmp_path: Path, tic_tac_toe_bundle: Bundle) -> None:
    (tmp_path / "states").write_text("51\n519\n\n")
    options = ("--input", str(tmp_path / "states"), "--simulations", "60", "--teacher", "search", "--json")
    assert json.loads(label(tmp_path / "a", *options).stdout)["rows"] == 3
    rows = rows_in(tmp_path / "a")
    assert rows.state.tolist() == ["51", "519", ""]
    assert set(rows.source.tolist()) == {"search"}
    assert set(rows.model.tolist()) == {"rollouts"}
    assert not np.isnan(rows.value).any()
    label(tmp_path / "b", *options, "--bundle", str(tic_tac_toe_bundle.path))
    assert set(rows_in(tmp_path / "b").model.tolist()) == {tic_tac_toe_bundle.version}


def test_only_those_the_network_is_least_sure_of_are_labelled(tmp_path: Path, tic_tac_toe_bundle: Bundle) -> None:
    texts = [f"{first}{second}" for first in "123456789" for second in "123456789" if first != second]
    (tmp_path / "states").write_text("\n".join([*texts, *texts]))  # production sees the same again and again
    options = ("--teacher", "solver", "--input", str(tmp_path / "states"), "--least-sure", "7", "--json")
    refused = label(tmp_path / "store", *options)
    assert isinstance(refused.exception, SettingsError)
    assert "--least-sure needs --bundle" in str(refused.exception)
    assert isinstance(label(tmp_path / "store", *options, "--bundle", "none").exception, SettingsError)
    options += ("--bundle", str(tic_tac_toe_bundle.path))
    assert json.loads(label(tmp_path / "store", *options).stdout)["rows"] == 7
    rows = rows_in(tmp_path / "store")
    graph, sure = build_decision_graph(TTT, bundle=tic_tac_toe_bundle), {}
    for text in texts:
        decision = graph.invoke({"state": text}, context=DecisionContext(simulations=1))["decision"]
        sure[decision["state"]] = decision["rungs"][0]["confidence"]
    assert rows.state.tolist() == sorted(sure, key=lambda text: sure[text])[:7]
    again = json.loads(label(tmp_path / "store", *options).stdout)
    assert (again["rows"], again["labelled_before"]) == (0, 7)
    more = json.loads(label(tmp_path / "store", *options, "--least-sure", "12").stdout)
    assert (more["rows"], more["labelled_before"]) == (5, 7)
    assert sorted(rows_in(tmp_path / "store").state.tolist()) == sorted(sorted(sure, key=lambda text: sure[text])[:12])
    casual = ("--teacher", "solver", "--count", "200", "--first-ply", "3", "--least-sure", "500", "--json")
    every = json.loads(label(tmp_path / "b", *casual, *options[-2:]).stdout)["rows"]
    assert 100 < every <= 200
    assert len(set(rows_in(tmp_path / "b").state.tolist())) == every


def test_a_language_model_guides_the_search_and_its_bill_is_shown(tmp_path: Path, endpoint: dict[str, str]) -> None:
    (tmp_path / "states").write_text("5\n51\n\n")
    options = ("--input", str(tmp_path / "states"), "--simulations", "3", "--teacher", "llm")
    prices = {"ESCALADE_LLM_INPUT_USD_PER_MTOK": "1", "ESCALADE_LLM_OUTPUT_USD_PER_MTOK": "4"}
    said = json.loads(label(tmp_path / "priced", *options, "--json", **endpoint, **prices).stdout)
    assert (said["rows"], said["llm_calls"], said["llm_failed"]) == (3, 3, {"illegal_action": 1})
    assert said["cost_usd"] == pytest.approx(3 * (1000 + 40) / 1e6)
    rows = rows_in(tmp_path / "priced")
    assert rows.source.tolist() == ["llm", "llm", "search"]
    assert rows.model.tolist() == ["scripted", "scripted", "rollouts"]
    assert rows.policy[0].argmax() == 8  # three leaves follow the prior, which has the last action first
    told = label(tmp_path / "unpriced", *options, **endpoint).stdout
    assert re.search(r"3 rows to .*; 3 LLM calls, 1 without a usable answer, unpriced", " ".join(told.split()))


def test_without_a_simulator_the_first_choice_is_the_label(tmp_path: Path, endpoint: dict[str, str]) -> None:
    (tmp_path / "texts").write_text("I lost my card\nI want a loan\n")
    labels = '["card", "loan"]'
    options = ("--input", str(tmp_path / "texts"), "--teacher", "llm", "-o", f"labels={labels}")
    assert label(tmp_path / "store", *options, domain="intents", **endpoint).exit_code == 0
    rows = rows_in(tmp_path / "store", load_domain("intents", {"labels": json.loads(labels)}))
    np.testing.assert_array_equal(rows.policy, [[0, 1], [0, 1]])
    assert np.isnan(rows.value).all()


def test_a_model_that_answers_nothing_ends_the_work(tmp_path: Path, httpserver: HTTPServer) -> None:
    httpserver.expect_request("/v1/chat/completions").respond_with_data("{}", status=401)
    environment = {"ESCALADE_LLM_MODEL": "scripted", "OPENAI_BASE_URL": httpserver.url_for("/v1")}
    done = label(tmp_path, "--teacher", "llm", "--count", "100", **environment)
    assert isinstance(done.exception, EscaladeError)
    said = str(done.exception)
    assert said.startswith("language model 'scripted' answered none of 16 questions (")
    assert "unauthorized" in said
    assert 5 <= len(httpserver.log) <= 16  # after five the breaker opens, and those under way are no more than 16
    assert ExperienceStore(tmp_path, TTT).rows == 0


def test_the_same_command_goes_on_where_it_was(tmp_path: Path) -> None:
    options = ("--teacher", "search", "--simulations", "10", "--json")
    for count, new, before in ((300, 300, 0), (400, 100, 300), (400, 0, 400), (200, 0, 200)):
        said = json.loads(label(tmp_path, *options, "--count", str(count)).stdout)
        assert (said["rows"], said["labelled_before"]) == (new, before)
    assert len(set(rows_in(tmp_path).game.tolist())) == 400
    assert json.loads(label(tmp_path, *options, "--count", "10", "--seed", "1").stdout)["rows"] == 10


def test_ctrl_c_loses_the_batch_under_way_at_most(tmp_path: Path, httpserver: HTTPServer) -> None:
    asked, hang = threading.Event(), threading.Event()

    def answer(request: Request) -> Response:
        if len(httpserver.log) >= 40:
            asked.set()
            hang.wait(30)
        return ranked_last_first(request)

    httpserver.expect_request("/v1/chat/completions").respond_with_handler(answer)
    environment = {"ESCALADE_LLM_MODEL": "scripted", "OPENAI_BASE_URL": httpserver.url_for("/v1")}
    command = [PROGRAM, "data", "label", "tic_tac_toe", "--teacher", "llm", "--count", "100", "--first-ply", "1"]
    with subprocess.Popen(
        [*command, "--store", str(tmp_path), "--simulations", "5"],
        env={**os.environ, **environment}, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        assert asked.wait(60)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        code = process.wait(20)
        assert process.stderr is not None
        told = process.stderr.read()
    hang.set()
    assert code == 130
    assert "stopped after 32 of 100 positions; the same command goes on there" in told
    assert ExperienceStore(tmp_path, TTT).rows == 32


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--teacher", "search"], "give either --input FILE .* or --count N"),
        (["--teacher", "luck", "--count", "1"], "--teacher must be solver, search or llm, not 'luck'"),
        (["--teacher", "llm", "--count", "1"], "--teacher llm: configure a language model"),
        (["--teacher", "search", "--count", "1", "--first-ply", "5", "--last-ply", "4"], "--last-ply 4 is before"),
        (["--teacher", "search", "--input", "/no/such"], "'/no/such' cannot be read"),
    ],
)
def test_wrong_use_is_one_sentence(tmp_path: Path, arguments: list[str], words: str) -> None:
    done = label(tmp_path, *arguments)
    with pytest.raises(SettingsError, match=words):
        raise done.exception


def test_a_ply_that_no_game_reaches_is_said_before_anything_is_done(tmp_path: Path) -> None:
    done = label(tmp_path / "store", "--teacher", "solver", "--count", "5", "--first-ply", "50")
    words = "--first-ply 50: none of 1000 casual games of 'tic_tac_toe' lasts so long"
    with pytest.raises(SettingsError, match=words):
        raise done.exception
    assert not (tmp_path / "store").exists()


def test_a_file_in_place_of_the_store_is_named(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_text("")
    for folder in (file, file / "store"):
        done = label(folder, "--teacher", "solver", "--count", "1")
        with pytest.raises(SettingsError, match=f"--store: there can be no store in '{folder}': '.*' is no folder"):
            raise done.exception


def test_a_bad_line_is_named_before_anything_is_done(tmp_path: Path) -> None:
    (tmp_path / "states").write_text("51\n5x\n")
    done = label(tmp_path / "store", "--teacher", "search", "--input", str(tmp_path / "states"))
    assert "line 2: " in str(done.exception)
    assert not (tmp_path / "store").exists()
