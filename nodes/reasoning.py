"""What the nodes of the reasoning subgraph share: its state, its step, and how they ask the language model.

Each node says where to go next, and puts a `proposal` into the state when the rung is done; whatever goes wrong in one
is a failed proposal, as in every rung.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Awaitable, Sequence
from typing import Annotated, Any, Literal, NotRequired

from langchain_core.messages import BaseMessage
from pydantic import ConfigDict, Field, TypeAdapter, with_config
from typing_extensions import TypedDict

from escalade.domains.base import Domain
from escalade.domains.errors import ActionError
from escalade.nodes.call_failed import CallFailed
from escalade.nodes.checked import check_fields
from escalade.nodes.context import DecisionContext
from escalade.nodes.events import emit
from escalade.nodes.guards import DecisionBudget, DecisionTokens
from escalade.nodes.language_model import Answer, LanguageModel
from escalade.nodes.resources import Resources
from escalade.nodes.state import DecisionState
from escalade.nodes.step import RungStep, Update, failed, log
from escalade.nodes.structured import Form
from escalade.nodes.usage import total_usd

ROUNDS = 3
"""At most so often the model revises."""
FINDINGS_CHARACTERS = 6000
"""Of what is told of findings; the oldest are left out first."""

MOST_TOLD = 12_000
"""Characters that any question of the full form has at most besides the situation."""

Place = Literal["consult", "refine", "verify", "agree", "end"]


class Spent(TypedDict):
    """What the rung's calls took."""

    calls: Annotated[int, Field(description="Answers.")]
    attempts: Annotated[int, Field(description="Attempts beyond one for each answer.")]
    tokens: Annotated[int, Field(description="Tokens counted against the cap of one decision.")]
    input_tokens: Annotated[int, Field(description="Prompt tokens that the provider reported.")]
    output_tokens: Annotated[int, Field(description="Completion tokens that the provider reported.")]
    cost_usd: Annotated[float | None, Field(description="Cost in USD; null if one call is unpriced.")]
    charged_usd: Annotated[
        float, Field(description="USD counted against the budget; a call of unknown cost counts as estimated.")
    ]
    simulated: Annotated[bool, Field(description="Whether `escalade llm simulate` answered.")]
    cached_input_tokens: NotRequired[
        Annotated[int, Field(description="Of the prompt tokens, those that the provider had in its cache.")]
    ]
    is_upper_bound: NotRequired[
        Annotated[
            bool,
            Field(
                description="Whether cached tokens have no price of their own, so that the cost counts them in full."
            ),
        ]
    ]


NOTHING: Spent = {
    "calls": 0,
    "attempts": 0,
    "tokens": 0,
    "input_tokens": 0,
    "output_tokens": 0,
    "cost_usd": 0.0,
    "charged_usd": 0.0,
    "simulated": False,
}


@with_config(ConfigDict(strict=True, allow_inf_nan=False))
class ReasoningProgress(TypedDict, total=False):
    """What the subgraph keeps for itself."""

    goes_to: Annotated[Place, Field(description="The next node.")]
    began_ms: Annotated[float, Field(description="`elapsed_ms` when the rung began.")]
    plan: Annotated[str, Field(description="The model's plan, in its own words.")]
    best: Annotated[str, Field(description="Name of the best candidate so far.")]
    candidates: Annotated[dict[str, str], Field(description="The candidates left, each with the reason given for it.")]
    checks: Annotated[list[dict[str, str]], Field(description="Tool calls that the model asked for.")]
    findings: Annotated[list[str], Field(description="What tools and searches returned, a line each.")]
    asked: Annotated[list[str], Field(description="Tool calls made, so that none is made twice.")]
    refuted: Annotated[dict[str, str], Field(description="Refuted actions by name, with what refutes them.")]
    evaluation: Annotated[float | None, Field(description="The model's estimate of the state in [-1, 1].")]
    simulations: Annotated[int, Field(description="MCTS simulations that the tools have used.")]
    rounds: Annotated[int, Field(description="Revisions so far.")]
    spent: Annotated[Spent, Field(description="What the calls took.")]
    worked_ms: Annotated[float, Field(description="This machine's time in all, in milliseconds.")]
    troubles: Annotated[list[str], Field(description="What failed and was done without.")]


class ReasoningState(DecisionState, ReasoningProgress, total=False):
    """The decision's state, of which the subgraph reads `text`, `allowance_ms` and `network_value` and writes
    `proposal`, and what it keeps for itself."""


_PROGRESS = TypeAdapter(ReasoningProgress)


