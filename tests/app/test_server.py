"""Our HTTP app on a real socket."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi.testclient import TestClient
from hypothesis import given, settings
from hypothesis import strategies as st

from escalade import Decision, __version__
from escalade.app.metrics import Metrics
from escalade.app.server import create_app
from escalade.app.settings import Settings
from escalade.neural.bundle import Bundle


@pytest.fixture(scope="module")
def client(tic_tac_toe_bundle: Bundle) -> Iterator[httpx.Client]:
    bundles = {"tic_tac_toe": str(tic_tac_toe_bundle.path), "connect_four": "none"}
    settings = Settings(domains=("tic_tac_toe", "connect_four"), bundles=bundles)
    config = uvicorn.Config(create_app(settings, Metrics()), port=0, log_level="warning")
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as http:
        yield http
    server.should_exit = True
    thread.join()


def test_health_names_version_and_bundles(client: httpx.Client, tic_tac_toe_bundle: Bundle) -> None:
    health = client.get("/health").json()
    assert health["status"] == "ok"
    assert health["version"] == __version__
    assert health["domains"] == {"tic_tac_toe": tic_tac_toe_bundle.version, "connect_four": None}


def test_predict_answers_from_the_network(client: httpx.Client) -> None:
    answer = client.post("/predict", json={"state": "51", "temperature": 0})
    assert answer.status_code == 200
    assert set(answer.json()) == {"action", "confidence", "value", "latency_ms"}
    assert answer.json()["action"] in {1, 2, 3, 5, 6, 7, 8}
    drawn = {client.post("/predict", json={"state": "", "temperature": 5}).json()["action"] for _ in range(30)}
    assert len(drawn) > 1
    repeated = {client.post("/predict", json={"state": "", "seed": 3}).json()["action"] for _ in range(5)}
    assert len(repeated) == 1


def test_predict_without_a_bundle_says_so(client: httpx.Client) -> None:
    answer = client.post("/predict", json={"state": "44", "domain": "connect_four"})
    assert answer.status_code == 409  # asking again would not help
    assert "no_model" in answer.json()["detail"]
    assert "ESCALADE_BUNDLES" in answer.json()["detail"]


def test_decide_returns_a_decision(client: httpx.Client) -> None:
    answer = client.post("/decide", json={"state": "51", "policy_threshold": 0, "decision_id": "mine"})
    decision = Decision.model_validate(answer.json())
    assert decision.source == "policy"
    assert decision.decision_id == "mine"
    other = client.post("/decide", json={"state": "4455", "domain": "connect_four", "simulations": 50})
    assert Decision.model_validate(other.json()).source == "search"


@pytest.mark.parametrize("route", ["/predict", "/decide"])
@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b'{"state": NaN}', "state"),
        (b'{"state": [1, {"a": Infinity}]}', "state"),
        (b'{"state": 1e400}', "state"),
        (b'{"state": "5x"}', "state"),
        (b'{"state": null}', "state"),
        (b'{"state": {"a": 1}}', "state"),
        (b'{"state": "142539"}', "state"),
        (b"{}", "state"),
        (b'{"state": "5", "domain": "chess"}', "domain"),
        (b'{"state": "5", "domain": "os:system"}', "domain"),
        (b'{"state": "5", "unknown": 1}', "unknown"),
        (b'{"state": "5", "domain": "\\ud800"}', "domain"),
        (b'{"state": ' + b"[" * 50_000 + b"]" * 50_000 + b"}", "body"),
        (b'{"state": ' + b"9" * 5000 + b"}", "body"),
        (b"[]", "body"),
        (b"{", "body"),
    ],
)
def test_bad_input_is_422_with_the_field(client: httpx.Client, route: str, body: bytes, field: str) -> None:
    answer = client.post(route, content=body, headers={"content-type": "application/json"})
    assert answer.status_code == 422, answer.text
    (fault, *_) = answer.json()["detail"]
    assert field in fault["loc"]
    assert fault["msg"]


@pytest.mark.parametrize(
    ("route", "fields"),
    [
        ("/predict", {"temperature": -1}),
        ("/predict", {"temperature": "hot"}),
        ("/predict", {"seed": -1}),
        ("/decide", {"simulations": 0}),
        ("/decide", {"policy_threshold": 2}),
        ("/decide", {"deadline_ms": 0}),
        ("/decide", {"mode": "fast"}),
        ("/decide", {"ladder": ["luck"]}),
        ("/decide", {"decision_id": ""}),
        ("/decide", {"simulations": True}),
        ("/decide", {"human": True}),
        ("/decide", {"ladder": ["human"]}),
    ],
)
def test_bad_options_are_422_with_the_field(client: httpx.Client, route: str, fields: dict[str, Any]) -> None:
    answer = client.post(route, json={"state": "5", **fields})
    assert answer.status_code == 422
    assert next(iter(fields)) in answer.json()["detail"][0]["loc"]
    for bad in (b'{"state": "5", "temperature": NaN}', b'{"state": "5", "deadline_ms": Infinity}'):
        assert client.post(route, content=bad).status_code == 422


def test_refused_states_name_the_place(client: httpx.Client) -> None:
    assert client.post("/decide", json={"state": "5x"}).json()["detail"][0]["position"] == 2


def test_a_person_cannot_be_asked_here(client: httpx.Client) -> None:
    for options in ({"human": True}, {"ladder": ["human"]}):
        answer = client.post("/decide", json={"state": "5", **options})
        assert answer.status_code == 422
        assert "LangGraph server" in answer.text


def test_no_decision_for_want_of_a_setting_is_409_with_every_rung(client: httpx.Client) -> None:
    answer = client.post("/decide", json={"state": "44", "domain": "connect_four", "mode": "neural_only"})
    assert answer.status_code == 409
    assert "ESCALADE_BUNDLES" in answer.json()["detail"]
    assert [report["reason"] for report in answer.json()["rungs"]] == ["no_model", "no_model"]


@pytest.mark.parametrize("most", [0, 1e-9])
def test_a_budget_that_no_rung_can_keep_is_the_client_s_to_change(most: float) -> None:
    settings = Settings(
        domains=("tic_tac_toe",),
        llm_model="m",
        llm_base_url="http://127.0.0.1:9/v1",
        llm_input_usd_per_mtok=1,
        llm_output_usd_per_mtok=4,
    )
    with TestClient(create_app(settings, Metrics())) as client:
        body = {"state": "519", "ladder": ["reason"], "budget_usd": most}
        answer = client.post("/decide", json=body)
        assert answer.status_code == 422
        assert answer.json()["detail"][0]["loc"] == ["body", "budget_usd"]
        assert answer.json()["rungs"][0]["reason"] == "budget"
        counted = client.get("/metrics").text
        assert 'requests_refused_total{reason="budget"} 1.0' in counted
        assert "not_set_up" not in counted


@pytest.mark.parametrize("content", [b"[]", b'"51"', b"7", b"null", b"{", b"state=51", b""])
def test_a_body_that_is_no_object_is_told_what_it_must_be(client: httpx.Client, content: bytes) -> None:
    for route, field in (("/decide", "state"), ("/predict", "state"), ("/outcomes", "decision_id")):
        answer = client.post(route, content=content, headers={"content-type": "application/json"})
        assert answer.status_code == 422
        assert f"the body must be a JSON object with `{field}`" in answer.json()["detail"][0]["msg"]


@pytest.mark.parametrize("samples", [17, 64, 65, 1000])
def test_the_limit_that_is_told_is_this_server_s(client: httpx.Client, samples: int) -> None:
    answer = client.post("/decide", json={"state": "51", "samples": samples})
    assert answer.status_code == 422
    assert "at most 16" in answer.json()["detail"][0]["msg"]


def test_a_hundred_at_once_each_get_their_own_answer(client: httpx.Client) -> None:
    states = [a + b for a in "123456789" for b in "123456789" if a != b][:50] * 2

    def decide(state: str) -> str:
        body = {"state": state, "policy_threshold": 0.0}
        decided = client.post("/decide", json=body).json()
        assert decided["action_name"] not in state
        return str(decided["state"])

    with ThreadPoolExecutor(20) as pool:
        assert list(pool.map(decide, states)) == states


@settings(max_examples=100)
@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3)))
def test_no_state_whatever_is_an_internal_error(client: httpx.Client, state: Any) -> None:
    import json

    for route in ("/predict", "/decide"):
        answer = client.post(route, content=json.dumps({"state": state}), headers={"content-type": "application/json"})
        assert answer.status_code in (200, 422)


def test_metrics_carry_the_promised_names(client: httpx.Client) -> None:
    client.post("/decide", json={"state": "51", "simulations": 5})
    text = client.get("/metrics").text
    for line in (
        'neural_predictions_total{model_type="policy"}',
        'prediction_latency_seconds_bucket{le="0.001",model_type="search"}',
        'model_confidence_bucket{le="0.95",model_type="policy"}',
        'inference_cost_dollars_total{source="search"}',
        'decisions_total{best_effort="false",domain="tic_tac_toe",source="search"}',
    ):
        assert line in text
    assert "llm_calls_total" in text
    assert client.get("/app/metrics").text.splitlines()[0] == text.splitlines()[0]


def test_llm_calls_are_counted_by_why_they_were_needed() -> None:
    metrics = Metrics()
    rungs: Any = [
        {"rung": "policy", "outcome": "escalated", "reason": "under_threshold", "action": 1, "confidence": 0.4},
        {
            "rung": "reason",
            "outcome": "failed",
            "reason": "timeout",
            "cost_usd": 0.25,
            "details": {"tokens": {"input_tokens": 70, "output_tokens": None}},
        },
        {"rung": "search", "outcome": "accepted", "reason": "trusted", "action": 1},
    ]
    metrics.record(
        Decision(
            decision_id="1", domain="d", state="", action=1, action_name="2", source="search", certified=False,
            best_effort=False, cost_usd=0.25, latency_ms=1, rungs=rungs,
        )
    )  # fmt: skip
    text = metrics.exposition().decode()
    assert 'llm_calls_total{fallback_reason="under_threshold"} 1.0' in text
    assert 'inference_cost_dollars_total{source="reason"} 0.25' in text
    assert 'llm_ends_total{result="timeout"} 1.0' in text
    assert 'llm_tokens_total{kind="input"} 70.0' in text


def test_a_deep_body_is_answered_shortly(client: httpx.Client) -> None:
    body = b'{"state": ' + b"[" * 900 + b"NaN" + b"]" * 900 + b"}"
    answer = client.post("/decide", content=body)
    assert answer.status_code == 422
    assert len(answer.content) < 10_000


def test_a_default_that_asks_a_person_is_409_here() -> None:
    settings = Settings(domains=("tic_tac_toe",), defaults={"ladder": ["human"]})
    with TestClient(create_app(settings, Metrics())) as app:
        answer = app.post("/decide", json={"state": "5"})
        assert answer.status_code == 409
        assert "asks a person" in answer.json()["detail"]
