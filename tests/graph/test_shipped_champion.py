"""The champion of Connect Four as it is shipped, from the empty board on."""

from __future__ import annotations

from typing import Any

import pytest

from escalade import build_decision_graph
from escalade.domains.connect_four import ConnectFour
from escalade.graph.decision_graph import DecisionGraph
from escalade.nodes.context import DecisionContext
from escalade.search.opening_book import openings
from escalade.search.solvers import exact_solver
from escalade.training.exact import solved
from escalade.training.sparring import SolverPlayer

GIVEN_AWAY = ("", "43", "45", "46", "444441", "44444456", "444444", "4444")
"""Where the first player wins, and a champion that was taught from the ninth move on gave that away."""


@pytest.fixture(scope="module")
def graph() -> DecisionGraph:
    return build_decision_graph("connect_four", bundle="builtin:connect_four")


def decided(graph: DecisionGraph, state: str, **options: Any) -> dict[str, Any]:
    given: Any = {"state": state}
    result: dict[str, Any] = graph.invoke(given, context=DecisionContext(simulations=600, **options))["decision"]
    return result


@pytest.mark.parametrize("mode", ["auto", "search_only"])
def test_it_keeps_what_the_first_move_wins(graph: DecisionGraph, mode: Any) -> None:
    domain, solver = ConnectFour(), exact_solver(ConnectFour())
    assert solver is not None
    for text in GIVEN_AWAY:
        state = domain.parse(text)
        reached = domain.step(state, decided(graph, text, mode=mode)["action"])
        assert -solver.value(reached) >= solver.value(state), text


def test_every_opening_of_three_plies_is_decided_right(graph: DecisionGraph) -> None:
    domain = ConnectFour()
    exact = solved(domain, [state for level in openings(3) for state in level.values()], "openings")
    assert len(exact.states) == 1 + 4 + 25 + 121  # mirror images count once
    wrong = [
        text
        for text, optimal in zip(exact.states, exact.optimal, strict=True)
        if not optimal[decided(graph, text)["action"]]
    ]
    assert not wrong


def test_it_wins_against_a_perfect_opponent_and_mostly_by_its_networks(graph: DecisionGraph) -> None:
    domain, solver = ConnectFour(), exact_solver(ConnectFour())
    assert solver is not None
    state, opponent, sources = domain.initial_state(), SolverPlayer(solver), []
    while not domain.is_terminal(state):
        if len(state.moves) % 2 == 0:
            decision = decided(graph, domain.format(state))
            sources.append(decision["source"])
            action = decision["action"]
        else:
            action = opponent.choose(domain, [state], [len(state.moves)]).actions[0]
        state = domain.step(state, action)
    assert len(state.moves) % 2 == 1  # it has the last move
    assert domain.outcome(state) == -1
    assert sources.count("policy") + sources.count("value") > len(sources) / 2
