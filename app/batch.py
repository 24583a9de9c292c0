"""Many states through one graph, concurrently; safe to stop and start again."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from escalade.app.result_file import ResultFile
from escalade.app.tracing import sampled
from escalade.domains.errors import EscaladeError, OverloadedError
from escalade.graph.decision import decided
from escalade.graph.decision_graph import DecisionGraph
from escalade.nodes.context import DecisionContext
from escalade.nodes.patience import Patience, PatienceOver, may_pass, while_patient

CONCURRENCY = 16


@dataclass(frozen=True)
class Outcome:
    """What became of one state."""

    number: int
    """Of the state, from 0."""
    line: dict[str, Any]
    """The decision as a dict; `state` and `error` where there is none, with `decision_id` and `cost_usd` (null if not
    known) where it was begun."""
    may_pass: str = ""
    """Why it failed, if that may pass and another try may succeed."""


async def decide_many(
    graph: DecisionGraph,
    states: Sequence[Any],
    context: DecisionContext,
    concurrency: int = CONCURRENCY,
    *,
    numbers: Iterable[int] | None = None,
    trace_share: float = 1.0,
) -> AsyncIterator[Outcome]:
    """The outcome of each state, as they come; at most `concurrency` are under way. numbers: of the states to decide;
    None: all. trace_share: of them, see `escalade.app.tracing`."""
    under_way: set[asyncio.Task[Outcome]] = set()
    waiting = iter(range(len(states)) if numbers is None else numbers)

    async def decide(number: int) -> Outcome:
        try:
            with sampled(trace_share):
                return Outcome(number, decided(await graph.ainvoke({"state": states[number]}, context=context)))
        except EscaladeError as error:
            return refused(number, states[number], error)

    try:
        while True:
            for number in itertools.islice(waiting, concurrency - len(under_way)):
                under_way.add(asyncio.create_task(decide(number)))
            if not under_way:
                return
            done, under_way = await asyncio.wait(under_way, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    finally:
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


def refused(number: int, state: Any, error: EscaladeError) -> Outcome:
    """The outcome of a state that was not decided."""
    line: dict[str, Any] = {"state": state, "error": str(error)}
    failed = error.failed
    if failed is None or failed.outcome == "refused":
        return Outcome(number, line, "overloaded" if isinstance(error, OverloadedError) else "")
    line |= {"decision_id": failed.decision_id, "cost_usd": failed.cost_usd}
    reasons = [report.reason for report in failed.rungs if may_pass(report.model_dump())]
    return Outcome(number, line, reasons[-1] if reasons else "")


async def decide_file(
    graph: DecisionGraph,
    states: Sequence[Any],
    context: DecisionContext,
    output: ResultFile,
    on_line: Callable[[int, dict[str, Any]], None],
    *,
    patience: Patience | None = None,
    on_wait: Callable[[float], None] | None = None,
    trace_share: float = 1.0,
) -> Counter[str]:
    """Decide what `output` does not hold yet, and put it in its place. Returns, by reason, how many lines are left
    since they failed for something that may pass: then `output` keeps the others for another run of the same work.

    on_line: receives the number and the line of all that is done, also what an earlier run left. patience: that of the
    graph's endpoint; when it is over, the lines under way and those not begun are left. on_wait: as `while_patient`.
    """
    for number, line in output.lines():
        on_line(number, line)
    left = Counter[str]()

    async def work() -> None:
        todo = (number for number in range(len(states)) if number not in output)
        async for one in decide_many(graph, states, context, numbers=todo, trace_share=trace_share):
            if one.may_pass:
                left[one.may_pass] += 1
            else:
                output.write(one.number, one.line)
                on_line(one.number, one.line)

    try:
        await while_patient(patience, work(), on_wait)
    except PatienceOver as over:
        left[over.reason] += len(states) - len(output) - left.total()
    if not left:
        output.finish()
    return left
