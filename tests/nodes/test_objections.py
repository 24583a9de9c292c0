"""An action is read only where nothing in the answer speaks against it: a wrong one costs more than a call."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage

from escalade.app.completions import completion_of
from escalade.nodes.answers import answer_of
from escalade.nodes.objections import others_named
from escalade.nodes.questions import choice

LINES = ("hold: keep the position", "sell: not to be undone")
TRADES = choice(["buy", "sell", "hold", "sell half", "7", "12"], evaluates=True)


def read(text: str, **options: Any) -> str | None:
    found = answer_of(AIMessage(text), TRADES, **options)
    return None if found is None else found["action"]


AGAINST = {
    "another name after the JSON": '{"action": "buy"}\n\nOn reflection my pick is hold.',
    "another name before the JSON": 'I settle on sell half. As JSON it reads {"action": "buy"}',
    "a number after the JSON": '```json\n{"action": "12"}\n```\n→ 7',
    "a longer name after the JSON": '{"action": "sell"}\nThat is: sell half.',
    "a text after the JSON that continues the name": '{"action": "sell"} half',
    "a rejection after the JSON": 'The obvious {"action": "buy"} is a blunder.',
    "a rejection before the JSON": 'You should never answer {"action": "buy"}',
    "a rejection in German": 'Vermeiden würde ich {"action": "buy"}, das ist falsch.',
    "a rejection in Chinese": '{"action": "buy"} 这是错误的',
    "an example": 'For example: {"action": "buy"}',
    "an object of another key after it": '{"action": "buy"} {"final_decision": "hold"}',
    "an object that is not finished": '{"action": "buy"} {"act',
    "a line with another name": "Decision: buy\n\nHmm, the better one: hold",
    "a line that takes it back": "Decision: buy\nScratch that.",
    "a line that continues the name": "Choice: sell\n(half)",
    "brackets that continue the name": "sell (half)",
    "a heading with one name and one with another": "## Decision\n\nbuy\n\n## Correction\n\nhold",
    "a wrapper that rejects": '{"discarded": {"action": "buy"}}',
    "a wrapper beside another": '{"them": {"action": "buy"}, "us": {"choice": "hold"}}',
    "a wrapper that is second": '{"alternative": {"action": "buy"}, "summary": "fine"}',
    "a key for another name": '{"action": "buy", "corrected_action": "hold"}',
    "a key for another name, deeper": '{"output": {"action": "buy"}, "verdict": {"label": "hold"}}',
    "a key with a sentence": '{"action": "buy", "conclusion": "So I hold."}',
    "the value of the situation": '{"evaluation": 7}',
    "a value without a name": '{"value": 7}',
    "another object for the name": '{"action": {"probability": 7}}',
    "an error beside it": '{"error": "I refuse", "choice": "buy"}',
    "a call of another function": '{"name": "forbid", "arguments": {"action": "buy"}}',
    "an explanation that rejects": "buy: forbidden here",
    "an explanation in brackets": "buy (don't)",
    "an explanation in the JSON": '{"action": "buy - would be a mistake"}',
    "an explanation in Spanish": '{"action": "7: no, pierde"}',
}


@pytest.mark.parametrize("kind", AGAINST)
def test_what_speaks_against_an_action_makes_the_answer_malformed(kind: str) -> None:
    assert read(AGAINST[kind]) is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('No problem! {"action": "buy"} I hope that this helps.', "buy"),
        ('I take sell half: {"action": "sell half"}', "sell half"),
        ('{"buying": {"action": "buy"}}', "buy"),
        ('{"decision": {"action": "12"}, "confidence": 7, "second_best": "7"}', "12"),
        ('{"thought": "sell or buy", "response": {"action": "buy"}}', "buy"),
        ('{"error": null, "choice": "buy"}', "buy"),
        ('{"action": {"id": "buy"}}', "buy"),
        ("Choice: buy\n\nThe trend is up, and this is better than hold.", "buy"),
        ("Choice: 12\nEvaluation: 7", "12"),
        ("buy: the trend is up", "buy"),
        ("## Decision\n\n**buy**", "buy"),
        (LINES[1], "sell"),  # as the prompt has it
    ],
)
def test_what_does_not_speak_against_an_action_leaves_it(text: str, name: str) -> None:
    assert read(text, listed=LINES) == name


def test_of_an_answer_that_was_cut_only_what_nothing_follows_is_read() -> None:
    assert read('{"action": "buy"}', cut=True) == "buy"
    for more in ('\n{"ac', "\nHmm, actually", "\nFinally: hold"):
        assert read('{"action": "buy"}' + more, cut=True) is None
    for arguments in ("sell", '{"action": "sell'):
        call = {"name": "choose_action", "args": arguments, "id": "1", "error": None}
        assert answer_of(AIMessage("", invalid_tool_calls=[call]), TRADES, cut=True) is None


@given(st.sampled_from(["buy", "sell", "hold", "sell half", "7", "12"]), st.sampled_from(["buy", "hold", "7", "12"]))
def test_a_second_name_is_found_wherever_it_stands(chosen: str, other: str) -> None:
    for place in (f"{other}!", f"so ({other})", f"**{other.upper()}**\nand more", f"es ist「{other}」"):
        for text in (f'{{"action": "{chosen}"}} {place}', f'{place} {{"action": "{chosen}"}}'):
            assert read(text) == (chosen if chosen == other else None)


def test_names_that_differ_by_signs_alone_are_kept_apart() -> None:
    assert others_named("I use C++ here", "C", ["C", "C++", "c"]) == ["C++"]
    assert others_named("I use C here", "C", ["C", "C++", "c"]) == []
    assert others_named("I use c here", "C", ["C", "C++", "c"]) == ["c"]


THINKING = {
    "Cohere": ("<|START_THINKING|>", "<|END_THINKING|>"),
    "Gemma": ("<|channel>thought\n", "<channel|>"),
    "a plan": ("<planning>", "</planning>"),
    "Open WebUI": ('<details type="reasoning" done="true">\n<summary>Thought for 3 s</summary>', "</details>"),
    "escaped": ("&lt;thinking&gt;", "&lt;/thinking&gt;"),
    "Ollama": ("Thinking...\n", "\n...done thinking.\n\n"),
}


@pytest.mark.parametrize("form", THINKING)
def test_forms_of_thinking_are_skipped(form: str) -> None:
    opens, closes = THINKING[form]
    thought = 'hold is wrong. {"action": "hold"}'
    assert read(f'{opens}{thought}{closes}{{"action": "buy"}}') == "buy"
    assert read(f"{opens}{thought}{closes}buy") == "buy"
    assert read(opens + thought) is None


def test_calls_written_in_tags_are_read() -> None:
    one = "<function=choose_action>\n<parameter=action>\nbuy\n</parameter>\n</function>"
    other = '<invoke name="choose_action"><parameter name="action">hold</parameter></invoke>'
    assert (read(f"<tool_call>{one}</tool_call>"), read(other)) == ("buy", "hold")
    assert read(one + one) == "buy"
    twice = one.replace("</function>", "<parameter=action>hold</parameter></function>")
    inner = '<function=choose_action>{"action": "hold"}</function>'
    for text in (one + other, twice, inner + one, one + " No, hold.", one.replace("choose_action", "delete")):
        assert read(text) is None


def test_words_of_python_are_read_as_those_of_json() -> None:
    assert read("{'action': 'buy', 'evaluation': None, 'sure': True}") == "buy"


# Streams and choices


def stream(*choices: dict[str, Any], done: bool = False) -> str:
    return "".join(f"data: {json.dumps({'choices': [one]})}\n\n" for one in choices) + "data: [DONE]\n\n" * done


def piece(text: str, index: int = 0, finish: str | None = None) -> dict[str, Any]:
    return {"index": index, "delta": {"content": text}, "finish_reason": finish}


def test_a_stream_that_breaks_off_is_incomplete() -> None:
    finish = lambda text: completion_of(text)["choices"][0]["finish_reason"]  # noqa: E731
    assert finish(stream(piece("sell"))) == "incomplete"
    assert finish(stream(piece("sell"), done=True)) is None
    assert finish(stream(piece("sell"), piece("", finish="stop"))) == "stop"


def test_choices_of_a_stream_are_kept_apart() -> None:
    text = stream(
        piece('{"action":', 1), piece('{"action":'), piece('"hold"}', 1), piece('"buy"}', finish="stop"), done=True
    )
    message = completion_of(text)["choices"][0]["message"]
    assert message["content"] == '{"action":"buy"}'
    assert message["other_choices"] == [{"content": '{"action":"hold"}', "calls": []}]


@pytest.mark.parametrize("other", ["hold", "buy"])
def test_the_choice_with_index_0_counts_if_no_other_one_differs(other: str) -> None:
    function = {"name": "choose_action", "arguments": json.dumps({"action": other})}
    for message in ({"content": f"{other}."}, {"content": None, "tool_calls": [{"function": function}]}):
        body = {"choices": [{"index": 1, "message": message}, {"index": 0, "message": {"content": "buy"}}]}
        read_ = completion_of(json.dumps(body))["choices"][0]["message"]
        assert read_["content"] == "buy"
        answer = AIMessage(read_["content"], additional_kwargs={"other_choices": read_["other_choices"]})
        assert answer_of(answer, TRADES) == (None if other == "hold" else {"action": "buy"})
