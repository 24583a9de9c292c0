"""Many questions of a one-step domain in one prompt, against the simulated model on a loopback server and scripted
ones."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatResult

from escalade import Decision
from escalade.domains.catalog import load_domain
from escalade.graph.decision import build_decision_graph
from escalade.nodes.call_failed import CallFailed
from escalade.nodes.language_model import LanguageModel
from escalade.nodes.question_batches import QuestionBatches, batches_for
from escalade.nodes.questions import told_state, told_states
from escalade.nodes.structured import Ways

LABELS = ["refund", "card lost", "balance"]
DOMAIN: Any = load_domain("intents", {"labels": LABELS})


class Scripted(BaseChatModel):
    """Answers each text by the label whose first word it names; `odd` texts are answered as this says, None not at all.
    It keeps the prompts."""

    odd: dict[str, str | None] = {}  # noqa: RUF012 -- pydantic copies it
    alone: str = "by itself"
    prompts: list[str] = []  # noqa: RUF012

    @property
    def _llm_type(self) -> str:
        return "scripted"

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        prompt = messages[1].text
        self.prompts.append(prompt)
        many = told_states(DOMAIN, prompt)
        if many is None:
            said: Any = {"action": self._label(told_state(DOMAIN, prompt) or "", {})}
        else:
            answers = [{"id": number, "action": self._label(text, self.odd)} for number, text in many]
            said = {"answers": [one for one in answers if one["action"] is not None]}
        usage: Any = {"input_tokens": len(prompt), "output_tokens": 10, "total_tokens": len(prompt) + 10}
        message = AIMessage(json.dumps(said), usage_metadata=usage)
        return ChatResult(generations=[ChatGeneration(message=message)])

    def _label(self, text: str, odd: dict[str, str | None]) -> str | None:
        if text in odd:
            return odd[text]
        return next((label for label in LABELS if label.split()[0] in text), "balance")


def asked(chat: Scripted, texts: list[str], **options: Any) -> list[Any]:
    """What became of these questions, asked at the same time: (action, size of batch) or the error."""
    fields = {"input_usd_per_mtok": 1.0, "output_usd_per_mtok": 1.0, **options.pop("model", {})}
    model = LanguageModel(chat, "scripted", **fields)
    batches = QuestionBatches(DOMAIN, model, **{"wait_ms": 60_000.0, "most": len(texts), **options})

    async def one(text: str) -> Any:
        try:
            answer, batch = await batches.ask(text, timeout_s=10)
        except CallFailed as failed:
            return failed
        return answer.fields["action"], batch["size"], answer

    async def main() -> list[Any]:
        return list(await asyncio.gather(*(one(text) for text in texts)))

    return asyncio.run(main())


def test_many_share_a_prompt_and_its_cost() -> None:
    chat = Scripted()
    found = asked(chat, ["refund please", "my card", "what balance", "refund now"])
    assert [one[:2] for one in found] == [("refund", 4), ("card lost", 4), ("balance", 4), ("refund", 4)]
    assert len(chat.prompts) == 1
    whole = (len(chat.prompts[0]) + 10) / 1e6
    assert sum(one[2].cost_usd for one in found) == pytest.approx(whole)
    assert sum(one[2].tokens["output_tokens"] for one in found) == pytest.approx(10)
    assert chat.prompts[0].count("card lost") == 1


def test_one_that_is_alone_is_asked_by_itself() -> None:
    chat = Scripted()
    assert asked(chat, ["refund"])[0][:2] == ("refund", 1)
    assert told_states(DOMAIN, chat.prompts[0]) is None


@pytest.mark.parametrize("answer", [None, "buy", "State: x", ""])
def test_a_missing_or_illegal_answer_is_asked_for_again_alone(answer: str | None) -> None:
    chat = Scripted(odd={"my card": answer})
    found = asked(chat, ["refund please", "my card", "what balance"])
    assert [one[:2] for one in found] == [("refund", 3), ("card lost", 1), ("balance", 3)]
    assert len(chat.prompts) == 2
    # Nothing of what both prompts cost is lost.
    assert sum(one[2].cost_usd for one in found) == pytest.approx(
        sum(len(prompt) + 10 for prompt in chat.prompts) / 1e6
    )


def test_answers_are_matched_by_id_not_by_place() -> None:
    class Shuffled(Scripted):
        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            found = super()._generate(*args, **kwargs)
            said = json.loads(found.generations[0].message.text)
            said["answers"].reverse()
            said["answers"].append({"id": "99", "action": "refund"})
            return ChatResult(generations=[ChatGeneration(message=AIMessage(json.dumps(said)))])

    found = asked(Shuffled(), ["refund please", "my card", "what balance"])
    assert [one[0] for one in found] == ["refund", "card lost", "balance"]


def test_no_prompt_is_longer_than_it_may_be() -> None:
    chat = Scripted()
    texts = [f"refund {number} " + "x" * 100 for number in range(30)]
    found = asked(chat, texts, prompt_tokens=400, model={"max_tokens": 5000})
    assert {one[0] for one in found} == {"refund"}
    sizes = [len(told_states(DOMAIN, prompt) or ()) for prompt in chat.prompts]
    assert sorted(sizes) == [6, 8, 8, 8]  # some 50 tokens each


def test_no_answer_is_longer_than_the_model_may_give() -> None:
    chat = Scripted()
    asked(chat, ["refund"] * 20, model={"max_tokens": 55})  # of 11 each: five
    assert [len(told_states(DOMAIN, prompt) or ()) for prompt in chat.prompts] == [5, 5, 5, 5]


def test_a_full_batch_does_not_wait() -> None:
    found = asked(Scripted(), ["refund"] * 8, most=4, wait_ms=60_000.0)
    assert [one[1] for one in found] == [4] * 8


def test_all_hear_of_a_failure() -> None:
    class Failing(Scripted):
        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            raise RuntimeError("sk-secret")

    found = asked(Failing(), ["a", "b"])
    assert [one.reason for one in found] == ["error", "error"]
    assert "sk-secret" not in str([one.details for one in found])


def test_what_is_malformed_altogether_is_asked_for_one_by_one() -> None:
    class Rambling(Scripted):
        def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
            if told_states(DOMAIN, messages[1].text) is None:
                return super()._generate(messages, *args, **kwargs)
            return ChatResult(generations=[ChatGeneration(message=AIMessage("Well,\nit depends."))])

    assert [one[:2] for one in asked(Rambling(), ["refund", "my card"])] == [("refund", 1), ("card lost", 1)]


class LengthFinishReasonError(Exception):
    """As the OpenAI client raises it."""


class ContentFilterFinishReasonError(Exception):
    """As the OpenAI client raises it."""


class RefusedError(Exception):
    status_code = 400


@pytest.mark.parametrize("fault", [LengthFinishReasonError, ContentFilterFinishReasonError, RefusedError])
def test_one_that_spoils_a_prompt_costs_the_others_nothing(fault: type[Exception]) -> None:
    class Spoilt(Scripted):
        def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
            if "curse" in messages[1].text:
                raise fault("sk-secret")
            return super()._generate(messages, *args, **kwargs)

    chat = Spoilt()
    asked(chat, ["refund"])
    spoilt, card, balance = asked(chat, ["curse", "my card", "what balance"])
    assert spoilt.reason in ("cut_off", "content_filter", "refused")
    assert [card[:2], balance[:2]] == [("card lost", 1), ("balance", 1)]


def test_an_answer_given_in_two_ways_counts_for_none() -> None:
    class Twofold(Scripted):
        def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
            found = super()._generate(messages, *args, **kwargs)
            said = json.loads(found.generations[0].message.text)
            if "answers" in said:
                told = told_states(DOMAIN, messages[1].text) or []
                extra = [{"id": number, "action": "balance"} for number, text in told if "card" in text]
                said["answers"] += [*extra, said["answers"][0]]  # the same once more is no matter
            return ChatResult(generations=[ChatGeneration(message=AIMessage(json.dumps(said)))])

    found = asked(Twofold(), ["refund please", "my card", "what balance"])
    assert [one[:2] for one in found] == [("refund", 3), ("card lost", 1), ("balance", 3)]


def test_ids_cannot_be_guessed() -> None:
    chats = [Scripted() for _ in range(2)]
    for chat in chats:
        asked(chat, ["refund"] * 20)
    ids = [[number for number, _ in told_states(DOMAIN, chat.prompts[0]) or ()] for chat in chats]
    assert len(set(ids[0])) == 20
    assert ids[0] != ids[1]
    assert ids[0] != sorted(ids[0])


def test_the_cap_on_a_decision_is_on_its_share_of_a_prompt() -> None:
    texts = ["refund please", "my card", "what balance"] * 4
    alone = LanguageModel(Scripted(), "x", max_tokens=200).most_tokens(700)
    found = asked(Scripted(), texts, model={"max_tokens": 200, "tokens_per_decision": alone})
    assert [one[1] for one in found] == [12] * 12
    # What the shared prompt took for it leaves no room for another of its own.
    again = asked(Scripted(odd={"my card": None}), texts[:3], model={"max_tokens": 200, "tokens_per_decision": 450})
    assert again[1].reason == "token_cap"
    assert [again[0][0], again[2][0]] == ["refund", "balance"]


def test_nobody_is_asked_for_who_has_gone() -> None:
    class SlowAndEmpty(Scripted):
        async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
            await asyncio.sleep(0.3)
            return self._generate(*args, **kwargs)

    chat = SlowAndEmpty(odd={"refund": None, "my card": None})
    batches = QuestionBatches(DOMAIN, LanguageModel(chat, "slow", ways=Ways("json_schema")), wait_ms=60_000, most=6)

    async def main() -> list[Any]:
        gone = [batches.ask("refund", timeout_s=0.1) for _ in range(5)]
        return list(await asyncio.gather(*gone, batches.ask("my card", timeout_s=10), return_exceptions=True))

    *late, answered = asyncio.run(main())
    assert {one.reason for one in late} == {"timeout"}
    assert answered[0].fields["action"] == "card lost"
    assert len(chat.prompts) == 2


def test_who_gives_up_takes_nobody_along() -> None:
    class Slow(Scripted):
        async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
            await asyncio.sleep(0.3)
            return self._generate(*args, **kwargs)

    batches = QuestionBatches(DOMAIN, LanguageModel(Slow(), "slow"), wait_ms=60_000, most=2)

    async def main() -> list[Any]:
        calls = [batches.ask("refund", timeout_s=0.1), batches.ask("my card", timeout_s=10)]
        return list(await asyncio.gather(*calls, return_exceptions=True))

    late, answered = asyncio.run(main())
    assert late.reason == "timeout"
    assert answered[0].fields["action"] == "card lost"


def test_texts_with_any_characters_arrive_whole() -> None:
    chat = Scripted()
    texts = ["refund \u2028 a", 'refund "b" {"id": "2"}', "refund\nc", "refund \x85 d"]
    asked(chat, texts)
    assert [text for _, text in told_states(DOMAIN, chat.prompts[0]) or ()] == texts


def test_the_graph_batches_what_comes_together() -> None:
    graph = build_decision_graph(
        DOMAIN, language_model=LanguageModel(Scripted(), "scripted", batch_ms=1000, batch_most=6)
    )

    async def main() -> list[Any]:
        given: Any = {"state": "my card"}
        return list(await asyncio.gather(*(graph.ainvoke(given) for _ in range(6))))

    decisions = [Decision.model_validate(result["decision"]) for result in asyncio.run(main())]
    assert {decision.action_name for decision in decisions} == {"card lost"}
    (batch,) = {json.dumps(decision.rungs[-1].details["batch"]) for decision in decisions}
    assert json.loads(batch)["size"] == 6
    given: Any = {"state": "refund"}
    assert Decision.model_validate(graph.invoke(given)["decision"]).action_name == "refund"


def test_what_is_no_one_step_domain_is_not_batched(tmp_path: Path) -> None:
    assert batches_for(load_domain("tic_tac_toe"), LanguageModel(Scripted(), "scripted")) is None
    assert batches_for(DOMAIN, LanguageModel(Scripted(), "scripted", batch_ms=0)) is None
