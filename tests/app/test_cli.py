"""The command line, as a person runs it; most of it in this process, which spares the imports of another."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from in_process import escalade as run

from escalade import Decision, __version__
from escalade.app import cli
from escalade.app.result_file import ResultFile
from escalade.domains.errors import SettingsError
from escalade.neural.bundle import Bundle

CommandLine = Callable[..., tuple[int, str]]
PROGRAM = str(Path(sys.executable).with_name("escalade"))


def program(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """The installed program in a process of its own."""
    return subprocess.run(
        [PROGRAM, *arguments],
        input="",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        cwd=cwd,
        env={**os.environ, "COLUMNS": "200"},
    )


def test_version() -> None:
    assert program("--version").stdout == f"escalade {__version__}\n"


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (FileNotFoundError(2, "No such file or directory", "a/b"), "error: 'a/b': No such file or directory\n"),
        (OSError(28, "No space left on device"), "error: No space left on device\n"),
        (OSError("a message alone"), "error: a message alone\n"),
        (
            sqlite3.DatabaseError("file is not a database"),
            "error: a SQLite file (a run's graph.sqlite, or the registry) cannot be used: file is not a database\n",
        ),
    ],
)
def test_what_the_system_refuses_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception, told: str
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr(cli, "app", fail)
    with pytest.raises(SystemExit) as done:
        cli.main()
    assert (done.value.code, capsys.readouterr().err) == (1, told)


def test_decide_prints_the_decision_and_every_rung() -> None:
    done = program("decide", "connect_four", "4455", "--simulations", "50", "--alpha", "0.0001")
    assert done.returncode == 0
    for word in ("policy", "no_certificate", "no_llm", "search", "accepted", "ms"):
        assert word in done.stdout


def test_decide_json_is_a_decision_and_repeats_by_seed() -> None:
    first, second = (
        run("decide", "tic_tac_toe", "51", "--mode", "search_only", "--simulations", "80", "--seed", "4", "--json")
        for _ in range(2)
    )
    decisions = [Decision.model_validate_json(done.stdout) for done in (first, second)]
    assert decisions[0].policy == decisions[1].policy
    assert decisions[0].source == "search"


def test_decide_with_a_bundle_and_a_threshold(tic_tac_toe_bundle: Bundle) -> None:
    path = str(tic_tac_toe_bundle.path)
    done = run("decide", "tic_tac_toe", "51", "--bundle", path, "--threshold", "policy=0", "--json")
    decision = Decision.model_validate_json(done.stdout)
    assert decision.source == "policy"
    assert not decision.certified
    foreign = run("decide", "connect_four", "4455", "--bundle", path)
    assert foreign.returncode == 2
    assert "tic_tac_toe" in foreign.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["decide", "connect_four", "44444444"], "column 4 is full"),
        (["decide", "connect_four", "9"], "move 1"),
        (["decide", "chess", ""], "no domain named 'chess'"),
        (["decide", "no_such_module:Thing", ""], "cannot be imported"),
        (["decide", "connect_four", "4", "--mode", "fast"], "mode"),
        (["decide", "connect_four", "4", "--ladder", "policy,luck"], "ladder"),
        (["decide", "connect_four", "4", "--simulations", "0"], "simulations"),
        (["decide", "connect_four", "4", "--deadline-ms", "nan"], "deadline_ms"),
        (["decide", "connect_four", "4", "--threshold", "policy"], "RUNG=P"),
        (["decide", "connect_four", "4", "--bundle", "/no/such/bundle"], "/no/such/bundle"),
        (["decide", "connect_four"], "STATE"),
        (["decide", "connect_four", "--input", "x"], "--output"),
        (["decide", "connect_four", "--input", "/no/such/file", "--output", "y"], "/no/such/file"),
        (["decide", "intents", "hello"], "labels=FILE"),
        (["decide", "intents", "hello", "-o", "labels=/no/such.csv"], "/no/such.csv"),
        (["solve", "intents", "hello", "-o", 'labels=["a", "b"]'], "no exact solver"),
        (["play", "intents"], "labels"),
        (["decide", "connect_four", "4", "--wrong"], "--wrong"),
        (["decide", "connect_four", "4", "--ladder", "human"], "person"),
        (["serve", "--host", "192.0.2.1", "--port", "8123"], "cannot be listened on"),
    ],
)
def test_wrong_use_is_one_sentence_and_code_2(command_line: CommandLine, arguments: list[str], said: str) -> None:
    code, told = command_line(*arguments)
    assert code == 2
    assert said in told
    assert "Traceback" not in told


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("ESCALADE_ROLLOUTS", "many", "ESCALADE_ROLLOUTS"),
        ("ESCALADE_LLM_MODEL", "gpt", "OPENAI_API_KEY"),
        ("ESCALADE_BUNDLES", "x", "ESCALADE_BUNDLES"),
        ("ESCALADE_NOPE", "1", "ESCALADE_NOPE"),
    ],
)
def test_wrong_settings_are_named(command_line: CommandLine, name: str, value: str, said: str) -> None:
    code, told = command_line("decide", "connect_four", "4", **{name: value})
    assert code == 2
    assert said in told
    assert "Traceback" not in told


def test_wrong_use_ends_the_program_as_it_ends_here() -> None:
    done = program("decide", "connect_four", "44444444")
    assert (done.returncode, done.stdout) == (2, "")
    assert "column 4 is full" in done.stderr
    assert "Traceback" not in done.stderr


def test_intents_with_nothing_configured_says_what_to_configure(tmp_path: Path) -> None:
    labels = tmp_path / "labels.csv"
    labels.write_text("label\ncard\nloan\n")
    done = run("decide", "intents", "where is my card?", "-o", f"labels={labels}")
    assert done.returncode == 1
    for word in ("no_model", "no_llm", "no_simulator", "ESCALADE_LLM_MODEL", "OPENAI_API_KEY", "--bundle"):
        assert word in done.stderr


def test_a_users_own_domain_by_module_and_class(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text(
        "from escalade.domains.tic_tac_toe import TicTacToe\nclass Mine(TicTacToe):\n    name = 'mine'\n"
    )
    done = run("decide", "mine:Mine", "51", "--json", "--simulations", "20", cwd=tmp_path)
    assert json.loads(done.stdout)["domain"] == "mine"
    checked = run("domains", "check", "mine:Mine", cwd=tmp_path)
    assert checked.returncode == 0, checked.stdout
    (tmp_path / "broken.py").write_text(
        "from escalade.domains.tic_tac_toe import TicTacToe\n"
        "class Broken(TicTacToe):\n    name = 'broken'\n    def format(self, state): return ''\n"
    )
    assert run("domains", "check", "broken:Broken", cwd=tmp_path).returncode == 1


def test_domains_lists_what_is_installed() -> None:
    listed = run("domains").stdout
    assert all(name in listed for name in ("connect_four", "tic_tac_toe", "intents"))


def test_a_file_is_decided_in_order_and_a_refused_line_goes_on(tmp_path: Path) -> None:
    source, target = tmp_path / "states.txt", tmp_path / "out.jsonl"
    source.write_text("5\nx\n51\n\n5555\n519\n")
    done = run("decide", "tic_tac_toe", "--input", str(source), "--output", str(target), "--simulations", "20")
    assert done.returncode == 1
    lines = [json.loads(line) for line in target.read_text().splitlines()]
    assert [line["state"] for line in lines] == ["5", "x", "51", "", "5555", "519"]
    assert [set(line) == {"state", "error"} for line in lines] == [False, True, False, False, True, False]
    assert "refused 2" in done.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"states.txt", "out.jsonl"}
    source.write_text("5\n51\n")
    assert run("decide", "tic_tac_toe", "--input", str(source), "--output", str(target)).returncode == 0


def test_a_killed_batch_takes_up_where_it_was(tmp_path: Path) -> None:
    source, target = tmp_path / "states.txt", tmp_path / "out.jsonl"
    states = [f"{a}{b}" for a in "123456789" for b in "123456789" if a != b] * 20
    source.write_text("\n".join(states) + "\n")
    arguments = ["decide", "tic_tac_toe", "--input", str(source), "--output", str(target), "--simulations", "100"]
    process = subprocess.Popen([PROGRAM, *arguments], stderr=subprocess.DEVNULL)
    partial: list[Path] = []
    while process.poll() is None and not (partial and partial[0].stat().st_size > 20_000):
        time.sleep(0.02)
        partial = list(tmp_path.glob(".out.jsonl.*.partial"))
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not target.exists(), "it was done before it could be killed"
    number, _, kept = partial[0].read_bytes().split(b"\n")[0].partition(b" ")
    done = run(*arguments)
    assert "taking up after" in done.stderr
    lines = target.read_bytes().splitlines()
    assert lines[int(number)] == kept
    assert [json.loads(line)["state"] for line in lines] == states
    assert not list(tmp_path.glob(".*partial"))


def test_solve_gives_the_exact_scores() -> None:
    done = run("solve", "connect_four", "11157411523147666", "--json")
    assert json.loads(done.stdout) == {"scores": [None, -9, -10, 1, -9, -9, -9], "value": 1}
    assert "illegal" in run("solve", "tic_tac_toe", "51").stdout


def test_a_game_can_be_played_to_its_end() -> None:
    done = run("play", "tic_tac_toe", "--second", "--simulations", "400", stdin="9\nx\n" + "\n".join("123456789") * 9)
    assert done.returncode == 0
    assert "your move" in done.stdout
    assert "is not an action" in done.stdout
    assert "You lose." in done.stdout or "A draw." in done.stdout
    stopped: Any = run("play", "tic_tac_toe", stdin="q\n")
    assert stopped.returncode == 0


BUGS = """
from escalade.domains.tic_tac_toe import TicTacToe
class Parse(TicTacToe):
    name = "parse"
    def parse(self, source): return 1 // 0
