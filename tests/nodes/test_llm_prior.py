"""A language model ranks actions for a search, against a real server on loopback that speaks the OpenAI wire."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from pytest_httpserver import HTTPServer
from support import Plain, Weighing
from werkzeug import Request, Response

from escalade.app.settings import Settings
from escalade.app.wiring import open_language_model
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.nodes.llm_prior import PriorEvaluator, Ranking, ask_rankings, guided_by, prior_of
from escalade.search.config import SearchConfig
from escalade.search.engine import search
from escalade.search.evaluators import RolloutEvaluator, UniformEvaluator

TTT = TicTacToe()


def completion(ranking: Any, name: str = "rank_actions") -> Response:
    function = {"name": name, "arguments": ranking if isinstance(ranking, str) else json.dumps({"ranking": ranking})}
    call = {"id": "1", "type": "function", "function": function}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    body = {
        "id": "x", "object": "chat.completion", "created": 0, "model": "scripted",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010},
    }  # fmt: skip
    return Response(json.dumps(body), content_type="application/json")


@pytest.fixture
def ask(httpserver: HTTPServer) -> Callable[..., list[Ranking]]:
    """`ask(answer, states)`: rankings from an endpoint that gives this answer (a ranking, or a function)."""

    def rank(answer: Any, texts: list[str], domain: Any = TTT, **settings: Any) -> list[Ranking]:
        def respond(request: Request) -> Response:
            found = answer(request) if callable(answer) else answer
            return found if isinstance(found, Response) else completion(found)

        httpserver.expect_request("/v1/chat/completions").respond_with_handler(respond)
        model = open_language_model(Settings(llm_model="scripted", llm_base_url=httpserver.url_for("/v1"), **settings))
        assert model is not None
        return asyncio.run(ask_rankings(model, domain, [domain.parse(text) for text in texts]))

    return rank


def test_only_legal_actions_are_offered_and_the_answer_is_priced(ask: Any, httpserver: HTTPServer) -> None:
    (found,) = ask(["9", "3"], ["51"], llm_input_usd_per_mtok=1.0, llm_output_usd_per_mtok=4.0)
    assert found == Ranking((8, 2), pytest.approx((1000 * 1.0 + 10 * 4.0) / 1e6))
    body = json.loads(httpserver.log[0][0].data)
    assert body["response_format"]["json_schema"]["name"] == "rank_actions"
    items = body["response_format"]["json_schema"]["schema"]["properties"]["ranking"]["items"]
    assert items["enum"] == ["2", "3", "4", "6", "7", "8", "9"]


def test_what_is_illegal_or_said_twice_is_left_out(ask: Any) -> None:
    assert ask(["5", "9", 9, "resign", "3", {"a": 1}], ["51"]) == [Ranking((8, 2), None)]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (["5", "1"], "illegal_action"),
        ([], "illegal_action"),
        ("{", "malformed_answer"),
        ('{"ranking": {"9": {"8": 1}, "7": 2}}', "illegal_action"),
        ("[1]", "illegal_action"),
        (lambda _: completion(["9"], name="rm"), "malformed_answer"),
        (lambda _: Response("<html>", content_type="application/json"), "refused"),
        (lambda _: Response("{}", status=429), "rate_limited"),
        (lambda _: Response("{}", status=500), "server_error"),
        (lambda _: Response("{}", status=401), "unauthorized"),
    ],
)
def test_whatever_a_call_ends_in_there_is_no_exception(ask: Any, answer: Any, reason: str) -> None:
    (found,) = ask(answer, ["51"])
    assert (found.actions, found.reason) == ((), reason)


def test_many_are_asked_at_once_and_answered_in_order(ask: Any) -> None:
    def last_allowed(request: Request) -> Response:
        return completion(
            [re.findall(r"Allowed actions: .*, (\d)", json.loads(request.data)["messages"][1]["content"])[0]]
        )

    texts = ["1", "9", "98", "987", "5", "59"] * 5
    assert [found.actions for found in ask(last_allowed, texts)] == [(8,), (7,), (6,), (5,), (8,), (7,)] * 5


def test_a_prior_halves_from_rank_to_rank() -> None:
    legal = np.array([True, True, False, True, True])
    np.testing.assert_allclose(prior_of(Ranking((3, 0), 0.0), legal), [2 / 8, 1 / 8, 0, 4 / 8, 1 / 8])
    np.testing.assert_allclose(prior_of(Ranking((), None, "timeout"), legal), [0.25, 0.25, 0, 0.25, 0.25])


@pytest.mark.parametrize("domain", [TTT, Plain(TTT)])
@pytest.mark.parametrize("below", [RolloutEvaluator(TTT, 1), UniformEvaluator(), Weighing(TTT)])
def test_a_search_takes_the_ranking_as_its_prior_at_the_root_alone(domain: Any, below: Any) -> None:
    below = RolloutEvaluator(domain, 1) if isinstance(below, RolloutEvaluator) else below
    states = [domain.parse("5"), domain.parse("51")]
    guided = guided_by(domain, below, states, [Ranking((1, 3), None), Ranking((), None, "timeout")])
    config = SearchConfig(simulations=30, proofs=False)
    first, second = search(domain, states, guided, config, seed=[1, 2])
    np.testing.assert_allclose(first.prior, [1 / 12, 4 / 12, 1 / 12, 2 / 12, 0, *[1 / 12] * 4], rtol=1e-4)
    if isinstance(below, UniformEvaluator):
        assert first.visits.argmax() == 1
    np.testing.assert_allclose(second.prior[second.prior > 0], 1 / 7, rtol=1e-4)
    # Deeper nodes are the other evaluator's.
    other = domain.parse("519")
    legal = np.array([[action in domain.legal_actions(other) for action in range(9)]])
    rows = domain.to_rows([other]) if hasattr(domain, "to_rows") else [other]
    logits, _ = guided.evaluate_states(rows, legal, np.zeros(1, np.uint64))
    if isinstance(below, Weighing):
        np.testing.assert_array_equal(logits, below.evaluate(domain.encode([other]), legal)[0])
    else:
        assert not logits.any()


def test_a_prior_of_no_states_changes_nothing() -> None:
    plain = search(TTT, [TTT.parse("5")], RolloutEvaluator(TTT), SearchConfig(simulations=50), seed=3)
    guided = PriorEvaluator(TTT, RolloutEvaluator(TTT), [], [])
    found = search(TTT, [TTT.parse("5")], guided, SearchConfig(simulations=50), seed=3)
    np.testing.assert_array_equal(found[0].visits, plain[0].visits)
