"""The language model's rung in its full form: plan, tools, critique, look ahead, vote."""

from __future__ import annotations

import asyncio
import functools
import json
import random
from collections.abc import Callable
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langgraph.checkpoint.memory import InMemorySaver

from escalade import Decision, DecisionContext
from escalade.domains.catalog import load_domain
from escalade.graph.decision import build_decision_graph, make_resources
from escalade.graph.reasoning import reasoning_graph
from escalade.neural.bundle import Bundle, read_bundle
from escalade.neural.sources import bundle_folder
from escalade.nodes.check import MOST_CALLS
from escalade.nodes.language_model import LanguageModel
from escalade.nodes.reasoning import FINDINGS_CHARACTERS, MOST_TOLD, ROUNDS
from escalade.nodes.structured import Ways

Script = Callable[[str, dict[str, Any], list[str]], Any]
"""What a form's name, its schema's properties and the messages are answered with."""

LOST_UNLESS_3 = "5192"
"""X to move; O wins with 3 if X does not take it."""


class Scripted(BaseChatModel):
    """Answers forms by a script, and keeps what it was asked."""

    script: Any
    asked: list[tuple[str, list[str]]]
    prompt_tokens: int = 100

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        form = kwargs["response_format"]["json_schema"]
        told = [message.text for message in messages]
        self.asked.append((form["name"], told))
        answer = self.script(form["name"], form["schema"]["properties"], told)
        text = answer if isinstance(answer, str) else json.dumps(answer)
        usage: Any = {"input_tokens": self.prompt_tokens, "output_tokens": 10, "total_tokens": 0}
        return ChatResult(generations=[ChatGeneration(message=AIMessage(text, usage_metadata=usage))])


def says(*moves: str, checks: Any = (), **also: Any) -> Script:
    """Plans these moves; afterwards chooses the first that is still allowed."""

    def answer(form: str, fields: dict[str, Any], told: list[str]) -> Any:
        if form == "plan_decision":
            candidates = [{"action": move, "reason": f"because {move}"} for move in moves]
            return {"plan": "Win.", "candidates": candidates, "checks": list(checks)}
        allowed = fields["action"]["enum"]
        choice = next((move for move in moves if move in allowed), moves[0])
        if form == "revise_decision":
            return {"critique": "Fine.", "action": choice, "checks": [], "evaluation": 0.25, **also}
        return {"action": choice}

    return answer


@functools.cache
def networks() -> Bundle:
    return read_bundle(bundle_folder("builtin:tic_tac_toe"), load_domain("tic_tac_toe"))


def reasoned(
    script: Script,
    state: Any = "51",
    *,
    prompt_tokens: int = 100,
    domain: str = "tic_tac_toe",
    model: dict[str, Any] | None = None,
    **context: Any,
) -> tuple[Decision, Scripted]:
    chat = Scripted(script=script, asked=[], prompt_tokens=prompt_tokens)
    language_model = LanguageModel(chat, "scripted", ways=Ways("json_schema"), **(model or {}))
    bundle = networks() if domain == "tic_tac_toe" else None
    graph = build_decision_graph(domain, bundle=bundle, language_model=language_model)
    options = DecisionContext(
        **{"ladder": ("reason", "search"), "reasoning": "full", "simulations": 20, "seed": 3, **context}
    )
    given: Any = {"state": state}
    result = asyncio.run(graph.ainvoke(given, context=options))
    return Decision.model_validate(result["decision"]), chat


def report_of(decision: Decision) -> Any:
    return next(report for report in decision.rungs if report.rung == "reason")


def test_a_plan_is_made_tools_are_asked_and_the_choice_is_revised() -> None:
    decision, chat = reasoned(says("3", "4", checks=[{"tool": "search", "state": "", "action": ""}]), LOST_UNLESS_3)
    assert (decision.source, decision.action_name) == ("reason", "3")
    assert [form for form, _ in chat.asked] == ["plan_decision", "revise_decision"]
    details = report_of(decision).details
    assert details["plan"] == "Win."
    assert details["candidates"]["4"] == "because 4"
    assert details["consulted"] == [
        "search(5192, 100)",
        "policy_prior(5192)",
        "position_value(5192, 3)",
        "position_value(5192, 4)",
    ]
    assert details["tokens"] == {"input_tokens": 200, "output_tokens": 20}
    assert (details["rounds"], "refuted" in details) == (1, False)
    findings = chat.asked[1][1][-1]
    assert "policy_prior(5192): {" in findings
    assert '"proven": true' in findings  # what the search said
    assert report_of(decision).value == 0.25
    assert report_of(decision).confidence is None


