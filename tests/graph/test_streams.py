"""What a decision streams: the same decision in every mode, and the custom events of docs/embedding.md."""

from __future__ import annotations

import asyncio
import json
import operator
from typing import Annotated, Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.types import Send
from scripted import PlainModel
from typing_extensions import TypedDict

from escalade import DecisionContext, DecisionNode, LanguageModel, RungReport, build_decision_graph, decision_tool
from escalade.domains.intents import Intents
from escalade.nodes.questions import told_states

MODES = ["values", "updates", "messages", "custom", "tasks", "debug", "checkpoints"]
LONG = DecisionContext(simulations=1_000_000, deadline_ms=700, ladder=("search",))


@pytest.fixture(scope="module")
def graph() -> Any:
    return build_decision_graph("tic_tac_toe", defaults=DecisionContext(simulations=50), checkpointer=InMemorySaver())


@pytest.fixture(scope="module")
def connect_four() -> Any:
    return build_decision_graph("connect_four", defaults=LONG)


def thread(name: str = "1") -> Any:
    return {"configurable": {"thread_id": name}}


def same(decision: dict[str, Any]) -> dict[str, Any]:
    """What equal runs have in common."""
    times = ("latency_ms", "work_ms", "cost_usd")
    rungs = [{k: v for k, v in rung.items() if k not in times} for rung in decision["rungs"]]
    return {**{k: v for k, v in decision.items() if k not in ("decision_id", *times)}, "rungs": rungs}


async def collected(graph: Any, given: Any, config: Any = None, **options: Any) -> list[Any]:
    return [chunk async for chunk in graph.astream(given, config, **options)]


@pytest.mark.parametrize("mode", [*MODES, MODES])
@pytest.mark.parametrize("subgraphs", [False, True])
def test_every_mode_of_streaming_decides_the_same(graph: Any, mode: Any, subgraphs: bool) -> None:
    wanted = same(graph.invoke({"state": "51"}, thread("plain"))["decision"])
    name = f"{mode} {subgraphs}"
    asyncio.run(collected(graph, {"state": "51"}, thread(name), stream_mode=mode, subgraphs=subgraphs))
    assert same(graph.get_state(thread(name)).values["decision"]) == wanted
    list(graph.stream({"state": "51"}, thread(f"{name} sync"), stream_mode=mode, subgraphs=subgraphs))
    assert same(graph.get_state(thread(f"{name} sync")).values["decision"]) == wanted


def test_events_decide_the_same_and_carry_ours(graph: Any) -> None:
    wanted = same(graph.invoke({"state": "51"}, thread("plain"))["decision"])

    async def main() -> list[Any]:
        events = graph.astream_events({"state": "51"}, thread("ev"), version="v2", stream_mode=["custom", "values"])
        return [event async for event in events]

    events = asyncio.run(main())
    assert same(events[-1]["data"]["output"]["decision"]) == wanted
    ours = [event["data"]["chunk"] for event in events if event["event"] == "on_chain_stream"]
    assert any(isinstance(one, tuple) and one[0] == "custom" and one[1]["event"] == "rung" for one in ours)


def test_each_rung_is_reported_as_the_decision_will_hold_it(graph: Any) -> None:
    chunks = asyncio.run(collected(graph, {"state": "51"}, thread("rungs"), stream_mode=["custom", "values"]))
    events = [data for mode, data in chunks if mode == "custom"]
    decision = chunks[-1][1]["decision"]
    json.dumps(events, allow_nan=False)
    assert {(event["escalade"], event["event"], event["decision_id"]) for event in events} == {
        (1, "rung", decision["decision_id"])
    }
    reports = [RungReport.model_validate(event["report"]).model_dump(mode="json") for event in events]
    assert reports == decision["rungs"]
    assert [event["rung"] for event in events] == ["policy", "value", "reason", "search"]
    assert events[-1]["action_name"] == decision["action_name"]


@pytest.mark.parametrize("sync", [False, True])
def test_a_long_search_reports_its_progress_and_not_too_often(connect_four: Any, sync: bool) -> None:
    given, options = {"state": ""}, {"stream_mode": "custom"}
    events = (
        list(connect_four.stream(given, **options)) if sync else asyncio.run(collected(connect_four, given, **options))
    )
    progress = [event for event in events if event["event"] == "search"]
    decided = events[-1]["report"]
    assert events[-1]["event"] == "rung"
    assert 1 <= len(progress) <= decided["latency_ms"] / 100
    done = [event["simulations"] for event in progress]
    assert done == sorted(done)
    assert 0 < done[-1] <= decided["details"]["rootInfo"]["visits"]
    for event in progress:
        assert event["of"] == LONG.simulations
        assert event["best"] in "1234567"
        assert -1 <= event["value"] <= 1
        assert event["decision_id"] == events[-1]["decision_id"]


