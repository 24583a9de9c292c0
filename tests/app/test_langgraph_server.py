"""The LangGraph API server (`langgraph dev`) on loopback, offline and without a key, through `langgraph_sdk`."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph
from langgraph.pregel.remote import RemoteGraph
from langgraph_sdk import get_client, get_sync_client
from training_runs import tiny
from typing_extensions import TypedDict

from escalade import Decision, DecisionNode, EscaladeError, decision_agent, decision_tool
from escalade.domains.errors import SettingsError
from escalade.graph.embed import neural_tools

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.server

KEY = "canary-4c1f0a9be27d"
CLIMB: dict[str, Any] = {"alpha": 1e-9}
"""Less loss than any certificate promises, so that networks leave the decision to the rungs above."""


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log"
    command = [str(Path(sys.executable).with_name("langgraph")), "dev", "--no-browser", "--no-reload"]
    environment = {
        **os.environ,
        "ESCALADE_API_KEYS": json.dumps(["another-key-of-ours", KEY]),
        "ESCALADE_DOMAINS": '["tic_tac_toe", "connect_four"]',
        "ESCALADE_RUNS": str(tmp_path_factory.mktemp("runs")),
        "LANGGRAPH_CLI_NO_ANALYTICS": "1",
        "LANGSMITH_TRACING": "false",
        "NUMBA_CACHE_DIR": str(tmp_path_factory.mktemp("cold")),  # nothing is compiled yet, as on a new machine
        "BG_JOB_ISOLATED_LOOPS": "false",
    }
    with log.open("wb") as out:
        server = subprocess.Popen(
            [*command, "--port", str(port), "--host", "127.0.0.1"],
            cwd=ROOT,
            env=environment,
            stdout=out,
            stderr=subprocess.STDOUT,
        )
    base = f"http://127.0.0.1:{port}"
    try:
        for _ in range(3000):
            if server.poll() is not None:
                break
            try:
                if httpx.get(f"{base}/ok").status_code == 200:
                    break
            except httpx.HTTPError:
                time.sleep(0.1)
        else:
            pytest.fail("the server did not start in five minutes:\n" + log.read_text()[-3000:])
        assert server.poll() is None, log.read_text()[-3000:]
        yield base
    finally:
        server.terminate()
        server.wait(20)
    told = log.read_text()
    assert "BlockingError" not in told, told[-3000:]
    assert KEY not in told


@pytest.fixture
def client(url: str) -> Iterator[Any]:
    with get_sync_client(url=url, api_key=KEY) as client:
        yield client


def state_of(client: Any, thread_id: str) -> Any:
    return client.threads.get_state(thread_id)


def test_nothing_is_done_for_those_without_a_key(client: Any, url: str) -> None:
    routes = httpx.get(f"{url}/openapi.json").json()["paths"]
    asked = 0
    for path, methods in routes.items():
        place = re.sub(r"{[^}]*}", "00000000-0000-0000-0000-000000000000", path)
        for method in {"post", "put", "patch", "delete"} & set(methods):
            for headers in ({}, {"x-api-key": "guess"}, {"authorization": "Bearer x", "x-auth-scheme": "langsmith"}):
                answer = httpx.request(method, f"{url}{place}", headers=headers, content=b"{")
                assert answer.status_code in (401, 403), (method, path, headers, answer.text)
                asked += 1
    assert asked > 100
    assert {"/predict", "/decide", "/outcomes", "/threads", "/runs/wait"} <= set(routes)
    assert httpx.get(f"{url}/threads/00000000-0000-0000-0000-000000000000").status_code == 401
    for headers in ({"authorization": f"bearer {KEY}"}, {"X-Api-Key": KEY}):
        assert httpx.post(f"{url}/decide", headers=headers, json={"state": "51"}, timeout=60).status_code == 200
        assert httpx.post(f"{url}/threads/search", headers=headers, json={}).status_code == 200


def test_a_run_decides(client: Any) -> None:
    thread = client.threads.create()
    result = client.runs.wait(
        thread["thread_id"], "decision", input={"state": "51"}, context=CLIMB | {"simulations": 20}
    )
    decision = Decision.model_validate(result["decision"])
    assert KEY not in json.dumps([state_of(client, thread["thread_id"]), client.runs.list(thread["thread_id"])])
    assert decision.domain == "tic_tac_toe"
    assert decision.source == "search"


def test_updates_stream_node_by_node(client: Any) -> None:
    events = client.runs.stream(
        None, "decision", input={"state": "51"}, context=CLIMB | {"simulations": 20}, stream_mode="updates"
    )
    nodes = [name for event in events if event.event == "updates" for name in event.data]
    climbed = [name for rung in ("policy", "value", "search") for name in (rung, "router")]
    assert nodes == ["parse", "router", *climbed, "conclude"]


def test_a_person_is_asked_with_a_form_and_answers(client: Any) -> None:
    thread_id = client.threads.create()["thread_id"]
    context = {"ladder": ["search", "human"], "search_threshold": 1.0, "simulations": 5}
    asked = client.runs.wait(thread_id, "decision", input={"state": "51"}, context=context)
    (question,) = asked["__interrupt__"]
    assert question["value"]["legal_actions"] == ["2", "3", "4", "6", "7", "8", "9"]
    assert state_of(client, thread_id)["next"] == ["human"]
    answered = client.runs.wait(thread_id, "decision", command={"resume": {"action_name": "9"}}, context=context)
    assert answered["decision"]["source"] == "human"
    assert answered["decision"]["action_name"] == "9"


@pytest.mark.parametrize(
    "right",
    [{"action_name": "9"}, [{"type": "response", "args": "9"}], {"decisions": [{"type": "respond", "message": "9"}]}],
)
def test_after_a_wrong_answer_the_thread_still_waits_and_is_listed(client: Any, right: Any) -> None:
    thread_id = client.threads.create()["thread_id"]
    context = {"ladder": ["search", "human"], "search_threshold": 1.0, "simulations": 5}
    asked = client.runs.wait(thread_id, "decision", input={"state": "51"}, context=context)
    interrupt_id = asked["__interrupt__"][0]["id"]
    wrong: Any
    for wrong in ("5", {"type": "perhaps"}, {interrupt_id: "1"}, {interrupt_id: None}, None):
        # As a plain request, since the SDK leaves `"resume": null` out.
        body = {"assistant_id": "decision", "command": {"resume": wrong}, "context": context}
        client.http.post(f"/threads/{thread_id}/runs/wait", json=body)
        waiting = [one["thread_id"] for one in client.threads.search(status="interrupted", limit=100)]
        assert thread_id in waiting
        ((question,),) = client.threads.get(thread_id)["interrupts"].values()
        assert question["value"]["error"]
        assert question["value"]["error"] in question["value"]["description"]
        assert question["response_schema"]["properties"]["action_name"]["enum"] == question["value"]["legal_actions"]
    answered = client.runs.wait(thread_id, "decision", command={"resume": right}, context=context)
    assert (answered["decision"]["source"], answered["decision"]["action_name"]) == ("human", "9")
    assert client.threads.get(thread_id)["status"] == "idle"


def mcp(url: str, method: str, **params: Any) -> Any:
    """One request to the server's MCP endpoint (JSON-RPC over streamable HTTP)."""
    headers = {"x-api-key": KEY, "accept": "application/json, text/event-stream"}
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = httpx.post(f"{url}/mcp", headers=headers, json=body, timeout=60)
    assert answer.status_code == 200, answer.text
    told = answer.json()
    assert "error" not in told, told
    return told["result"]