def test_a_blunder_is_refuted_and_the_model_told_so() -> None:
    decision, chat = reasoned(says("4", "6", "3"), LOST_UNLESS_3)
    assert (decision.source, decision.action_name) == ("reason", "3")
    details = report_of(decision).details
    assert set(details["refuted"]) == {"4", "6"}
    forms = [form for form, _ in chat.asked]
    assert forms == ["plan_decision", "revise_decision", "revise_decision", "revise_decision"][: len(forms)]
    assert "Refuted: 4 (" in chat.asked[2][1][-1]
    assert len(forms) <= 1 + ROUNDS


def test_a_model_that_insists_on_a_blunder_does_not_decide() -> None:
    def stubborn(form: str, fields: dict[str, Any], told: list[str]) -> Any:
        if form == "plan_decision":
            return {"plan": "", "candidates": [{"action": "4", "reason": ""}], "checks": []}
        return {"critique": "", "action": "4", "checks": [], "evaluation": 1}

    decision, _ = reasoned(stubborn, LOST_UNLESS_3, model={"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0})
    assert (decision.source, decision.action_name) == ("search", "3")
    report = report_of(decision)
    assert (report.outcome, report.reason) == ("failed", "illegal_action")
    assert report.cost_usd == pytest.approx(3 * 110e-6)  # what it took is not lost with the failure


def test_it_revises_until_its_choice_is_stable_and_no_longer_than_it_may() -> None:
    turns = iter(range(100))

    def wavering(form: str, fields: dict[str, Any], told: list[str]) -> Any:
        if form == "plan_decision":
            return says("9")(form, fields, told)
        return {"critique": "Hm.", "action": "379"[next(turns) % 3], "checks": [], "evaluation": 0}

    decision, chat = reasoned(wavering)
    assert decision.source == "reason"
    assert report_of(decision).details["rounds"] == ROUNDS
    assert [form for form, _ in chat.asked] == ["plan_decision"] + ["revise_decision"] * ROUNDS
    assert "position_value(51, 3)" in report_of(decision).details["consulted"]
    _, settled = reasoned(says("9"))
    assert len(settled.asked) == 2


def test_tools_are_bounded_whatever_the_model_asks_for() -> None:
    checks = [{"tool": tool, "state": "5" * 900, "action": "x" * 900} for tool in ("search", "rm", "position_value")]
    checks += [{"tool": "search", "state": "51" + move, "action": ""} for move in "2346789"]

    def greedy(form: str, fields: dict[str, Any], told: list[str]) -> Any:
        random.shuffle(checks)
        return {**says("9", "3", "7", "8")(form, fields, told), "checks": checks * 5}

    decision, chat = reasoned(greedy)
    details = report_of(decision).details
    assert decision.source == "reason"
    assert len(details["consulted"]) <= MOST_CALLS
    assert not any(call.startswith("rm") for call in details["consulted"])
    assert sum(call.startswith("search") for call in details["consulted"]) <= 10  # a thousand simulations in all
    for _, told in chat.asked:
        assert sum(map(len, told[1:])) < MOST_TOLD
        assert len(told[-1]) < FINDINGS_CHARACTERS + 4000
    assert len(json.dumps(details)) < 10_000


def test_a_failed_revision_leaves_the_plan() -> None:
    def broken(form: str, fields: dict[str, Any], told: list[str]) -> Any:
        return says("3", "4")(form, fields, told) if form == "plan_decision" else "no JSON\nat all"

    decision, _ = reasoned(broken, LOST_UNLESS_3)
    assert (decision.source, decision.action_name) == ("reason", "3")
    assert report_of(decision).details["troubles"] == ["refine: malformed_answer"]


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        ("no JSON\nat all", "malformed_answer"),
        ({"plan": "x"}, "illegal_action"),
        ({"plan": "x", "candidates": [{"action": "5", "reason": ""}], "checks": []}, "illegal_action"),
        ({"plan": "x", "candidates": "9", "checks": 3}, "illegal_action"),
    ],
)
def test_without_a_legal_candidate_the_rung_fails(plan: Any, reason: str) -> None:
    decision, _ = reasoned(lambda *_: plan)
    assert (decision.source, report_of(decision).reason) == ("search", reason)


def test_samples_vote_on_what_was_found() -> None:
    votes = iter(["3", "3", "4", "3"])

    def voting(form: str, fields: dict[str, Any], told: list[str]) -> Any:
        return {"action": next(votes)} if form == "choose_action" else says("3")(form, fields, told)

    decision, chat = reasoned(voting, LOST_UNLESS_3, samples=4, reason_threshold=0.7)
    assert (decision.source, decision.action_name, decision.confidence) == ("reason", "3", 0.75)
    assert report_of(decision).details["votes"] == {"3": 3, "4": 1}
    assert "Findings:" in chat.asked[-1][1][-1]


def test_the_caps_of_a_decision_hold_over_all_its_calls() -> None:
    decision, chat = reasoned(says("9"), model={"tokens_per_decision": 3000}, prompt_tokens=2500)
    assert len(chat.asked) == 1  # the plan; a revision might go over the cap
    assert report_of(decision).details["troubles"] == ["refine: token_cap"]
    assert decision.source == "reason"


