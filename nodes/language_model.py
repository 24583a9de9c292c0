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
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.constants import TAG_NOSTREAM

from escalade.domains.base import Domain
from escalade.nodes.answers import answer_of, is_usable
from escalade.nodes.call_costs import CallCosts
from escalade.nodes.call_failed import BROKEN_OFF, CallFailed, failure_of
from escalade.nodes.dialect import Dialect, merged, refused_parts
from escalade.nodes.endings import ending_of, setting_for
from escalade.nodes.endpoint import Endpoint
from escalade.nodes.guards import DecisionBudget, DecisionTokens
from escalade.nodes.question import Question
from escalade.nodes.questions import choice, names_of, situation
from escalade.nodes.structured import Form, Way, Ways, asked
from escalade.nodes.usage import TokenPrices, Usage, added, total_tokens, usage_of

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


MOST_LESSONS = 8
"""Refusals of one question from which it is learnt how to ask."""


@dataclass(frozen=True)
class Answer:
    """What a question was answered with."""

    fields: dict[str, Any]
    """Of the form that was asked for; names that it allows are written as it writes them."""
    cost_usd: float | None
    """Of all calls that it took; None if it cannot be known."""
    tokens: Usage | None
    """Of all calls that it took, by the provider's usage records; None without one."""
    attempts: int
    """Calls that it took."""
    way: Way
    """How the last of them was asked."""
    simulated: bool = False
    """Whether the endpoint says that nothing but a simulation answered (`escalade llm simulate`)."""
    is_upper_bound: bool = False
    """Whether `cost_usd` counts cached tokens in full, since they have no price of their own."""


