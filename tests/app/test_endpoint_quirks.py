# ruff: noqa: E501 -- what endpoints say, as they say it
"""More of what OpenAI-compatible endpoints do, besides the rows that users met: one test a quirk, against a scripted
endpoint on loopback. Each shows the answer, the calls that it took, and that the next question is answered too."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from escalade.domains.errors import NoDecisionError
from escalade.nodes.structured import WAYS
from tests.endpoints import (
    COST,
    KEY,
    USAGE,
    Reply,
    allowed,
    alone,
    called,
    close_all,
    decide,
    deciding,
    events,
    fresh,
    properly,
    refused,
    report,
    said,
    served,
    way_of,
)

Answer = Callable[[dict[str, Any]], Reply]
pytestmark = pytest.mark.endpoint_quirk

ANSWER = '{"action": "9"}'
CALL = {"id": "c", "type": "function", "function": {"name": "choose_action", "arguments": ANSWER}}


@pytest.fixture(autouse=True, scope="module")
def nothing_is_left_open() -> Iterator[None]:
    yield
    close_all()


def whole(message: Any, **choice: Any) -> Reply:
    return Reply({"choices": [{"index": 0, "finish_reason": "stop", "message": message, **choice}], "usage": USAGE})


def delta(**piece: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": piece}]}


def refuses(sent: Callable[[dict[str, Any]], bool], reply: Reply) -> Answer:
    return lambda body: reply if sent(body) else properly(body)


READ: dict[str, Reply] = {
    "arguments of a function as an object": whole(
        {"content": None, "tool_calls": [{**CALL, "function": {"name": "choose_action", "arguments": {"action": "9"}}}]}
    ),
    "arguments written as JSON twice": called(json.dumps(ANSWER)),
    "a call without an id, type and role": whole({"tool_calls": [{"function": CALL["function"]}]}),
    "the old form of a function's call": whole(
        {"role": "assistant", "content": None, "function_call": CALL["function"]}
    ),
    "a function's name with its namespace": called({"action": "9"}, name="functions.choose_action:0"),
    "content in pieces, one of them thinking": said(
        [{"type": "thinking", "thinking": '{"action": "8"}'}, {"type": "text", "text": ANSWER}]
    ),
    "content that is an object": said({"action": "9"}),
    "no role": whole({"content": ANSWER}),
    "another role": whole({"role": "model", "content": ANSWER}),
    "the answer where thinking should be": said("", reasoning_content=ANSWER),
    "thinking given apart": said(ANSWER, reasoning_content='perhaps {"action": "8"}'),
    "a call in the text, as Llama writes it": said(
        '<|python_tag|>{"name": "choose_action", "parameters": {"action": 9}}'
    ),
    "a call in the text, as Mistral writes it": said(
        '[TOOL_CALLS][{"name": "choose_action", "arguments": {"action": "9"}}]'
    ),
    "a call in the text, as Hermes writes it": said('<function=choose_action>{"action": "9"}</function>'),
    "typographic quotes": said("{“action”: “9”}"),
    "Chinese punctuation": said('{"action"："9"，"evaluation"：0}'),
    "names without quotes": said("{action: '9'}"),
    "the schema before the answer": said(
        '{"properties": {"action": {"type": "string", "enum": ["8", "9"]}}, "type": "object"}\n{"action": "9"}'
    ),
    "the answer with its reason": said('{"reason": "8 or 9", "action": "9", "confidence": 8}'),
    "the answer under another usual name": said('{"move": "9"}'),
    "a line that announces it, among others": said("Action: 9.\n\nThis takes the corner, better than 8."),
    "YAML": said("action: 9\nevaluation: 0.5"),
    "an answer inside a tag": said("<answer>9</answer>"),
    "spaces and a byte order mark before the body": Reply("\ufeff\n  " + json.dumps(said(ANSWER).body)),
    "another type of content": Reply(json.dumps(said(ANSWER).body), kind="text/plain"),
    "several choices": Reply({**said(ANSWER).body, "choices": said(ANSWER).body["choices"] * 2}),
    "no finish reason": said(ANSWER, finish="tool_calls"),
    "a stream with comments and events": Reply(
        ": OPENROUTER PROCESSING\n\nevent: message\nid: 1\ndata: "
        + json.dumps(delta(content=ANSWER))
        + "\r\n\r\ndata: "
        + json.dumps({"choices": [], "usage": USAGE})
        + "\n\ndata: [DONE]\n\n",
        kind="text/event-stream",
    ),
    "a stream without its end": events(
        delta(content='{"action":'), {**delta(content=' "9"}'), "usage": USAGE}, done=False
    ),
    "a stream of calls without an index": events(
        delta(tool_calls=[{"id": "a", "function": {"name": "choose_action", "arguments": '{"act'}}]),
        delta(tool_calls=[{"function": {"arguments": 'ion": "9"}'}}]),
        {"choices": [{"delta": {}, "finish_reason": "tool_calls"}], "x_groq": {"usage": USAGE}},
    ),
    "a stream with the whole message": events({**whole({"content": ANSWER}).body}),
    "usage inside the choice": Reply({"choices": [{"message": {"content": ANSWER}, "usage": USAGE}]}),
    "usage in Anthropic's words": said(ANSWER, usage={"input_tokens": 1000, "output_tokens": 10}),
    "usage with unknown parts": said(ANSWER, usage={**USAGE, "prompt_tokens_details": None, "cost": "0.1", "x": []}),
}


@pytest.mark.parametrize("quirk", READ)
def test_an_answer_is_read(quirk: str) -> None:
    for way in WAYS:
        made, scripted, state = alone(lambda _: READ[quirk], "51", "51", way=way)
        assert [(one.source, one.action_name) for one in made] == [("reason", "9")] * 2
        assert [one.cost_usd for one in made] == [pytest.approx(COST)] * 2
        assert (scripted.ways, state) == ([way] * 2, "closed")


NOT_READ: dict[str, tuple[Reply, str]] = {
    "the schema alone": (said('{"type": "object", "properties": {"action": {"type": "string"}}}'), "malformed_answer"),
    "a choice that is refused": (said("I would not play 9."), "malformed_answer"),
    "an example and an answer": (said('Not {"action": "8"}, but {"action": "9"}.'), "malformed_answer"),
    "two lines that announce one": (said("Action: 9\nAnswer: 8"), "malformed_answer"),
    "two names": (called({"action": "8, 9"}), "illegal_action"),
    "a call of another function": (called({"action": "9"}, name="rm"), "malformed_answer"),
    "a call and a text that differ": (whole({"content": '{"action": "8"}', "tool_calls": [CALL]}), "malformed_answer"),
    "an error code that is a name too": (said('{"error": 9}'), "malformed_answer"),
    "thinking without an end": (said('<think>{"action": "9"}'), "malformed_answer"),
    "a second thought": (said('{"action": "8"}\nHm, that loses. So 9.'), "malformed_answer"),
    "a name that an explanation rejects": (called({"action": "9 (do not)"}), "malformed_answer"),
    "a second choice that differs": (
        Reply(
            {
                "choices": [
                    {"index": 1, "message": {"content": '{"action": "8"}'}},
                    {"index": 0, "message": {"content": ANSWER}},
                ],
                "usage": USAGE,
            }
        ),
        "malformed_answer",
    ),
    "a stream that breaks off": (events({**delta(content="9"), "usage": USAGE}, done=False), "cut_off"),
    "nothing": (said(None), "malformed_answer"),
    "no choices": (Reply({"choices": [], "usage": USAGE}), "malformed_answer"),
}


@pytest.mark.parametrize("quirk", NOT_READ)
def test_what_can_be_meant_in_two_ways_is_not_read(quirk: str) -> None:
    reply, reason = NOT_READ[quirk]
    with fresh(lambda _: reply, way="text") as (scripted, decider):
        (made,) = decide(decider, "51")
        assert (made.source, report(made).reason, len(scripted.calls)) == ("search", reason, 1)
        scripted.answer = properly
        assert decide(decider, "51")[0].source == "reason"


def has(name: str) -> Callable[[dict[str, Any]], bool]:
    return lambda body: f'"{name}"' in json.dumps({key: body[key] for key in body if key != "messages"})


def has_system(body: dict[str, Any]) -> bool:
    return any(one["role"] == "system" for one in body["messages"])


def named_choice(body: dict[str, Any]) -> bool:
    return isinstance(body.get("tool_choice"), dict)


ADAPTED: dict[str, tuple[str, Answer, int]] = {
    # The way it is known to be asked, what it says, and the calls of the first question.
    "a named choice of tool": (
        "function",
        refuses(named_choice, refused("tool_choice object is not supported, use 'auto', 'none' or 'required'")),
        2,
    ),
    "any choice of tool": ("function", refuses(has("tool_choice"), refused("Unsupported parameter: tool_choice")), 3),
    "a keyword of the schema": (
        "function",
        refuses(
            has("additionalProperties"),
            refused('Invalid JSON payload received. Unknown name "additionalProperties" at \'tools[0]\': Cannot find field.'),
        ),
        2,
    ),
    "bounds in a schema": (
        "json_schema",
        lambda body: refused("For 'number' type, property 'maximum' is not supported") if has("maximum")(body)
        else refused("For 'number' type, property 'minimum' is not supported") if has("minimum")(body) else properly(body),
        3,
    ),
    "a field that pydantic forbids": (
        "text",
        refuses(
            has("temperature"),
            Reply({"detail": [{"loc": ["body", "temperature"], "msg": "extra fields not permitted", "type": "value_error.extra"}]}, 422),
        ),
        2,
    ),
    "a temperature of nothing": ("json_schema", refuses(has("temperature"), refused("`temperature` (0.0) must be strictly positive", 422)), 2),
    "both names of the cap": (
        "text",
        lambda body: refused("unexpected keyword 'max_tokens'") if "max_tokens" in body
        else refused("unexpected keyword 'max_completion_tokens'") if "max_completion_tokens" in body else properly(body),
        3,
    ),
    "a cap that is too high, by its old name": (
        "text", refuses(has("max_completion_tokens"), refused("max_tokens is too large: 512", param="max_tokens")), 2,
    ),
    "options of a stream": (
        "text",
        lambda body: refused("streaming is required: set stream=true") if not body.get("stream")
        else refused("Unknown field: stream_options") if "stream_options" in body
        else events(delta(content=properly(body).body["choices"][0]["message"]["content"])),
        3,
    ),
    "a form that the router has no provider for": (
        "json_schema",
        refuses(lambda body: way_of(body) == "json_schema", refused("No endpoints found that can handle the requested parameters.", 404)),
        2,
    ),
    "a model without tools": (
        "function",
        refuses(lambda body: way_of(body) == "function", refused("registry.ollama.ai/library/gemma:2b does not support tools")),
        2,
    ),
    "a system role, by the place that a validator names": (
        "json_schema",
        refuses(has_system, Reply({"detail": [{"type": "enum", "loc": ["body", "messages", 0, "ChatMessage", "role"], "msg": "Input should be 'assistant' or 'user'", "input": "system"}]}, 422)),
        2,
    ),
    "a system role, by a path": (
        "json_schema",
        refuses(has_system, Reply({"issues": [{"code": "invalid_enum_value", "path": ["messages", 0, "role"], "message": "Invalid enum value"}]}, 400)),
        2,
    ),
    "a system role, by a validator of JSON": ("json_schema", refuses(has_system, refused("'system' is not one of ['user', 'model'] - 'input.0'")), 2),
    "a system role, in Chinese": ("json_schema", refuses(has_system, refused("请求错误：该模型的角色system不可用")), 2),
    "a system role, in German": ("json_schema", refuses(has_system, refused("Die Rolle system wird nicht unterstützt")), 2),
    "a parameter in the second of two faults": (
        "text",
        refuses(
            has("temperature"),
            Reply({"detail": [{"loc": ["body"], "msg": "bad", "type": "x"}, {"loc": ["body", "sampling", "temperature"], "msg": "no", "type": "extra_forbidden"}]}, 422),
        ),
        2,
    ),
    "a parameter refused in Japanese": ("text", refuses(has("temperature"), refused("パラメータ temperature はサポートされていません")), 2),
    "a parameter refused in Spanish": ("text", refuses(has("temperature"), refused("El parámetro temperature no está: no soportado")), 2),
    "strict by its name": ("json_schema", refuses(has("strict"), refused("json: unknown field \"strict\"")), 2),
    "strict in its place": ("json_schema", refuses(has("strict"), refused("response_format.json_schema.strict: extra inputs are not permitted")), 2),
    "a bare 400 to a form": ("", refuses(lambda body: way_of(body) != "text", Reply("", 400)), 3),
}  # fmt: skip


@pytest.mark.parametrize("quirk", ADAPTED)
def test_a_refusal_teaches_how_to_ask(quirk: str) -> None:
    way, answer, calls = ADAPTED[quirk]
    with fresh(answer, way=way or None) as (scripted, decider):  # type: ignore[arg-type]
        (made,) = decide(decider, "51")
        assert (made.source, made.action_name, len(scripted.calls)) == ("reason", "9", calls)
        before = len(scripted.calls)
        assert [one.source for one in decide(decider, "51", "5")] == ["reason"] * 2
        again = len(scripted.calls) - before
        assert again <= 2 * (1 if scripted.ways[0] == scripted.ways[-1] or not way else 2)


FAILED: dict[str, tuple[Reply, str, int, Any]] = {
    # What it says; the reason, the calls, and the code in the report.
    "a page of a gateway with 200": (Reply("<html><title>502 Bad Gateway</title></html>", kind="text/html"), "server_error", 2, "html_page"),
    "a page of a gateway with its status": (Reply("<html><h1>503</h1></html>", 503, kind="text/html"), "server_error", 2, "html_page"),
    "a line of a proxy": (Reply("upstream connect error or disconnect/reset before headers", kind="text/plain"), "server_error", 2, None),
    "an empty body": (Reply(""), "server_error", 2, "empty_answer"),
    "overloaded, by Anthropic": (Reply({"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}, 529), "server_error", 2, "overloaded_error"),
    "a list with an error, by Google": (Reply([{"error": {"code": 503, "message": "x", "status": "UNAVAILABLE"}}]), "server_error", 2, "UNAVAILABLE"),
    "a key that Google refuses": (Reply([{"error": {"code": 400, "message": "API key not valid. Please pass a valid API key.", "status": "INVALID_ARGUMENT"}}], 400), "unauthorized", 1, "INVALID_ARGUMENT"),
    "a deployment that Azure does not have": (refused("The API deployment for this resource does not exist.", 404, code="DeploymentNotFound"), "refused", 1, "DeploymentNotFound"),
    "too many, by vLLM in a success": (Reply({"object": "error", "message": "Rate limit", "type": "TooManyRequests", "code": 429}), "rate_limited", 2, "TooManyRequests"),
    "a request that timed out": (Reply({"error": {"message": "Request timed out"}}, 408), "server_error", 2, None),
    "a prompt that is too long": (refused("This model's maximum context length is 4096 tokens. However, you requested 5000 tokens (4000 in the messages, 200 in the functions). max_tokens", code="context_length_exceeded"), "refused", 1, "context_length_exceeded"),
    "balance of nothing, by Zhipu": (Reply({"error": {"code": "1113", "message": "您的账户已欠费"}}, 429), "quota", 1, None),
    "a text that Alibaba inspects": (refused("Input data may contain inappropriate content.", code="data_inspection_failed"), "content_filter", 1, "data_inspection_failed"),
    "an ending without resources, by DeepSeek": (said("", finish="insufficient_system_resource"), "server_error", 2, "server_error"),
    "a rate limit that a gateway sends as 400": (refused("litellm.RateLimitError: AzureException - x", code="429", type=None), "rate_limited", 2, None),
    "a rate limit that only its type tells": (refused("slow down", 422, type="rate_limit_error"), "rate_limited", 2, "rate_limit_error"),
    "tokens a minute as 413": (refused("Request too large on tokens per minute (TPM)", 413, code="rate_limit_exceeded", type="tokens"), "rate_limited", 2, "rate_limit_exceeded"),
    "an outage that a gateway sends as 400": (refused("litellm.ServiceUnavailableError: x", code="503"), "server_error", 2, None),
    "a filter that a gateway sends as 500": (refused("litellm.ContentPolicyViolationError: the response was filtered", 500, type=None), "content_filter", 1, None),
    "a budget of a gateway": (refused("Budget has been exceeded! Current cost: 1.2, Max budget: 1.0", type="budget_exceeded"), "quota", 1, "budget_exceeded"),
    "no capacity, as 498": (refused("Flex tier capacity exceeded", 498, code="capacity_exceeded"), "server_error", 2, "capacity_exceeded"),
    "an ending with a prefix": (said("", finish="blocked: IMAGE_SAFETY"), "content_filter", 1, None),
    "an ending in capitals": (said("", finish="PROHIBITED_CONTENT"), "content_filter", 1, None),
    "an ending in camel case": (said("", finish="ContentFilter"), "content_filter", 1, None),
    "an ending of another kind of cap": (said("", finish="length: MAX_TOKENS"), "cut_off", 1, None),
    "a code that is the key": (refused("no", 404, code=KEY, type=KEY), "refused", 1, None),
    "a code that is a sentence": (refused("no", 404, code=f"the key {KEY} is wrong", type="my secret text"), "refused", 1, None),
}  # fmt: skip


@pytest.mark.parametrize("quirk", FAILED)
def test_a_failure_is_what_it_means(quirk: str) -> None:
    reply, reason, calls, code = FAILED[quirk]
    for way in (None, "function"):
        with fresh(lambda _: reply, way=way) as (scripted, decider):  # type: ignore[arg-type]
            (made,) = decide(decider, "51")
            told = report(made)
            assert (made.source, told.reason, len(scripted.calls), told.details.get("code")) == (
                "search",
                reason,
                calls,
                code,
            )
            assert KEY not in made.model_dump_json()
            assert "secret" not in made.model_dump_json()
            scripted.answer = properly
            assert decide(decider, "51")[0].source == "reason"
            assert scripted.ways[-1] == (way or "json_schema")


@pytest.mark.parametrize(
    "message",
    [
        "Denied under a strict policy of this tenant",
        "Strict policy: this must not be sent",
        "Requests from unsupported regions are stopped by a strict rule",
        "The upstream must be restarted",
        "Downstream is required to be up",
        "Room temperature reached",
    ],
)
def test_words_that_are_no_refusal_of_a_parameter_teach_nothing(message: str) -> None:
    with fresh(lambda _: refused(message), way="json_schema") as (scripted, decider):
        decide(decider, "51")
        assert decider.resources.language_model is not None
        assert decider.resources.language_model.dialect.left_out == frozenset()
        assert all("strict" in json.dumps(one) for one in scripted.calls if way_of(one) == "json_schema")
        assert not any(one.get("stream") for one in scripted.calls)


@pytest.mark.parametrize("cut", ["length", "chunked", "reset"])
@pytest.mark.parametrize("body", [said(ANSWER).body, "{"])
def test_an_answer_that_breaks_off_may_be_billed(cut: str, body: Any) -> None:
    made, scripted, _ = alone(lambda _: Reply(body, cut=cut), "51")
    told = report(made[0])
    assert (told.reason, told.cost_usd, made[0].cost_usd, len(scripted.calls)) == ("server_error", None, None, 2)
    assert (told.details["status"], told.details["code"]) == (200, "broken_off")


@pytest.mark.parametrize(
    "message",
    [
        "Le paramètre temperature n'est pas pris en charge",
        "El parámetro «temperature» no es compatible con este modelo",
        "O parâmetro temperature não é suportado",
        "Il parametro temperature non è supportato",
        "temperature: this model wants no such field",
        "Parametr temperature jest zbędny",
    ],
)
def test_a_parameter_that_a_refusal_names_is_left_out_in_whatever_language(message: str) -> None:
    made, scripted, _ = alone(refuses(lambda body: "temperature" in body, refused(message)), "51")
    assert (made[0].source, len(scripted.calls)) == ("reason", 2)


def test_what_the_server_s_own_code_does_not_know_is_left_out() -> None:
    said_so = refused("got an unexpected keyword argument 'max_completion_tokens'", 500)
    made, scripted, _ = alone(refuses(lambda body: "max_completion_tokens" in body, said_so), "51")
    assert (made[0].source, len(scripted.calls)) == ("reason", 2)
    form = refused("Failed to compile json schema", 503)
    made, scripted, _ = alone(refuses(lambda body: "response_format" in body, form), "51", way="json_schema")
    assert (made[0].source, len(scripted.calls)) == ("reason", 2)


def test_nobody_is_told_that_nothing_is_streamed() -> None:
    _, scripted, _ = alone(properly, "51")
    assert all("stream" not in body for body in scripted.calls)


@pytest.mark.parametrize("headers", [{}, {"content-encoding": "gzip"}])
def test_half_of_a_body_is_a_connection_that_broke_off(headers: dict[str, str]) -> None:
    broken = json.dumps(said(ANSWER).body)[:60].encode()
    replies = iter((Reply(broken, headers=headers),))
    made, scripted, _ = alone(lambda body: next(replies, None) or properly(body), "51")
    assert (made[0].source, made[0].cost_usd, len(scripted.calls)) == ("reason", None, 2)


def test_what_leads_elsewhere_is_a_wrong_address() -> None:
    made, scripted, _ = alone(lambda _: Reply("moved", 301), "51")
    told = report(made[0])
    assert (told.reason, told.details["status"], told.details["setting"]) == ("refused", 301, "OPENAI_BASE_URL")
    assert len(scripted.calls) == 1


def test_the_cost_of_an_answer_that_broke_off_is_not_known_though_the_next_one_came() -> None:
    replies = iter((Reply(said(ANSWER).body, cut="reset"),))
    made, scripted, _ = alone(lambda body: next(replies, None) or properly(body), "51")
    assert (made[0].source, made[0].cost_usd, len(scripted.calls)) == ("reason", None, 2)


def test_an_answer_that_breaks_off_takes_of_the_budget_what_it_may_have_cost() -> None:
    answer = lambda _: Reply(said(ANSWER).body, cut="chunked")  # noqa: E731
    made, scripted, _ = alone(answer, "51", budget_usd=0.004, llm_max_tokens=512)
    assert len(scripted.calls) == 1  # a second one could exceed it
    assert report(made[0]).cost_usd is None


def test_who_never_answers_costs_nothing() -> None:
    with served(properly) as scripted:
        pass
    with deciding(scripted) as decider:
        told = report(decide(decider, "51")[0])
    assert (told.reason, told.cost_usd) == ("unreachable", 0.0)


@pytest.mark.parametrize("page", ["<!DOCTYPE html><title>Just a moment...</title>", "error code: 1020"])
def test_a_gateway_that_bars_everybody_is_not_said_to_want_another_key(page: str) -> None:
    for status in (401, 403):
        made, scripted, _ = alone(lambda _, status=status: Reply(page, status, kind="text/html"), "51")
        told = report(made[0])
        assert (told.reason, told.details["setting"], len(scripted.calls)) == ("unauthorized", "OPENAI_BASE_URL", 1)


def test_a_fault_of_one_question_teaches_nothing_about_the_others() -> None:
    """A text that an error quotes, and that speaks of parameters, forms, roles and money."""
    curse = "system role schema tools temperature billing consecutive stream=true curse"
    for status in (400, 422):
        answer = lambda body, status=status: (  # noqa: E731
            refused(f"invalid request: could not process: {curse}", status)
            if "curse" in json.dumps(body)
            else properly(body, "refund")
        )
        with fresh(answer, "intents", llm_batch_ms=0) as (scripted, decider):
            assert decide(decider, "fine")[0].action_name == "refund"
            with pytest.raises(NoDecisionError):
                decide(decider, curse)
            before = len(scripted.calls)
            assert [one.action_name for one in decide(decider, *["fine"] * 3)] == ["refund"] * 3
            assert len(scripted.calls) == before + 3
            assert scripted.calls[-1] == {**scripted.calls[0], "messages": scripted.calls[-1]["messages"]}
            assert [one["role"] for one in scripted.calls[-1]["messages"]] == ["system", "user"]


def test_what_a_refusal_names_in_vain_is_not_left_out_for_ever() -> None:
    """An endpoint that names a parameter although something else is wrong with a question."""
    answer = refuses(lambda body: "curse" in json.dumps(body), refused("temperature and system role are not supported"))
    answer = (lambda refuse: lambda body: refuse(body) if "curse" in json.dumps(body) else properly(body, "refund"))(
        answer
    )
    with fresh(answer, "intents", llm_batch_ms=0) as (scripted, decider):
        with pytest.raises(NoDecisionError):
            decide(decider, "curse")
        decide(decider, "fine")
        assert "temperature" in scripted.calls[-1]
        assert [one["role"] for one in scripted.calls[-1]["messages"]] == ["system", "user"]


def test_a_weak_model_is_not_asked_ever_more() -> None:
    """Illegal answers in every way: three calls for the first questions, then one each."""
    with fresh(lambda body: called({"action": "5"}) if way_of(body) == "function" else said('{"action": "5"}')) as (
        scripted,
        decider,
    ):
        decide(decider, *["51"] * 6)
        assert len(scripted.calls) == 3 * 3 + 3
        scripted.answer = lambda body: properly(body, allowed(body)[0])
        assert decide(decider, "51")[0].source == "reason"
