"""The client of OpenAI-compatible endpoints. Importing it takes a second."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatResult
from langchain_openai import ChatOpenAI
from openai import APIConnectionError, APITimeoutError, DefaultAsyncHttpxClient
from pydantic import SecretStr

from escalade.app.completions import DONE, completion_of, is_ended
from escalade.app.settings import Settings
from escalade.nodes.call_failed import CallFailed, broken_off, failure_of

MOST_BYTES = 8_000_000
"""Of a response. What is longer is cut, and then no answer."""

_begun: ContextVar[list[int] | None] = ContextVar("_begun", default=None)
"""Statuses of the responses that the call of this task has begun to receive."""


def _is_a(error: Exception, name: str) -> bool:
    """Whether it is of a class of that name of httpx, in whichever of its editions the client comes with."""
    return any(one.__name__ == name for one in type(error).__mro__)


async def _note_beginning(response: Any) -> None:
    if (begun := _begun.get()) is not None:
        begun.append(response.status_code)


class DiscreetChatOpenAI(ChatOpenAI):
    """A chat model that reads completions as servers really send them (`escalade.app.completions`). Errors become
    CallFailed before anyone sees them: traces keep an error's whole text, and a provider's can quote keys.

    Answers come in one piece, however the run around them is streamed. With `streaming`, they are asked for as a
    stream, for endpoints that give nothing else.
    """

    async def _agenerate(
        self, messages: list[BaseMessage], stop: list[str] | None = None, run_manager: Any = None, **kwargs: Any
    ) -> ChatResult:
        payload = self._get_request_payload(messages, stop=stop, **kwargs)
        if payload.get("stream") and self.stream_usage:
            payload["stream_options"] = {"include_usage": True}
        begun: list[int] = []
        _begun.set(begun)
        try:
            completion = completion_of(await self._text(payload))
            result = self._create_chat_result(completion)
        except Exception as error:  # noqa: BLE001 -- any client's
            lost = isinstance(error, APIConnectionError) or _is_a(error, "TransportError")
            lost = lost or _is_a(error, "DecodingError")
            if begun and lost and not (isinstance(error, APITimeoutError) or _is_a(error, "TimeoutException")):
                raise broken_off(error, begun[-1]) from None
            raise self._discreet(failure_of(error, sent=[one.text for one in messages])) from None
        told = completion["choices"][0]["message"]
        names = ("refusal", "reasoning_content", "reasoning", "other_choices")
        kept = {name: told[name] for name in names if name in told}
        result.generations[0].message.additional_kwargs |= kept
        return result

    async def _text(self, payload: dict[str, Any]) -> str:
        """The body of the response. A stream is read to the event that ends it, not until the connection closes."""
        if not payload.get("stream"):  # what means nothing can be refused
            payload.pop("stream", None)
        async with self.async_client.with_streaming_response.create(**payload) as reply:
            body = bytearray()
            async for piece in reply.http_response.aiter_bytes():
                body += piece
                if len(body) > MOST_BYTES or _ends(body, len(piece)):
                    break
            return body.decode(reply.http_response.charset_encoding or "utf-8", "replace")

    def _discreet(self, failed: CallFailed) -> CallFailed:
        """Without a code that has to do with the key."""
        key = self.openai_api_key
        secret = key.get_secret_value() if isinstance(key, SecretStr) else ""
        code = str(failed.details.get("code", ""))
        if secret and code and (code in secret or secret in code):
            del failed.details["code"]
        return failed


def _ends(body: bytearray, last: int) -> bool:
    """Whether a stream says in the last so many bytes of what has come that it ends."""
    place = body.rfind(DONE.encode(), max(0, len(body) - last - len(DONE)))
    if place < 0:
        return False
    begins = max(body.rfind(b"\n", 0, place), body.rfind(b"\r", 0, place)) + 1
    return is_ended(body[begins:].decode("utf-8", "replace"))


def make_chat(settings: Settings) -> ChatOpenAI:
    """A chat model with connections of its own, for one event loop."""
    assert settings.llm_model is not None
    return DiscreetChatOpenAI(
        name="ChatOpenAI",
        model=settings.llm_model,
        api_key=settings.llm_api_key or SecretStr("none"),
        base_url=settings.llm_base_url,
        max_retries=0,  # a failed call is the router's to deal with
        timeout=settings.llm_timeout_s,
        max_completion_tokens=settings.llm_max_tokens,
        temperature=0,
        disable_streaming=True,
        http_async_client=DefaultAsyncHttpxClient(
            event_hooks={"response": [_note_beginning]}
        ),  # the default one is shared between event loops
    )


def make_ready(settings: Settings) -> None:
    """Do now what the first call would do on the event loop, where all decisions wait for it: a quarter of a second."""
    _ = make_chat(settings).root_async_client.chat.completions


async def close_chat(chat: BaseChatModel) -> None:
    """Close its connections."""
    assert isinstance(chat, ChatOpenAI)
    await chat.root_async_client.close()
