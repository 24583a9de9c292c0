"""A chat completion as it comes over the wire, whole or as a stream of events, brought into OpenAI's form.

Servers that call themselves compatible differ in it: an error where the answer should be, arguments of functions as
objects, an answer streamed that was not asked for as a stream, a page of a proxy.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from escalade.nodes.call_failed import CallFailed, broken_off, failure_of_body
from escalade.nodes.usage import usage_of_record

DONE = "[DONE]"
INCOMPLETE = "incomplete"
"""The finish reason of a choice whose stream broke off (`escalade.nodes.endings`)."""
_BROKEN = {"error", "network_error", "engine_error", "abort", "aborted", "insufficient_system_resource"}
"""Ways in which an answer ends that mean a failure of the server."""


def completion_of(text: str) -> dict[str, Any]:
    """The completion in a response's text, with one choice, in OpenAI's form. Raises CallFailed for what is none, with
    the meaning of the error that came in its place.

    The choice is the one with index 0, wherever it stands, or else the first. What the others contain is in its
    message as `other_choices`, each with `content` and `calls` (name and arguments), so that a reader can compare.
    """
    text = text.strip("\ufeff \t\r\n")
    body = _of_events(text) if is_stream(text) else _json(text)
    if body is None and text.startswith("{") and not text.endswith("}"):
        raise broken_off(ValueError())
    if body is None:
        raise failure_of_body(text, 200)
    if not isinstance(body, dict):
        raise failure_of_body(body, 200) if body else CallFailed("malformed_answer", {"status": 200})
    choices = body.get("choices")
    listed = choices if isinstance(choices, list) else []
    choice = next((one for one in listed if isinstance(one, dict) and one.get("index") == 0), (listed or [None])[0])
    for place in (body, choice):
        if isinstance(place, Mapping) and place.get("error"):
            raise failure_of_body({"error": place["error"], "usage": body.get("usage")}, 200)
    if not isinstance(choice, dict):
        nothing = "choices" in body and choices is not None
        raise CallFailed("malformed_answer", {"status": 200}) if nothing or not body else failure_of_body(body, 200)
    if str(choice.get("finish_reason")).lower() in _BROKEN:
        raise failure_of_body({"error": {"code": "server_error"}, "usage": body.get("usage")}, 200)
    usage = body.get("usage") or _elsewhere(body, choice)
    message = _message(_said(choice))
    others = [_message(_said(one)) for one in listed if isinstance(one, dict) and one is not choice]
    if others:
        message["other_choices"] = [{"content": one["content"], "calls": _named(one)} for one in others]
    told = {"index": 0, "finish_reason": choice.get("finish_reason"), "message": message}
    known = {name: body[name] for name in ("id", "model", "system_fingerprint", "service_tier") if body.get(name)}
    return {**known, "choices": [told], "usage": _usage(usage)}


def is_stream(text: str) -> bool:
    """Whether a body is a stream of server-sent events."""
    return text.startswith(("data:", "event:", "id:", "retry:", ":"))


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return None


def _usage(record: Any) -> dict[str, Any] | None:
    """A usage record in OpenAI's form: unknown counts are None."""
    usage = usage_of_record(record)
    if usage is None:
        return None
    read, written = usage["input_tokens"], usage["output_tokens"]
    total = None if read is None or written is None else read + written
    details = {"cached_tokens": usage["cached_input_tokens"]} if "cached_input_tokens" in usage else {}
    counts = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": total}
    return {**counts, "prompt_tokens_details": details}


def _elsewhere(body: dict[str, Any], choice: dict[str, Any]) -> Any:
    """Where some put the usage record."""
    groq = body.get("x_groq")
    return choice.get("usage") or (groq.get("usage") if isinstance(groq, dict) else None)


def _said(choice: dict[str, Any]) -> Any:
    return choice.get("message") or choice.get("delta") or {"content": choice.get("text")}


def _named(message: dict[str, Any]) -> list[list[str]]:
    functions = [one["function"] for one in message.get("tool_calls", ())]
    return [[function["name"], function["arguments"]] for function in functions]


def _message(given: Any) -> dict[str, Any]:
    if not isinstance(given, dict):
        return {"role": "assistant", "content": given if isinstance(given, str) else ""}
    calls = given.get("tool_calls")
    named = [_call(one, place) for place, one in enumerate(calls if isinstance(calls, list) else ())]
    if isinstance(given.get("function_call"), dict):
        named.append(_call({"function": given["function_call"]}, len(named)))
    message: dict[str, Any] = {"role": "assistant", "content": _content(given.get("content"))}
    if named:
        message["tool_calls"] = [one for one in named if one is not None]
    return message | {name: given[name] for name in ("refusal", "reasoning_content", "reasoning") if given.get(name)}


def _content(given: Any) -> str:
    """A text, of one piece or several; pieces of thinking are left out. An object is what a text would say of it."""
    if isinstance(given, str):
        return given
    if isinstance(given, list):
        pieces = (one.get("text") if isinstance(one, dict) else one for one in given)
        return "".join(piece for piece in pieces if isinstance(piece, str))
    return json.dumps(given) if isinstance(given, dict) else ""


