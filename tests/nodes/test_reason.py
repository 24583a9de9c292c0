"""The language model's rung against a real server on loopback that speaks the OpenAI wire."""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.sqlite import SqliteSaver
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from escalade import Decision, DecisionContext
from escalade.app.metrics import Metrics
from escalade.app.settings import Settings
from escalade.app.wiring import open_language_model
from escalade.graph.decision import build_decision_graph
from escalade.nodes.agree import blended
from escalade.nodes.language_model import LanguageModel
from escalade.nodes.router import network_value
from escalade.nodes.structured import Ways

KEY = "sk-canary-5f1c"


def completion(message: dict[str, Any], usage: dict[str, int] | None = None) -> dict[str, Any]:
    return {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "scripted",
        "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **message}}],
        "usage": usage or {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010},
    }


def call(arguments: str, name: str = "choose_action") -> dict[str, Any]:
    function = {"name": name, "arguments": arguments}
    return {"content": None, "tool_calls": [{"id": "1", "type": "function", "function": function}]}


@pytest.fixture
def ask(httpserver: HTTPServer) -> Callable[..., Decision]:
    """`ask(answer)`: a decision on tic-tac-toe 51 with an endpoint that gives this answer (a body, or a function)."""

    def decide(answer: Any, *, prices: tuple[float, float] | None = None, **context: Any) -> Decision:
        def respond(request: Request) -> Response:
            if callable(answer):
                return answer(request)
            return Response(json.dumps(answer), content_type="application/json")

        httpserver.expect_request("/v1/chat/completions").respond_with_handler(respond)
        settings = Settings(
            llm_model="scripted",
            llm_api_key=KEY,
            llm_base_url=httpserver.url_for("/v1"),
            llm_input_usd_per_mtok=prices[0] if prices else None,
            llm_output_usd_per_mtok=prices[1] if prices else None,
        )
        graph = build_decision_graph("tic_tac_toe", language_model=open_language_model(settings))
        options = DecisionContext(**{"simulations": 10, **context})
        given: Any = {"state": "51"}
        result = asyncio.run(graph.ainvoke(given, context=options))
        assert KEY not in json.dumps(result)
        return Decision.model_validate(result["decision"])

    return decide


def test_a_legal_answer_is_accepted_and_priced_by_the_usage_record(ask: Any, httpserver: HTTPServer) -> None:
    decision = ask(completion(call('{"action": "9"}')), prices=(1.0, 4.0))
    assert decision.source == "reason"
    assert decision.action_name == "9"
    assert decision.confidence is None  # one sample has no agreement to measure
    assert decision.cost_usd == pytest.approx((1000 * 1.0 + 10 * 4.0) / 1e6)
    report = decision.rungs[-1]
    assert report.details["tokens"] == {"input_tokens": 1000, "output_tokens": 10}
    (request, _) = httpserver.log[0]
    body = json.loads(request.data)
    form = body["response_format"]["json_schema"]
    assert (form["name"], form["strict"]) == ("choose_action", True)
    allowed = form["schema"]["properties"]["action"]["enum"]
    assert allowed == ["2", "3", "4", "6", "7", "8", "9"]


def test_an_unpriced_model_is_unpriced_not_free(ask: Any) -> None:
    decision = ask(completion(call('{"action": "9"}')))
    assert decision.cost_usd is None
    assert decision.rungs[-1].cost_usd is None


