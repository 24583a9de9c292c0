"""A scripted OpenAI-compatible endpoint on loopback, and decisions that are made with it through the real client."""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from escalade import Decision, DecisionContext
from escalade.app.settings import Settings
from escalade.app.wiring import Decider, open_decider
from escalade.nodes.daemon import wait_for
from escalade.nodes.dialect import Dialect
from escalade.nodes.endpoint import Endpoint
from escalade.nodes.structured import FORMED_BY, Way, Ways

KEY = "sk-canary-7e2d"
USAGE = {"prompt_tokens": 1000, "completion_tokens": 10, "total_tokens": 1010}
PRICES = {"llm_input_usd_per_mtok": 1.0, "llm_output_usd_per_mtok": 4.0}
COST = (1000 * 1.0 + 10 * 4.0) / 1e6
"""USD of one call with that usage at those prices."""
LABELS = {"refund": "money back, not a change of balance", "card lost": "a card is gone", "balance": "what is left"}
STATES = ("51", "5", "15", "519", "3", "72", "2", "9", "1", "7")


@dataclass
class Reply:
    """What the endpoint sends."""

    body: Any
    status: int = 200
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    cut: str = ""
    """How the body breaks off: `length` and `chunked`, by how its length is said, or `reset` by the network; "" if it
    does not."""

    def data(self) -> bytes:
        if isinstance(self.body, bytes):
            return self.body
        return (self.body if isinstance(self.body, str) else json.dumps(self.body)).encode()


def way_of(body: dict[str, Any]) -> Way:
    """How a request asks for its answer's form."""
    return "json_schema" if "response_format" in body else "function" if "tools" in body else "text"


def schema_of(body: dict[str, Any]) -> dict[str, Any]:
    """The schema that a request asks for."""
    if way_of(body) == "json_schema":
        return dict(body["response_format"]["json_schema"]["schema"])
    if way_of(body) == "function":
        return dict(body["tools"][0]["function"]["parameters"])
    return dict(json.loads(body["messages"][-1]["content"].partition("Its schema: ")[2]))


def allowed(body: dict[str, Any]) -> list[str]:
    """The names that a request for one decision allows."""
    return list(schema_of(body)["properties"]["action"]["enum"])


def texts_of(body: dict[str, Any]) -> list[dict[str, str]] | None:
    """Ids and texts of a prompt with many; None where it has one."""
    _, found, lines = body["messages"][1]["content"].partition("one JSON object a line:\n")
    return [json.loads(line) for line in lines.splitlines()] if found else None