def test_mcp_lists_our_graphs_with_their_schemas_and_calls_them(url: str) -> None:
    client_info = {"name": "test", "version": "1"}
    greeted = mcp(url, "initialize", protocolVersion="2025-06-18", capabilities={}, clientInfo=client_info)
    assert "tools" in greeted["capabilities"]
    tools = {tool["name"]: tool for tool in mcp(url, "tools/list")["tools"]}
    assert set(tools) == {"decide_tic_tac_toe", "train"}
    for tool in tools.values():
        assert "Tool based on" not in tool["description"]
        assert tool["inputSchema"]["type"] == "object"
        assert all(field["description"] for field in tool["inputSchema"]["properties"].values())
    assert tools["decide_tic_tac_toe"]["inputSchema"]["required"] == ["state"]
    called = mcp(url, "tools/call", name="decide_tic_tac_toe", arguments={"state": "51"}, context={"simulations": 5})
    assert not called.get("isError")
    (content,) = called["content"]
    assert Decision.model_validate(ast.literal_eval(content["text"])["decision"]).state == "51"
    refused = mcp(url, "tools/call", name="decide_tic_tac_toe", arguments={"state": "5x"})
    assert refused["isError"]
    # The endpoint passes on the kind of an error alone; the sentence is in the runs API.
    assert refused["content"][0]["text"] == "StateError"