@pytest.mark.parametrize("text", ["9", ' {"action": "9"} ', '{"action": 9}'])
def test_an_answer_in_plain_text_is_read_strictly(ask: Any, text: str) -> None:
    assert ask(completion({"content": text})).action_name == "9"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (call('{"action": "5"}'), "illegal_action"),
        (call('{"action": "resign"}'), "illegal_action"),
        (call('{"action": ["9", "8"]}'), "malformed_answer"),
        (call('{"act'), "malformed_answer"),
        (call('{"action": "9"}', name="rm"), "malformed_answer"),
        ({"content": ""}, "malformed_answer"),
        ({"content": "I would play 9.\nOr 8."}, "malformed_answer"),
        ({"content": '{"action": '}, "malformed_answer"),
        ({"content": "[" * 100_000}, "malformed_answer"),
        ({"content": "9" * 1_000_000}, "malformed_answer"),
    ],
)
def test_what_is_not_a_legal_action_fails_and_search_decides(ask: Any, message: dict[str, Any], reason: str) -> None:
    decision = ask(completion(message))
    reports = {report.rung: report for report in decision.rungs}
    assert (reports["reason"].outcome, reports["reason"].reason) == ("failed", reason)
    assert decision.source == "search"


@pytest.mark.parametrize(
    ("status", "reason", "requests"),
    # A bad request may be so for the way in which the answer was asked for: there are three.
    [
        (429, "rate_limited", 2),
        (500, "server_error", 2),
        (401, "unauthorized", 1),
        (404, "refused", 1),
        (418, "refused", 1),
    ],
)
def test_http_errors_fail_the_rung_after_two_attempts_at_most(
    ask: Any, httpserver: HTTPServer, status: int, reason: str, requests: int
) -> None:
    body = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}})
    decision = ask(lambda _: Response(body, status=status, content_type="application/json"))
    reports = {report.rung: report for report in decision.rungs}
    assert (reports["reason"].outcome, reports["reason"].reason) == ("failed", reason)
    assert decision.source == "search"
    assert len(httpserver.log) == requests


def test_an_answer_that_is_no_completion_fails_the_rung(ask: Any) -> None:
    for body in ({}, {"choices": []}, []):
        decision = ask(body)
        assert decision.rungs[2].outcome == "failed"
        assert decision.source == "search"


def test_a_hanging_endpoint_leaves_time_for_search(ask: Any) -> None:
    answered = threading.Event()

    def hang(_: Request) -> Response:
        answered.wait(30)
        return Response("{}")

    decision = ask(hang, deadline_ms=2000, simulations=50)
    answered.set()
    reports = {report.rung: report for report in decision.rungs}
    assert (reports["reason"].outcome, reports["reason"].reason) == ("failed", "timeout")
    assert decision.source == "search"
    assert decision.latency_ms < 20_000  # nowhere near as long as the endpoint hangs


def test_an_endpoint_that_is_not_there_fails_the_rung() -> None:
    settings = Settings(llm_model="scripted", llm_base_url="http://127.0.0.1:9/v1")
    graph = build_decision_graph("tic_tac_toe", language_model=open_language_model(settings))
    given: Any = {"state": "51"}
    decision = graph.invoke(given, context=DecisionContext(simulations=10))["decision"]
    assert decision["rungs"][2]["reason"] == "unreachable"
    assert decision["source"] == "search"
    assert decision["cost_usd"] == 0.0


def test_a_secret_is_in_no_log_metric_or_checkpoint(
    httpserver: HTTPServer, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """FAULTS, row 28, for an endpoint that quotes the key in what it answers (traces: tests/app/test_tracing.py)."""
    body = json.dumps({"error": {"message": f"Incorrect API key provided: {KEY}"}})
    headers = {"x-request-id": KEY}
    httpserver.expect_request("/v1/chat/completions").respond_with_handler(
        lambda _: Response(body, status=401, headers=headers, content_type="application/json")
    )
    settings = Settings(llm_model="scripted", llm_api_key=KEY, llm_base_url=httpserver.url_for("/v1"))
    metrics = Metrics()
    model = open_language_model(settings, metrics=metrics)
    path = tmp_path / "checkpoints.db"
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, "escalade")
    with SqliteSaver.from_conn_string(str(path)) as saver:
        graph = build_decision_graph("tic_tac_toe", language_model=model, checkpointer=saver, sinks=(metrics.record,))
        given: Any = {"state": "51"}
        config: Any = {"configurable": {"thread_id": "1"}}
        for reasoning in ("short", "full"):
            options = DecisionContext(simulations=10, reasoning=reasoning)  # type: ignore[arg-type]
            assert graph.invoke(given, config, context=options)["decision"]["source"] == "search"
    ours = [record for record in caplog.records if record.name == "escalade"]
    assert ours
    assert KEY not in caplog.text
    assert KEY.encode() not in b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert KEY not in metrics.exposition().decode()
    assert KEY not in str(settings.model_dump())


