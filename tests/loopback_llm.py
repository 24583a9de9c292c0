"""A scripted OpenAI-compatible endpoint on loopback, for tests: it answers every question with the first action that is
allowed, unless a script says otherwise. It is a plain threaded server, which, as many real ones do, goes on with a call
whose client has left."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True)
class Reply:
    """after_s: how long it takes. usage: prompt and completion tokens."""

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    after_s: float = 0.0
    usage: tuple[int, int] = (100, 10)
    content: str | None = None


@dataclass(frozen=True)
class Call:
    """number: from 0, as they came. seconds: since the server began."""

    number: int
    seconds: float
    body: dict[str, Any]


@dataclass
class Loopback:
    """script: what a call is answered with. at_once: calls that it works on at a time, None for any number."""

    script: Callable[[Call], Reply]
    at_once: int | None = None
    url: str = ""
    bodies: list[dict[str, Any]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    under_way: int = 0
    most_under_way: int = 0
    began: float = 0.0

    def __post_init__(self) -> None:
        self.lock = threading.Lock()
        self.came = threading.Event()
        self.turns = threading.Semaphore(self.at_once or 10_000)

    @property
    def answered(self) -> int:
        return self.statuses.count(200)


def _schema(body: dict[str, Any]) -> dict[str, Any]:
    """Of the answer that is asked for, in whichever way."""
    if "response_format" in body:
        found: dict[str, Any] = body["response_format"]["json_schema"]["schema"]
    elif "tools" in body:
        found = body["tools"][0]["function"]["parameters"]
    else:
        found = json.loads(body["messages"][-1]["content"].partition("Its schema: ")[2])
    return found


def _contents(body: dict[str, Any]) -> str:
    properties = _schema(body)["properties"]
    if "answers" in properties:
        names = properties["answers"]["items"]["properties"]["action"]["enum"]
        ids = re.findall(r'"id": "(\d+)"', body["messages"][-1]["content"])
        return json.dumps({"answers": [{"id": one, "action": names[0]} for one in ids]})
    if "ranking" in properties:
        return json.dumps({"ranking": properties["ranking"]["items"]["enum"]})
    return json.dumps({name: _filled(schema) for name, schema in properties.items()})


def _filled(schema: dict[str, Any]) -> Any:
    if schema["type"] == "array":
        return [_filled(schema["items"])] if "action" in schema["items"]["properties"] else []
    if schema["type"] == "object":
        return {name: _filled(inner) for name, inner in schema["properties"].items()}
    return schema["enum"][0] if "enum" in schema else 0.0 if schema["type"] == "number" else "because"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        served: Loopback = self.server.loopback  # type: ignore[attr-defined]
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with served.lock:
            number = len(served.bodies)
            served.bodies.append(body)
            served.under_way += 1
            served.most_under_way = max(served.most_under_way, served.under_way)
        served.came.set()
        try:
            reply = served.script(Call(number, time.monotonic() - served.began, body))
            with served.turns:
                time.sleep(reply.after_s)
            self._send(reply, body)
        except OSError:  # the client has left
            self.close_connection = True
        finally:
            with served.lock:
                served.under_way -= 1
                served.statuses.append(reply.status)

    def _send(self, reply: Reply, body: dict[str, Any]) -> None:
        if reply.status == 200:
            prompt, completion = reply.usage
            message = {"role": "assistant", "content": reply.content or _contents(body)}
            answer: dict[str, Any] = {
                "id": "x",
                "object": "chat.completion",
                "created": 0,
                "model": body["model"],
                "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
                "usage": {
                    "prompt_tokens": prompt,
                    "completion_tokens": completion,
                    "total_tokens": prompt + completion,
                },
            }
        else:
            answer = {"error": {"message": "scripted", "type": "scripted", "code": None}}
        content = json.dumps(answer).encode()
        self.send_response(reply.status)
        for name, value in {**reply.headers, "content-type": "application/json"}.items():
            self.send_header(name, value)
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        pass


@contextmanager
def loopback(
    script: Callable[[Call], Reply] = lambda _: Reply(),
    *,
    at_once: int | None = None,
    port: int = 0,
) -> Iterator[Loopback]:
    """Such an endpoint while the context lasts."""
    served = Loopback(script, at_once)
    server = _Server(("127.0.0.1", port), _Handler)
    server.loopback = served  # type: ignore[attr-defined]
    served.url, served.began = f"http://127.0.0.1:{server.server_port}/v1", time.monotonic()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield served
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=5)
