"""Runs that are streamed: the same answer, tokens and cost as without, and nothing of the language model's own calls in
a chat that a parent graph streams. Against the simulated model on loopback, and chat models of users."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel, FakeListChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, ChatResult
from langchain_openai import ChatOpenAI
from langgraph.graph import END, START, MessagesState, StateGraph
from openai import DefaultAsyncHttpxClient, OpenAI

from escalade import Decision, DecisionContext
from escalade.app.settings import Settings
from escalade.app.simulated_llm import SimulatedModel, Simulation
from escalade.app.wiring import open_language_model
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.graph.decision import build_decision_graph
from escalade.nodes.daemon import wait_for
from escalade.nodes.language_model import LanguageModel
from escalade.nodes.structured import WAYS, Ways
from tests.simulated import exact, served

USAGE = {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110}
PRICES = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 4.0}
MODES = ["values", "updates", "messages", "custom", "debug", "tasks"]


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    with served(SimulatedModel(TicTacToe(), exact, Simulation(latency_ms=0, accuracy=1.0))) as url:
        yield url


class Streaming(BaseChatModel):
    """A user's chat model that can stream, and then counts no tokens."""

    streamed: list[int] = []  # noqa: RUF012 -- pydantic copies it

    @property
    def _llm_type(self) -> str:
        return "streaming"

    def bind_tools(self, tools: Any, **kwargs: Any) -> Any:
        return self.bind(tools=tools, **kwargs)

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        message = AIMessage('{"action": "9"}', usage_metadata=USAGE)  # type: ignore[arg-type]
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _stream(self, *args: Any, **kwargs: Any) -> Iterator[ChatGenerationChunk]:
        self.streamed.append(1)
        yield ChatGenerationChunk(message=AIMessageChunk('{"action": "9"}'))


def ours(address: str) -> LanguageModel:
    settings = Settings(
        llm_model="simulated", llm_base_url=address, llm_input_usd_per_mtok=1.0, llm_output_usd_per_mtok=4.0
    )
    model = open_language_model(settings)
    assert model is not None
    return model


def a_user_s(address: str, **options: Any) -> LanguageModel:
    client = DefaultAsyncHttpxClient()  # LangChain's own is shared by all models with this address
    fields: Any = {"base_url": address, "api_key": "none", "max_retries": 0, "http_async_client": client, **options}
    return LanguageModel(ChatOpenAI(model="simulated", **fields), "simulated", **PRICES)


def a_user_s_that_streams(address: str) -> LanguageModel:
    return a_user_s(address, streaming=True)


MODELS = {"ours": ours, "ChatOpenAI": a_user_s, "ChatOpenAI(streaming=True)": a_user_s_that_streams}


def essence(decision: Any) -> Any:
    made = Decision.model_validate(decision)
    told = next(one for one in made.rungs if one.rung == "reason")
    return made.source, made.action_name, made.cost_usd, told.details.get("tokens"), told.details.get("simulated")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", MODELS)
def test_however_a_run_is_streamed_its_decision_is_the_same(address: str, kind: str, way: Any) -> None:
    model = MODELS[kind](address)
    model.ways = Ways(way)
    graph = build_decision_graph("tic_tac_toe", language_model=model)
    given: Any = {"state": "1425"}  # one action wins
    context = DecisionContext(ladder=("reason", "search"), simulations=8)

    async def main() -> None:
        plain = essence((await graph.ainvoke(given, context=context))["decision"])
        assert plain[0] == "reason"
        assert plain[2] > 0
        assert plain[4] is True
        for mode in (*MODES, MODES):
            events = [one async for one in graph.astream(given, context=context, stream_mode=mode, subgraphs=True)]
            decisions = [found for one in events for found in decisions_in(one)]
            assert decisions or mode in ("messages", "custom", "tasks")
            assert all(essence(one) == plain for one in decisions)
        ended = None
        async for event in graph.astream_events(given, context=context, version="v2"):
            assert event["event"] != "on_chat_model_stream"
            ended = event
        assert ended is not None
        assert essence(ended["data"]["output"]["decision"]) == plain
        if isinstance(model.chat, BaseChatModel):
            await model.chat.root_async_client.close()  # type: ignore[attr-defined]

    wait_for(main())
    model.close()


