"""A language model as a teacher of search: it ranks the legal actions of a position, and the search that begins there
takes the ranking as its prior. What it says about its own certainty is not asked for.

Calls are dear, so only the positions to be searched are asked about; below them the search goes on with what another
evaluator says. Whatever a call ends in, the search goes on: without a ranking, with a uniform prior.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from escalade.domains.base import BoolArray, Domain, FloatArray, IntArray, KeyArray, array_domain, legal_mask
from escalade.domains.errors import ActionError
from escalade.domains.evaluator import AnyEvaluator, BatchHints, StateEvaluator, hints_of
from escalade.nodes.call_failed import CallFailed
from escalade.nodes.language_model import LanguageModel
from escalade.nodes.questions import RANK, names_of, ranking_of, situation

DECAY = 0.5
"""What an action counts in the prior against the one ranked just before it."""


@dataclass(frozen=True)
class Ranking:
    """actions: legal ones, the best first; empty if there was no usable answer, and then `reason` says why (codes as in
    nodes/reason.py). cost_usd: by the provider's usage record; None if unpriced."""

    actions: tuple[int, ...]
    cost_usd: float | None
    reason: str = ""


async def ask_rankings(
    model: LanguageModel,
    domain: Domain[Any],
    states: Sequence[Any],
    *,
    concurrency: int = 16,
    on_answer: Callable[[Ranking], None] | None = None,
) -> list[Ranking]:
    """One call for each unfinished state, so many at once; in order. Never raises for what a provider does."""
    turns = asyncio.Semaphore(concurrency)

    async def ask(state: Any) -> Ranking:
        async with turns:
            found = await _ask(model, domain, state)
        if on_answer is not None:
            on_answer(found)
        return found

    return list(await asyncio.gather(*(ask(state) for state in states)))


async def _ask(model: LanguageModel, domain: Domain[Any], state: Any) -> Ranking:
    legal = domain.legal_actions(state)
    try:
        answer = await model.ask(ranking_of(names_of(domain, legal)), situation(domain, state, RANK))
    except CallFailed as failed:
        return Ranking((), failed.details.get("cost_usd", 0.0), failed.reason)
    ranked = (_action(domain, name) for name in answer.fields["ranking"])
    actions = tuple(dict.fromkeys(action for action in ranked if action in legal))
    return Ranking(actions, answer.cost_usd, "" if actions else "illegal_action")


def _action(domain: Domain[Any], name: str) -> int:
    try:
        return domain.parse_action(name)
    except ActionError:
        return -1


def prior_of(ranking: Ranking, legal: BoolArray) -> FloatArray:
    """Prior `[A]` float32, which adds to 1 over the legal actions `[A]`: each action ranked counts half of the one
    before it, those not ranked as much as one more after the last. Uniform without a ranking."""
    weight = np.full(legal.shape, DECAY ** min(len(ranking.actions), 60), np.float64)
    for place, action in enumerate(ranking.actions):
        weight[action] = DECAY ** min(place, 60)
    weight[~legal] = 0
    return (weight / weight.sum()).astype(np.float32)


class PriorEvaluator:
    """What another evaluator says, but for some states with a prior of its own. A `StateEvaluator`.

    below: says the value of every state, and the prior of all others. priors: `[A]` float32 each, by state, as
    `prior_of` gives.
    """

    def __init__(self, domain: Domain[Any], below: AnyEvaluator, states: Sequence[Any], priors: Any) -> None:
        self.domain = domain
        self.below = below
        self._rows = array_domain(domain)
        self.hints = hints_of(below) if self._rows else BatchHints()
        with np.errstate(divide="ignore"):
            logits = [np.maximum(np.log(prior), -1e9).astype(np.float32) for prior in priors]
        asked = self._rows.to_rows(states) if self._rows else states
        self._logits: Mapping[bytes, FloatArray] = dict(zip(map(self._key, asked), logits, strict=True))

    def evaluate_states(
        self, states: Sequence[Any] | IntArray, legal: BoolArray, keys: KeyArray
    ) -> tuple[FloatArray, FloatArray]:
        below = self.below
        if isinstance(below, StateEvaluator):
            logits, values = below.evaluate_states(states, legal, keys)
        else:
            encode: Any = self._rows.encode_rows if self._rows else self.domain.encode
            logits, values = below.evaluate(encode(states), legal)
        logits = np.array(logits, np.float32)
        for row, state in enumerate(states):
            known = self._logits.get(self._key(state))
            if known is not None:
                logits[row] = known
        return logits, values

    def _key(self, state: Any) -> bytes:
        return np.ascontiguousarray(state, np.int64).tobytes() if self._rows else self.domain.format(state).encode()


def guided_by(
    domain: Domain[Any], below: AnyEvaluator, states: Sequence[Any], rankings: Sequence[Ranking]
) -> PriorEvaluator:
    """An evaluator for searches that begin in these states, ranked by `ask_rankings`."""
    priors = [prior_of(ranking, legal) for ranking, legal in zip(rankings, legal_mask(domain, states), strict=True)]
    return PriorEvaluator(domain, below, states, priors)
