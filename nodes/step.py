"""What every node has in common: it runs under `invoke` and `ainvoke`, reads this run's options, and keeps the time.

Time. A run may be paused (for a person), forked in Studio, or resumed in another process after a restart, so the age
of a run says nothing about the decision's latency. `elapsed_ms` adds up the nodes and the gaps between them.
`marked_at` is when the last node ended, in seconds of a monotonic clock, and `marked_by` the process whose clock that
was: the clocks of two processes need have nothing in common. A gap of more than `PAUSE_S`, or between two processes,
was a pause and is left out.
"""

from __future__ import annotations

import logging
import uuid
from collections.abc import Awaitable, Callable, Collection
from typing import Any, cast

from langchain_core.runnables import Runnable, RunnableConfig
from langgraph.errors import GraphBubbleUp
from langgraph.runtime import get_runtime

from escalade.domains.errors import DeadlineError, OverloadedError, StateError
from escalade.nodes.checked import check_state
from escalade.nodes.context import DecisionContext, read_context
from escalade.nodes.failures import emit_failure
from escalade.nodes.resources import Resources
from escalade.nodes.state import DecisionState
from escalade.nodes.tracing import annotate
from escalade.nodes.work import METER

PAUSE_S = 5.0
PROCESS = uuid.uuid4().hex[:12]
"""Of which a mark is; a forked child's clock goes on from its parent's, so the two may share it."""

Update = dict[str, Any]
Run = Callable[[DecisionState, DecisionContext], Update]
AsyncRun = Callable[[DecisionState, DecisionContext], Awaitable[Update]]

log = logging.getLogger("escalade")


class Step(Runnable[DecisionState, Update]):
    """A node. `run` must not block for long, unless there is an `async_run` to use on the event loop."""

    counts_gap = True
    """Whether the time since the last node counts."""
    begins = False
    """Whether it is the first of a decision, whose state may still hold what an earlier one on the thread left."""

    needs: tuple[str, ...] = ("id", "text", "reports", "elapsed_ms")
    """What the state must hold."""

    def __init__(self, name: str, resources: Resources, run: Run, async_run: AsyncRun | None = None) -> None:
        self.name: str = name
        self.resources = resources
        self.run = run
        self.async_run = async_run

    def invoke(self, input: DecisionState, config: RunnableConfig | None = None, **kwargs: Any) -> Update:
        try:
            return self._invoke(input)
        except BaseException as error:
            self._ends(input, error)
            raise

    async def ainvoke(self, input: DecisionState, config: RunnableConfig | None = None, **kwargs: Any) -> Update:
        try:
            return await self._ainvoke(input)
        except BaseException as error:
            self._ends(input, error)
            raise

    def _invoke(self, input: DecisionState) -> Update:
        state, context, started = self._begin(input)
        return self._end(state, self.run(state, context), started)

    async def _ainvoke(self, input: DecisionState) -> Update:
        state, context, started = self._begin(input)
        update = self.run(state, context) if self.async_run is None else await self.async_run(state, context)
        return self._end(state, update, started)

    def _ends(self, state: DecisionState, error: BaseException) -> None:
        """This step ends the run: the sinks of failures get a record of it. A question to a person ends none."""
        if isinstance(error, GraphBubbleUp):
            return
        if self.begins:
            state = {"state": state.get("state"), "decision_id": state.get("decision_id")}
        emit_failure(self.resources, state, error, self._under_way(state))

    def _under_way(self, state: DecisionState) -> Update | None:
        """The report of the rung whose visit ends here, None where it is no rung."""
        return None

    def _begin(self, state: DecisionState) -> tuple[DecisionState, DecisionContext, float]:
        check_state(state, self.needs)
        defaults = self.resources.defaults
        context = self.resources.limits.applied(read_context(get_runtime().context, defaults), defaults)
        now = self.resources.clock()
        gap = now - state.get("marked_at", now) if state.get("marked_by") == PROCESS else 0.0
        counted = gap * 1000 if self.counts_gap and 0 <= gap <= PAUSE_S else 0.0
        state = state.copy()
        state["elapsed_ms"] = state.get("elapsed_ms", 0.0) + counted
        return state, context, now

    def _end(self, state: DecisionState, update: Update, started: float) -> Update:
        now = self.resources.clock()
        update["elapsed_ms"] = update.get("elapsed_ms", state["elapsed_ms"]) + max(0.0, now - started) * 1000
        update["marked_at"], update["marked_by"] = now, PROCESS
        annotate(update)
        return update


