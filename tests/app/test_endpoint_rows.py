"""What OpenAI-compatible endpoints really do, row by row of the list of what users met, against a scripted endpoint on
loopback, through the real client and the real graph. One test a row; each goes over its whole kind."""

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
    STATES,
    USAGE,
    Reply,
    alone,
    breaker,
    called,
    close_all,
    decide,
    events,
    fresh,
    properly,
    refused,
    report,
    said,
    streamed,
    texts_of,
    way_of,
)

ROWS: dict[int, Callable[[], None]] = {}


@pytest.fixture(autouse=True, scope="module")
def nothing_is_left_open() -> Iterator[None]:
    yield
    close_all()


def row(number: int) -> Callable[[Callable[[], None]], Callable[[], None]]:
    def keep(check: Callable[[], None]) -> Callable[[], None]:
        ROWS[number] = check
        return check

    return keep


def answered(made: Any, wanted: str = "9") -> None:
    assert [(one.source, one.action_name) for one in made] == [("reason", wanted)] * len(made)


@row(1)
def chatter_where_a_form_was_asked_for() -> None:
    for line in ("I would play 9.", "Ich nehme Feld 9, weil es die Ecke ist.", "Sure!", "On the whole, 9 or 8."):
        made, scripted, state = alone(
            lambda body, line=line: properly(body, "7") if way_of(body) == "text" else said(line), *STATES[:5]
        )
        answered(made, "7")
        assert scripted.ways == [*WAYS, *["text"] * 4]
        assert state == "closed"
    # Also later: a way that worked and does so no more is left.
    down: list[int] = []
    answer = lambda body: said("Hm, 9?") if down and way_of(body) == "json_schema" else properly(body)  # noqa: E731
    with fresh(answer) as (scripted, decider):
        answered(decide(decider, "51", "51"))
        down.append(1)
        assert [one.source for one in decide(decider, "51", "51")] == ["search", "search"]
        answered(decide(decider, *["51"] * 3))
        assert scripted.ways[-2:] == ["function"] * 2


@row(2)
def json_inside_a_text() -> None:
    for text in (
        'Sure! {"action":"9"}',
        '\ufeff{"action":"9","evaluation":0.1}',
        'Gerne. Meine Wahl: {"action": "9"} Das ist eine Ecke.',
        '好的，答案如下：\n{"action": "9"}\n谢谢',
        '{"action": "9"}\n\nNote: corners {like this} are good.',
    ):
        for way in WAYS:
            made, scripted, _ = alone(lambda _, text=text: said(text), "51", "51", way=way)
            answered(made)
            assert len(scripted.calls) == 2
            assert made[0].cost_usd == pytest.approx(COST)


@row(3)
def thinking_before_the_answer() -> None:
    for thinking in (
        '<think>8 {or} 9? {"action": "8"}</think>',
        '<think>\nouter <think>inner {"action": "7"}</think> more {"action": "8"}</think>\n\n',
        '{"action": "8"} is bad</think>',
        '<thinking>{"action": "8"}</thinking>',
        '<reasoning effort="high">{</reasoning>',
        '[THINK]{"action": "8"}[/THINK]',
        '<|channel|>analysis<|message|>{"action": "8"}<|end|><|start|>assistant<|channel|>final<|message|>',
        "<think/>",
    ):
        for way in WAYS:
            for answer in ('{"action": "9"}', '```json\n{"action": "9"}\n```', "9"):
                made, scripted, _ = alone(lambda _, text=thinking + answer: said(text), "51", way=way)
                answered(made)
                assert len(scripted.calls) == 1


