"""The simulated language model: a real process that speaks the OpenAI wire, and what reports make of its answers."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from simulated import exact, served

from escalade import Decision, DecisionContext
from escalade.app.ledger_totals import totals
from escalade.app.settings import Settings
from escalade.app.simulated_llm import SimulatedModel, Simulation, simulated_app
from escalade.app.wiring import open_decider, open_language_model
from escalade.domains.catalog import load_domain
from escalade.domains.errors import SettingsError
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.graph.decision import build_decision_graph
from escalade.nodes.daemon import wait_for
from escalade.nodes.guards import Breaker
from escalade.nodes.language_model import LanguageModel
from escalade.nodes.llm_prior import ask_rankings
from escalade.nodes.structured import WAYS, Ways

ESCALADE = str(Path(sys.executable).with_name("escalade"))
STATES = ["5", "51", "517", "1", "15", "159", "3", "35", "357", "2"]


def not_all_as_good(text: str) -> bool:
    domain = TicTacToe()
    return len(exact(text) or ()) < len(domain.legal_actions(domain.parse(text)))


def settings_for(url: str, **fields: Any) -> Settings:
    return Settings(llm_model="simulated", llm_base_url=url, **fields)


@pytest.mark.parametrize("way", ["json_schema", "function", "text"])
def test_it_is_right_as_often_as_it_is_told_to_be(way: Any) -> None:
    domain = TicTacToe()
    simulated = SimulatedModel(domain, exact, Simulation(accuracy=0.7, latency_ms=0))
    with served(simulated) as url:
        model = open_language_model(settings_for(url))
        assert isinstance(model, LanguageModel)
        model.ways = Ways(way)
        states = [domain.parse(text) for text in STATES] * 30
        rankings = wait_for(ask_rankings(model, domain, states))
        model.close()
    # Where all moves are as good there is nothing to get wrong.
    told = [
        ranking.actions[0] in (exact(domain.format(state)) or ())
        for ranking, state in zip(rankings, states, strict=True)
        if not_all_as_good(domain.format(state))
    ]
    assert len(told) >= 200
    assert abs(sum(told) / len(told) - 0.7) < 4 * (0.21 / len(told)) ** 0.5
    assert simulated.bill.calls == {"answered": 300}


def test_what_it_says_is_marked_in_every_report(tmp_path: Path) -> None:
    ledger = tmp_path / "ledger.db"
    with served(SimulatedModel(TicTacToe(), exact, Simulation(latency_ms=0))) as url:
        settings = settings_for(url, ledger=ledger, llm_input_usd_per_mtok=1.0, llm_output_usd_per_mtok=4.0)
        decider = open_decider(settings, "tic_tac_toe", bundle="none")
        given: Any = {"state": "51"}
        result = decider.graph.invoke(given, context=DecisionContext(mode="llm_only"))
        decider.close()
    decision = Decision.model_validate(result["decision"])
    assert decision.simulated
    assert decision.rungs[-1].details["simulated"] is True
    assert decision.cost_usd is not None
    assert decision.cost_usd > 0
    (line,) = totals(ledger)
    assert (line.decisions, line.simulated) == (1, 1)
    shown = subprocess.run([ESCALADE, "ledger", str(ledger)], capture_output=True, text=True, check=True).stdout
    assert "a simulated language model had a part in 1" in shown


def test_it_fails_as_often_as_it_is_told_to() -> None:
    simulation = Simulation(latency_ms=0, error_rate=0.5, garbage_rate=0.25)
    simulated = SimulatedModel(TicTacToe(), exact, simulation)

    async def main() -> None:
        body = {"messages": [{"role": "user", "content": "State: 51"}]}
        for _ in range(400):
            await simulated.answer(body)

    asyncio.run(main())
    calls = simulated.bill.calls
    assert sum(calls.values()) == 400
    assert abs(calls["garbage"] - 100) < 40
    assert abs(calls["429"] + calls["500"] + calls["503"] - 200) < 45


def test_equal_seeds_answer_equally_and_others_do_not() -> None:
    def said(seed: int) -> list[Any]:
        model = SimulatedModel(TicTacToe(), exact, Simulation(accuracy=0.5, latency_ms=0, seed=seed))
        return [model._choice(state) for state in STATES]

    assert said(1) == said(1)
    assert said(1) != said(2)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{", b'{"messages": 3}', b'{"messages": [3]}', b"[" * 100_000, b'{"messages": []}'],
)
def test_what_is_no_request_gets_a_clear_answer(body: bytes) -> None:
    from fastapi.testclient import TestClient

    client = TestClient(simulated_app(SimulatedModel(TicTacToe(), exact, Simulation(latency_ms=0))))
    response = client.post("/v1/chat/completions", content=body)
    assert response.status_code == (200 if body == b'{"messages": []}' else 400)
    assert client.get("/v1/models").json()["data"][0]["id"] == "simulated"


def test_intents_are_answered_by_a_file_of_labels(tmp_path: Path) -> None:
    labels = tmp_path / "right.csv"
    labels.write_text("text,category\nwhere is my card,card lost\ngive it back,refund\n")
    command = [ESCALADE, "llm", "simulate", "intents", "-o", 'labels=["refund", "card lost"]', "--labels", str(labels)]
    process = subprocess.Popen(
        [*command, "--accuracy", "1", "--latency-ms", "0", "--price", "1,4", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stdout is not None
    told = [process.stdout.readline().strip().removeprefix("export ") for _ in range(4)]
    environment = dict(line.split("=", 1) for line in told)
    decide = [ESCALADE, "decide", "intents", "give it back", "-o", 'labels=["refund", "card lost"]', "--json"]
    for _ in range(50):
        done = subprocess.run(decide, capture_output=True, text=True, env=os.environ | environment, timeout=60)
        if done.returncode == 0:
            break
        time.sleep(0.2)
    decision = Decision.model_validate_json(done.stdout)
    assert (decision.action_name, decision.source, decision.simulated) == ("refund", "reason", True)
    process.send_signal(signal.SIGINT)
    said = process.communicate(timeout=20)[1]
    assert "1 answered" in said
    assert "(simulated)" in said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["intents", "-o", 'labels=["a", "b"]'], "has no exact solver: give --labels FILE"),
        (["intents", "-o", 'labels=["a", "b"]', "--reference", "labels"], "--reference labels needs --labels FILE"),
        (["intents", "-o", 'labels=["a", "b"]', "--reference", "search:5"], "has no simulator"),
        (["tic_tac_toe", "--reference", "oracle"], "must be exact, labels or search:N with N from 1 on, not 'oracle'"),
        (["tic_tac_toe", "--reference", "llm"], "must be exact, labels or search:N"),
        (["tic_tac_toe", "--price", "cheap"], "--price must be two numbers"),
        (["tic_tac_toe", "--price", "-1,2"], "--price must be two numbers, at least 0"),
        (["tic_tac_toe", "--price", "1,nan"], "--price must be two numbers, at least 0"),
        (["tic_tac_toe", "--error-rate", "0.7", "--hang-rate", "0.7"], "must add up to at most 1"),
    ],
)
def test_wrong_use_is_one_sentence(
    command_line: Callable[..., tuple[int, str]], arguments: list[str], said: str
) -> None:
    code, told = command_line("llm", "simulate", *arguments)
    assert code == 2
    assert said in told


@pytest.mark.parametrize("field", ["accuracy", "latency_ms", "jitter", "input_usd_per_mtok"])
def test_a_simulation_of_nonsense_is_refused(field: str) -> None:
    with pytest.raises(SettingsError, match=field):
        Simulation(**{field: -1.0})


# FAULTS, row 1, and the ladder under load


def decided(
    url: str, count: int, *, breaker: Breaker | None = None, timeout_s: float = 30.0, **options: Any
) -> tuple[list[Decision], list[float]]:
    """So many decisions of one domain, 16 at once, and how long each took, in ms."""
    model: Any = open_language_model(settings_for(url, llm_timeout_s=timeout_s))
    model.endpoint.breaker = breaker or model.endpoint.breaker
    graph = build_decision_graph("tic_tac_toe", language_model=model)
    context = DecisionContext(**options)
    states = [
        text for text in STATES if len(exact(text) or ()) < len(TicTacToe().legal_actions(TicTacToe().parse(text)))
    ]

    async def main() -> list[tuple[Decision, float]]:
        turns = asyncio.Semaphore(16)

        async def one(number: int) -> tuple[Decision, float]:
            async with turns:
                given: Any = {"state": states[number % len(states)]}
                began = time.monotonic()
                result = await graph.ainvoke(given, context=context)
                return Decision.model_validate(result["decision"]), (time.monotonic() - began) * 1000

        return list(await asyncio.gather(*(one(number) for number in range(count))))

    done = wait_for(main())
    model.close()
    return [decision for decision, _ in done], [ms for _, ms in done]


def test_it_fills_the_forms_of_a_whole_reasoning_too() -> None:
    simulated = SimulatedModel(TicTacToe(), exact, Simulation(latency_ms=0, accuracy=0.8, error_rate=0.05))
    with served(simulated) as url:
        decisions, _ = decided(url, 40, reasoning="full", simulations=50)
    reasons = [report for decision in decisions for report in decision.rungs if report.rung == "reason"]
    made = [report for report in reasons if report.outcome == "accepted"]
    assert len(made) > 20
    assert all(report.details["rounds"] >= 1 or report.details["troubles"] for report in made)
    right = [decision.action in (exact(decision.state) or ()) for decision in decisions if decision.source == "reason"]
    assert sum(right) / len(right) > 0.6


def test_hundreds_of_decisions_get_a_legal_answer_whatever_the_endpoint_does() -> None:
    domain = load_domain("tic_tac_toe")
    simulation = Simulation(latency_ms=5, error_rate=0.3, hang_rate=0.02, garbage_rate=0.1)
    simulated = SimulatedModel(domain, exact, simulation)
    # One that rests shortly lets the endpoint do its worst throughout, however slow this machine is.
    breaker = Breaker(rest_s=0.05, most_s=0.2)
    with served(simulated) as url:
        decisions, _ = decided(url, 600, breaker=breaker, timeout_s=1.0, simulations=50)
    assert len(decisions) == 600
    for decision in decisions:
        assert decision.action in domain.legal_actions(domain.parse(decision.state))
        attempts = [report.details.get("attempts", 1) for report in decision.rungs if report.rung == "reason"]
        assert max(attempts) <= 2 * len(WAYS)  # until the endpoint has shown which way works
    ends = Counter(report.reason for decision in decisions for report in decision.rungs if report.rung == "reason")
    assert ends["trusted"] > 20
    assert sum(ends.values()) == 600
    assert sum(simulated.bill.calls.values()) <= 2 * 600 + 2 * 16 * len(WAYS)


def test_the_breaker_spares_an_endpoint_that_is_down() -> None:
    simulated = SimulatedModel(TicTacToe(), exact, Simulation(latency_ms=0, error_rate=1.0))
    with served(simulated) as url:
        decisions, _ = decided(url, 300, simulations=20)
    reasons = Counter(report.reason for decision in decisions for report in decision.rungs if report.rung == "reason")
    assert reasons["breaker_open"] > 200
    assert sum(simulated.bill.calls.values()) < 60  # those under way when it opened, and a few that tried again
    assert {decision.source for decision in decisions} == {"search"}


def test_json_of_a_body_is_what_a_client_sends() -> None:
    """The usage that is billed is that of the answer."""
    simulated = SimulatedModel(TicTacToe(), exact, Simulation(latency_ms=0, input_usd_per_mtok=1e6))
    body = {"messages": [{"role": "user", "content": "State: 51"}]}
    answer = json.loads(bytes(asyncio.run(simulated.answer(body)).body))
    assert simulated.bill.usd(simulated.simulation) == answer["usage"]["prompt_tokens"]