def _call(given: Any, place: int) -> dict[str, Any] | None:
    """A call of a function with its arguments as a text."""
    function = given.get("function", given) if isinstance(given, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        return None
    arguments = function.get("arguments", function.get("parameters", ""))
    text = arguments if isinstance(arguments, str) else json.dumps(arguments)
    if not isinstance(known := _json(text), dict) and known is not None:  # no arguments that a function has
        text = json.dumps({"arguments": known})
    number = given.get("id") if isinstance(given.get("id"), str) else None
    return {
        "id": number or f"call_{place}",
        "type": "function",
        "function": {"name": function["name"], "arguments": text},
    }


# Streams


def _of_events(text: str) -> dict[str, Any] | None:
    """One completion out of a stream's events, its choices kept apart by their index; None if there was none. A choice
    of a stream that ends without saying so, or of which a piece cannot be read, is incomplete."""
    found: dict[Any, dict[str, Any]] = {}
    calls: dict[Any, dict[Any, dict[str, Any]]] = {}
    body: dict[str, Any] = {}
    usage, seen = None, False
    chunks, whole = _chunks(text)
    for chunk in chunks:
        if chunk.get("error"):
            return {"error": chunk["error"], "usage": chunk.get("usage") or usage}
        body |= {name: chunk[name] for name in ("id", "model", "system_fingerprint", "service_tier") if chunk.get(name)}
        choices = chunk.get("choices")
        seen = seen or isinstance(choices, list)
        usage = chunk.get("usage") or _elsewhere(chunk, {}) or usage
        for given in choices if isinstance(choices, list) else ():
            choice = given if isinstance(given, dict) else {}
            usage = _elsewhere({}, choice) or usage
            if choice.get("error"):
                return {"error": choice["error"], "usage": usage}
            index = choice.get("index") if isinstance(choice.get("index"), int) else 0
            known = found.setdefault(index, {"index": index, "finish_reason": None, "message": _nothing_yet()})
            known["finish_reason"] = choice.get("finish_reason") or known["finish_reason"]
            piece = choice.get("delta") or choice.get("message") or {"content": choice.get("text")}
            if isinstance(piece, dict):
                _add(known["message"], calls.setdefault(index, {}), piece)
    if not seen:
        return None
    found = found or {0: {"index": 0, "finish_reason": None, "message": _nothing_yet()}}
    for index, known in found.items():
        if calls.get(index):
            known["message"]["tool_calls"] = list(calls[index].values())
        if not (whole and (known["finish_reason"] or is_ended(text))):
            known["finish_reason"] = INCOMPLETE
    return {**body, "choices": list(found.values()), "usage": usage}


def _nothing_yet() -> dict[str, Any]:
    return {"role": "assistant", "content": ""}


def is_ended(text: str) -> bool:
    """Whether a line of a stream says that it ends."""
    return any(line.removeprefix("data:").strip() == DONE for lines in _events(text) for line in lines)


def _events(text: str) -> list[list[str]]:
    """The lines of server-sent events. JSON may hold, as they are, other characters that `str.splitlines` takes for
    ends."""
    events = text.replace("\r\n", "\n").replace("\r", "\n").split("\n\n")
    return [event.split("\n") for event in events]


def _chunks(text: str) -> tuple[list[dict[str, Any]], bool]:
    """The data of the events, those that are JSON objects, and whether nothing in them was broken. An event that names
    an error has one."""
    found, whole = [], True
    for lines in _events(text):
        failed = any(line.replace(" ", "") == "event:error" for line in lines)
        # Some put each piece on a line of its own, without an empty one between.
        for data in (line.removeprefix("data:").strip() for line in lines if line.startswith("data:")):
            value = _json(data)
            whole = whole and (value is not None or data in ("", DONE, "null"))
            if isinstance(value, dict):
                found.append({"error": value} if failed and "error" not in value else value)
    return found, whole


def _add(message: dict[str, Any], calls: dict[Any, dict[str, Any]], piece: dict[str, Any]) -> None:
    """A piece of a message to what came before it."""
    message["content"] += _content(piece.get("content"))
    for name in ("refusal", "reasoning_content", "reasoning"):
        if isinstance(said := piece.get(name), str):
            message[name] = message.get(name, "") + said
    given = piece.get("tool_calls")
    for place, one in enumerate(given if isinstance(given, list) else ()):
        function = one.get("function") if isinstance(one, dict) else None
        if not isinstance(function, dict):
            continue
        number = one.get("index")
        key = number if isinstance(number, int) else one.get("id") or (list(calls)[-1] if calls else place)
        known = calls.setdefault(key, {"id": one.get("id"), "function": {"name": "", "arguments": ""}})
        known["function"]["name"] = known["function"]["name"] or function.get("name") or ""
        arguments = function.get("arguments") or ""
        known["function"]["arguments"] += arguments if isinstance(arguments, str) else json.dumps(arguments)