@row(4)
def wrapped_and_reformatted_answers() -> None:
    fine = (
        'Here it is:\n```json\n{"action": "9"}\n```',
        '```\n{"action": "9"}\n```\nI hope that this helps.',
        '{"choose_action": {"action": "9"}}',
        '{"name": "choose_action", "arguments": {"action": "9"}}',
        '<tool_call>{"name": "choose_action", "arguments": "{\\"action\\": \\"9\\"}"}</tool_call>',
        '{"ACTION": "9"}',
        '{"action": 9.0}',
        '{"action": ["9"]}',
        '[{"action": "9"}]',
        '{"properties": {"action": "9"}}',
        "{'action': '9',}",
        '{"action": "9"} {"action": "9"}',
    )
    twofold = (
        '{"action": "9"} or {"action": "8"}',
        '{"action": ["9", "8"]}',
        '{"action": "9", "Action": "8"}',
        '{"action": "9", "action": "8"}',
        '[{"action": "9"}, {"action": "8"}]',
        '{"action": "9',
    )
    for way in WAYS:
        for text in fine:
            replies = [said(text)] + ([called(text)] if text.startswith(("{", "[", "<")) else [])
            for reply in replies:
                made, scripted, _ = alone(lambda _, reply=reply: reply, "51", way=way)
                answered(made)
                assert len(scripted.calls) == 1
        for text in twofold:
            made, _, _ = alone(lambda _, text=text: said(text), "51", way=way)
            assert (made[0].source, report(made[0]).reason) == ("search", "malformed_answer")


@row(5)
def decorated_names() -> None:
    for given in (
        '"9"',
        "9.",
        "**9**",
        " 9 ",
        "9.0",
        "Action: 9",
        "`9`",
        "(9)",
        "**Answer:** 9",
        "Aktion: 9",
        "9: a corner",
    ):
        for reply in (called({"action": given}), said(json.dumps({"action": given})), said(given)):
            made, _, _ = alone(lambda _, reply=reply: reply, "51", way="json_schema")
            answered(made)
    for given in (
        "REFUND",
        "Refund.",
        "refund: money back, not a change of balance",
        "'refund'",
        "Label: refund",
        "- refund",
    ):
        made, scripted, _ = alone(lambda _, given=given: said(json.dumps({"action": given})), "a", domain="intents")
        answered(made, "refund")
        assert len(scripted.calls) == 1
    for given in ("10", "resign", "-9", "9.5", "99"):
        made, _, _ = alone(lambda _, given=given: called({"action": given}), "51", way="function")
        assert report(made[0]).reason == "illegal_action"
    for given in ("8 / 9: either", "9: or rather 8"):
        made, _, _ = alone(lambda _, given=given: called({"action": given}), "51", way="function")
        assert made[0].source == "search"


@row(6)
def errors_in_the_body_of_a_success() -> None:
    kinds: list[tuple[Any, str, int]] = [
        ({"choices": None, "error": {"code": 429, "message": "Rate limited upstream"}}, "rate_limited", 2),
        ({"choices": None, "error": {"code": 502, "message": "Bad gateway"}}, "server_error", 2),
        ({"error": {"code": "503", "message": "no instances"}}, "server_error", 2),
        ({"error": "model is overloaded, try again later", "error_type": "overloaded"}, "server_error", 2),
        (
            {"choices": [{"error": {"code": 429}, "finish_reason": "error", "message": {"content": ""}}]},
            "rate_limited",
            2,
        ),
        ({"choices": [{"finish_reason": "error", "message": {"role": "assistant", "content": ""}}]}, "server_error", 2),
        ({"choices": None}, "server_error", 2),
        ({"object": "error", "message": "Too many requests", "code": 429}, "rate_limited", 2),
        ({"error": {"code": 401, "message": "Invalid API key"}}, "unauthorized", 1),
        ({"error": {"type": "insufficient_quota", "message": "out of credits"}}, "quota", 1),
        ({"error": {"message": "The model `x` does not exist", "code": "model_not_found"}}, "refused", 1),
    ]
    for body, reason, calls in kinds:
        for way in (None, *WAYS):
            made, scripted, _ = alone(lambda _, body=body: Reply(body), "51", way=way)
            assert (made[0].source, report(made[0]).reason, len(scripted.calls)) == ("search", reason, calls)
            assert len(set(scripted.ways)) == 1
    # A second attempt mends what passes; the breaker counts it; and the way of asking stays as it was.
    replies = [Reply(kinds[0][0])]
    made, scripted, state = alone(lambda body: replies.pop() if replies else properly(body), "51", "51")
    answered(made)
    assert scripted.ways == ["json_schema"] * 3
    assert state == "closed"
    bad = [Reply(kinds[1][0])] * 6
    with fresh(lambda body: bad.pop() if bad else properly(body)) as (scripted, decider):
        reasons = [report(one).reason for one in decide(decider, *["51"] * 3)]
        assert reasons == ["server_error"] * 3
        assert breaker(decider) == "open"
        assert set(scripted.ways) == {"json_schema"}
        assert decider.resources.language_model is not None
        assert decider.resources.language_model.ways.way == "json_schema"


