"""Test positions: what a solver says of them, and the file they are kept in."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import Plain, solved_tic_tac_toe

from escalade.domains.connect_four import ConnectFour
from escalade.domains.errors import SettingsError
from escalade.domains.intents import Intents
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.search.solvers import exact_solver
from escalade.training.exact import open_positions, read_positions, solved_positions, write_positions
from escalade.training.recipe import Recipe
from escalade.training.run import Run, RunConfig, let_go

TTT, C4 = TicTacToe(), ConnectFour()
POSITIONS = solved_positions(TTT)
LATE = range(20, 30)
"""Plies that take no time to solve."""


def test_every_reachable_position_of_tic_tac_toe_is_judged() -> None:
    positions = POSITIONS
    known = {state.moves: (best, value) for state, best, value in solved_tic_tac_toe()}
    assert set(positions.states) == known.keys()
    for text, optimal, value in zip(positions.states, positions.optimal, positions.value, strict=True):
        assert set(np.flatnonzero(optimal).tolist()) == known[text][0]
        assert value == known[text][1]


@pytest.mark.parametrize(
    ("domain", "plies", "names"),
    [
        (TTT, [0, 3, 4, 6, 7], ["begin", "begin", "middle", "middle", "end"]),
        (C4, [0, 14, 15, 28, 29, 41], ["begin", "begin", "middle", "middle", "end", "end"]),
    ],
)
def test_phases_are_thirds_of_the_longest_game(domain: Any, plies: list[int], names: list[str]) -> None:
    positions = replace(POSITIONS.take(np.arange(len(plies))), ply=np.array(plies))
    phases = positions.phases(domain)
    assert phases.pop("all").all()
    assert [[name for name in phases if phases[name][place]] for place in range(len(plies))] == [[n] for n in names]
    unknown = replace(positions, ply=np.full(len(plies), -1))
    assert list(unknown.phases(domain)) == ["all"]


def test_solved_positions_are_different_and_repeat_by_seed() -> None:
    first, second, other = (solved_positions(C4, count=30, seed=seed, plies=LATE) for seed in (1, 1, 2))
    assert first.states == second.states != other.states
    np.testing.assert_array_equal(first.worth, second.worth)
    assert len(set(first.states)) == 30
    assert set(first.ply.tolist()) == set(LATE)
    assert not first.differing.all()


def test_the_shared_file_agrees_with_the_solver(shared_data: Any) -> None:
    positions = read_positions(shared_data("connect_four/positions.csv"), C4)
    assert (len(positions), int(positions.differing.sum())) == (2000, 1138)
    late = positions.take(positions.ply >= 24)
    assert len(late) > 100
    solver = exact_solver(C4)
    assert solver is not None
    for state, worth in zip(late.parsed(C4), late.worth, strict=True):
        scores = solver.scores(state)
        np.testing.assert_array_equal(worth, [np.nan if score is None else np.sign(score) for score in scores])


def test_positions_are_solved_once_and_read_afterwards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("escalade.training.exact.FIRST_PLY", 24)
    heard: list[tuple[int, int]] = []
    made, kept = (
        open_positions(C4, count=20, seed=3, folder=tmp_path / "new", on_progress=lambda *told: heard.append(told))
        for _ in range(2)
    )
    assert heard == [(number, 20) for number in range(1, 21)]
    assert made.states == kept.states
    np.testing.assert_array_equal(made.worth, kept.worth)
    np.testing.assert_array_equal(made.ply, kept.ply)
    assert (made.source, made.seed) == ("casual games, seed 3", 3)
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["positions-20-3.csv"]


def test_a_written_file_reads_the_same(tmp_path: Path) -> None:
    write_positions(tmp_path / "p.csv", POSITIONS)
    again = read_positions(tmp_path / "p.csv", TTT)
    assert again.states == POSITIONS.states
    np.testing.assert_array_equal(again.worth, POSITIONS.worth)


HEAD = "moves," + ",".join(f"score_{k}" for k in range(1, 10))


def test_positions_to_leave_out_need_no_scores(tmp_path: Path) -> None:
    path = tmp_path / "p.csv"
    path.write_text("moves\n51\n5\n")
    with pytest.raises(SettingsError, match="names no column 'score_1'"):
        read_positions(path, TTT)
    read = read_positions(path, TTT, scored=False)
    assert (read.states, read.ply.tolist()) == (("51", "5"), [2, 1])
    assert np.isnan(read.worth).all()
    path.write_text("moves,score_1\n51,\n55,\n")
    with pytest.raises(SettingsError, match="line 3: column 'moves'"):
        read_positions(path, TTT, scored=False)
    config = RunConfig("tic_tac_toe", Recipe(), exclude=(str(path),))
    with pytest.raises(SettingsError, match="line 3: column 'moves'"):
        Run.begin(tmp_path / "run", config)
    path.write_text("moves\n51\n")
    run = Run.begin(tmp_path / "run", config)
    assert [positions.states for positions in run.excluded()] == [("51",)]
    let_go(run.folder)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("moves,score_1\n1,2\n", "the first line of .* names no column 'score_2'; it reads 'moves', 'score_1'"),
        ("", "names no column 'moves' or 'state' or 'text'; it reads nothing"),
        (HEAD + "\n", "there are none in it"),
        (HEAD + "\n1,,0,0,0,0,0,0,0,0\n11,,0,0,0,0,0,0,0,0\n", "line 3: column 'moves': .*move 2"),
        (HEAD + "\n14253,,0,0,0,0,0,0,0,0\n", "line 2: column 'moves': the game '14253' is over"),
        (HEAD + "\n1,5,0,0,0,0,0,0,0,0\n", "line 2: column 'score_1': action 1 is not legal, but has a score"),
        (HEAD + "\n1,,0,0,0,,0,0,0,0\n", "line 2: column 'score_5': action 5 is legal, but has no score"),
        (HEAD + "\n1,,0,0,0,x,0,0,0,0\n", "line 2: column 'score_5': 'x' is not a number"),
        (HEAD + "\n1,,0,0,0,nan,0,0,0,0\n", "line 2: column 'score_5': 'nan' is not a number"),
        (HEAD + "\n1,,0,0,0\n", "line 2: it has not as many cells as the first line"),
        (HEAD + "\n1,,0,0,0,0,0,0,0,0,0\n", "line 2 of .* has 11 cells, and the first line names 10 columns"),
        (HEAD + '\n"1\n', "line 2 of .* is not CSV: a quotation mark that opens there is never closed"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "positions.csv"
    path.write_text(text)
    with pytest.raises(SettingsError, match=words):
        read_positions(path, TTT)


def test_a_file_that_is_no_text_or_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match=r"byte order mark of UTF-16, but byte 3 \(0x00, line 1\)"):
        read_positions(tmp_path / "binary", TTT)
    with pytest.raises(SettingsError, match="cannot be read: No such file"):
        read_positions(tmp_path / "nothing", TTT)


def test_a_domain_without_a_solver_needs_a_file() -> None:
    for domain in (Intents(["a", "b"]), Plain(C4)):
        with pytest.raises(SettingsError, match=f"no exact solver for domain '{domain.name}': give .*--positions"):
            open_positions(domain)
