"""`escalade frontier` as a user runs it."""

from __future__ import annotations

import csv
import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from escalade.app.cli import app
from escalade.domains.catalog import load_domain
from escalade.training.exact import solved_positions

FILES = ["frontier.csv", "frontier.json", "frontier.png"]


@pytest.fixture(scope="module")
def swept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """By a reference that calls many of the champion's moves wrong: of all optimal ones only the lowest is right."""
    folder = tmp_path_factory.mktemp("frontier")
    positions = solved_positions(load_domain("tic_tac_toe"))
    lowest = positions.optimal.argmax(axis=1)
    lines = [f"{text},{action + 1}" for text, action in zip(positions.states[::4], lowest[::4].tolist(), strict=True)]
    (folder / "states.csv").write_text("\n".join(["state,action", *lines]) + "\n")
    given = ["frontier", "tic_tac_toe", "--reference", "labels", "--states", str(folder / "states.csv")]
    done = CliRunner().invoke(app, [*given, "--simulations", "10", "--out", str(folder / "made"), "--json"])
    assert done.exit_code == 0, done.output
    return folder / "made", json.loads(done.stdout)


def test_it_writes_a_table_a_report_and_a_plot(swept: tuple[Path, dict[str, Any]]) -> None:
    folder, report = swept
    assert sorted(entry.name for entry in folder.iterdir()) == FILES
    assert json.loads((folder / "frontier.json").read_text()) == report
    with (folder / "frontier.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert [line["name"] for line in lines] == [point["name"] for point in report["points"]]
    assert all(float(line["right_low"]) <= float(line["right"]) <= float(line["right_high"]) for line in lines)


def test_every_way_to_decide_is_there(swept: tuple[Path, dict[str, Any]]) -> None:
    _, report = swept
    names = {point["name"] for point in report["points"]}
    assert {"0.5 by hand", "0.7 by hand", "0.9 by hand", "certified at alpha 0.05"} <= names
    assert {"policy alone", "value alone", "search alone", "labels alone"} <= names
    (reference,) = (point for point in report["points"] if point["name"] == "labels alone")
    assert (reference["right"]["share"], reference["cost_s"]) == (1.0, None)


def test_the_sweep_goes_from_dear_to_cheap(swept: tuple[Path, dict[str, Any]]) -> None:
    _, report = swept
    costs = [point["cost_s"] for point in report["points"] if point["kind"] == "sweep"]
    search = next(point["cost_s"] for point in report["points"] if point["name"] == "search alone")
    assert costs
    # They were ordered on the other half of the states.
    assert all(after <= before + 0.1 * search for before, after in pairwise(costs))


def test_people_get_a_table(swept: tuple[Path, dict[str, Any]]) -> None:
    folder, _ = swept
    states = str(folder.parent / "states.csv")
    given = ["frontier", "tic_tac_toe", "--reference", "labels", "--states", states, "--simulations", "10"]
    done = CliRunner().invoke(app, [*given, "--out", str(folder.parent / "again")])
    assert done.exit_code == 0, done.output
    for word in ("reference labels", "0.7 by hand", "policy alone", "frontier.csv"):
        assert word in done.output, word