@row(7)
def refused_parameters() -> None:
    def without(name: str, message: str, status: int, sent: Callable[[dict[str, Any]], bool], **error: Any) -> None:
        for way in WAYS:
            made, scripted, _ = alone(
                lambda body: refused(message, status, **error) if sent(body) else properly(body), *["51"] * 3, way=way
            )
            answered(made)
            assert scripted.ways == [way] * len(scripted.calls), name
            assert sum(map(sent, scripted.calls)) <= 1, name

    has = lambda name: lambda body: name in body  # noqa: E731
    without(
        "temperature",
        "'temperature' does not support 0 with this model. Only 1 is supported.",
        400,
        has("temperature"),
        param="temperature",
        code="unsupported_value",
    )
    without("temperature", "Unknown parameter: temperature", 422, has("temperature"))
    without(
        "length", "Unrecognized request argument supplied: max_completion_tokens", 400, has("max_completion_tokens")
    )
    extra = {
        "detail": [
            {
                "type": "extra_forbidden",
                "loc": ["body", "max_completion_tokens"],
                "msg": "Extra inputs are not permitted",
                "input": 512,
            }
        ]
    }
    for way in WAYS:
        made, scripted, _ = alone(
            lambda body: Reply(extra, 422) if "max_completion_tokens" in body else properly(body), "51", "51", way=way
        )
        answered(made)
        assert [body.get("max_tokens") for body in scripted.calls] == [None, 512, 512]
    strict = lambda body: "strict" in json.dumps(body.get("response_format", {}))  # noqa: E731
    without("strict", "Unknown field: response_format.json_schema.strict", 400, strict)
    without("strict", "property 'strict' is unsupported", 400, strict)
    # Several at once, one after the other; and a setting can say it before.
    both = lambda body: next((name for name in ("temperature", "max_completion_tokens") if name in body), None)  # noqa: E731
    made, scripted, _ = alone(
        lambda body: refused(f"{both(body)} is not allowed") if both(body) else properly(body), "51", "5"
    )
    answered(made)
    assert scripted.ways == ["json_schema"] * 4
    made, scripted, _ = alone(properly, "51", llm_leave_out=("temperature", "response_format"))
    answered(made)
    assert scripted.ways == ["function"]
    assert "temperature" not in scripted.calls[0]


@row(8)
def merged_messages() -> None:
    roles = lambda body: [one["role"] for one in body["messages"]]  # noqa: E731
    for message in (
        "System role not supported",
        "Developer instruction is not enabled for this model",
        "'messages[0].role' does not support 'system' with this model.",
        "Only user and assistant roles are supported!",
    ):
        for way in WAYS:
            made, scripted, _ = alone(
                lambda body, message=message: refused(message) if "system" in roles(body) else properly(body),
                *["51"] * 3,
                way=way,
            )
            answered(made)
            assert [roles(body) for body in scripted.calls[1:]] == [["user"]] * 3
            assert "Choose the number of a free cell" in scripted.calls[1]["messages"][0]["content"]
    twice = lambda body: any(a == b for a, b in zip(roles(body), roles(body)[1:], strict=False))  # noqa: E731
    for status, message in (
        (400, "Conversation roles must alternate user/assistant/user/assistant/..."),
        (422, "two consecutive user messages are not allowed"),
        (500, "Jinja Exception: After the optional system message, conversation roles must alternate"),
    ):
        made, scripted, _ = alone(
            lambda body, told=(message, status): refused(*told) if twice(body) else properly(body),
            *["51"] * 3,
            way="text",
        )
        answered(made)
        assert [roles(body) for body in scripted.calls[1:]] == [["system", "user"]] * 3


