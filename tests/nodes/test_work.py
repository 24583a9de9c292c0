"""This machine's time is counted once, however many decisions are under way."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from escalade import DecisionContext, build_decision_graph
from escalade.nodes.work import WorkMeter


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_one_visit_costs_its_time_and_two_share_theirs() -> None:
    clock = Clock()
    meter = WorkMeter(clock)
    clock.now = 5.0
    first = meter.enter()
    clock.now = 6.0
    second = meter.enter()
    clock.now = 8.0
    assert meter.leave(first) == pytest.approx(1 + 2 / 2)
    clock.now = 9.0
    assert meter.leave(second) == pytest.approx(2 / 2 + 1)
    clock.now = 20.0
    third = meter.enter()
    assert meter.leave(third) == 0.0


@given(st.lists(st.tuples(st.floats(0, 10), st.booleans()), max_size=60))
def test_all_visits_together_cost_what_the_machine_was_busy(events: list[tuple[float, bool]]) -> None:
    clock = Clock()
    meter = WorkMeter(clock)
    inside: list[float] = []
    busy = billed = 0.0
    for seconds, arrives in [*events, *[(1.0, False)] * len(events)]:
        clock.now += seconds
        busy += seconds if inside else 0.0
        if arrives:
            inside.append(meter.enter())
        elif inside:
            billed += meter.leave(inside.pop(0))
    assert billed == pytest.approx(busy)


def test_decisions_at_once_cost_no_more_than_the_time_they_took() -> None:
    graph = build_decision_graph("tic_tac_toe", bundle="builtin:tic_tac_toe", compute_usd_per_hour=3600.0)
    context = DecisionContext(mode="search_only", simulations=300)

    async def many() -> tuple[list[Any], float]:
        loop = asyncio.get_running_loop()
        began = loop.time()
        given: Any = {"state": ""}
        found = await asyncio.gather(*(graph.ainvoke(given, context=context) for _ in range(16)))
        return [one["decision"] for one in found], loop.time() - began

    decisions, seconds = asyncio.run(many())
    work = sum(report["work_ms"] for one in decisions for report in one["rungs"]) / 1000
    assert 0 < work <= seconds * 1.01
    assert sum(one["cost_usd"] for one in decisions) == pytest.approx(work)
