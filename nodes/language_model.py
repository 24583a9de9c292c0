"""A chat model and how it is asked: one question of a given form at a time, within a time limit, with prices, caps and
the endpoint's guards. What it answers is checked by who asks, never believed."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Callable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig

from escalade.domains.base import Domain
from escalade.nodes.call_costs import CallCosts
from escalade.nodes.call_failed import UNBILLED, CallFailed
from escalade.nodes.endpoint import Endpoint
from escalade.nodes.guards import DecisionBudget, DecisionTokens
from escalade.nodes.questions import choice, names_of, situation
from escalade.nodes.structured import Form, Way, Ways, answer_of, asked

FIRST_GUESS_MS = 100.0
"""Of a call's latency: little, for an endpoint that is never asked for want of time would never be known."""
MEMORY = 0.8
"""Weight of the past in the running mean of latencies."""
PATIENCE = 4.0
"""A call that was given less than so many times the usual latency, and took longer, speaks against nobody."""
FORGOTTEN_S = 60.0
"""So long after the last answer, what is known of an endpoint counts a third: it may have become faster."""
CHARACTERS_PER_TOKEN = 3  # few, so that a prompt's tokens are not underestimated
CLOSING_S = 5.0
SIMULATED = "simulated"
"""The fingerprint of a model that is none."""
ASIDE = 100
"""Tokens of a prompt besides its text: roles, the form's own words."""


@dataclass(frozen=True)
class Answer:
    """fields: of the form that was asked for. cost_usd: None if unpriced. tokens: `input_tokens` and `output_tokens` by
    the provider's usage record, None without one. attempts: calls that it took. simulated: whether the endpoint says
    that nothing but a simulation answered (`escalade llm simulate`)."""

    fields: dict[str, Any]
    cost_usd: float | None
    tokens: dict[str, Any] | None
    attempts: int
    way: Way
    simulated: bool = False