@row(9)
def one_text_that_is_filtered() -> None:
    azure = {
        "error": {
            "message": "The prompt triggered Azure OpenAI's content management policy.",
            "type": None,
            "param": "prompt",
            "code": "content_filter",
            "status": 400,
            "innererror": {"code": "ResponsibleAIPolicyViolation"},
        }
    }
    kinds = (
        Reply(azure, 400),
        refused("Content Exists Risk"),
        Reply(
            {"error": {"code": 403, "message": "Your input was flagged", "metadata": {"reasons": ["violence"]}}}, 403
        ),
        Reply({"error": {"code": "content_filter"}, "choices": None}),
        said("", finish="content_filter"),
        said(None, refusal="I can't help with that."),
    )
    for kind in kinds:
        bad = lambda body, kind=kind: kind if "curse" in json.dumps(body) else properly(body, "refund")  # noqa: E731
        with fresh(bad, "intents", llm_batch_ms=0) as (scripted, decider):
            for text in ("curse 1", "curse 2", "curse 3", "curse 4"):
                with pytest.raises(NoDecisionError, match=r"content_filter") as failed:
                    decide(decider, text)
                assert failed.value.reports[0]["reason"] == "content_filter"
            assert len(scripted.calls) == 4
            answered(decide(decider, "fine", "fine"), "refund")
            assert scripted.ways == ["json_schema"] * 6
            assert breaker(decider) == "closed"
    # Of many in a prompt, it alone is refused.
    with fresh(_many(lambda text: Reply(azure, 400) if "curse" in text else None), "intents", llm_batch_ms=50) as (
        scripted,
        decider,
    ):
        made = decide(decider, *[f"fine {number}" for number in range(7)], at_once=True)
        answered(made, "refund")
        with pytest.raises(NoDecisionError, match="content_filter"):
            decide(decider, *[f"fine {number}" for number in range(7)], "curse", at_once=True)
        answered(decide(decider, "fine"), "refund")
        assert set(scripted.ways) == {"json_schema"}


def _many(odd: Callable[[str], Reply | None], form: Callable[[str], Any] = str) -> Callable[[dict[str, Any]], Reply]:
    """Answers prompts with one text or many. odd: of a prompt, what it is answered with instead. form: of an id."""

    def answer(body: dict[str, Any]) -> Reply:
        found = odd(json.dumps(body["messages"]))
        if found is not None:
            return found
        many = texts_of(body)
        if many is None:
            return properly(body, "refund")
        return said(json.dumps({"answers": [{"id": form(one["id"]), "action": "refund"} for one in many]}))

    return answer


@row(10)
def answers_that_were_cut() -> None:
    for reply in (
        said("", finish="length"),
        said('{"action": "9', finish="length"),
        said("<think>on the one hand", finish="length"),
        said("9", finish="length"),
        said(None, finish="max_tokens"),
        called('{"act', finish="length"),
    ):
        for way in (None, *WAYS):
            with fresh(lambda _, reply=reply: reply, way=way) as (scripted, decider):
                (made,) = decide(decider, "51")
                told = report(made)
                assert (made.source, told.reason, len(scripted.calls)) == ("search", "cut_off", 1)
                assert told.details["setting"] == "ESCALADE_LLM_MAX_TOKENS"
                assert made.cost_usd == pytest.approx(COST)
                with pytest.raises(NoDecisionError, match="ESCALADE_LLM_MAX_TOKENS"):
                    decide(decider, "51", ladder=("reason",))
                scripted.answer = properly
                answered(decide(decider, "51"))
    made, _, _ = alone(lambda _: said('{"action": "9"}   and I think', finish="length"), "51")
    answered(made)  # all that was asked for had come