class ReasoningStep(RungStep):
    """A node of the subgraph: its function returns what it changes, or a proposal, which ends the rung."""

    works = False
    needs = ("text", "elapsed_ms")

    def _begin(self, state: DecisionState) -> tuple[DecisionState, DecisionContext, float]:
        check_fields(_PROGRESS, state)
        return super()._begin(state)

    def _under_way(self, state: DecisionState) -> Update | None:
        spent: Spent = state.get("spent", NOTHING)  # type: ignore[assignment]
        cost = spent["cost_usd"] if self.works else None  # a call under way may be billed
        return {"rung": "reason", "outcome": "failed", "reason": "cancelled", "cost_usd": cost}

    def _propose(self, state: DecisionState, proposal: Update, started: float, work: float) -> Update:
        worked: float = state.get("worked_ms", 0.0) + work * 1000  # type: ignore[operator]
        if "action" not in proposal and "outcome" not in proposal:
            if state.get("remaining_steps", 2) > 1:
                return self._end(state, {**proposal, "worked_ms": worked}, started)
            # LangGraph would end the whole run at the next node: the rung fails, the decision does not.
            message = "the run's recursion_limit leaves the language model no step more"
            spent_so_far = proposal.get("spent", state.get("spent"))
            proposal = {"spent": spent_so_far, **failed("recursion_limit", {"message": message})}
        taken = state["elapsed_ms"] + max(0.0, self.resources.clock() - started) * 1000 - began_ms(state)
        spent: Spent | None = proposal.pop("spent", state.get("spent"))
        if spent is not None and proposal.get("outcome") == "failed":
            # What earlier calls have cost is not lost.
            proposal["cost_usd"] = total_usd(
                spent["cost_usd"], proposal["cost_usd"]
            )  # that of earlier calls is not lost
        proposal["cost_usd"] = total_usd(proposal["cost_usd"], self.resources.compute_cost(worked))
        proposal = {"rung": "reason", "latency_ms": max(0.0, taken), "work_ms": worked, **proposal}
        return self._end(state, {"proposal": proposal, "goes_to": "end"}, started)


def fewest_turns(context: DecisionContext) -> int:
    """How many calls, one after another, the rung needs at least."""
    return 1 if context.reasoning == "short" else 2 + (context.samples > 1)


def most_calls(context: DecisionContext) -> tuple[int, int]:
    """How many calls the rung makes at most, and the characters told with each besides the situation."""
    if context.reasoning == "short":
        return context.samples, 0
    return 1 + ROUNDS + (context.samples if context.samples > 1 else 0), MOST_TOLD


def began_ms(state: DecisionState) -> float:
    """When the rung began, by the decision's own time."""
    began: float = state.get("began_ms", state["elapsed_ms"])  # type: ignore[assignment]
    return began


def deadline_of(state: DecisionState, resources: Resources) -> float | None:
    """When the rung must be done, by the resources' clock."""
    allowance = state.get("allowance_ms")
    if allowance is None:
        return None
    return resources.clock() + (allowance - (state["elapsed_ms"] - began_ms(state))) / 1000


def left_s(state: DecisionState) -> float | None:
    """Seconds that a call may take now, waiting for its turn included; None without a deadline."""
    allowance = state.get("allowance_ms")
    if allowance is None:
        return None
    return max(0.0, allowance - (state["elapsed_ms"] - began_ms(state))) / 1000


def budget_of(state: ReasoningState, spent: Spent = NOTHING) -> DecisionBudget:
    """What the rung's calls may still cost, after what it has spent."""
    return DecisionBudget(state.get("allowance_usd"), spent["charged_usd"])


async def ask(
    model: LanguageModel, state: ReasoningState, form: Form, messages: Sequence[BaseMessage], count: int = 1
) -> tuple[list[Answer], Spent]:
    """So many answers to one question, asked for at once (X. Wang et al., "Self-consistency improves chain of thought
    reasoning in language models", ICLR 2023), and what the rung has spent with them. Those that fail are left out.
    Raises CallFailed if all do, with what they cost in its details."""
    before = state.get("spent", NOTHING)
    tokens = DecisionTokens(model.tokens_per_decision, spent=before["tokens"])
    budget = budget_of(state, before)
    timeout_s = left_s(state)

    async def once() -> Answer | CallFailed:
        try:
            asked = model.ask(form, messages, timeout_s=timeout_s, decision=tokens, budget=budget, sampled=count > 1)
            return await reported(model, state, form.name, asked)
        except CallFailed as error:
            return error

    ended: list[Answer | CallFailed] = []
    # At once they could exceed a budget by more than one call, where it is not known what a call costs at most.
    while len(ended) < count and budget.most_usd is not None and not model.costs.are_bounded:
        ended.append(await once())
    for one in await asyncio.gather(*(once() for _ in range(count - len(ended))), return_exceptions=True):
        if isinstance(one, BaseException) and not isinstance(one, CallFailed):
            raise one
        ended.append(one)
    answers = [one for one in ended if isinstance(one, Answer)]
    failures = [one for one in ended if isinstance(one, CallFailed)]
    costs = [one.cost_usd for one in answers] + [one.details.get("cost_usd", 0.0) for one in failures]
    cost = None if None in costs else math.fsum(filter(None, costs))
    if not answers:
        failures[0].details |= {"cost_usd": cost, "tokens_spent": tokens.spent, "charged_usd": budget.spent_usd}
        raise failures[0]
    spent = with_answers(before, answers, total_usd(before["cost_usd"], cost), tokens.spent)
    return answers, {**spent, "charged_usd": budget.spent_usd}