@dataclass
class LanguageModel:
    """chat: any LangChain chat model, with its own retries off; or what makes one, and then each event loop gets its
    own, since an HTTP client's connections die with the loop they were opened on. name: what reports call it.
    max_tokens: cap on one answer. tokens_per_decision: cap on all calls of one decision, prompts included; None: none.
    timeout_s: cap on one call, from its turn on. Prices in USD per million tokens; None: unpriced, and reported so.
    endpoint: the guards shared by all calls. ways: how answers are held to their form. close_chat: what `close` does to
    each chat model that was made. batch_ms: how long a question of a one-step domain waits for others that go into the
    same prompt, of at most batch_most (`escalade.nodes.question_batches`); 0: each is asked by itself. sampling:
    arguments of calls whose answers are to differ, such as a temperature; none for a chat model that has one already.
    """

    chat: BaseChatModel | Callable[[], BaseChatModel]
    name: str
    max_tokens: int = 256
    tokens_per_decision: int | None = None
    timeout_s: float = 30.0
    input_usd_per_mtok: float | None = None
    output_usd_per_mtok: float | None = None
    endpoint: Endpoint = field(default_factory=Endpoint)
    ways: Ways = field(default_factory=Ways)
    batch_ms: float = 5.0
    batch_most: int = 32
    sampling: Mapping[str, Any] = field(default_factory=dict)
    close_chat: Callable[[BaseChatModel], Awaitable[None]] | None = None
    costs: CallCosts = field(default_factory=CallCosts)
    """What its calls really cost."""
    _mean_ms: float = field(default=FIRST_GUESS_MS, init=False, repr=False)
    _answered_at: float = field(default=0.0, init=False, repr=False)
    _chats: MutableMapping[Any, BaseChatModel] = field(default_factory=WeakKeyDictionary, init=False, repr=False)

    async def ask(
        self,
        form: Form,
        messages: Sequence[BaseMessage],
        *,
        timeout_s: float | None = None,
        decision: DecisionTokens | None = None,
        budget: DecisionBudget | None = None,
        sampled: bool = False,
        metadata: Mapping[str, Any] | None = None,
    ) -> Answer:
        """One answer of a form. timeout_s: for everything, waiting for a turn included; None: no limit but that of
        each call. decision, budget: count the tokens and the money of all questions of one decision. sampled: it is one
        of several, which may differ. metadata: of its run, where it is traced. Raises CallFailed, whose `details`
        have `cost_usd` (None: not known)."""
        ends = time.monotonic() + (math.inf if timeout_s is None else timeout_s)
        decision = decision or DecisionTokens(self.tokens_per_decision)
        most = self.most_tokens(question_length(form, messages))
        listed = self.listed_usd(most)
        costs: list[float | None] = []
        attempts, way = 0, self.ways.way
        while True:
            began = time.monotonic()
            try:
                message, tried = await self.endpoint.call(
                    lambda left, way=way: self._sent(form, messages, way, left, sampled, metadata),  # type: ignore[misc]
                    timeout_s=self.timeout_s,
                    within_s=max(0.0, ends - began),
                    tokens=most,
                    prompt_tokens=most - self.max_tokens,
                    used=_total_tokens,
                    decision=decision,
                    usd=self.costs.estimate(listed or 0.0),
                    billed=lambda message: self.billed(listed, message),
                    budget=budget,
                    fair_s=PATIENCE * self.expected_ms / 1000,
                )
                attempts += tried
                tokens = _tokens(message)
                costs.append(self.cost(tokens))
                fields = answer_of(message, form)
                if fields is None:
                    raise CallFailed("malformed_answer", {"tokens": tokens})
            except CallFailed as failed:
                unfit = failed.reason in ("malformed_answer", "refused")
                attempts += failed.details.pop("attempts", 0)
                if failed.reason != "malformed_answer" or "tokens" not in failed.details:
                    costs.append(0.0 if failed.reason in UNBILLED else self.cost(None))
                other = self.ways.after(way) if unfit else None
                if other is not None and time.monotonic() < ends:
                    way = other
                    continue
                failed.details |= {"cost_usd": None if None in costs else sum(filter(None, costs))}
                failed.details |= {"attempts": attempts} if attempts > 1 else {}
                raise
            self.ways.works(way)
            ended = time.monotonic()
            self._mean_ms = MEMORY * self.expected_ms + (1 - MEMORY) * (ended - began) * 1000
            self._answered_at = ended
            return Answer(
                fields, None if None in costs else sum(filter(None, costs)), tokens, attempts, way, _simulated(message)
            )

    async def _sent(
        self,
        form: Form,
        messages: Sequence[BaseMessage],
        way: Way,
        left: float,
        sampled: bool,
        metadata: Mapping[str, Any] | None,
    ) -> Any:
        try:
            bound, told = asked(self._chat_here(), form, messages, way)
        except NotImplementedError:
            raise CallFailed("refused", {"error": "NotImplementedError"}) from None
        config = RunnableConfig(metadata=dict(metadata)) if metadata else None
        return await bound.ainvoke(told, config, timeout=left, **(self.sampling if sampled else {}))

    def _chat_here(self) -> BaseChatModel:
        """The chat model to use on this event loop."""
        if isinstance(self.chat, BaseChatModel):
            return self.chat
        loop = asyncio.get_running_loop()
        if loop not in self._chats:
            self._chats[loop] = self.chat()
        return self._chats[loop]

    @property
    def expected_ms(self) -> float:
        """How long a call is likely to take."""
        known = math.exp((self._answered_at - time.monotonic()) / FORGOTTEN_S)
        return known * self._mean_ms + (1 - known) * FIRST_GUESS_MS

    def close(self) -> None:
        """Close the connections, on the loops that still run; not from one of these. It can still be asked after."""
        chats, self._chats = self._chats, WeakKeyDictionary()
        for loop, chat in list(chats.items()):
            if self.close_chat is not None and loop.is_running():
                asyncio.run_coroutine_threadsafe(self._closed(chat), loop).result(CLOSING_S)

    async def _closed(self, chat: BaseChatModel) -> None:
        assert self.close_chat is not None
        await self.close_chat(chat)

    def most_tokens(self, characters: int) -> int:
        """An upper estimate of what one call takes with so long a prompt, its answer included."""
        return self.tokens_of(characters) + ASIDE + self.max_tokens

    def tokens_of(self, characters: int) -> int:
        """An upper estimate of the tokens of a text."""
        return math.ceil(characters / CHARACTERS_PER_TOKEN)

    def cost(self, usage: dict[str, Any] | None) -> float | None:
        """USD of one call by the provider's usage record; None if unpriced or unreported."""
        if usage is None or self.input_usd_per_mtok is None or self.output_usd_per_mtok is None:
            return None
        read: Any = usage.get("input_tokens")
        written: Any = usage.get("output_tokens")
        if not all(_is_count(tokens) for tokens in (read, written)):
            return None  # a usage record that makes no sense prices nothing
        return float((read * self.input_usd_per_mtok + written * self.output_usd_per_mtok) / 1e6)

    def listed_usd(self, tokens: int) -> float | None:
        """An upper estimate in USD of a call of so many tokens, its answer included, by their prices alone."""
        return self.cost({"input_tokens": tokens - self.max_tokens, "output_tokens": self.max_tokens})

    def billed(self, listed: float | None, message: Any) -> float | None:
        """What an answer has cost, from which later estimates are learnt."""
        usd = self.cost(_tokens(message))
        if usd is not None and listed is not None:
            self.costs.learn(listed, usd)
        return usd

    def most_it_can_cost(self, domain: Domain[Any], text: str, calls: int = 1, besides: int = 0) -> float | None:
        """An upper estimate in USD of asking about a state so often, before asking. besides: characters that are told
        with each call besides the situation."""
        state = domain.parse(text)
        form = choice(names_of(domain, domain.legal_actions(state)), evaluates=domain.has_simulator)
        tokens = self.most_tokens(question_length(form, situation(domain, state)) + besides)
        once = self.listed_usd(tokens)
        return None if once is None else calls * self.costs.estimate(once)


def question_length(form: Form, messages: Sequence[BaseMessage]) -> int:
    """Characters of a question: what is told, and the form that is asked for."""
    return sum(len(message.text) for message in messages) + len(str(form.schema))


def _simulated(message: Any) -> bool:
    return bool((getattr(message, "response_metadata", None) or {}).get("system_fingerprint") == SIMULATED)


def _tokens(message: Any) -> dict[str, Any] | None:
    usage = getattr(message, "usage_metadata", None)
    if not usage:
        return None
    told = {name: usage.get(name) for name in ("input_tokens", "output_tokens")}
    return {name: count if _is_count(count) else None for name, count in told.items()}


def _total_tokens(message: Any) -> int | None:
    counts = list((_tokens(message) or {}).values())
    return int(sum(counts)) if counts and all(map(_is_count, counts)) else None


def _is_count(tokens: Any) -> bool:
    return isinstance(tokens, int | float) and 0 <= tokens < math.inf