def test_a_decision_without_the_money_for_all_calls_makes_none() -> None:
    prices = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0}
    decision, chat = reasoned(says("9"), model=prices, budget_usd=0.005)
    assert (report_of(decision).reason, chat.asked) == ("budget", [])
    decision, chat = reasoned(says("9"), model=prices, budget_usd=0.1)
    assert decision.cost_usd == pytest.approx(2 * 110e-6)


def test_a_one_step_domain_reasons_too() -> None:
    domain = load_domain("intents", {"labels": ["refund", "balance"]})
    chat = Scripted(script=says("refund", "balance"), asked=[])
    graph = build_decision_graph(domain, language_model=LanguageModel(chat, "scripted", ways=Ways("json_schema")))
    given: Any = {"state": "I want my money back"}
    result = asyncio.run(graph.ainvoke(given, context=DecisionContext(reasoning="full")))
    assert result["decision"]["action_name"] == "refund"


def test_studio_sees_the_subgraph_and_streams_have_its_steps() -> None:
    chat = Scripted(script=says("9"), asked=[])
    graph = build_decision_graph(
        "tic_tac_toe", language_model=LanguageModel(chat, "x", ways=Ways("json_schema")), checkpointer=InMemorySaver()
    )
    drawn = graph.get_graph(xray=1)
    names = {"decompose", "consult", "refine", "verify", "agree"}
    assert {node.removeprefix("reason:") for node in drawn.nodes if node.startswith("reason:")} >= names
    assert [name for name, _ in graph.get_subgraphs()] == ["reason"]
    given: Any = {"state": "51"}
    options = DecisionContext(reasoning="full", ladder=("reason",))

    async def steps() -> list[str]:
        config: Any = {"configurable": {"thread_id": "1"}}
        return [
            step
            async for space, update in graph.astream(
                given, config, context=options, stream_mode="updates", subgraphs=True
            )
            for step in update
            if space
        ]

    assert asyncio.run(steps()) == ["decompose", "consult", "refine", "verify", "agree"]


def test_edges_lead_where_the_nodes_say() -> None:
    graph = reasoning_graph(make_resources("tic_tac_toe"))
    edges = {(edge.source, edge.target) for edge in graph.get_graph().edges}
    assert {("decompose", "agree"), ("refine", "consult"), ("verify", "refine"), ("verify", "__end__")} <= edges


def test_a_killed_run_goes_on_without_asking_again() -> None:
    """A run that breaks off in `refine` and is resumed from its checkpoint has its plan already."""

    hangs = asyncio.Event()

    class Hanging(Scripted):
        async def _agenerate(
            self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any
        ) -> ChatResult:
            if not hangs.is_set() and kwargs["response_format"]["json_schema"]["name"] == "revise_decision":
                hangs.set()
                await asyncio.sleep(3600)
            return self._generate(messages, **kwargs)

    chat = Hanging(script=says("3"), asked=[])
    model = LanguageModel(chat, "x", ways=Ways("json_schema"))
    graph = build_decision_graph("tic_tac_toe", language_model=model, checkpointer=InMemorySaver())
    options = DecisionContext(reasoning="full", ladder=("reason",))
    config: Any = {"configurable": {"thread_id": "1"}}

    async def run() -> Any:
        given: Any = {"state": LOST_UNLESS_3}
        task = asyncio.create_task(graph.ainvoke(given, config, context=options, durability="sync"))
        await asyncio.wait_for(hangs.wait(), 30)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return await graph.ainvoke(None, config, context=options)

    assert asyncio.run(run())["decision"]["action_name"] == "3"
    assert [form for form, _ in chat.asked] == ["plan_decision", "revise_decision"]


@pytest.mark.parametrize("seed", range(8))
def test_no_answer_of_whatever_kind_breaks_a_decision(seed: int) -> None:
    chance = random.Random(seed)
    scraps: list[Any] = ["", "9", "5", 9, -1, None, True, 1e300, [], {}, "search", "51", "rm -rf", {"action": "9"}]

    def anything(depth: int = 0) -> Any:
        if depth < 3 and chance.random() < 0.4:
            return [anything(depth + 1) for _ in range(chance.randrange(4))]
        if depth < 3 and chance.random() < 0.5:
            names = ["plan", "candidates", "checks", "action", "reason", "tool", "state", "critique", "evaluation"]
            return {name: anything(depth + 1) for name in chance.sample(names, chance.randrange(len(names)))}
        return chance.choice(scraps)

    def nonsense(form: str, fields: dict[str, Any], told: list[str]) -> Any:
        answer = says("9", "3")(form, fields, told)
        return {name: value if chance.random() < 0.7 else anything(1) for name, value in answer.items()}

    for _ in range(12):
        decision, _ = reasoned(nonsense)
        assert decision.source in ("reason", "search")
        assert decision.action_name in "2346789"