@row(11)
def ids_of_a_batch_in_another_form() -> None:
    for form in (int, float, lambda one: f" {one} ", lambda one: f"#{one}", lambda one: f"id {one}"):
        texts = [f"text {number}" for number in range(20)]
        with fresh(_many(lambda _: None, form), "intents", llm_batch_ms=1000, llm_batch_most=20) as (scripted, decider):
            answered(decide(decider, *texts, at_once=True), "refund")
            assert len(scripted.calls) == 1
    for wrap in (
        lambda found: found,
        lambda found: {"choose_actions": {"answers": found}},
        lambda found: {"answers": {one["id"]: one["action"] for one in found}},
        lambda found: {"Answers": [{"ID": one["id"], "Action": f" {one['action'].upper()}. "} for one in found]},
    ):
        answer = lambda body, wrap=wrap: said(  # noqa: E731
            json.dumps(wrap([{"id": one["id"], "action": "refund"} for one in texts_of(body) or ()]))
        )
        with fresh(answer, "intents", llm_batch_ms=1000, llm_batch_most=6) as (scripted, decider):
            answered(decide(decider, *[f"text {number}" for number in range(6)], at_once=True), "refund")
            assert len(scripted.calls) == 1


def costs(usage: Any, *, prices: dict[str, Any] | None = None) -> Any:
    made, _, _ = alone(lambda _: said('{"action": "9"}', usage=usage), "51", **(prices or {}))
    return made[0]


@row(12)
def thinking_that_only_the_total_counts() -> None:
    row = {"prompt_tokens": 10120, "completion_tokens": 1499, "total_tokens": 14428}
    assert costs(row).cost_usd == pytest.approx((10120 * 1.0 + (14428 - 10120) * 4.0) / 1e6)
    hidden = {"prompt_tokens": 100, "completion_tokens": 10, "completion_tokens_details": {"reasoning_tokens": 90}}
    assert costs(hidden).cost_usd == pytest.approx((100 + 100 * 4.0) / 1e6)
    inside = {**hidden, "completion_tokens": 100, "total_tokens": 200}
    assert costs(inside).cost_usd == pytest.approx((100 + 100 * 4.0) / 1e6)
    assert report(costs(row)).details["tokens"] == {"input_tokens": 10120, "output_tokens": 4308}


@row(13)
def cached_tokens() -> None:
    for usage in (
        {**USAGE, "prompt_tokens_details": {"cached_tokens": 600}},
        {**USAGE, "prompt_cache_hit_tokens": 600, "prompt_cache_miss_tokens": 400},
    ):
        full = costs(usage)
        assert full.cost_usd == pytest.approx(COST)
        assert report(full).details["cost_is_upper_bound"] is True
        priced = costs(usage, prices={"llm_cached_usd_per_mtok": 0.1})
        assert priced.cost_usd == pytest.approx((400 * 1.0 + 600 * 0.1 + 10 * 4.0) / 1e6)
        assert "cost_is_upper_bound" not in report(priced).details
        assert report(priced).details["tokens"]["cached_input_tokens"] == 600
    assert "cost_is_upper_bound" not in report(costs({**USAGE, "prompt_tokens_details": {"cached_tokens": 0}})).details
    assert "cost_is_upper_bound" not in report(costs(USAGE)).details