def test_llm_only_without_an_answer_is_a_clear_error(ask: Any) -> None:
    from escalade import NoDecisionError

    with pytest.raises(NoDecisionError, match=r"reason failed \(illegal_action\)"):
        ask(completion(call('{"action": "1"}')), mode="llm_only")


def test_any_chat_model_of_langchain_can_be_given() -> None:
    from langchain_core.language_models import GenericFakeChatModel
    from langchain_core.messages import AIMessage

    class WithTools(GenericFakeChatModel):
        def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
            return self

    chat = WithTools(messages=iter([AIMessage("7")]))
    graph = build_decision_graph("tic_tac_toe", language_model=chat)
    given: Any = {"state": "51"}
    assert graph.invoke(given)["decision"]["action_name"] == "7"


def test_an_endpoint_serves_one_event_loop_after_another(httpserver: HTTPServer) -> None:
    body = completion(call('{"action": "9"}'))
    httpserver.expect_request("/v1/chat/completions").respond_with_json(body)
    settings = Settings(llm_model="scripted", llm_api_key=KEY, llm_base_url=httpserver.url_for("/v1"))
    graph = build_decision_graph("tic_tac_toe", language_model=open_language_model(settings))
    given: Any = {"state": "51"}
    sources = [asyncio.run(graph.ainvoke(given))["decision"]["source"] for _ in range(4)]
    assert sources == ["reason"] * 4
    assert graph.invoke(given)["decision"]["source"] == "reason"


def test_a_trickling_endpoint_holds_up_no_synchronous_run_either(httpserver: HTTPServer) -> None:
    enough = threading.Event()

    def trickle(_: Request) -> Response:
        def drops() -> Any:
            while not enough.wait(0.2):
                yield b" "

        return Response(drops(), content_type="application/json")

    httpserver.expect_request("/v1/chat/completions").respond_with_handler(trickle)
    settings = Settings(llm_model="scripted", llm_api_key=KEY, llm_base_url=httpserver.url_for("/v1"))
    graph = build_decision_graph("tic_tac_toe", language_model=open_language_model(settings))
    given: Any = {"state": "51"}
    decision = graph.invoke(given, context=DecisionContext(deadline_ms=2000, simulations=50))["decision"]
    enough.set()
    assert decision["rungs"][2]["reason"] == "timeout"
    assert decision["source"] == "search"


@pytest.mark.parametrize("tokens", [-1_000_000, 0])
def test_a_senseless_usage_record_prices_nothing(ask: Any, tokens: int) -> None:
    usage = {"prompt_tokens": tokens, "completion_tokens": 10, "total_tokens": 10}
    decision = ask(completion(call('{"action": "9"}'), usage), prices=(1.0, 1.0))
    assert decision.source == "reason"
    assert decision.cost_usd == (None if tokens < 0 else pytest.approx(1e-5))


def test_a_failed_call_on_a_budget_leaves_the_free_search(ask: Any) -> None:
    decision = ask(lambda _: Response("{}", status=500), prices=(1.0, 1.0), budget_usd=1.0)
    assert decision.source == "search"


def test_a_page_instead_of_an_answer_comes_from_the_wrong_address(ask: Any) -> None:
    report = ask(lambda _: Response("<html>", content_type="application/json")).rungs[2]
    assert report.reason == "refused"
    assert (report.details["code"], report.details["setting"]) == ("html_page", "OPENAI_BASE_URL")


