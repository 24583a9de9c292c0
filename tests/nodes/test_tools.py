"""Networks, search and past decisions as tools of a language model."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from langchain_core.messages import ToolCall

from escalade import DecisionContext
from escalade.app.settings import Settings
from escalade.app.wiring import open_decider
from escalade.domains.tic_tac_toe import TicTacToe
from escalade.graph.decision import make_resources
from escalade.graph.embed import neural_tools
from escalade.nodes.tools import MOST_SIMULATIONS, NeuralTools, ToolLimits
from escalade.training.similar import RecordedDecisions

NAMES = ["legal_actions", "policy_prior", "position_value", "search"]


@pytest.fixture(scope="module")
def tools() -> dict[str, Any]:
    return {tool.name: tool for tool in neural_tools("tic_tac_toe", bundle="builtin:tic_tac_toe")}


def asked(tools: dict[str, Any], name: str, **arguments: Any) -> Any:
    """What an agent gets to read: JSON, or a sentence on what was wrong."""
    call = ToolCall(name=name, args=arguments, id="1", type="tool_call")
    message = asyncio.run(tools[name].ainvoke(call))
    assert message.content == tools[name].invoke(call).content
    try:
        return json.loads(message.content)
    except ValueError:
        return message.content


def test_they_say_what_the_game_says(tools: dict[str, Any]) -> None:
    assert list(tools) == NAMES
    assert asked(tools, "legal_actions", state="519") == {"legal_actions": ["2", "3", "4", "6", "7", "8"]}
    prior = asked(tools, "policy_prior", state="5192")
    assert set(prior["probabilities"]) == {"3", "4", "6", "7", "8"}
    assert sum(prior["probabilities"].values()) == pytest.approx(1, abs=0.01)
    # X has 5 and 9, O has 1 and 2: 3 wins for O, who is not to move; X must take it.
    assert max(prior["probabilities"], key=prior["probabilities"].get) == "3"
    assert asked(tools, "position_value", state="51928", action="3") == {"value": 1.0, "exact": True}
    assert asked(tools, "position_value", state="5192", action="4")["value"] < -0.8
    found = asked(tools, "search", state="5192", simulations=200)
    assert (found["action"], found["line"][0]) == ("3", "3")
    assert sum(found["visits"].values()) <= 200


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("legal_actions", {"state": "55"}, "5"),
        ("legal_actions", {"state": "rm -rf"}, "r"),
        ("legal_actions", {"state": "14253"}, "finished"),
        ("policy_prior", {}, "state"),
        ("position_value", {"state": "51", "action": "5"}, "'5' is not legal here; legal are 2, 3"),
        ("position_value", {"state": "51", "action": "x" * 1000}, "is not legal here"),
        ("search", {"state": "51", "simulations": 10**9}, "simulations"),
        ("search", {"state": "51", "simulations": "many"}, "simulations"),
        ("search", {"state": "51", "simulations": -1}, "simulations"),
    ],
)
def test_a_call_that_makes_no_sense_is_answered_in_a_sentence(
    tools: dict[str, Any], name: str, arguments: dict[str, Any], said: str
) -> None:
    answer = asked(tools, name, **arguments)
    assert isinstance(answer, str)
    assert said in answer
    assert len(answer) < 1000


def test_there_is_no_tool_without_something_behind_it() -> None:
    assert [tool.name for tool in neural_tools("tic_tac_toe")] == ["legal_actions", "search"]


def test_the_calls_of_one_decision_are_bounded() -> None:
    resources = make_resources("tic_tac_toe", bundle="builtin:tic_tac_toe")
    limits = ToolLimits(calls=3, simulations=150)
    found = {tool.name: tool for tool in NeuralTools(resources, limits).tools()}
    assert "action" in asyncio.run(found["search"].ainvoke({"state": "51", "simulations": 100}))
    assert "only 50 simulations are left" in asyncio.run(found["search"].ainvoke({"state": "51", "simulations": 100}))
    for _ in range(2):
        asyncio.run(found["legal_actions"].ainvoke({"state": "51"}))
    assert "no more tool calls" in asyncio.run(found["legal_actions"].ainvoke({"state": "51"}))
    assert (limits.calls, limits.simulations) == (0, 50)


def test_even_without_limits_one_search_is_bounded() -> None:
    resources = make_resources("tic_tac_toe")
    found = asyncio.run(NeuralTools(resources).search("", 10**9))
    assert sum(found["visits"].values()) <= MOST_SIMULATIONS


def test_many_calls_share_batches() -> None:
    resources = make_resources("tic_tac_toe", bundle="builtin:tic_tac_toe")
    assert resources.network is not None
    tools = NeuralTools(resources)

    async def main() -> list[Any]:
        return list(await asyncio.gather(*(tools.policy_prior("51") for _ in range(40))))

    assert len({json.dumps(answer) for answer in asyncio.run(main())}) == 1


def test_what_was_decided_before_is_found_by_likeness(tmp_path: Path) -> None:
    decider = open_decider(Settings(experience=tmp_path), "tic_tac_toe", bundle="none")
    for state in ("51", "519", "1"):
        given: Any = {"state": state}
        decider.graph.invoke(given, context=DecisionContext(simulations=50))
    decider.close()
    known = RecordedDecisions(tmp_path / "tic_tac_toe", TicTacToe())
    first, *others = known.similar("519", 3)
    assert (first["state"], first["likeness"]) == ("519", 1.0)
    assert first["by"].startswith("search")
    assert len(others) == 2
    assert all(one["likeness"] < 1 for one in others)
    tools = {tool.name: tool for tool in neural_tools("tic_tac_toe", similar=known)}
    assert asked(tools, "similar_decisions", state="519")["decisions"][0] == first


def test_a_store_that_is_not_there_knows_nothing_and_is_not_begun(tmp_path: Path) -> None:
    assert RecordedDecisions(tmp_path / "none", TicTacToe()).similar("5", 3) == []
    assert not (tmp_path / "none").exists()


def test_what_is_written_later_is_seen(tmp_path: Path) -> None:
    now = 0.0
    known = RecordedDecisions(tmp_path / "tic_tac_toe", TicTacToe(), clock=lambda: now)
    assert known.similar("5", 3) == []
    decider = open_decider(Settings(experience=tmp_path), "tic_tac_toe", bundle="none")
    given: Any = {"state": "51"}
    decider.graph.invoke(given, context=DecisionContext(simulations=50))
    decider.close()
    assert known.similar("51", 3) == []
    now = 31.0
    assert [one["state"] for one in known.similar("51", 3)] == ["51"]
    assert np.isfinite(known.similar("", 3)[0]["likeness"])