@row(14)
def usage_that_is_incomplete_and_answers_that_are_refused() -> None:
    free = {"llm_input_usd_per_mtok": 0.0, "llm_output_usd_per_mtok": 0.0}
    assert costs({"prompt_tokens": 1000, "total_tokens": 1010}).cost_usd == pytest.approx(COST)
    assert costs({"prompt_tokens": 1000}).cost_usd is None  # what the answer took is not known
    assert costs({"prompt_tokens": 1000}, prices={"llm_output_usd_per_mtok": 0.0}).cost_usd == pytest.approx(1000 / 1e6)
    assert costs({"completion_tokens": 10, "total_tokens": 1010}).cost_usd == pytest.approx(COST)
    assert costs(None).cost_usd is None
    assert costs(None, prices=free).cost_usd == 0.0
    assert costs({"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0}).cost_usd is None
    assert costs({"prompt_tokens": "1000", "completion_tokens": 10.0}).cost_usd == pytest.approx(COST)
    assert costs({"input_tokens": 1000, "output_tokens": 10}).cost_usd == pytest.approx(COST)
    for reply in (
        said("", finish="content_filter"),
        said(None, refusal="no"),
        said("no idea,\nreally"),
        said('{"action": "5"}'),
        Reply({"choices": None, "error": {"code": 400, "message": "bad"}, "usage": USAGE}),
    ):
        made, scripted, _ = alone(lambda _, reply=reply: reply, "51", way="text")
        assert made[0].source == "search"
        assert made[0].cost_usd == pytest.approx(COST * len(scripted.calls))
        assert report(made[0]).cost_usd == pytest.approx(COST * len(scripted.calls))
    # An attempt that failed with a bill, and one after it that was answered, cost what both report.
    for code in (503, 429):
        failing = Reply({"error": {"code": code, "message": "busy"}, "usage": USAGE}, status=200)
        replies = iter((failing,))
        made, scripted, _ = alone(lambda body, replies=replies: next(replies, None) or properly(body), "51")
        assert [one.source for one in made] == ["reason"]
        assert len(scripted.calls) == 2
        assert made[0].cost_usd == pytest.approx(2 * COST)


@row(18)
def endpoints_that_cannot_answer_at_all() -> None:
    page = "<!DOCTYPE html><html><head><title>Open WebUI</title></head><body>{}</body></html>"
    kinds: list[tuple[Reply, str, int, str | None, str]] = [
        (
            refused("The model `m` does not exist", 404, code="model_not_found"),
            "refused",
            404,
            "model_not_found",
            "ESCALADE_LLM_MODEL",
        ),
        (
            Reply({"error": 'model "m" not found, try pulling it first'}, 404),
            "refused",
            404,
            None,
            "ESCALADE_LLM_MODEL",
        ),
        (refused("Model Not Exist", 400), "refused", 400, None, "ESCALADE_LLM_MODEL"),
        (Reply({"detail": "Not Found"}, 404), "refused", 404, None, "OPENAI_BASE_URL"),
        (refused("Insufficient Balance", 402), "quota", 402, None, "OPENAI_API_KEY"),
        (refused("Access denied", 403, code="access_denied"), "unauthorized", 403, "access_denied", "OPENAI_API_KEY"),
        (
            refused(f"Incorrect API key provided: {KEY}", 401, code="invalid_api_key"),
            "unauthorized",
            401,
            "invalid_api_key",
            "OPENAI_API_KEY",
        ),
        (Reply(page, kind="text/html"), "refused", 200, "html_page", "OPENAI_BASE_URL"),
        (Reply(page, kind="application/json"), "refused", 200, "html_page", "OPENAI_BASE_URL"),
        (
            Reply("<html><h1>405 Not Allowed</h1></html>", 405, kind="text/html"),
            "refused",
            405,
            "html_page",
            "OPENAI_BASE_URL",
        ),
        (
            Reply({"error": "Unexpected endpoint or method. (POST /chat/completions)"}),
            "refused",
            200,
            None,
            "OPENAI_BASE_URL",
        ),
        (Reply("Welcome to the inference server", kind="text/plain"), "refused", 200, "no_json", "OPENAI_BASE_URL"),
    ]
    for reply, reason, status, code, setting in kinds:
        for way in (None, *WAYS):
            with fresh(lambda _, reply=reply: reply, way=way) as (scripted, decider):
                with pytest.raises(NoDecisionError) as failed:
                    decide(decider, "51", ladder=("reason",))
                assert len(scripted.calls) == 1
                (told,) = failed.value.reports
                assert (told["reason"], told["details"]["status"], told["details"].get("code")) == (
                    reason,
                    status,
                    code,
                )
                assert told["details"]["setting"] == setting
                assert setting in str(failed.value)
                assert f"HTTP {status}" in str(failed.value)
                assert KEY not in str(failed.value) + json.dumps(told)
                scripted.answer = properly
                answered(decide(decider, "51"))


@row(19)
def a_fault_of_the_server_that_is_one_of_the_form() -> None:
    for message in (
        "failed to parse grammar",
        "Failed to initialize samplers: JSON schema conversion failed",
        "Unable to compile guided decoding grammar (xgrammar)",
        "tools param requires --jinja flag",
        "Structured output is not implemented for this backend",
    ):
        made, scripted, state = alone(
            lambda body, message=message: refused(message, 500) if way_of(body) == "json_schema" else properly(body),
            *["51"] * 6,
        )
        answered(made)
        assert scripted.ways == ["json_schema", *["function"] * 6]
        assert state == "closed"
    made, scripted, state = alone(
        lambda body: properly(body) if way_of(body) == "text" else refused("tools, schema: not supported", 500),
        "51",
        "51",
    )
    answered(made)
    assert scripted.ways == [*WAYS, "text"]


@row(20)
def quotas_that_are_used_up() -> None:
    for reply in (
        Reply(
            {
                "error": {
                    "message": "You exceeded your current quota, please check your plan and billing details.",
                    "type": "insufficient_quota",
                    "param": None,
                    "code": "insufficient_quota",
                }
            },
            429,
        ),
        Reply({"error": {"message": "billing hard limit has been reached", "code": "billing_hard_limit_reached"}}, 429),
        Reply({"error": {"code": 402, "message": "This request requires more credits"}}, 402),
        Reply({"error": {"message": "user quota is not enough", "code": "insufficient_user_quota"}}, 403),
    ):
        with fresh(lambda _, reply=reply: reply) as (scripted, decider):
            (made,) = decide(decider, "51")
            assert (made.source, report(made).reason, len(scripted.calls)) == ("search", "quota", 1)
            with pytest.raises(NoDecisionError, match=r"quota.*add credit"):
                decide(decider, "51", ladder=("reason",))
            scripted.answer = properly
            answered(decide(decider, "51"))
    # A limit that passes is none.
    passing = {
        "error": {
            "code": 429,
            "status": "RESOURCE_EXHAUSTED",
            "message": "You exceeded your current quota. Please retry in 1s. Quota: requests per minute",
        }
    }
    replies = [Reply(passing, 429)]
    made, scripted, _ = alone(lambda body: replies.pop() if replies else properly(body), "51")
    answered(made)
    assert len(scripted.calls) == 2


@row(21)
def answers_that_only_come_as_a_stream() -> None:
    for way in WAYS:
        made, scripted, _ = alone(lambda body: streamed(properly(body)), "51", "51", way=way)  # unasked
        answered(made)
        assert [one.cost_usd for one in made] == [pytest.approx(COST)] * 2
        for message in (
            "stream must be set to true",
            "This model only support stream mode, please enable the stream parameter",
        ):
            made, scripted, _ = alone(
                lambda body, message=message: (
                    streamed(properly(body), usage="stream_options" in body) if body.get("stream") else refused(message)
                ),
                *["51"] * 3,
                way=way,
            )
            answered(made)
            assert [bool(body.get("stream")) for body in scripted.calls] == [False, True, True, True]
            assert [one.cost_usd for one in made] == [pytest.approx(COST)] * 3
    failing = [
        events({"choices": [{"delta": {"content": '{"ac'}}]}, {"error": {"code": 502, "message": "upstream"}})
    ] * 2
    made, scripted, _ = alone(lambda body: failing.pop() if failing else properly(body), "51", "51")
    assert [report(made[0]).reason, made[1].source] == ["server_error", "reason"]


@row(22)
def contradictory_calls() -> None:
    for way in WAYS:
        for reply in (
            called({"action": "9"}, {"action": "8"}),
            said('{"action": "8"}', tool_calls=called({"action": "9"}).body["choices"][0]["message"]["tool_calls"]),
        ):
            made, _, _ = alone(lambda _, reply=reply: reply, "51", way=way)
            assert (made[0].source, report(made[0]).reason) == ("search", "malformed_answer")
        for reply in (called({"action": "9"}, {"action": "9."}), called({"action": "9"}, {"action": 9})):
            made, _, _ = alone(lambda _, reply=reply: reply, "51", way=way)
            answered(made)


@pytest.mark.parametrize(
    "number", [pytest.param(number, id=f"row{number:02}", marks=pytest.mark.endpoint_row(number)) for number in ROWS]
)
def test_an_endpoint_as_it_really_is(number: int) -> None:
    ROWS[number]()
