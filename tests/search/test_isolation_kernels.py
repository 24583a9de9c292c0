"""A kernel of a domain that raises for one state fails that search alone, whichever evaluator the others share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from numba import njit
from support import Weighing, network_for, same

from escalade.domains.connect_four import ConnectFour
from escalade.search.config import SearchConfig
from escalade.search.engine import search
from escalade.search.evaluators import RolloutEvaluator, UniformEvaluator
from escalade.search.service import SearchService

C4 = ConnectFour()
PATIENCE = 60.0
STARTS = ("1", "2", "3", "4", "5", "6")
OWN = C4.kernels
CENTRE = int(C4.to_rows([C4.parse("4")])[0, 1])


@njit
def is_bad(rows, b):  # type: ignore[no-untyped-def]
    """After 4 at first, with a disc on top of it, or nothing but that disc."""
    mine, theirs, to_move = rows[b]
    return (theirs if to_move == 1 else mine) == CENTRE and mine & (mine - 1) == 0


@njit
def step(rows, actions, out):  # type: ignore[no-untyped-def]
    for b in range(rows.shape[0]):
        if is_bad(rows, b) and rows[b, 2] == 0:
            raise ValueError("no way on from here")
    OWN.step(rows, actions, out)


@njit
def rules(rows, legal, terminal, outcome, to_move):  # type: ignore[no-untyped-def]
    for b in range(rows.shape[0]):
        if is_bad(rows, b) and rows[b, 2] == 1:
            raise ValueError("no way on from here")
    OWN.rules(rows, legal, terminal, outcome, to_move)


@njit
def encode(rows, out):  # type: ignore[no-untyped-def]
    for b in range(rows.shape[0]):
        if is_bad(rows, b):
            raise ValueError("no way on from here")
    OWN.encode(rows, out)


@njit
def playout(rows, keys, out):  # type: ignore[no-untyped-def]
    for b in range(rows.shape[0]):
        if is_bad(rows, b):
            raise ValueError("no way on from here")
    OWN.playout(rows, keys, out)


def with_kernels(**kernels: Any) -> Any:
    return type("Raising", (ConnectFour,), {"kernels": OWN._replace(**kernels)})()


@pytest.mark.parametrize(
    ("kernels", "evaluators"),
    [
        ({"step": step}, ["python", "uniform", "rollouts", "network"]),
        ({"rules": rules}, ["python", "uniform", "rollouts", "network"]),
        ({"encode": encode}, ["python", "network"]),
        ({"playout": playout}, ["rollouts"]),
    ],
    ids=["step", "rules", "encode", "playout"],
)
def test_a_kernel_that_raises_for_one_state_fails_its_own_search_alone(kernels: Any, evaluators: list[str]) -> None:
    domain = with_kernels(**kernels)
    config = SearchConfig(simulations=60)
    for kind in evaluators:
        made: dict[str, Callable[[Any], Any]] = {
            "python": lambda _: Weighing(C4),
            "uniform": lambda _: UniformEvaluator(),
            "rollouts": lambda game: RolloutEvaluator(game, rollouts=2),
            "network": lambda _: network_for(C4),
        }
        evaluator = made[kind]
        with SearchService(domain, evaluator(domain)) as service:
            tickets = [service.submit(C4.parse(moves), config, seed=seed) for seed, moves in enumerate(STARTS)]
            for seed, ticket in enumerate(tickets):
                if STARTS[seed] == "4":
                    assert isinstance(ticket.exception(PATIENCE), ValueError), kind
                else:
                    found = ticket.result(PATIENCE)
                    wanted = search(C4, [C4.parse(STARTS[seed])], evaluator(C4), config, seed=[seed])[0]
                    if kind == "network":  # whose sums are rounded otherwise in a larger batch
                        assert found.simulations == wanted.simulations
                        assert found.value == pytest.approx(wanted.value, abs=0.05)
                    else:
                        same(found, wanted)
            assert service.running == service.waiting == 0