def test_every_schema_of_our_graphs_is_served(client: Any) -> None:
    for name in ("decision", "training"):
        (assistant,) = client.assistants.search(graph_id=name)
        schemas = client.assistants.get_schemas(assistant["assistant_id"])
        for kind in ("input_schema", "output_schema", "state_schema"):
            fields = schemas[kind]["properties"]
            assert fields
            assert all(field.get("description") for field in fields.values()), kind
        assert "remaining_steps" not in schemas["state_schema"]["properties"]
    assert schemas["input_schema"]["properties"]["recipe"]["description"]


def test_history_shows_every_step_and_each_can_be_forked(client: Any) -> None:
    thread_id = client.threads.create()["thread_id"]
    context = CLIMB | {"simulations": 20}
    first = client.runs.wait(thread_id, "decision", input={"state": "51"}, context=context)["decision"]
    history = client.threads.get_history(thread_id, limit=20)
    steps = [snapshot["next"] for snapshot in reversed(history)]
    climbed = [[name] for rung in ("policy", "value", "search") for name in (rung, "router")]
    assert steps == [["__start__"], ["parse"], ["router"], *climbed, ["conclude"], []]
    for snapshot in history[1:-1]:
        again = client.runs.wait(thread_id, "decision", input=None, context=context, checkpoint=snapshot["checkpoint"])
        assert again["decision"]["action"] == first["action"]
    at_search = next(snapshot for snapshot in history if snapshot["next"] == ["search"])
    forked = client.threads.update_state(
        thread_id, {"next_rung": "human"}, as_node="router", checkpoint=at_search["checkpoint"]
    )
    asked = client.runs.wait(thread_id, "decision", input=None, context=context, checkpoint=forked["checkpoint"])
    assert "__interrupt__" in asked


def test_a_refused_state_comes_back_as_an_error(client: Any) -> None:
    result = client.runs.wait(None, "decision", input={"state": "5x"}, raise_error=False)
    assert "move 2" in str(result["__error__"])
    with pytest.raises(Exception, match="simulations"):
        client.runs.wait(None, "decision", input={"state": "5"}, context={"simulations": "many"})


ERRORS: list[tuple[dict[str, Any], dict[str, Any], str, str]] = [
    ({"state": "5x"}, {}, "StateError", "move 2"),
    ({"state": "51"}, {"mode": "llm_only"}, "NoDecisionError", "reason skipped (no_llm). To get a decision: configure"),
    ({"state": "51"}, {"simulations": "many"}, "SettingsError", "option simulations: Input should be a valid integer"),
    ({"state": "51"}, {"simulations": 100_001}, "SettingsError", "option simulations: at most 100000 on this server"),
    ({"state": "51"}, {"deadline_ms": 1e9}, "SettingsError", "option deadline_ms: at most 300000 on this server"),
]


@pytest.mark.parametrize(("given", "context", "kind", "sentence"), ERRORS)
def test_errors_of_ours_arrive_with_their_sentence(
    client: Any, given: dict[str, Any], context: dict[str, Any], kind: str, sentence: str
) -> None:
    thread_id = client.threads.create()["thread_id"]
    result = client.runs.wait(thread_id, "decision", input=given, context=context, raise_error=False)
    assert result["__error__"]["error"] == kind
    assert sentence in result["__error__"]["message"]
    assert "errors.pydantic.dev" not in result["__error__"]["message"]
    assert sentence in str(client.threads.get(thread_id)["error"])
    streamed = list(client.runs.stream(None, "decision", input=given, context=context))
    (error,) = [event.data for event in streamed if event.event == "error"]
    assert (error["error"], sentence in error["message"]) == (kind, True)
    if kind != "SettingsError" or "at most" in sentence:  # bad options end a run before its first step
        assert sentence in str(state_of(client, thread_id)["tasks"])


