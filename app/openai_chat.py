"""The client of OpenAI-compatible endpoints. Importing it takes a second."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.outputs import ChatGenerationChunk, ChatResult
from langchain_openai import ChatOpenAI
from openai import DefaultAsyncHttpxClient
from pydantic import SecretStr

from escalade.app.settings import Settings
from escalade.nodes.call_failed import failure_of


class DiscreetChatOpenAI(ChatOpenAI):
    """Errors become CallFailed before anyone hears of them: traces keep an error's whole text, and a provider's can
    quote keys."""

    async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
        try:
            return await super()._agenerate(*args, **kwargs)
        except Exception as error:  # noqa: BLE001 -- any client's
            raise failure_of(error) from None

    async def _astream(self, *args: Any, **kwargs: Any) -> AsyncIterator[ChatGenerationChunk]:
        try:
            async for chunk in super()._astream(*args, **kwargs):
                yield chunk
        except Exception as error:  # noqa: BLE001 -- any client's
            raise failure_of(error) from None


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
        http_async_client=DefaultAsyncHttpxClient(),  # the default one is shared between event loops
    )


def make_ready(settings: Settings) -> None:
    """Do now what the first call would do on the event loop, where all decisions wait for it: a quarter of a second."""
    _ = make_chat(settings).root_async_client.chat.completions


async def close_chat(chat: BaseChatModel) -> None:
    """Close its connections."""
    assert isinstance(chat, ChatOpenAI)
    await chat.root_async_client.close()