def test_a_search_that_is_done_at_once_reports_none(graph: Any) -> None:
    events = list(graph.stream({"state": "51"}, thread("quick"), context={"simulations": 5}, stream_mode="custom"))
    assert {event["event"] for event in events} == {"rung"}


def asking(script: list[Any], domain: Any = "tic_tac_toe", **more: Any) -> Any:
    model = LanguageModel(PlainModel(script=script), "scripted", **more)
    return build_decision_graph(domain, language_model=model)


def answer(action: str) -> AIMessage:
    usage = {"input_tokens": 10, "output_tokens": 2, "total_tokens": 12}
    said = json.dumps({"action": action, "evaluation": 0.0})
    return AIMessage(said, usage_metadata=usage)  # type: ignore[arg-type]


@pytest.mark.parametrize("sync", [False, True])
def test_each_call_of_a_language_model_is_reported_with_its_cost(sync: bool) -> None:
    prices = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 2.0}
    graph = asking([answer("9"), answer("9"), answer("1")], **prices)
    context = DecisionContext(ladder=("reason",), samples=3)
    options: Any = {"context": context, "stream_mode": "custom"}
    given: Any = {"state": "5"}
    events = list(graph.stream(given, **options)) if sync else asyncio.run(collected(graph, given, **options))
    *made, report = events
    assert [event["event"] for event in made] == ["llm_call"] * 3
    assert {(one["model"], one["purpose"], one["outcome"]) for one in made} == {
        ("scripted", "choose_action", "answered")
    }
    assert {one["decision_id"] for one in made} == {report["decision_id"]}
    assert sum(one["tokens"]["input_tokens"] for one in made) == report["report"]["details"]["tokens"]["input_tokens"]
    assert sum(one["cost_usd"] for one in made) == pytest.approx(report["report"]["cost_usd"])
    assert report["report"]["cost_usd"] > 0
    assert all(one["latency_ms"] >= 0 for one in made)


def test_a_call_that_failed_is_reported_with_its_reason() -> None:
    def refuses(messages: Any) -> Any:
        raise TimeoutError

    graph = asking([refuses] * 9)
    events = list(graph.stream({"state": "5"}, context={"simulations": 5}, stream_mode="custom"))
    (call,) = [event for event in events if event["event"] == "llm_call"]
    assert (call["outcome"], call["reason"]) == ("failed", "timeout")


def test_calls_that_share_a_prompt_are_reported_one_by_one() -> None:
    def answers(messages: Any) -> AIMessage:
        asked = told_states(domain, messages[1].text)
        return AIMessage(json.dumps({"answers": [{"id": number, "action": "loan"} for number, _ in asked]}))

    domain = Intents(["card", "loan"])
    graph = asking([answers], domain, batch_ms=60_000, batch_most=2)  # sent as soon as there are two

    class Many(TypedDict, total=False):
        texts: list[str]
        labels: Annotated[list[dict[str, Any]], operator.add]

    parent = StateGraph(Many)
    parent.add_node("decide", DecisionNode(graph, "text", "labels", append=True))
    parent.add_conditional_edges(START, lambda state: [Send("decide", {"text": text}) for text in state["texts"]])
    parent.add_edge("decide", END)
    given: Any = {"texts": ["money please", "I need cash"]}
    chunks = asyncio.run(collected(parent.compile(), given, stream_mode=["custom", "values"]))
    decided = {one["decision_id"] for one in chunks[-1][1]["labels"]}
    made = [data for mode, data in chunks if mode == "custom" and data["event"] == "llm_call"]
    assert {one["decision_id"] for one in made} == decided
    assert len(made) == 2


def test_a_host_streams_what_happens_in_its_nodes_and_tools(graph: Any) -> None:
    class Host(TypedDict, total=False):
        state: str
        decision: dict[str, Any]
        said: str

    inner = build_decision_graph("tic_tac_toe", defaults=DecisionContext(simulations=5))
    tool = decision_tool(inner)
    parent = StateGraph(Host)
    parent.add_node("decide", DecisionNode(inner))
    parent.add_node("ask", lambda state: {"said": tool.invoke({"state": state["state"]})})
    parent.add_edge(START, "decide")
    parent.add_edge("decide", "ask")
    parent.add_edge("ask", END)
    host, given = parent.compile(), {"state": "51"}
    for events in (
        list(host.stream(given, stream_mode="custom")),
        asyncio.run(collected(host, given, stream_mode="custom")),
        [event for _, event in host.stream(given, stream_mode="custom", subgraphs=True)],
    ):
        assert [event["rung"] for event in events] == ["policy", "value", "reason", "search"] * 2
        assert len({event["decision_id"] for event in events}) == 2
