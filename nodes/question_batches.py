"""Uncertain cases of one-step domains, asked about many in one prompt: what all prompts have in common, such as a list
of 77 labels, is paid for once.

Questions wait a few milliseconds for others. Answers are matched by id; one that is missing, no legal action, or given
in two ways, is asked for again by itself, and so are all whose prompt was refused or answered beside the form: what is
wrong with one question is not to cost the others their answers. Ids are random, so that a model that counts in its own
way, or a text that pretends to be another, hits none.
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import math
import random
import re
import uuid
from collections.abc import Coroutine, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from langsmith.run_helpers import tracing_context

from escalade.domains.base import Domain
from escalade.nodes.call_failed import ABOUT_THE_QUESTION, OF_ONE_QUESTION, CallFailed
from escalade.nodes.daemon import shared_loop
from escalade.nodes.guards import DecisionBudget, DecisionTokens
from escalade.nodes.language_model import Answer, LanguageModel
from escalade.nodes.questions import batched_choice, batched_situation, choice, is_batched, names_of, situation
from escalade.nodes.tracing import is_traced
from escalade.nodes.usage import total_usd

ANSWER_CHARACTERS = 24
"""Of one answer, besides the action's name."""


@dataclass(eq=False)
class _Question:
    """A state that waits for its answer. actions: names of those that are legal. timeout_s: None without a deadline.
    traced: whether its decision is. budget: its decision's."""

    text: str
    state: Any
    actions: tuple[str, ...]
    timeout_s: float | None
    traced: bool
    budget: DecisionBudget
    answered: asyncio.Future[Answer] = field(repr=False)


@dataclass(frozen=True)
class _Share:
    """What a prompt that a question shared has taken for it."""

    cost_usd: float | None
    tokens: int


_Kind = tuple[tuple[str, ...], bool]
"""Questions that may share a prompt: the names of the legal actions, and whether they are traced."""


