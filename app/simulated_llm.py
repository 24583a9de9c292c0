"""A simulated language model behind the OpenAI wire: it answers from a domain's reference, right as often as it is told
to be, after a delay, with failures. For planning what a real one would save, and for tests under load.

What it says is marked: its `system_fingerprint` is "simulated", and so every report that quotes it can say so.
"""

from __future__ import annotations

import asyncio
import json
import math
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from escalade.domains.base import Domain
from escalade.domains.errors import EscaladeError, SettingsError
from escalade.nodes.language_model import CHARACTERS_PER_TOKEN, SIMULATED
from escalade.nodes.questions import told_state, told_states

MODEL = "simulated"
MOST_BYTES = 4_000_000
MOST_KNOWN = 100_000
PIECE = 12
"""Characters of each event of a streamed answer."""
_STATUSES = (429, 500, 503)

Reference = Callable[[str], set[int] | None]
"""The actions that are right in a state, given as text; None where that is not known."""


@dataclass(frozen=True)
class Simulation:
    """accuracy: share of answers that the reference holds for right. latency_ms: before each answer; jitter: its
    relative standard deviation, the delays being log-normal. error_rate: share of calls that end in 429, 500 or 503;
    hang_rate: that get no answer at all; garbage_rate: whose answer is of no form. Prices in USD per million tokens.
    seed: of all chance."""

    accuracy: float = 0.9
    latency_ms: float = 500.0
    jitter: float = 0.0
    error_rate: float = 0.0
    hang_rate: float = 0.0
    garbage_rate: float = 0.0
    input_usd_per_mtok: float = 0.0
    output_usd_per_mtok: float = 0.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("accuracy", "error_rate", "hang_rate", "garbage_rate"):
            if not 0 <= getattr(self, name) <= 1:
                raise SettingsError(f"{name} must be from 0 to 1, not {getattr(self, name)!r}")
        if self.error_rate + self.hang_rate + self.garbage_rate > 1:
            raise SettingsError("error_rate, hang_rate and garbage_rate must add up to at most 1")
        for name in ("latency_ms", "jitter", "input_usd_per_mtok", "output_usd_per_mtok"):
            if not 0 <= getattr(self, name) < math.inf:
                raise SettingsError(f"{name} must be a number, at least 0, not {getattr(self, name)!r}")


@dataclass
class Bill:
    """What was served: calls by how they ended, and tokens."""

    calls: Counter[str] = field(default_factory=Counter)
    input_tokens: int = 0
    output_tokens: int = 0

    def usd(self, simulation: Simulation) -> float:
        read = self.input_tokens * simulation.input_usd_per_mtok
        return (read + self.output_tokens * simulation.output_usd_per_mtok) / 1e6


class SimulatedModel:
    """Answers questions about one domain. reference: asked in threads."""

    def __init__(self, domain: Domain[Any], reference: Reference, simulation: Simulation) -> None:
        self.domain, self.reference, self.simulation = domain, reference, simulation
        self.bill = Bill()
        self._asked = Counter[str]()
        self._known: dict[str, set[int] | None] = {}
        self._lock = threading.Lock()
        self._calls = np.random.default_rng((simulation.seed, 0))

    async def answer(self, body: dict[str, Any]) -> Response:
        """The response to a chat completion's request."""
        chosen = self.simulation
        fate, spread = self._calls.random(), self._calls.standard_normal()
        wait = chosen.latency_ms / 1000 * math.exp(chosen.jitter * spread - chosen.jitter**2 / 2)
        if fate < chosen.hang_rate:
            self.bill.calls["hung"] += 1
            await asyncio.sleep(3600)
        await asyncio.sleep(wait)
        if fate < chosen.hang_rate + chosen.error_rate:
            status = _STATUSES[int(self._calls.integers(len(_STATUSES)))]
            self.bill.calls[str(status)] += 1
            return _error(status, "a simulated failure")
        if fate < chosen.hang_rate + chosen.error_rate + chosen.garbage_rate:
            self.bill.calls["garbage"] += 1
            return self._completion(body, {"content": "On the one hand,\non the other hand."})
        message = await asyncio.to_thread(self._message, body)
        self.bill.calls["answered"] += 1
        return self._completion(body, message)

    def _message(self, body: dict[str, Any]) -> dict[str, Any]:
        """The message that fills the form that the request names."""
        name, schema = _form(body)
        prompt = [_text(one) for one in body["messages"] if one.get("role") == "user"]
        many = next((several for one in prompt if (several := told_states(self.domain, one)) is not None), None)
        if many is not None:
            answers = [{"id": number, "action": next(iter(self._choice(text)), "unknown")} for number, text in many]
            return _message_of(name, {"answers": answers})
        state = next((found for one in prompt if (found := told_state(self.domain, one)) is not None), None)
        return _message_of(name, _filled(schema, None if state is None else self._choice(state)))

    def _choice(self, state: str) -> list[str]:
        """Names of the legal actions, the chosen one first."""
        domain = self.domain
        try:
            legal = list(domain.legal_actions(domain.parse(state)))
            right = self._right(state)
        except EscaladeError:
            return []
        with self._lock:
            self._asked[state] += 1
            random = np.random.default_rng((self.simulation.seed, self._asked[state], *state.encode()))
        good = [action for action in legal if right is not None and action in right]
        wrong = [action for action in legal if action not in good]
        pool = good if (random.random() < self.simulation.accuracy and good) or not wrong else wrong
        first = pool[int(random.integers(len(pool)))] if pool else None
        rest = [action for action in (*good, *wrong) if action != first]
        return [domain.action_name(action) for action in ([] if first is None else [first, *rest])]

    def _right(self, state: str) -> set[int] | None:
        """What the reference says, asked once for each state."""
        if state not in self._known:
            if len(self._known) >= MOST_KNOWN:
                self._known.clear()
            self._known[state] = self.reference(state)
        return self._known[state]

    def _completion(self, body: dict[str, Any], message: dict[str, Any]) -> Response:
        read = _tokens(json.dumps(body.get("messages"))) + _tokens(json.dumps([_form(body)[1]]))
        written = _tokens(json.dumps(message))
        self.bill.input_tokens += read
        self.bill.output_tokens += written
        usage = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        about = {
            "id": "chatcmpl-simulated",
            "created": 0,
            "model": body.get("model", MODEL),
            "system_fingerprint": SIMULATED,
        }
        if body.get("stream"):
            wanted = (body.get("stream_options") or {}).get("include_usage")
            return StreamingResponse(_events(about, message, usage if wanted else None), media_type="text/event-stream")
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", **message}, "logprobs": None}
        return JSONResponse({**about, "object": "chat.completion", "choices": [choice], "usage": usage})


