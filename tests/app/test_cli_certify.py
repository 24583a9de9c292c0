"""`escalade certify` as a user runs it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from in_process import escalade
from typer.testing import CliRunner

from escalade.app.cli import app
from escalade.domains.errors import EscaladeError


def run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return escalade(*arguments, cwd=folder)


@pytest.fixture(scope="module")
def certified(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("certify")
    done = run(folder, "certify", "tic_tac_toe", "--alpha", "0.05", "--alpha", "0.01", "--simulations", "25", "--json")
    assert done.returncode == 0, done.stderr
    return folder, json.loads(done.stdout)


def test_it_writes_a_bundle_a_report_and_a_diagram(certified: tuple[Path, dict]) -> None:
    folder, report = certified
    made = folder / "out/certified/tic_tac_toe"
    assert sorted(entry.name for entry in made.iterdir()) == ["bundle", "reliability.png", "report.json"]
    assert json.loads((made / "report.json").read_text()) == report
    assert [one["alpha"] for one in report["certificates"]] == [0.05, 0.01]
    assert list(report["limits"]) == ["0.05", "0.01"]
    for one in report["certificates"]:
        limit = report["limits"][f"{one['alpha']:g}"]
        assert (
            one["limit"] == limit["share"] == pytest.approx(min(1, (1 - limit["error"]) / (1 - one["alpha"])), abs=0.01)
        )
        setting = one["path"][one["chosen"]]
        assert setting["accepted"]["bound"] <= one["alpha"]
        assert setting["shares"]["search"] < 0.01  # the champion knows tic-tac-toe


def test_the_networks_of_the_certified_bundle_decide_alone(certified: tuple[Path, dict]) -> None:
    folder, _ = certified
    done = run(folder, "decide", "tic_tac_toe", "51", "--bundle", "out/certified/tic_tac_toe/bundle", "--json")
    decision = json.loads(done.stdout)
    assert (decision["source"], decision["certified"]) == ("policy", True)
    assert decision["rungs"][0]["details"]["certificate"]["reference"] == "exact"
    shown = run(folder, "decide", "tic_tac_toe", "51", "--bundle", "out/certified/tic_tac_toe/bundle").stdout
    assert ", certified" in shown


def test_a_certificate_is_not_overwritten(certified: tuple[Path, dict]) -> None:
    folder, _ = certified
    done = run(folder, "certify", "tic_tac_toe")
    assert done.returncode == 2
    assert "exists already" in done.stderr


def test_people_get_a_table_with_all_columns(tmp_path: Path) -> None:
    own = ("--own-alpha", "0.01")
    done = run(
        tmp_path,
        "certify",
        "tic_tac_toe",
        "--alpha",
        "0.05",
        *own,
        "--simulations",
        "25",
        "--out",
        "made",
        "--novel",
        "0.05",
    )
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "made/bundle/bundle.json").read_text())["novelty"]["quantile"] == 0.95
    for word in (
        "α 0.05 δ 0.05",
        "α 0.01, own δ",
        "exact",
        "2,260",
        "policy",
        "value",
        "search",
        "limit",
        "saved",
        "made/bundle",
    ):
        assert word in done.stdout, word


def test_what_cannot_be_proven_does_not_take_along_what_can(tmp_path: Path) -> None:
    arguments = ("--alpha", "0.05", "--alpha", "0.0001", "--simulations", "25", "--out", "made", "--json")
    done = run(tmp_path, "certify", "tic_tac_toe", *arguments)
    assert done.returncode == 1
    report = json.loads(done.stdout)
    assert [one["alpha"] for one in report["certificates"]] == [0.05]
    assert list(report["unproven"]) == ["0.0001"]
    assert report == json.loads((tmp_path / "made/report.json").read_text())
    assert "alpha 0.0001:" in done.stderr
    assert "needs at least" in done.stderr
    assert "no thresholds could leave more than" in done.stderr
    assert list(report["limits"]) == ["0.05", "0.0001"]


def test_copied_rows_are_doubted(tmp_path: Path) -> None:
    states = ["51", "59", "519", "1", "15", "152", "37"] * 40
    (tmp_path / "s.csv").write_text("state,action\n" + "".join(f"{state},6\n" for state in states))
    done = run(
        tmp_path,
        "certify",
        "tic_tac_toe",
        "--reference",
        "labels",
        "--states",
        "s.csv",
        "--out",
        "made",
        "--simulations",
        "5",
    )
    assert "only 7 of 280 states differ" in done.stderr
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--alpha", "0"), "alpha must be between 0 and 1"),
        (("--own-alpha", "1"), "alpha must be between 0 and 1"),
        (("--novel", "1"), "--novel must be between 0 and 1, not 1"),
        (("--alpha", "0.0001", "--alpha", "0.0002"), "alpha 0.0002: "),
        (("--out", __file__), "is a file: give a folder"),
        (("--reference", "oracle"), "--reference 'oracle' must be"),
        (("--reference", "labels"), "needs --states FILE"),
        (("--reference", "llm"), "needs --experience FOLDER"),
        (("--max-cost", "1"), "ESCALADE_COMPUTE_USD_PER_HOUR"),
        (("--bundle", "none"), "nothing to measure"),
        (("--states", "missing.csv"), "missing.csv"),
        (("--alpha", "0.0001"), "needs at least"),
    ],
)
def test_wrong_use_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["certify", "tic_tac_toe", "--simulations", "5", *arguments])
    assert isinstance(result.exception, EscaladeError)
    assert said in str(result.exception)
    assert not (tmp_path / "out/certified/tic_tac_toe/bundle").exists()
