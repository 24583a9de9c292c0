"""`escalade evaluate`, as a person runs it."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from corridor import CORRIDOR, Corridor
from nim import NIM, Nim
from support import network_for
from training_runs import TINY
from typer.testing import CliRunner

from escalade.app.cli import app
from escalade.domains.errors import BundleError, SettingsError
from escalade.domains.intents import Intents
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.neural.bundle import Bundle, read_bundle, write_bundle
from escalade.neural.taught import Taught
from escalade.training.evaluate import EvaluationConfig
from escalade.training.evaluate import evaluate as measure
from escalade.training.exact import solved_positions, write_positions
from escalade.training.position_keys import digests_of
from escalade.training.run import Run, RunConfig, let_go

TTT = TicTacToe()


def evaluate(*arguments: str, domain: str = "tic_tac_toe") -> Any:
    return CliRunner().invoke(app, ["evaluate", domain, *arguments], env={"COLUMNS": "250"})


def test_json_is_what_was_measured_and_what_lies_in_the_folder(tic_tac_toe_bundle: Bundle, tmp_path: Path) -> None:
    out, bundle = tmp_path / "out", str(tic_tac_toe_bundle.path)
    done = evaluate("--bundle", bundle, "--quick", "--seed", "4", "--games", "6", "--json", "--out", str(out))
    assert done.exit_code == 0, done.exception
    said = json.loads(done.stdout)
    assert said == json.loads((out / "report.json").read_text())
    assert said["bundle"]["hash"] == tic_tac_toe_bundle.hash
    assert said["plots"] == ["agreement.png", "reliability.png", "elo.png"]
    assert {path.name for path in out.iterdir()} == {"report.json", *said["plots"]}
    expected = measure(TTT, tic_tac_toe_bundle.network, config=EvaluationConfig(seed=4, games=6)).to_json()
    assert {key: said[key] for key in expected} == expected


def test_tables_tell_counts_seed_and_intervals(tic_tac_toe_bundle: Bundle, tmp_path: Path) -> None:
    bundle, out = str(tic_tac_toe_bundle.path), str(tmp_path)
    done = evaluate("--bundle", bundle, "--against", bundle, "--quick", "--games", "4", "--out", out)
    assert done.exit_code == 0, done.exception
    for words in (
        "4,520 positions (every reachable position), 3,191 where moves differ; seed 0; intervals hold 95 %",
        "network alone",
        "64 simulations",
        "64, no network",
        "rollouts at 64 : one ply",
        "calibration error, raw",
        "network alone : one ply",
        "network at 64 : previous at 64",
        f"bundle {tic_tac_toe_bundle.version}, previous {tic_tac_toe_bundle.version}; report.json, agreement.png",
    ):
        assert words in done.stdout


def test_positions_of_a_file_are_used(tic_tac_toe_bundle: Bundle, tmp_path: Path) -> None:
    path = tmp_path / "some.csv"
    positions = solved_positions(TTT)
    write_positions(path, positions.take(positions.ply == 2))
    given = ("--bundle", str(tic_tac_toe_bundle.path), "--positions", str(path), "--simulations", "8,0,8", "--quick")
    said = json.loads(evaluate(*given, "--json", "--out", str(tmp_path / "out")).stdout)
    assert (said["positions"], said["positions_source"], said["positions_seed"]) == (72, str(path), None)
    assert [(row["simulations"], row["phase"]) for row in said["agreement"] if row["all"]["count"]] == [
        (0, "all"),
        (0, "begin"),
        (8, "all"),
        (8, "begin"),
    ]


def test_without_a_solver_there_are_matches_only(tmp_path: Path) -> None:
    bundle, out = tmp_path / "bundle", tmp_path / "out"
    write_bundle(bundle, domain=Nim(), network=network_for(Nim()))
    given = ("--bundle", str(bundle), "--games", "4", "--out", str(out))
    done = evaluate(*given, domain=NIM)
    assert done.exit_code == 0, done.exception
    for words in (
        "network at 64 : one ply",
        "not measured: agreement: domain 'nim' has no exact solver and no test positions were given, so nothing is "
        "known exactly, and there is no share of optimal moves",
    ):
        assert words in done.stdout
    assert "positions (" not in done.stdout
    said = json.loads(evaluate(*given, "--json", domain=NIM).stdout)
    assert said == json.loads((out / "report.json").read_text())
    assert (said["positions"], said["agreement"], said["estimates"]) == (0, [], None)
    assert [match["games"] for match in said["matches"]] == [4] * 6  # two of them without the network
    assert said["plots"] == ["elo.png"]
    quick = json.loads(evaluate("--bundle", str(bundle), "--quick", "--json", domain=NIM).stdout)
    assert {match["games"] for match in quick["matches"]} == {20}
    nothing = evaluate("--bundle", str(bundle), "--quick", "--games", "0", domain=NIM).exception
    assert isinstance(nothing, SettingsError)
    assert "by --positions, or test states with what is right by --labels" in str(nothing)
    assert str(nothing).endswith(", or let it play matches, by --games")


def test_states_that_taught_are_left_out(tmp_path: Path) -> None:
    domain = Intents(["refund", "card"])
    (tmp_path / "labels.json").write_text('["refund", "card"]')
    bundle, file = tmp_path / "bundle", tmp_path / "test.csv"
    taught = Taught().with_weights([digests_of(domain, ["lost my card", "money back"])])
    write_bundle(bundle, domain=domain, network=network_for(domain), taught=taught)
    option = ("-o", f"labels={tmp_path / 'labels.json'}", "--bundle", str(bundle), "--out", str(tmp_path / "out"))
    file.write_text("text,label\nlost my card.,card\nMONEY BACK,refund\nwhere is it,card\n")
    done = evaluate(*option, "--labels", str(file), "--json", domain="intents")
    assert "2 of 3 states left out: they taught or chose the bundle" in done.stderr
    report = json.loads(done.stdout)
    assert (report["positions"], report["left_out"]["states"]) == (1, 2)
    file.write_text("text,label\nlost my card.,card\n")
    nothing = evaluate(*option, "--labels", str(file), domain="intents").exception
    assert "nothing is left to measure on: 1 of 1 states left out" in str(nothing)


def test_one_player_gets_its_mean_return_in_table_and_card(tmp_path: Path) -> None:
    domain = Corridor()
    recipe = replace(TINY, evaluation=EvaluationConfig(simulations=(0,), players=(0, 4), games=4))
    run = Run.begin(tmp_path / "run", RunConfig(CORRIDOR, recipe))
    write_bundle(run.iteration(1) / "bundle", domain=domain, network=network_for(domain))
    run.crown(1, 0.0, "nothing")
    let_go(run.folder)
    bundle = str(run.iteration(1) / "bundle")
    done = evaluate("--bundle", bundle, "--quick", "--games", "4", "--out", str(tmp_path / "out"), domain=CORRIDOR)
    assert done.exit_code == 0, done.exception
    for words in ("mean return", "network alone", "rollouts at 64", "random moves", "returns.png"):
        assert words in done.stdout
    done = CliRunner().invoke(app, ["models", "export", str(run.folder), str(tmp_path / "shipped")])
    assert done.exit_code == 0, done.exception
    card = (tmp_path / "shipped.md").read_text()
    assert "| rollouts at 4 | 4 |" in card
    assert "Elo" not in card


def test_without_a_solver_a_card_tells_of_matches(tmp_path: Path) -> None:
    recipe = replace(TINY, evaluation=EvaluationConfig(simulations=(0,), players=(0,), games=4))
    run = Run.begin(tmp_path / "run", RunConfig(NIM, recipe))
    write_bundle(run.iteration(1) / "bundle", domain=Nim(), network=network_for(Nim()))
    run.crown(1, 0.0, "nothing")
    let_go(run.folder)
    folder = tmp_path / "shipped"
    done = CliRunner().invoke(app, ["models", "export", str(run.folder), str(folder)])
    assert done.exit_code == 0, done.exception
    assert read_bundle(folder, Nim()).metrics == {}
    card = (tmp_path / "shipped.md").read_text()
    assert "Nothing is known exactly of this domain" in card
    assert "| network alone : one ply | 4 |" in card
    assert "Mean squared error" not in card


def test_without_matplotlib_the_figures_are_told_all_the_same(
    tic_tac_toe_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    given = ("--bundle", str(tic_tac_toe_bundle.path), "--quick", "--simulations", "0", "--out", str(tmp_path))
    done = evaluate(*given, "--json")
    assert json.loads(done.stdout)["plots"] == []
    assert "pip install 'escalade[train]'" in done.stderr


def test_wrong_use_is_named(tic_tac_toe_bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("escalade.neural.sources.builtin_names", list)
    bundle = str(tic_tac_toe_bundle.path)
    (tmp_path / "file").write_text("")
    for arguments, words in (
        (
            ("--bundle", bundle, "--simulations", "1,x"),
            "--simulations must be whole numbers such as 0,16,64, not '1,x'",
        ),
        (("--bundle", bundle, "--games", "3"), "--games must be an even number"),
        (("--bundle", bundle, "--positions", "nothing.csv"), "positions: 'nothing.csv' cannot be read"),
        (("--bundle", bundle, "--quick", "--simulations", "0", "--out", "file"), "--out: 'file' cannot be written"),
        (("--bundle", "none"), "--bundle: without a network there is nothing to measure"),
        (("--bundle", bundle, "--against", "none"), "--against: without a network there is nothing"),
        ((), "--bundle: no bundle for domain 'tic_tac_toe' came with this version"),
    ):
        done = evaluate(*arguments)
        assert isinstance(done.exception, SettingsError)
        assert words in str(done.exception)
    for arguments in (("--bundle", "nowhere"), ("--bundle", bundle, "--against", "nowhere")):
        assert isinstance(evaluate(*arguments).exception, BundleError)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]