def test_studio_finds_typed_options_and_the_drawing(client: Any) -> None:
    (assistant,) = client.assistants.search(graph_id="decision")
    schemas = client.assistants.get_schemas(assistant["assistant_id"])
    options = schemas["context_schema"]["properties"]
    assert options["simulations"]["default"] == 400
    assert options["simulations"]["maximum"] == 1_000_000
    assert all("description" in option for option in options.values())
    drawn = client.assistants.get_graph(assistant["assistant_id"])
    assert {node["id"] for node in drawn["nodes"]} >= {"parse", "router", "policy", "human", "conclude"}


def test_training_can_be_watched_step_by_step(client: Any) -> None:
    given = {"domain": "tic_tac_toe", "recipe": tiny(), "iterations": 1}
    seen: list[str] = []
    told: list[str] = []
    for event in client.runs.stream(None, "training", input=given, stream_mode=["updates", "custom"]):
        if event.event == "updates":
            seen += list(event.data)
        elif event.event == "custom":
            told.append(event.data["event"])
    assert seen == ["plan", *["collect"] * 3, "fit", "evaluate", "certify", "promote", "plan", "finish"]
    assert {"collected", "pass", "evaluation", "promotion"} <= set(told)
    result = client.runs.wait(None, "training", input={"domain": "nonsense"}, raise_error=False)
    assert "nonsense" in str(result["__error__"])
    (assistant,) = client.assistants.search(graph_id="training")
    drawn = client.assistants.get_graph(assistant["assistant_id"])
    assert {node["id"] for node in drawn["nodes"]} >= {"plan", "collect", "fit", "evaluate", "certify", "promote"}


def test_our_own_routes_are_mounted_and_count_its_runs(client: Any, url: str) -> None:
    assert httpx.get(f"{url}/health").json()["domains"].keys() == {"tic_tac_toe", "connect_four"}
    decided = httpx.post(f"{url}/decide", headers={"x-api-key": KEY}, json={"state": "51", "simulations": 5})
    assert Decision.model_validate(decided.json()).state == "51"
    client.runs.wait(None, "decision", input={"state": "51"}, context=CLIMB | {"simulations": 5})
    counted = httpx.get(f"{url}/app/metrics").text
    match = re.search(r'decisions_total\{best_effort="false",domain="tic_tac_toe",source="search"\} (\d+)', counted)
    assert match is not None
    assert int(match[1]) >= 2


def test_it_can_be_used_from_afar_as_a_remote_graph(client: Any) -> None:
    remote = RemoteGraph("decision", sync_client=client)
    result = remote.invoke({"state": "51"}, context=CLIMB | {"simulations": 10})
    assert Decision.model_validate(result["decision"]).source == "search"