class QuestionBatches:
    """Questions about one domain, to one model. wait_ms: how long the first of a batch waits for others. most: in one
    prompt; fewer where `prompt_tokens` or the model's cap on an answer leave no room."""

    def __init__(
        self,
        domain: Domain[Any],
        model: LanguageModel,
        *,
        wait_ms: float = 5.0,
        most: int = 32,
        prompt_tokens: int = 6000,
    ) -> None:
        self.domain, self.model, self.wait_ms, self.prompt_tokens = domain, model, wait_ms, prompt_tokens
        longest = max(len(domain.action_name(action)) for action in range(domain.num_actions))
        room = model.max_tokens // model.tokens_of(longest + ANSWER_CHARACTERS)
        self.most = max(1, min(most, room))
        self._waiting: dict[_Kind, list[_Question]] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def under_way(self) -> int:
        """Prompts that are being answered."""
        return len(self._tasks)

    async def ask(
        self, text: str, *, timeout_s: float | None = None, budget: DecisionBudget | None = None
    ) -> tuple[Answer, dict[str, Any]]:
        """The answer about a state, a `choice` among its legal actions, and which batch it was in (`id`, `size`). Its
        cost and tokens are its share of the batch's. timeout_s: for everything; None: no limit but that of each call.
        Raises CallFailed. Cancelled, the question is withdrawn; a prompt for which nobody waits any more is too."""
        asked = self._ask(text, timeout_s, is_traced(), budget or DecisionBudget())
        work = asyncio.run_coroutine_threadsafe(asked, shared_loop())
        try:
            async with asyncio.timeout(timeout_s):
                return await asyncio.wrap_future(work)
        except TimeoutError:
            raise CallFailed("timeout", {"cost_usd": None}) from None

    async def _ask(
        self, text: str, timeout_s: float | None, traced: bool, budget: DecisionBudget
    ) -> tuple[Answer, dict[str, Any]]:
        state = self.domain.parse(text)
        names = tuple(names_of(self.domain, self.domain.legal_actions(state)))
        answered = asyncio.get_running_loop().create_future()
        question = _Question(text, state, names, timeout_s, traced, budget, answered)
        kind = names, traced  # what is not traced must not be in the trace of others either
        waiting = self._waiting.setdefault(kind, [])
        waiting.append(question)
        if len(waiting) >= self.most:
            self._send(kind)
        elif len(waiting) == 1:
            asyncio.get_running_loop().call_later(self.wait_ms / 1000, self._send, kind)
        answer = await question.answered
        batch = answer.fields.pop("batch")
        return answer, batch

    def _send(self, kind: _Kind) -> None:
        """Begin the batches of what waits, in a trace of their own, found by the batch's id: they belong to no single
        decision. There is none where the decisions are not traced."""
        waiting = [one for one in self._waiting.pop(kind, []) if not one.answered.done()]
        while waiting:
            batch = self._fitting(waiting)
            waiting = waiting[len(batch) :]
            task = asyncio.get_running_loop().create_task(self._decide(batch), context=contextvars.Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _fitting(self, waiting: Sequence[_Question]) -> list[_Question]:
        """The first of them, as many as one prompt has room for."""
        found: list[_Question] = []
        total = 0
        for one in waiting[: self.most]:
            total += self.model.tokens_of(len(json.dumps(one.text)) + ANSWER_CHARACTERS)
            if found and total > self.prompt_tokens:
                break
            found.append(one)
        return found

    async def _decide(self, batch: list[_Question]) -> None:
        told: dict[str, Any] = {"id": uuid.uuid4().hex[:12], "size": len(batch)}
        with nullcontext() if batch[0].traced else tracing_context(enabled=False):
            await self._decided(batch, told)

    async def _decided(self, batch: list[_Question], told: dict[str, Any]) -> None:
        try:
            alone = batch, _Share(0.0, 0)
            left, share = alone if len(batch) == 1 else await self._together(batch, told)
            await asyncio.gather(*(self._alone(one, {**told, "size": 1}, share) for one in left))
        except CallFailed as failed:
            _fail(batch, failed)
        except Exception as error:  # noqa: BLE001 -- of the user's domain; each hears of it
            _fail(batch, CallFailed("error", {"error": type(error).__name__, "cost_usd": 0.0}))

    async def _together(self, batch: list[_Question], told: dict[str, Any]) -> tuple[list[_Question], _Share]:
        """Ask about all in one prompt. Returns those without a usable answer, and what each has cost so far."""
        random_ids = random.sample(range(100, 100 + max(900, 9 * len(batch))), len(batch))
        by_id = dict(zip(map(str, random_ids), batch, strict=True))
        form = batched_choice(batch[0].actions)
        messages = batched_situation(self.domain, {name: one.text for name, one in by_id.items()})
        most = self.model.tokens_per_decision
        tokens = DecisionTokens(None if most is None else most * len(batch))
        # Each pays a share, so that the poorest one bounds what all may spend together.
        left = min(one.budget.left_usd for one in batch)
        budget = DecisionBudget(None if math.isinf(left) else left * len(batch))
        try:
            asked = self.model.ask(
                form,
                messages,
                timeout_s=_longest(batch),
                decision=tokens,
                budget=budget,
                metadata={"batch": told},
            )
            answer = await _while_wanted(batch, asked)
        except CallFailed as failed:
            about_one = failed.reason == "refused" and failed.details.get("status") in ABOUT_THE_QUESTION
            if failed.reason not in (*OF_ONE_QUESTION, "budget") and not about_one:
                raise
            cost = failed.details.get("cost_usd")
            return batch, _Share(None if cost is None else cost / len(batch), tokens.spent // len(batch))
        finally:
            for one in batch:
                one.budget.spent_usd += budget.spent_usd / len(batch)
        named: dict[str, set[str]] = {}
        for one in answer.fields["answers"]:
            if "id" in one and "action" in one:
                named.setdefault(_id(one["id"]), set()).add(one["action"])
        share = _share(answer, len(batch))
        unanswered = []
        for name, question in by_id.items():
            said = named.get(name, set())
            if len(said) != 1 or not said <= set(question.actions):
                unanswered.append(question)
            elif not question.answered.done():
                question.answered.set_result(replace(share, fields={"action": said.pop(), "batch": told}))
        return unanswered, _Share(share.cost_usd, tokens.spent // len(batch))

    async def _alone(self, one: _Question, told: dict[str, Any], share: _Share) -> None:
        """Ask about one. share: of the prompt that it was in before."""
        if one.answered.done():  # who asked has given up
            return
        paid = share.cost_usd
        try:
            asked = self.model.ask(
                choice(one.actions),
                situation(self.domain, one.state),
                timeout_s=one.timeout_s,
                decision=DecisionTokens(self.model.tokens_per_decision, spent=share.tokens),
                budget=one.budget,
                metadata={"batch": told},
            )
            answer = await _while_wanted([one], asked)
        except asyncio.CancelledError:
            if not one.answered.cancelled():
                raise
            return
        except CallFailed as failed:
            failed.details["cost_usd"] = total_usd(paid, failed.details.get("cost_usd", 0.0))
            _fail([one], failed)
            return
        if not one.answered.done():
            fields = {**answer.fields, "batch": told}
            one.answered.set_result(replace(answer, fields=fields, cost_usd=total_usd(paid, answer.cost_usd)))


def batches_for(domain: Domain[Any], model: LanguageModel) -> QuestionBatches | None:
    """Where questions about a domain are batched; None where each is asked by itself."""
    if model.batch_ms <= 0 or not is_batched(domain):
        return None
    return QuestionBatches(domain, model, wait_ms=model.batch_ms, most=model.batch_most)


async def _while_wanted(batch: Sequence[_Question], work: Coroutine[Any, Any, Answer]) -> Answer:
    """What a call gives. It is cancelled, and CancelledError raised, once all have left for whom it is made."""
    call = asyncio.get_running_loop().create_task(work)

    def left(_: asyncio.Future[Answer]) -> None:
        if all(one.answered.cancelled() for one in batch):
            call.cancel()

    for one in batch:
        one.answered.add_done_callback(left)
    try:
        return await call
    finally:
        for one in batch:
            one.answered.remove_done_callback(left)


def _longest(batch: Sequence[_Question]) -> float | None:
    """The time that the most patient of them has, None without a limit."""
    limits = [one.timeout_s for one in batch if one.timeout_s is not None]
    return max(limits) if len(limits) == len(batch) else None


def _share(answer: Answer, size: int) -> Answer:
    """What one of `size` questions has of an answer's cost and tokens."""
    tokens = answer.tokens and {name: None if count is None else count / size for name, count in answer.tokens.items()}
    return replace(answer, cost_usd=None if answer.cost_usd is None else answer.cost_usd / size, tokens=tokens)


def _id(said: str) -> str:
    """The id that a model means: a number or a text of it, however it is set off."""
    found = re.fullmatch(r"\D*(\d+)(?:\.0+)?\D*", said)
    return found[1] if found else said


def _fail(batch: Sequence[_Question], failed: CallFailed) -> None:
    """All who still wait hear of it, each with its share of the cost."""
    cost = failed.details.get("cost_usd", 0.0)
    share = None if cost is None else cost / len(batch)
    for one in batch:
        if not one.answered.done():
            one.answered.set_exception(CallFailed(failed.reason, {**failed.details, "cost_usd": share}))