@dataclass
class LanguageModel:
    """A chat model with all that stands around it. Shared by all who ask it, from any thread and event loop."""

    chat: BaseChatModel | Callable[[], BaseChatModel]
    """Any LangChain chat model, with its own retries off; or what makes one, and then each event loop gets its own,
    since an HTTP client's connections die with the loop they were opened on."""
    name: str
    """What reports call it."""
    max_tokens: int = 256
    """Cap on one answer."""
    tokens_per_decision: int | None = None
    """Cap on all calls of one decision, prompts included; None: none."""
    timeout_s: float = 30.0
    """Limit of one call in seconds, from its turn on."""
    input_usd_per_mtok: float | None = None
    """USD per million input tokens; None: unpriced, and reported so."""
    output_usd_per_mtok: float | None = None
    """USD per million output tokens; None: unpriced, and reported so."""
    cached_usd_per_mtok: float | None = None
    """USD per million input tokens that the provider had in its cache; None: counted in full, and reported so."""
    endpoint: Endpoint = field(default_factory=Endpoint)
    """The guards shared by all calls."""
    ways: Ways = field(default_factory=Ways)
    """How answers are held to their form."""
    dialect: Dialect = field(default_factory=Dialect)
    """What the endpoint does not take of a request."""
    batch_ms: float = 5.0
    """How long a question of a one-step domain waits for others that go into the same prompt
    (`escalade.nodes.question_batches`); 0: each is asked by itself."""
    batch_most: int = 32
    """Questions in one prompt."""
    sampling: Mapping[str, Any] = field(default_factory=dict)
    """Arguments of calls whose answers are to differ, such as a temperature; none for a chat model that has one."""
    close_chat: Callable[[BaseChatModel], Awaitable[None]] | None = None
    """What `close` does to each chat model that was made."""
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
        """One answer of a form; whether its names are allowed is for who asks to say.

        timeout_s: for everything, waiting for a turn included; None: no limit but that of each call. decision, budget:
        count the tokens and the money of all questions of one decision. sampled: it is one of several, which may
        differ. metadata: of its run, where it is traced. Raises CallFailed, whose `details` have `cost_usd` (None: not
        known).
        """
        ends = time.monotonic() + (math.inf if timeout_s is None else timeout_s)
        decision = decision or DecisionTokens(self.tokens_per_decision)
        question = Question(form, list(messages), sampled, metadata)
        way = self.ways.way
        while True:
            began, before = time.monotonic(), self.dialect.left_out
            other: Way | None = None
            failed: CallFailed | None = None
            try:
                message, fields = await self._asked_once(question, way, before, ends - began, decision, budget)
            except CallFailed as error:
                failed = error
                if time.monotonic() < ends and self._learns(error, question, way, before):
                    continue
                other = self._other_way(error, way, question.tried)
            else:
                ended = time.monotonic()
                self._mean_ms = MEMORY * self.expected_ms + (1 - MEMORY) * (ended - began) * 1000
                self._answered_at = ended
                self.dialect.confirm(before)
                if is_usable(fields, form):
                    self.ways.works(way)
                else:
                    other = self.ways.failed(way, question.tried)
            if other is not None and time.monotonic() < ends:
                question.tried.add(way)
                way = other
                continue
            if failed is not None:
                if failed.reason == "refused":
                    self.dialect.forget(question.learnt)
                raise self._reported(failed, question)
            usage, cost = added(question.usages), question.cost_usd
            is_bound = cost is not None and any(map(self.prices.is_upper_bound, question.usages))
            return Answer(fields, cost, usage, question.attempts, way, _simulated(message), is_bound)

    async def _asked_once(
        self,
        question: Question,
        way: Way,
        left_out: frozenset[str],
        left: float,
        decision: DecisionTokens,
        budget: DecisionBudget | None,
    ) -> tuple[AIMessage, dict[str, Any]]:
        """What one call is answered with, and the fields read from it. What it took is noted in the question. Raises
        CallFailed."""
        most = self.most_tokens(question_length(question.form, question.messages))
        listed = self.listed_usd(most)
        lost: list[CallFailed] = []
        try:
            message, tried = await self.endpoint.call(
                lambda left: self._sent(question, way, left_out, left),
                timeout_s=self.timeout_s,
                within_s=max(0.0, left),
                tokens=most,
                prompt_tokens=most - self.max_tokens,
                used=lambda end: total_tokens(usage_of(end)),
                on_failed=lost.append,
                decision=decision,
                usd=self.costs.estimate(listed or 0.0),
                billed=lambda end: self.billed(listed, end),
                budget=budget,
                fair_s=PATIENCE * self.expected_ms / 1000,
            )
        except CallFailed as failed:
            question.attempts += failed.details.pop("attempts", 0)
            self._note_lost(question, [one for one in lost if one is not failed])
            usage = failed.details.pop("usage", None)
            question.usages.append(usage)
            unbilled = usage is None and not failed.may_be_billed
            question.costs.append(0.0 if unbilled else self.prices.cost(usage))
            raise
        self._note_lost(question, lost)
        usage = usage_of(message)
        question.attempts += tried
        question.usages.append(usage)
        question.costs.append(self.prices.cost(usage))
        ending = ending_of(message)
        fields = answer_of(message, question.form, listed=question.listed, cut=ending == "cut_off")
        if fields is None or (ending is not None and not is_usable(fields, question.form)):
            raise CallFailed(ending or "malformed_answer")
        return message, fields

    def _note_lost(self, question: Question, failures: Sequence[CallFailed]) -> None:
        """What attempts took that failed before the last one: what they report, and for an answer that broke off it is
        not known. Other failures without a report are taken for free."""
        for one in failures:
            if "usage" in one.details or one.details.get("code") == BROKEN_OFF:
                question.usages.append(one.details.get("usage"))
                question.costs.append(self.prices.cost(one.details.get("usage")))

    def _other_way(self, failed: CallFailed, way: Way, tried: set[Way]) -> Way | None:
        """The way to ask in after a failure, None if none is to be tried."""
        if failed.reason == "malformed_answer":
            return self.ways.failed(way, tried)
        if failed.reason == "cut_off":  # a form can be what makes an answer long, but that is for the next question
            return self.ways.failed(way, alone=True)
        of_form = failed.reason == "refused" and (failed.said.of_form if failed.said is not None else True)
        return None if of_form is False else self.ways.failed(way, tried, refused=bool(of_form))

    def _learns(self, failed: CallFailed, question: Question, way: Way, before: frozenset[str]) -> bool:
        """Whether a refusal says what is to be left out, so that the same is asked again without it."""
        if failed.reason != "refused" or failed.said is None or len(question.learnt) >= MOST_LESSONS:
            return False
        sent = len(question.messages) + (way == "text")
        parts = refused_parts(failed.said, self._chat_here(), way, before, sent)
        question.learnt += parts
        return bool(parts) and self.dialect.learn(before, parts)

    def _reported(self, failed: CallFailed, question: Question) -> CallFailed:
        """A failure with what the question took, and the setting to look at."""
        usage = added(question.usages)
        failed.details |= {"cost_usd": question.cost_usd}
        failed.details |= {"tokens": usage} if usage is not None else {}
        failed.details |= {"attempts": question.attempts} if question.attempts > 1 else {}
        setting = setting_for(failed)
        failed.details |= {"setting": setting} if setting else {}
        return failed

    async def _sent(self, question: Question, way: Way, left_out: frozenset[str], left: float) -> Any:
        chat = self.dialect.fitted(self._chat_here(), left_out)
        # No piece of an answer, nor the whole, is a message of the chat that a parent graph may be streaming.
        config = RunnableConfig(tags=[TAG_NOSTREAM], metadata=dict(question.metadata or {}))
        sampling = {name: value for name, value in self.sampling.items() if question.sampled and name not in left_out}
        try:
            bound, told = asked(chat, question.form, question.messages, way, left_out)
            return await bound.ainvoke(merged(told, left_out), config, timeout=left, **sampling)
        except NotImplementedError:
            raise CallFailed("refused", {"error": "NotImplementedError"}) from None
        except Exception as error:  # noqa: BLE001 -- any client's; told apart by `failure_of`
            sent = [one.text for one in question.messages]
            raise failure_of(error, formed=way != "text", sent=sent) from None

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

    async def close_here(self) -> None:
        """Close the connections of the running event loop, which is about to end."""
        chat = self._chats.pop(asyncio.get_running_loop(), None)
        if chat is not None and self.close_chat is not None:
            await self.close_chat(chat)

    async def _closed(self, chat: BaseChatModel) -> None:
        assert self.close_chat is not None
        await self.close_chat(chat)

    def most_tokens(self, characters: int) -> int:
        """An upper estimate of what one call takes with so long a prompt, its answer included."""
        return self.tokens_of(characters) + ASIDE + self.max_tokens

    def tokens_of(self, characters: int) -> int:
        """An upper estimate of the tokens of a text."""
        return math.ceil(characters / CHARACTERS_PER_TOKEN)

    @property
    def prices(self) -> TokenPrices:
        """Of its tokens."""
        return TokenPrices(self.input_usd_per_mtok, self.output_usd_per_mtok, self.cached_usd_per_mtok)

    def listed_usd(self, tokens: int) -> float | None:
        """An upper estimate in USD of a call of so many tokens, its answer included, by their prices alone."""
        return self.prices.cost({"input_tokens": tokens - self.max_tokens, "output_tokens": self.max_tokens})

    def billed(self, listed: float | None, message: Any) -> float | None:
        """What an answer has cost, from which later estimates are learnt."""
        usd = self.prices.cost(usage_of(message))
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
