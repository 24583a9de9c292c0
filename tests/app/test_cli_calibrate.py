"""How sure a language model is: `escalade llm calibrate`, and what becomes of what it learned."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from in_process import escalade
from simulated import exact, served

from escalade import Decision, DecisionContext
from escalade.app.settings import Settings
from escalade.app.simulated_llm import SimulatedModel, Simulation
from escalade.app.wiring import open_decider
from escalade.domains.errors import SettingsError
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.neural.confidence import reason_features

ESCALADE = str(Path(sys.executable).with_name("escalade"))


def run(url: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [ESCALADE, "llm", "calibrate", "tic_tac_toe", "--out", str(folder), *arguments]
    environment = {**os.environ, "ESCALADE_LLM_MODEL": "simulated", "OPENAI_BASE_URL": url}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, cwd=folder)


def test_agreement_becomes_a_confidence_that_is_right_as_often_as_it_says(tmp_path: Path) -> None:
    simulated = SimulatedModel(TicTacToe(), exact, Simulation(accuracy=0.6, latency_ms=0))
    with served(simulated) as url:
        done = run(url, tmp_path, "--count", "300", "--samples", "5", "--json")
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        assert report["simulated"] is True
        assert report["reference"] == "exact"
        assert report["count"] + report["tested"] == 300
        assert report["error"] < 0.15
        assert (tmp_path / "reliability.png").stat().st_size > 1000
        settings = Settings(
            llm_model="simulated",
            llm_base_url=url,
            llm_calibrations={"tic_tac_toe": tmp_path / "reason.json"},
        )
        decider = open_decider(settings, "tic_tac_toe", bundle="none")

        def asked(**options: Any) -> Any:
            context = DecisionContext(mode="llm_only", **options)
            result = decider.graph.invoke({"state": "517"}, context=context)
            return Decision.model_validate(result["decision"])

        sure = asked(samples=5)
        details = sure.rungs[-1].details
        assert details["calibrator"] == "logistic"
        assert sure.confidence != details["raw_confidence"]
        other = asked(samples=4).rungs[-1]
        assert (other.details["calibrator"], other.confidence) == ("identity", other.details["raw_confidence"])
        assert asked(samples=5, reasoning="full").rungs[-1].details["calibrator"] == "identity"
        decider.close()


@pytest.mark.slow
def test_more_agreement_is_more_confidence(tmp_path: Path) -> None:
    from escalade.nodes.reason_calibration import ReasonCalibration

    simulated = SimulatedModel(TicTacToe(), exact, Simulation(accuracy=0.7, latency_ms=0))
    with served(simulated) as url:
        assert run(url, tmp_path, "--count", "300").returncode == 0
    known = ReasonCalibration.model_validate_json((tmp_path / "reason.json").read_bytes())
    calibrator = known.of("simulated", DecisionContext(samples=5))
    votes = [{"a": 2, "b": 2, "c": 1}, {"a": 3, "b": 2}, {"a": 5}]
    low, middle, high = (float(calibrator.confidences(reason_features(one, "a", 5))[0]) for one in votes)
    assert low < middle < high


@pytest.mark.slow
def test_what_cannot_be_learned_from_is_said(tmp_path: Path) -> None:
    down = SimulatedModel(TicTacToe(), exact, Simulation(latency_ms=0, error_rate=1.0))
    for seconds in ("0", "2"):
        with served(down) as url:
            done = run(url, tmp_path, "--count", "50", "--patience", seconds)
        assert done.returncode == 75
        assert "50 of 50 states are left" in done.stderr
        assert "the same command goes on" in done.stderr
    mumbling = SimulatedModel(TicTacToe(), exact, Simulation(latency_ms=0, garbage_rate=1.0))
    with served(mumbling) as url:
        done = run(url, tmp_path, "--count", "50")
    assert done.returncode == 2
    assert "the model answered 0 of 50 states" in done.stderr
    assert "why it answers so few" in done.stderr
    nowhere = {"ESCALADE_LLM_MODEL": "simulated", "OPENAI_BASE_URL": "http://127.0.0.1:9/v1"}
    done = escalade("llm", "calibrate", "tic_tac_toe", "--count", "39", **nowhere)
    assert done.returncode == 2
    assert "--count 39: too few to learn from, it takes at least 40" in done.stderr
    done = escalade("llm", "calibrate", "tic_tac_toe")
    assert "ESCALADE_LLM_MODEL" in done.stderr


@pytest.mark.parametrize(("content", "said"), [("{}", "domain"), ("[", "file"), (None, "cannot be read")])
def test_a_file_that_is_none_is_refused(tmp_path: Path, content: str | None, said: str) -> None:
    path = tmp_path / "reason.json"
    if content is not None:
        path.write_text(content)
    settings = Settings(llm_calibrations={"tic_tac_toe": path})
    with pytest.raises(SettingsError, match=said):
        open_decider(settings, "tic_tac_toe", bundle="none")