def simulated_app(model: SimulatedModel) -> FastAPI:
    """The OpenAI wire, as far as chat completions go."""
    app = FastAPI(title="Escalade's simulated language model")

    @app.post("/v1/chat/completions")
    async def completions(request: Request) -> Response:
        raw = await request.body()
        try:
            body = json.loads(raw) if len(raw) <= MOST_BYTES else None
        except (ValueError, RecursionError):
            body = None
        messages = body.get("messages") if isinstance(body, dict) else None
        if body is None or not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
            return _error(400, "the body must be JSON with a list of messages")
        return await model.answer(body)

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        return {"object": "list", "data": [{"id": MODEL, "object": "model", "created": 0, "owned_by": "escalade"}]}

    return app


def _message_of(name: str | None, filled: Any) -> dict[str, Any]:
    """The message with an answer, as text or as a call of the function `name`."""
    if name is None:
        return {"content": json.dumps(filled)}
    call = {"name": name, "arguments": json.dumps(filled)}
    return {"content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": call}]}


def _events(about: dict[str, Any], message: dict[str, Any], usage: dict[str, int] | None) -> Iterator[str]:
    """A completion as server-sent events, as OpenAI streams one: pieces, why it ended, and the usage if asked for."""
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    text = message.get("content") or ""
    deltas += [{"content": text[place : place + PIECE]} for place in range(0, len(text), PIECE)]
    for number, call in enumerate(message.get("tool_calls") or ()):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        opening = {"id": call["id"], "type": "function", "function": {"name": name, "arguments": ""}}
        deltas.append({"tool_calls": [{"index": number, **opening}]})
        pieces = (arguments[place : place + PIECE] for place in range(0, len(arguments), PIECE))
        deltas += [{"tool_calls": [{"index": number, "function": {"arguments": piece}}]} for piece in pieces]
    choices: list[list[dict[str, Any]]] = [[{"index": 0, "delta": one, "finish_reason": None}] for one in deltas]
    choices.append([{"index": 0, "delta": {}, "finish_reason": "stop"}])
    extra = {} if usage is None else {"usage": None}
    for one in choices:
        yield _event({**about, "object": "chat.completion.chunk", "choices": one, **extra})
    if usage is not None:
        yield _event({**about, "object": "chat.completion.chunk", "choices": [], "usage": usage})
    yield "data: [DONE]\n\n"


def _event(chunk: dict[str, Any]) -> str:
    return f"data: {json.dumps(chunk)}\n\n"


def _form(body: dict[str, Any]) -> tuple[str | None, dict[str, Any]]:
    """The function to call, None if the answer is to be text, and the schema of what is asked for."""
    asked = (body.get("response_format") or {}).get("json_schema") or {}
    if isinstance(asked.get("schema"), dict):
        return None, asked["schema"]
    for tool in body.get("tools") or ():
        function = tool.get("function") or {}
        if isinstance(function.get("parameters"), dict):
            return str(function.get("name")), function["parameters"]
    for message in reversed(body.get("messages") or ()):
        _, found, schema = _text(message).partition("Its schema: ")
        try:
            if found and isinstance(read := json.loads(schema), dict):
                return None, read
        except ValueError:
            continue
    return None, {"type": "object", "properties": {"action": {"type": "string", "enum": []}}}


def _filled(schema: dict[str, Any], names: list[str] | None, place: int = 0) -> Any:
    """A value of a schema's kind: where it allows some names alone, the best of these; in a list, all in order."""
    kind = schema.get("type")
    if kind == "object":
        return {name: _filled(inner, names) for name, inner in (schema.get("properties") or {}).items()}
    if kind == "array":
        wanted = schema.get("items") or {}
        if "enum" in wanted:
            return [_filled(wanted, names, number) for number in range(max(1, len(names or ())))]
        # What cannot hold an action, such as a list of tools to ask, stays empty.
        inner = (wanted.get("properties") or {}).values()
        fits = not names or any(name in one.get("enum", ()) for one in inner for name in names)
        return [_filled(wanted, names)] if fits else []
    if kind in ("number", "integer"):
        return max(0, schema.get("minimum", 0))
    if "enum" in schema:
        allowed = schema["enum"] or names or ["unknown"]
        fitting = [name for name in names or () if name in allowed] or allowed
        return fitting[min(place, len(fitting) - 1)]
    return SIMULATED


def _text(message: dict[str, Any]) -> str:
    content = message.get("content")
    if isinstance(content, list):
        return "".join(part.get("text", "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def _tokens(text: str) -> int:
    """About as many as a tokeniser would make of it."""
    return math.ceil(len(text) / CHARACTERS_PER_TOKEN)


def _error(status: int, message: str) -> Response:
    return JSONResponse({"error": {"message": message, "type": "simulated", "code": None}}, status_code=status)
