"""Bodies of responses as they come over the wire: long, in many pieces, broken."""

from __future__ import annotations

import asyncio
import contextlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from langchain_core.messages import HumanMessage

from escalade.app.completions import completion_of
from escalade.app.settings import Settings
from escalade.app.wiring import open_language_model
from escalade.nodes.call_failed import CallFailed
from escalade.nodes.questions import choice


def stream_of(*pieces: str) -> str:
    deltas = [{"choices": [{"index": 0, "delta": {"content": piece}}]} for piece in pieces]
    return "".join(f"data: {json.dumps(one, ensure_ascii=False)}\n" for one in deltas)


def test_a_stream_without_empty_lines_is_read_in_time_that_grows_with_its_length() -> None:
    text = stream_of(*["x"] * 20_000) + "data: [DONE]\n"
    told = completion_of(text)["choices"][0]
    assert told["message"]["content"] == "x" * 20_000
    assert told["finish_reason"] is None


def test_lines_of_a_stream_end_where_events_end_and_nowhere_else() -> None:
    pieces = ['{"action"', ': "nine\u2028', "\u0085x\x0b", '"}']
    for done in ("data: [DONE]\n", "data: [DONE]\r\n", "data: [DONE]\r"):
        told = completion_of(stream_of(*pieces) + done)["choices"][0]
        assert told["message"]["content"] == "".join(pieces)
        assert told["finish_reason"] is None


def test_a_stream_with_a_broken_piece_is_incomplete() -> None:
    for broken in ('data: {"choices": [{"del\n', "data: <html>\n"):
        text = stream_of('{"action": ') + broken + stream_of('"9"}') + "data: [DONE]\n"
        assert completion_of(text)["choices"][0]["finish_reason"] == "incomplete"


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
def test_an_answer_that_is_too_long_is_no_answer_and_not_read_to_its_end(kind: str) -> None:
    sent = 0

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            nonlocal sent
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(200)
            self.send_header("content-type", kind)
            self.end_headers()
            block = b"x" * 1_000_000
            with contextlib.suppress(OSError):
                self.wfile.write(b'{"choices": [{"message": {"content": "' if "json" in kind else b"data: ")
                for _ in range(100):
                    sent += self.wfile.write(block)

        def log_message(self, *_: Any) -> None: ...

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/v1"

    async def main() -> None:
        model = open_language_model(Settings(llm_model="m", llm_base_url=url))
        assert model is not None
        with pytest.raises(CallFailed):
            await model.ask(choice(["a", "b"]), [HumanMessage("which?")])
        await asyncio.to_thread(model.close)

    asyncio.run(main())
    server.shutdown()
    server.server_close()
    assert sent < 70_000_000  # three ways of asking, 8 MB of each, and what was under way
