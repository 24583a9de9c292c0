"""`escalade train` and what it leaves."""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import in_process
import pytest
from rich.console import Console
from training_runs import tiny

from escalade.app.train_view import TrainView, clock_time
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.neural.bundle import read_bundle

ESCALADE = str(Path(sys.executable).with_name("escalade"))


def escalade(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return in_process.escalade(*arguments, cwd=folder)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Where a run of one iteration was made, and what was said."""
    folder = tmp_path_factory.mktemp("trained")
    (folder / "tiny.json").write_text(json.dumps(tiny()))
    done = escalade(folder, "train", "tic_tac_toe", "--recipe", "tiny.json", "--iterations", "1", "--run", "mine")
    assert done.returncode == 0, done.stderr
    return folder, done.stdout + done.stderr


def test_a_run_says_what_it_did_and_where_it_lies(trained: tuple[Path, str]) -> None:
    folder, said = trained
    assert "iteration 1, " in said
    assert "optimal alone" in said
    assert "champion: iteration 1: optimal moves alone" in said
    assert "no certificate: the recipe asks for none" in said
    run = folder / "out" / "train" / "mine"
    assert str(Path("out") / "train" / "mine" / "champion") in said
    assert read_bundle(run / "champion", TicTacToe()).network.num_actions == 9
    for name in ("losses.png", "strength.png"):
        assert (run / name).read_bytes().startswith(b"\x89PNG")
    assert json.loads((run / "metrics.jsonl").read_text().splitlines()[0])["kind"] == "fit"


def test_its_champion_decides(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    bundle = "out/train/mine/champion"
    arguments = ["decide", "tic_tac_toe", "51", "--bundle", bundle, "--threshold", "policy=0", "--json"]
    done = escalade(folder, *arguments)
    assert json.loads(done.stdout)["source"] == "policy"


def test_it_goes_on_with_a_larger_budget_and_prints_json(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    done = escalade(folder, "train", "tic_tac_toe", "--resume", "mine", "--iterations", "2", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [line["iteration"] for line in result["history"]] == [1, 2]
    assert result["run"] == "mine"


def test_a_champion_is_exported_with_its_card(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    done = escalade(folder, "models", "export", "out/train/mine", "shipped", "--simulations", "0,8")
    assert done.returncode == 0, done.stderr
    bundle = read_bundle(folder / "shipped", TicTacToe())
    card = (folder / "shipped.md").read_text()
    assert bundle.hash in card
    assert "escalade train tic_tac_toe --recipe tiny.json --iterations 1" in card
    assert f"{bundle.metrics['optimal_0']:.1%}" in card
    assert "n=4520" in card
    assert {"optimal_0", "optimal_8", "value_error"} <= bundle.metrics.keys()
    again = escalade(folder, "models", "export", "out/train/mine", "shipped")
    assert again.returncode == 2
    assert "exists already" in again.stderr


def test_a_card_tells_of_a_budget_that_is_not_the_recipes(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    assert escalade(folder, "train", "tic_tac_toe", "--resume", "mine", "--iterations", "3").returncode == 0
    assert escalade(folder, "models", "export", "out/train/mine", "longer", "--simulations", "0").returncode == 0
    card = (folder / "longer.md").read_text()
    assert "Its budget was set to 3 iterations, not the recipe's." in card
    assert "It began with random weights and no experience but its own." in card


def test_a_run_begins_with_a_bundle_and_its_card_says_so(trained: tuple[Path, str]) -> None:
    folder, _ = trained
    begun = ("--start", "shipped", "--recipe", "tiny.json", "--iterations", "1", "--run", "next")
    done = escalade(folder, "train", "tic_tac_toe", *begun)
    assert done.returncode == 0, done.stderr
    assert "iteration 0" in done.stderr
    again = escalade(folder, "train", "tic_tac_toe", "--resume", "next", "--start", "shipped", "--iterations", "2")
    assert "--start: 'next' has its own already" in again.stderr
    assert escalade(folder, "models", "export", "out/train/next", "after", "--simulations", "0").returncode == 0
    card = (folder / "after.md").read_text()
    assert f"It began with the weights of bundle `{read_bundle(folder / 'shipped').hash}`" in card
    assert "--start shipped" in card


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["tic_tac_toe", "--resume", "mine"], "is finished: give --iterations or --minutes"),
        (["connect_four", "--resume", "mine"], "learns tic_tac_toe, not connect_four"),
        (["tic_tac_toe", "--resume", "other"], "there is no run 'other'"),
        (["tic_tac_toe", "--resume", "mine", "--seed", "3"], "--seed: 'mine' has its own already"),
        (["tic_tac_toe", "--run", "mine"], "there is a run 'mine' already"),
        (["tic_tac_toe", "--minutes", "1", "--iterations", "2"], "give one of them"),
        (["tic_tac_toe", "--recipe", "none.json"], "'none.json' cannot be read"),
        (["tic_tac_toe", "--recipe", "quick"], "there is no recipe 'quick'"),
        (["nonsense"], "nonsense"),
        (["tic_tac_toe", "--exclude", "none.csv", "--run", "x"], "none.csv"),
        (["tic_tac_toe", "--start", "nowhere", "--run", "x"], "there is no such directory"),
        (["tic_tac_toe", "--start", "builtin:connect_four", "--run", "x"], "made for the domain 'connect_four'"),
    ],
)
def test_wrong_use_is_one_sentence(
    trained: tuple[Path, str],
    monkeypatch: pytest.MonkeyPatch,
    command_line: Callable[..., tuple[int, str]],
    arguments: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(trained[0])
    code, told = command_line("train", *arguments)
    assert code == 2
    assert said in told
    assert "Traceback" not in told
    assert not (trained[0] / "out/train/x").exists()


def test_ctrl_c_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "long.json").write_text(json.dumps(tiny(games=100_000, games_a_task=100_000)))
    process = subprocess.Popen(
        [ESCALADE, "train", "tic_tac_toe", "--recipe", "long.json", "--run", "long"],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
        restore_signals=True,
    )
    until = time.monotonic() + 60
    while not (tmp_path / "out" / "train" / "long" / "run.json").exists() and time.monotonic() < until:
        time.sleep(0.05)
    time.sleep(0.5)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=30)
    assert process.returncode == 130
    assert "stopped; go on with: escalade train tic_tac_toe --resume out/train/long" in told


@pytest.mark.parametrize(
    "sign",
    [
        pytest.param("experience/shards/*-0002.parquet", marks=pytest.mark.slow),
        "iterations/0001/evaluation.json",
    ],
)
def test_killed_it_goes_on_from_another_directory(tmp_path: Path, sign: str) -> None:
    """Killed as soon as some file is there: in the midst of collecting, or just before a promotion."""
    (tmp_path / "many.json").write_text(json.dumps(tiny(iterations=2, games=96, games_a_task=8)))
    arguments = ["train", "tic_tac_toe", "--recipe", "many.json", "--root", "runs", "--run", "killed"]
    process = subprocess.Popen([ESCALADE, *arguments], cwd=tmp_path, stderr=subprocess.DEVNULL)
    folder = tmp_path / "runs" / "killed"
    until = time.monotonic() + 120
    while not list(folder.glob(sign)) and time.monotonic() < until:
        time.sleep(0.002)
    process.kill()
    process.wait()
    (tmp_path / "elsewhere").mkdir()
    done = escalade(tmp_path / "elsewhere", "train", "tic_tac_toe", "--resume", str(folder))
    assert done.returncode == 0, done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("iteration ")]
    assert lines
    for line in lines:
        assert " 0 positions" not in line
        assert "policy loss ," not in line
    names = [path.name for path in (folder / "experience" / "shards").iterdir()]
    assert sorted(names) == [f"{n:06d}-self_play-{k:04d}.parquet" for n in (1, 2) for k in range(12)]
    assert [path.name for path in sorted((folder / "iterations").iterdir())] == ["0001", "0002"]
    assert not list((tmp_path / "elsewhere").iterdir())
    again = escalade(tmp_path, "train", "tic_tac_toe", "--resume", str(folder))
    assert "is finished" in again.stderr


def test_who_waits_for_collectors_says_so(tmp_path: Path) -> None:
    (tmp_path / "tiny.json").write_text(json.dumps(tiny(iterations=1)))
    (tmp_path / "out").mkdir()
    none = escalade(tmp_path, "collect", "out")
    assert none.returncode == 2
    assert "'out' has no queue" in none.stderr
    arguments = ["train", "tic_tac_toe", "--recipe", "tiny.json", "--run", "far", "--queue"]
    process = subprocess.Popen([ESCALADE, *arguments], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    told = process.stderr.readline()
    assert "waiting for collectors that see this folder: escalade collect out/train/far" in told
    # The collectors' way to the folder is another one.
    (tmp_path / "mount").symlink_to(tmp_path / "out" / "train")
    collector = subprocess.Popen([ESCALADE, "collect", "mount/far", "--idle-seconds", "60"], cwd=tmp_path)
    _, told = process.communicate(timeout=200)
    collector.kill()
    collector.wait()
    assert process.returncode == 0, told
    assert len(list((tmp_path / "out" / "train" / "far" / "experience" / "shards").iterdir())) == 3


def event(kind: str, **fields: Any) -> dict[str, Any]:
    return {"event": kind, **fields}


def heard(console: Console, clock: list[float]) -> TrainView:
    view = TrainView("run", console, None, clock=lambda: clock[0])
    view.hear(event("plan", iteration=1, iterations=3, tasks=2, last=False))
    clock[0] = 10.0
    view.hear(event("collect", source="self_play", shard="a", done=5, of=10, rows=400))
    view.hear(event("collected", source="self_play", shard="a", games=10, rows=1000))
    view.hear(event("collected", source="solver", shard="b", games=7, rows=500))
    return view


def test_the_view_shows_what_is_under_way() -> None:
    clock = [0.0]
    screen = Console(file=io.StringIO(), width=160)
    view = heard(screen, clock)
    screen.print(view.render())
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    assert "run  0:10" in shown
    assert "collecting" in shown
    assert "1500 positions, 150/s" in shown
    view.hear(event("fit", **{"pass": 2, "passes": 4, "step": 5, "steps": 10}))
    view.hear(event("pass", **{"pass": 2}, policy_loss=1.25, value_loss=0.5, validation_policy_loss=1.3))
    screen.print(view.render())
    assert "pass 2 of 4, step 5 of 10" in screen.file.getvalue()  # type: ignore[attr-defined]
    view.hear(event("something new", text="is passed over"))
    clock[0] = 60.0
    view.hear(event("evaluation", iteration=1, optimal_0=0.5, optimal_25=0.75, value_error=0.125))
    view.hear(event("promotion", iteration=1, promoted=True, score=0.5))
    screen.print(view.render())
    shown = screen.file.getvalue()  # type: ignore[attr-defined]
    for text in ("50.00%", "75.00%", "1.250", "0.125", "about 2:00 left", "optimal alone", "with 25"):
        assert text in shown


def test_what_the_process_did_before_counts_as_silence_and_as_work() -> None:
    clock = [13.0]
    screen = Console(file=io.StringIO(), width=60, force_terminal=False)
    view = TrainView("run", screen, None, before={"seconds": 5.0}, worked=20.0, began=0.0, clock=lambda: clock[0])
    view.break_silence()
    assert not screen.file.getvalue()  # type: ignore[attr-defined]
    clock[0] = 15.0
    view.break_silence()
    assert screen.file.getvalue() == "starting, 0:22\n"  # type: ignore[attr-defined]
    view.close()


def test_without_a_terminal_an_iteration_is_a_line() -> None:
    clock = [0.0]
    screen = Console(file=io.StringIO(), width=60, force_terminal=False)
    view = heard(screen, clock)
    view.hear(event("evaluation", iteration=1, optimal_0=0.5, value_error=0.125))
    view.hear(event("promotion", iteration=1, promoted=False, score=0.5))
    (line,) = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert line.startswith("iteration 1, 0:10, 1500 positions")
    assert line.endswith("optimal alone 50.00%, not promoted")


def test_without_a_terminal_nothing_is_silent_for_long() -> None:
    clock = [0.0]
    screen = Console(file=io.StringIO(), width=60, force_terminal=False)
    view = TrainView("run", screen, 5.0, clock=lambda: clock[0])

    def said() -> list[str]:
        view.break_silence()
        lines: list[str] = screen.file.getvalue().splitlines()  # type: ignore[attr-defined]
        return lines

    assert said() == []
    clock[0] = 16.0
    assert said() == ["starting, 0:16, about 4:44 left"]
    view.hear(event("plan", iteration=1, iterations=None, tasks=2, last=False))
    assert len(said()) == 1
    clock[0] = 32.0
    view.hear(event("collect", source="self_play", shard="a", done=5, of=10, rows=400))
    assert said()[1:] == ["iteration 1, 0:32, collecting 25%, 400 positions, 25/s, about 4:28 left"]
    view.close()


def test_times_read_as_clocks_do() -> None:
    assert [clock_time(seconds) for seconds in (0, 61, 3599.6, 3725)] == ["0:00", "1:01", "1:00:00", "1:02:05"]