def said(content: Any, *, usage: Any = USAGE, finish: str = "stop", **message: Any) -> Reply:
    """A completion whose message has this content."""
    choice = {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
    return Reply({"id": "x", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage})


def called(*arguments: Any, name: str = "choose_action", **more: Any) -> Reply:
    """A completion that calls the form's function so often."""
    texts = [one if isinstance(one, str) else json.dumps(one) for one in arguments]
    calls = [
        {"id": f"c{number}", "type": "function", "function": {"name": name, "arguments": text}}
        for number, text in enumerate(texts)
    ]
    return said(None, tool_calls=calls, **more)


def properly(body: dict[str, Any], action: str | None = None) -> Reply:
    """What a good endpoint answers: the last name that is allowed, or this one."""
    name = action or allowed(body)[-1]
    return called({"action": name}) if way_of(body) == "function" else said(json.dumps({"action": name}))


def refused(message: str, status: int = 400, **error: Any) -> Reply:
    return Reply({"error": {"message": message, "type": "invalid_request_error", **error}}, status)


def events(*chunks: Any, done: bool = True) -> Reply:
    """A stream of server-sent events."""
    lines = [f"data: {one if isinstance(one, str) else json.dumps(one)}\n\n" for one in chunks]
    return Reply("".join([*lines, "data: [DONE]\n\n"] if done else lines), kind="text/event-stream")


def streamed(reply: Reply, *, usage: bool = True) -> Reply:
    """A completion as a stream, a few characters at a time."""
    choice = reply.body["choices"][0]
    message = choice["message"]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    text = message["content"] or ""
    deltas += [{"content": text[place : place + 3]} for place in range(0, len(text), 3)]
    for number, call in enumerate(message.get("tool_calls") or ()):
        function, arguments = call["function"], call["function"]["arguments"]
        deltas.append(
            {
                "tool_calls": [
                    {"index": number, "id": call["id"], "function": {"name": function["name"], "arguments": ""}}
                ]
            }
        )
        deltas += [
            {"tool_calls": [{"index": number, "function": {"arguments": arguments[place : place + 3]}}]}
            for place in range(0, len(arguments), 3)
        ]
    chunks: list[Any] = [{"choices": [{"index": 0, "delta": one, "finish_reason": None}]} for one in deltas]
    chunks.append({"choices": [{"index": 0, "delta": {}, "finish_reason": choice["finish_reason"]}]})
    chunks += [{"choices": [], "usage": reply.body["usage"]}] if usage else []
    return events(*chunks)


class ScriptedEndpoint:
    """answer: what to reply to a request's body; the bodies are kept."""

    def __init__(self, answer: Callable[[dict[str, Any]], Reply]) -> None:
        self.answer = answer
        self.calls: list[dict[str, Any]] = []
        self.url = ""

    @property
    def ways(self) -> list[Way]:
        return [way_of(body) for body in self.calls]


@contextmanager
def served(answer: Callable[[dict[str, Any]], Reply]) -> Iterator[ScriptedEndpoint]:
    scripted = ScriptedEndpoint(answer)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            scripted.calls.append(body)
            reply = scripted.answer(body)
            data = reply.data()
            self.send_response(reply.status)
            for name, value in {"content-type": reply.kind, **reply.headers}.items():
                self.send_header(name, value)
            if reply.cut == "chunked":
                self.send_header("transfer-encoding", "chunked")
            else:
                self.send_header("content-length", str(len(data) + 99 * bool(reply.cut)))
            self.end_headers()
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data) if reply.cut == "chunked" else data)
            if reply.cut:
                self.close_connection = True
                if reply.cut == "reset":
                    self.wfile.flush()
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()

        def log_message(self, *arguments: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    scripted.url = f"http://127.0.0.1:{server.server_address[1]}/v1"
    try:
        yield scripted
    finally:
        server.shutdown()
        server.server_close()


@contextmanager
def deciding(
    scripted: ScriptedEndpoint, domain: str = "tic_tac_toe", way: Way | None = None, **settings: Any
) -> Iterator[Decider]:
    """A decider of a process that has just begun to ask this endpoint. way: known to work."""
    fields = {"llm_model": "m", "llm_api_key": KEY, "llm_base_url": scripted.url, **PRICES, **settings}
    if domain == "intents":
        fields["domain_options"] = {"intents": {"labels": LABELS}}
    decider = open_decider(Settings(**fields), domain, bundle="none")
    assert decider.resources.language_model is not None
    if way is not None:
        decider.resources.language_model.ways = Ways(way)
    try:
        yield decider
    finally:
        decider.close()


_kept: dict[str, tuple[ScriptedEndpoint, Decider, ExitStack]] = {}


@contextmanager
def fresh(
    answer: Callable[[dict[str, Any]], Reply], domain: str = "tic_tac_toe", way: Way | None = None, **settings: Any
) -> Iterator[tuple[ScriptedEndpoint, Decider]]:
    """An endpoint that answers so, and a decider that knows nothing of it yet, as in a process that has just begun.
    Servers and deciders are kept from one to the next, for they take time to open."""
    key = f"{domain} {sorted(settings.items())}"
    if key not in _kept:
        stack = ExitStack()
        scripted = stack.enter_context(served(answer))
        _kept[key] = (scripted, stack.enter_context(deciding(scripted, domain, **settings)), stack)
    scripted, decider, _ = _kept[key]
    scripted.answer, scripted.calls = answer, []
    model = decider.resources.language_model
    assert model is not None
    left_out = settings.get("llm_leave_out", ())
    never = [one for one, parameter in FORMED_BY.items() if parameter in left_out]
    model.ways, model.dialect, model.endpoint = Ways(way, never=never), Dialect(left_out), Endpoint()
    yield scripted, decider


def close_all() -> None:
    """Close what `fresh` has kept."""
    while _kept:
        _kept.popitem()[1][2].close()


def decide(decider: Decider, *states: str, at_once: bool = False, **context: Any) -> list[Decision]:
    """Decisions one after the other, or at once, by the language model and a small search behind it."""
    ladder = ("reason", "search") if decider.domain.has_simulator else ("reason",)
    options = DecisionContext(**{"ladder": ladder, "simulations": 8, **context})

    async def one(state: str) -> Decision:
        given: Any = {"state": state}
        return Decision.model_validate((await decider.graph.ainvoke(given, context=options))["decision"])

    async def main() -> list[Decision]:
        if at_once:
            return list(await asyncio.gather(*map(one, states)))
        return [await one(state) for state in states]

    return wait_for(main())


def report(decision: Decision) -> Any:
    """Of the language model's rung."""
    return next(one for one in decision.rungs if one.rung == "reason")


def breaker(decider: Decider) -> str:
    assert decider.resources.language_model is not None
    return decider.resources.language_model.endpoint.breaker.state


def alone(answer: Callable[[dict[str, Any]], Reply], *states: str, way: Way | None = None, **options: Any) -> Any:
    """Decisions with a fresh endpoint in a fresh decider, the endpoint, and the breaker's state."""
    settings = {name: options.pop(name) for name in list(options) if name.startswith("llm_")}
    with fresh(answer, options.pop("domain", "tic_tac_toe"), way, **settings) as (scripted, decider):
        made = decide(decider, *states, **options)
        return made, scripted, breaker(decider)