def decisions_in(event: Any) -> Iterator[Any]:
    if isinstance(event, dict):
        if isinstance(event.get("decision"), dict) and "rungs" in event["decision"]:
            yield event["decision"]
        for one in event.values():
            yield from decisions_in(one)
    elif isinstance(event, list | tuple):
        for one in event:
            yield from decisions_in(one)


@pytest.mark.parametrize("reasoning", ["short", "full"])
@pytest.mark.parametrize("kind", [*MODELS, "user"])
def test_nothing_of_our_calls_is_in_a_parent_s_chat_stream(address: str, kind: str, reasoning: Any) -> None:
    model: Any = Streaming() if kind == "user" else MODELS[kind](address)
    graph = build_decision_graph("tic_tac_toe", language_model=model)
    speaker = FakeListChatModel(responses=["It is done."])

    async def decide(state: MessagesState) -> Any:
        context = DecisionContext(ladder=("reason", "search"), simulations=8, reasoning=reasoning)
        given: Any = {"state": "51"}
        made = (await graph.ainvoke(given, context=context))["decision"]
        return {"messages": [await speaker.ainvoke([HumanMessage(made["action_name"])])]}

    wiring = StateGraph(MessagesState).add_node("decide", decide)
    parent = wiring.add_edge(START, "decide").add_edge("decide", END).compile()

    async def main() -> list[str]:
        given: Any = {"messages": [HumanMessage("go")]}
        chunks = [one async for one in parent.astream(given, stream_mode="messages", subgraphs=True)]
        if isinstance(model, LanguageModel) and isinstance(model.chat, BaseChatModel):
            await model.chat.root_async_client.close()  # type: ignore[attr-defined]
        return [piece.text for _, (piece, _) in chunks]

    texts = wait_for(main())
    assert "".join(texts) == "It is done."
    if isinstance(model, LanguageModel):
        model.close()


def test_a_user_s_model_is_not_made_to_stream_and_keeps_its_count_of_tokens() -> None:
    chat = Streaming()
    graph = build_decision_graph("tic_tac_toe", language_model=LanguageModel(chat, "user", **PRICES))

    async def main() -> list[Any]:
        given: Any = {"state": "51"}
        return [one async for one in graph.astream(given, stream_mode=["messages", "values"], subgraphs=True)]

    (decision,) = [found for one in asyncio.run(main()) for found in decisions_in(one)][-1:]
    assert essence(decision)[:4] == (
        "reason",
        "9",
        pytest.approx((100 + 40) / 1e6),
        {"input_tokens": 100, "output_tokens": 10},
    )
    assert chat.streamed == []


def test_the_simulated_model_streams_as_openai_does(address: str) -> None:
    """As OpenAI's own client reads it, with the usage where it is asked for."""
    schema = {"type": "object", "properties": {"action": {"type": "string", "enum": ["9"]}}}
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": schema}}
    with OpenAI(base_url=address, api_key="none", max_retries=0) as client:
        for options in ({"stream_options": {"include_usage": True}}, {}):
            for tools in ({"tools": [tool]}, {}):
                messages: Any = [{"role": "user", "content": "State: 51"}]
                more: Any = {**options, **tools}
                chunks = list(client.chat.completions.create(model="m", messages=messages, stream=True, **more))
                choices = [one.choices[0] for one in chunks if one.choices]
                assert choices[-1].finish_reason == "stop"
                text = "".join(one.delta.content or "" for one in choices)
                calls = "".join(one.delta.tool_calls[0].function.arguments for one in choices if one.delta.tool_calls)
                assert json.loads(calls or text)["action"]
                assert bool(calls) == bool(tools)
                assert {one.system_fingerprint for one in chunks} == {"simulated"}
                assert [one.usage.total_tokens > 0 for one in chunks if one.usage] == ([True] if options else [])