class Terminal(TicTacToe):
    name = "terminal"
    def is_terminal(self, state): raise RuntimeError("boom")
class Step(TicTacToe):
    name = "step"
    def to_rows(self, states): raise RuntimeError("boom")
class Encode(TicTacToe):
    name = "encode"
    def encode(self, states): raise RuntimeError("boom")
"""


@pytest.mark.parametrize("name", ["Parse", "Terminal", "Step", "Encode"])
def test_a_domain_with_a_bug_gets_one_sentence_that_says_which(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: CommandLine, name: str
) -> None:
    (tmp_path / "bugs.py").write_text(BUGS)
    monkeypatch.chdir(tmp_path)
    code, told = command_line("decide", f"bugs:{name}", "51")
    assert code == 1
    assert "Traceback" not in told
    assert len(told.strip().splitlines()) == 1
    assert "boom" in told or "ZeroDivisionError" in told


def test_debugging_shows_where_a_bug_is(tmp_path: Path) -> None:
    (tmp_path / "bugs.py").write_text(BUGS)
    assert "Traceback" in program("--debug", "decide", "bugs:Encode", "51", cwd=tmp_path).stderr


def test_results_go_where_they_can_be_put(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_line: CommandLine
) -> None:
    source, target = tmp_path / "in.txt", tmp_path / "out.jsonl"
    source.write_text("5\r\n51\n")
    monkeypatch.chdir(tmp_path)
    arguments = ["decide", "tic_tac_toe", "--simulations", "5", "--input", str(source), "--output"]
    for wrong in (str(source), str(tmp_path), "", "/dev/null", str(tmp_path / "no" / "x.jsonl")):
        code, told = command_line(*arguments, wrong)
        assert code == 2, wrong
        assert "--output" in told
    assert source.read_text() == "5\n51\n"
    link = tmp_path / "link.jsonl"
    link.symlink_to(target)
    assert run(*arguments, str(link)).returncode == 0
    assert link.is_symlink()
    assert len(target.read_text().splitlines()) == 2


def test_unfinished_results_belong_to_their_work_alone(tmp_path: Path) -> None:
    first = ResultFile(tmp_path / "out", ["work"])
    first.write(2, {"line": 2})
    first.write(0, {"line": 0})
    with pytest.raises(SettingsError, match="another process"):
        ResultFile(tmp_path / "out", ["work"])
    other = ResultFile(tmp_path / "out", ["other work"])
    assert len(other) == 0
    other.close()
    first.close()
    with first.partial.open("ab") as file:
        file.write(b"garbage\n1 {}\n")
    again = ResultFile(tmp_path / "out", ["work"])
    assert list(again.lines()) == [(0, {"line": 0}), (2, {"line": 2})]
    assert 1 not in again
    again.write(1, {"line": 1})
    again.finish()
    assert (tmp_path / "out").read_text() == '{"line": 0}\n{"line": 1}\n{"line": 2}\n'
    assert not again.partial.exists()


@pytest.mark.parametrize("cut", [1, 5, 9, 12])
def test_a_line_that_was_cut_off_is_done_again(tmp_path: Path, cut: int) -> None:
    first = ResultFile(tmp_path / "out", ["work"])
    first.write(5, {"line": 5})
    first.write(3, {"line": 3})
    first.close()
    whole = first.partial.read_bytes()
    first.partial.write_bytes(whole[:-cut])
    again = ResultFile(tmp_path / "out", ["work"])
    assert (5 in again, 3 in again) == (True, False)
    again.write(3, {"line": 3})
    again.finish()
    assert (tmp_path / "out").read_text() == '{"line": 3}\n{"line": 5}\n'


def test_settings_that_ask_what_cannot_be(command_line: CommandLine) -> None:
    code, told = command_line("decide", "tic_tac_toe", "5", ESCALADE_DEFAULTS='{"ladder": ["human"]}')
    assert code == 1
    assert "asks a person" in told


def test_ctrl_c_ends_a_long_solve() -> None:
    # Without its book of openings the solver takes half a minute for the empty board.
    code = """