def test_many_run_at_once_on_threads_of_their_own(client: Any) -> None:
    answers: list[str] = []

    def one(state: str) -> None:
        result = client.runs.wait(None, "decision", input={"state": state}, context={"simulations": 10})
        answers.append(result["decision"]["state"])

    threads = [threading.Thread(target=one, args=(str(cell),)) for cell in range(1, 7)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == list("123456")


def asked(tool: Any, **arguments: Any) -> Any:
    return tool.invoke({"name": tool.name, "args": arguments, "id": "1", "type": "tool_call"})


class Match(TypedDict, total=False):
    board: str
    move: dict[str, Any]


def hosted(remote: RemoteGraph) -> Any:
    match = StateGraph(Match)
    match.add_node("decide", DecisionNode(remote, "board", "move"))
    match.add_edge(START, "decide")
    match.add_edge("decide", END)
    return match.compile(checkpointer=InMemorySaver())


def test_a_remote_graph_is_a_tool_a_node_and_an_agent(client: Any, url: str) -> None:
    remote = RemoteGraph("decision", sync_client=client)
    tool = decision_tool(remote, domain="tic_tac_toe", options=CLIMB | {"simulations": 10})
    assert "'51' means" in tool.description
    assert Decision.model_validate(asked(tool, state=51).artifact).source == "search"
    refused = asked(tool, state="5x")
    assert (refused.status, refused.artifact) == ("error", None)
    with get_sync_client(url="http://127.0.0.1:9") as nobody:
        unreachable = asked(decision_tool(RemoteGraph("decision", sync_client=nobody)), state="51")
    assert unreachable.status == "error"
    assert "remote graph" in unreachable.content
    host = hosted(remote)
    given: Any = {"board": "5"}
    options: Any = {"context": {"escalade": CLIMB | {"simulations": 11}}}
    config: Any = {"configurable": {"thread_id": "00000000-0000-0000-0000-000000000001"}}
    move = Decision.model_validate(host.invoke(given, config, **options)["move"])
    assert move.rungs[-1].details["rootInfo"]["visits"] == 11

    async def decide() -> Any:
        async with get_client(url=url, api_key=KEY) as there:
            return await hosted(RemoteGraph("decision", client=there)).ainvoke(given, config, **options)

    move = Decision.model_validate(asyncio.run(decide())["move"])
    assert move.rungs[-1].details["rootInfo"]["visits"] == 11
    for ask, why in (({"ladder": ["human"]}, "asks a person"), ({"alpha": 7}, "alpha")):
        with pytest.raises(EscaladeError, match=why):
            host.invoke(given, config, context={"escalade": ask})
    agent = decision_agent(remote, name="player", options=CLIMB | {"simulations": 10})
    answered = agent.invoke({"messages": [("user", "51")]})["messages"][-1]
    assert Decision.model_validate(answered.response_metadata["decision"]).state == "51"


def test_networks_and_searches_of_the_server_are_tools_here(client: Any) -> None:
    remote = RemoteGraph("decision", sync_client=client)
    far = {tool.name: tool for tool in neural_tools("tic_tac_toe", remote=remote)}
    near = {tool.name: tool for tool in neural_tools("tic_tac_toe", bundle="builtin:tic_tac_toe")}
    assert list(far) == list(near)
    for name, tool in far.items():
        assert tool.description == near[name].description
        more: dict[str, Any] = {"position_value": {"action": "4"}, "search": {"simulations": 50}}.get(name, {})
        there, here = asked(tool, state=5192, **more), asked(near[name], state="5192", **more)
        assert there.status == "success", there.content
        assert there.artifact.keys() == here.artifact.keys()
        refused = asked(tool, state="55", **more)
        assert (refused.status, "move 2" in refused.content) == ("error", True)
        if name == "legal_actions":
            assert there.artifact == here.artifact
        elif name == "policy_prior":
            assert there.artifact["probabilities"] == pytest.approx(here.artifact["probabilities"], abs=0.01)
        elif name == "position_value":
            assert there.artifact == pytest.approx(here.artifact, abs=0.01)
    answered = asyncio.run(far["search"].ainvoke({"state": "5192", "simulations": 50}))
    assert (answered["action"], answered["line"][0]) == ("3", "3")
    other = neural_tools("connect_four", remote=remote)  # decided there as tic-tac-toe
    for tool in other:
        more = {"action": "2"} if tool.name == "position_value" else {}
        if tool.name in ("policy_prior", "position_value", "search"):
            refused = asked(tool, state="51", **more)
            assert (refused.status, "decides tic_tac_toe, not connect_four" in refused.content) == ("error", True)
    with pytest.raises(SettingsError, match="remote"):
        neural_tools("tic_tac_toe", remote=remote, bundle="builtin:tic_tac_toe")


def test_our_events_are_streamed(client: Any) -> None:
    context = CLIMB | {"simulations": 20}
    events = list(client.runs.stream(None, "decision", input={"state": "51"}, context=context, stream_mode="custom"))
    reports = [event.data for event in events if event.event == "custom"]
    assert [report["rung"] for report in reports] == ["policy", "value", "reason", "search"]
    assert {report["escalade"] for report in reports} == {1}
    host = hosted(RemoteGraph("decision", sync_client=client))
    given: Any = {"board": "51"}
    options: Any = {"stream_mode": "custom", "subgraphs": True, "context": {"escalade": context}}
    chunks = [event["rung"] for _, event in host.stream(given, {"configurable": {"thread_id": "1"}}, **options)]
    assert chunks == ["policy", "value", "reason", "search"]