async def reported(model: LanguageModel, state: DecisionState, purpose: str, call: Awaitable[Answer]) -> Answer:
    """What a call of the model answers; an `llm_call` event reports how it ended. purpose: name of the form asked for.
    Raises CallFailed."""
    started = time.perf_counter()

    def report(outcome: str, **more: Any) -> None:
        latency_ms = (time.perf_counter() - started) * 1000
        fields = {"model": model.name, "purpose": purpose, "outcome": outcome, "latency_ms": latency_ms, **more}
        emit("llm_call", state.get("id"), **fields)

    try:
        answer = await call
    except CallFailed as error:
        report("failed", reason=error.reason, cost_usd=error.details.get("cost_usd", 0.0))
        raise
    report("answered", tokens=answer.tokens, attempts=answer.attempts, cost_usd=answer.cost_usd)
    return answer


def with_answers(before: Spent, answers: Sequence[Answer], cost: float | None, tokens: int) -> Spent:
    """What was spent in all, these answers included."""
    counted = [one.tokens for one in answers if one.tokens is not None]
    return {
        "calls": before["calls"] + len(answers),
        "attempts": before["attempts"] + sum(one.attempts - 1 for one in answers),
        "tokens": tokens,
        "input_tokens": before["input_tokens"] + sum(one["input_tokens"] or 0 for one in counted),
        "output_tokens": before["output_tokens"] + sum(one["output_tokens"] or 0 for one in counted),
        "cost_usd": cost,
        "charged_usd": before["charged_usd"],
        "simulated": before["simulated"] or any(one.simulated for one in answers),
        "cached_input_tokens": before.get("cached_input_tokens", 0)
        + sum(one.get("cached_input_tokens", 0) for one in counted),
        "is_upper_bound": before.get("is_upper_bound", False) or any(one.is_upper_bound for one in answers),
    }


def after_failure(before: Spent, error: CallFailed) -> Spent:
    """What was spent in all, by a failed call too."""
    cost = total_usd(before["cost_usd"], error.details.get("cost_usd", 0.0))
    taken = {"tokens": "tokens_spent", "charged_usd": "charged_usd"}
    return {**before, "cost_usd": cost, **{name: error.details.get(key, before[name]) for name, key in taken.items()}}  # type: ignore[literal-required, typeddict-item]


def told_spent(spent: Spent) -> dict[str, Any]:
    """What the calls took, for a report."""
    counted = {name: spent[name] for name in ("input_tokens", "output_tokens")}
    if cached := spent.get("cached_input_tokens"):
        counted["cached_input_tokens"] = cached
    details: dict[str, Any] = {"tokens": counted if any(counted.values()) else None}
    if spent["attempts"]:
        details["attempts"] = spent["calls"] + spent["attempts"]
    if spent.get("is_upper_bound"):
        details["cost_is_upper_bound"] = True
    if spent["simulated"]:
        details["simulated"] = True
    return details


def action_of(domain: Domain[Any], name: str) -> int:
    """The action of a name, -1 if it names none."""
    try:
        return domain.parse_action(name)
    except ActionError:
        return -1


def open_actions(domain: Domain[Any], parsed: Any, state: ReasoningState) -> list[str]:
    """Names of the actions that are legal and not refuted; all that are legal, if none is left."""
    names = [domain.action_name(action) for action in domain.legal_actions(parsed)]
    return [name for name in names if name not in state.get("refuted", {})] or names


def failure(error: CallFailed, model: LanguageModel, details: dict[str, Any] | None = None) -> Update:
    """A failed proposal."""
    details = {"model": model.name, **(details or {}), **error.details}
    for counted in ("tokens_spent", "charged_usd"):
        details.pop(counted, None)
    cost = details.pop("cost_usd", 0.0)
    status = f" (HTTP {details['status']})" if details.get("status") else ""
    log.warning("the language model failed: %s%s", error.reason, status)
    return failed(error.reason, details, cost)