class Route(Runnable[Any, str]):
    """What a conditional edge reads: one entry of the state. As a runnable of our own it makes no run of its own in a
    trace, which would hold the whole state."""

    def __init__(self, key: str, places: Collection[str]) -> None:
        """places: those that there are."""
        self.name = self.key = key
        self.places = places

    def invoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> str:
        place = input.get(self.key)
        if place not in self.places:
            raise StateError(f"{self.key}: one of {', '.join(self.places)}, not {str(place)[:80]!r}")
        return cast(str, place)

    async def ainvoke(self, input: Any, config: RunnableConfig | None = None, **kwargs: Any) -> str:
        return self.invoke(input)


class RungStep(Step):
    """A rung that can fail: its functions return a proposal, which is a rung report without outcome and reason, and
    with `policy` (distribution over all actions, or None). Whatever goes wrong in it becomes a failed report: a rung
    fails, the decision does not."""

    works = True
    """Whether this machine is at work during a visit, and not only waits for another."""

    def _invoke(self, input: DecisionState) -> Update:
        state, context, started = self._begin(input)
        entered = METER.enter() if self.works else 0.0
        try:
            proposal = self.run(state, context)
        except Exception as error:  # noqa: BLE001 -- see the class's text
            proposal = self._failed(error)
        finally:
            work = METER.leave(entered) if self.works else 0.0
        return self._propose(state, proposal, started, work)

    async def _ainvoke(self, input: DecisionState) -> Update:
        state, context, started = self._begin(input)
        entered = METER.enter() if self.works else 0.0
        try:
            proposal = self.run(state, context) if self.async_run is None else await self.async_run(state, context)
        except Exception as error:  # noqa: BLE001 -- see the class's text
            proposal = self._failed(error)
        finally:
            work = METER.leave(entered) if self.works else 0.0
        return self._propose(state, proposal, started, work)

    def _under_way(self, state: DecisionState) -> Update | None:
        return {"rung": self.name, "outcome": "failed", "reason": "cancelled", "cost_usd": 0.0}

    def _failed(self, error: Exception) -> Update:
        log.warning("rung %s failed: %s: %s", self.name, type(error).__name__, error)
        log.debug("rung %s failed", self.name, exc_info=error)
        if isinstance(error, TimeoutError | DeadlineError):
            reason = "deadline"
        else:
            reason = "overloaded" if isinstance(error, OverloadedError) else "error"
        return failed(reason, {"error": type(error).__name__, "message": str(error)[:200]})

    def _propose(self, state: DecisionState, proposal: Update, started: float, work: float) -> Update:
        latency = max(0.0, self.resources.clock() - started) * 1000
        proposal = {"rung": self.name, "latency_ms": latency, "work_ms": work * 1000, **proposal}
        proposal.setdefault("cost_usd", self.resources.compute_cost(work * 1000))
        return self._end(state, {"proposal": proposal}, started)


def failed(reason: str, details: dict[str, Any], cost_usd: float | None = 0.0) -> Update:
    """The proposal of a rung that has none."""
    return {"outcome": "failed", "reason": reason, "details": details, "cost_usd": cost_usd}


def deadline_of(state: DecisionState, resources: Resources) -> float | None:
    """When the rung that runs now must be done, by the resources' clock."""
    allowance = state.get("allowance_ms")
    return None if allowance is None else resources.clock() + allowance / 1000