import pathlib, sys
from escalade.search import opening_book
opening_book.BOOK = pathlib.Path("there is none")
from escalade.app.cli import main
sys.argv = ["escalade", "solve", "connect_four", ""]
main()
"""
    with subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) as process:
        time.sleep(8)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
    assert process.returncode != 0


def test_the_champion_that_came_along_decides_unless_told_otherwise() -> None:
    asked = ["decide", "connect_four", "4455", "--threshold", "policy=0", "--json"]
    for bundle, source in ((None, "policy"), ("builtin:connect_four", "policy"), ("none", "search")):
        done = run(*asked, *([] if bundle is None else ["--bundle", bundle]))
        assert json.loads(done.stdout)["source"] == source


# A person in the terminal

UNSURE = ("--ladder", "search,human", "--threshold", "search=1", "--simulations", "5")


def test_a_person_decides_in_the_terminal_and_it_is_kept_to_learn_from(tmp_path: Path) -> None:
    told = run(
        "decide",
        "tic_tac_toe",
        "51",
        "--human",
        *UNSURE,
        "--json",
        stdin='x\n5\n\n{"type": "edit", "args": {"action_name": 9}}\n',
        ESCALADE_EXPERIENCE=str(tmp_path),
    )
    assert told.returncode == 0, told.stderr
    decision = json.loads(told.stdout)
    assert (decision["source"], decision["action_name"]) == ("human", "9")
    assert "'5' is not a legal action here: name one of 2, 3" in told.stderr
    assert "under_threshold" in told.stderr
    asked = run(
        "data",
        "query",
        "tic_tac_toe",
        "SELECT source, action FROM experience",
        "--store",
        str(tmp_path / "tic_tac_toe"),
        "--json",
    )
    assert [line["source"] for line in json.loads(asked.stdout)] == ["human"]


def test_where_nobody_answers_there_is_no_decision() -> None:
    told = run("decide", "tic_tac_toe", "51", "--human", *UNSURE)
    assert told.returncode == 1
    assert "the run asks a person, and nobody answered" in told.stderr


def test_a_person_is_asked_only_about_one_state_and_only_with_leave(tmp_path: Path) -> None:
    (tmp_path / "in").write_text("51\n")
    many = run("decide", "tic_tac_toe", "--input", "in", "--output", "out", "--human", cwd=tmp_path)
    assert "--human decides one STATE" in many.stderr
    assert "--human" in run("decide", "tic_tac_toe", "51", "--ladder", "human").stderr


def test_who_is_sure_asks_nobody() -> None:
    told = run("decide", "tic_tac_toe", "51", "--human", "--ladder", "search,human", "--json")
    assert json.loads(told.stdout)["source"] == "search"