@pytest.mark.parametrize(
    ("evaluation", "network", "wanted"),
    [
        (0.5, -0.5, 0.3 * -0.5 + 0.7 * 0.5),
        (0.5, None, 0.5),
        (None, -0.5, -0.5),
        (None, None, None),
    ],
)
def test_an_unsure_network_s_value_is_blended_with_the_model_s(
    evaluation: float | None, network: float | None, wanted: float | None
) -> None:
    found = blended(evaluation, network, 0.3, {"model": "m"})
    assert found["value"] == (None if wanted is None else pytest.approx(wanted))
    assert found["details"]["model"] == "m"


@pytest.mark.parametrize(
    ("said", "value"), [("0.5", 0.5), ("-1", -1.0), ("2", None), ('"0.5"', None), ("true", None), ("null", None)]
)
def test_only_a_number_in_range_is_an_evaluation(ask: Any, said: str, value: float | None) -> None:
    decision = ask(completion(call(f'{{"action": "3", "evaluation": {said}}}')))
    assert decision.source == "reason"
    assert decision.value == value


def test_a_network_that_decided_or_failed_has_no_part_in_it() -> None:
    unsure = {"rung": "policy", "outcome": "escalated", "value": 0.2}
    assert network_value([unsure]) == 0.2
    assert network_value([unsure, {**unsure, "rung": "value", "value": 0.4}]) == 0.4
    for other in ({"outcome": "failed"}, {"outcome": "skipped", "value": None}, {"rung": "search"}):
        assert network_value([unsure | other]) is None


class Wavering(BaseChatModel):
    """Says these actions, one a call; an error is raised, what is no text is no answer."""

    said: list[Any]

    @property
    def _llm_type(self) -> str:
        return "wavering"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        answer = self.said.pop(0)
        if isinstance(answer, Exception):
            raise answer
        text = json.dumps({"action": answer, "evaluation": 0.5})
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])


def sampled(said: list[Any], **context: Any) -> Decision:
    model = LanguageModel(Wavering(said=said), "wavering", ways=Ways("json_schema"))
    graph = build_decision_graph("tic_tac_toe", language_model=model)
    options = DecisionContext(**{"simulations": 10, "samples": len(said), **context})
    given: Any = {"state": "51"}
    return Decision.model_validate(asyncio.run(graph.ainvoke(given, context=options))["decision"])


def test_agreement_over_samples_is_the_confidence() -> None:
    decision = sampled(["9", "3", "9", "9"], reason_threshold=0.7)
    report = decision.rungs[-1]
    assert (decision.source, decision.action_name, decision.confidence) == ("reason", "9", 0.75)
    assert report.details["votes"] == {"9": 3, "3": 1}
    assert report.reason == "over_threshold"
    assert sampled(["9", "3", "9", "9"], reason_threshold=0.8).source == "search"


def test_what_is_illegal_or_fails_agrees_with_nobody() -> None:
    decision = sampled(["9", "5", "resign", RuntimeError("sk-secret")], mode="llm_only")
    assert (decision.action_name, decision.confidence) == ("9", 0.25)
    assert "sk-secret" not in decision.model_dump_json()
    failed = sampled([RuntimeError(), RuntimeError()])
    assert failed.source == "search"
    assert [report.reason for report in failed.rungs if report.rung == "reason"] == ["error"]
    illegal = sampled(["5", "1"])
    assert [report.reason for report in illegal.rungs if report.rung == "reason"] == ["illegal_action"]


def test_a_model_s_own_word_on_its_certainty_is_not_read() -> None:
    class Sure(Wavering):
        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            text = json.dumps({"action": self.said.pop(0), "confidence": 1.0, "evaluation": 0})
            return ChatResult(generations=[ChatGeneration(message=AIMessage(text))])

    model = LanguageModel(Sure(said=["9"]), "sure", ways=Ways("json_schema"))
    graph = build_decision_graph("tic_tac_toe", language_model=model)
    given: Any = {"state": "51"}
    result = graph.invoke(given, context=DecisionContext(reason_threshold=0.5, simulations=10))
    decision = Decision.model_validate(result["decision"])
    assert [report.reason for report in decision.rungs if report.rung == "reason"] == ["no_confidence"]
