"""What a decision reports while it is being made: LangGraph's `custom` stream events, as plain JSON-like dicts.

Each has `escalade`, the version of this form, and `event`, its kind; docs/embedding.md lists the kinds and fields.
Events change nothing about a decision, and where nobody streams them LangGraph drops them.

LangGraph streams what is written inside a subgraph only with `subgraphs=True`. Whoever runs a graph should see our
events without that, so what is written inside goes to the writer of the graph outside (`to_the_outside`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import wait
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from langgraph.runtime import Runtime, get_runtime
from langgraph.types import StreamWriter

from escalade.domains.base import Domain
from escalade.search.results import SearchResult
from escalade.search.service import SearchTicket

VERSION = 1
PROGRESS_SECONDS = 0.1
"""Time between two `search` events of one search; one that is done sooner emits none."""

_OUTSIDE: ContextVar[StreamWriter | None] = ContextVar("outside", default=None)


def emit(event: str, decision_id: str | None, **fields: Any) -> None:
    """Write a custom event to the stream of the run that this code is part of; outside of any run nothing happens."""
    runtime = runtime_here()
    if runtime is not None:
        writer = _OUTSIDE.get() or runtime.stream_writer
        writer({"escalade": VERSION, "event": event, "decision_id": decision_id, **fields})


def runtime_here() -> Runtime[Any] | None:
    """Of the run whose node this code is part of; None outside of any, as where a question is asked while labelling."""
    try:
        runtime: Runtime[Any] | None = get_runtime()
    except RuntimeError:
        return None
    # LangGraph's server keeps a runtime around whatever it calls, which belongs to no node and streams nothing.
    return runtime if runtime is not None and runtime.execution_info is not None else None


@contextmanager
def to_the_outside() -> Iterator[None]:
    """Meanwhile, what subgraphs emit goes to the stream of the graph whose node is running now, or to where that
    already sends its own."""
    runtime = runtime_here()
    if runtime is None or _OUTSIDE.get() is not None:
        yield
        return
    before = _OUTSIDE.set(runtime.stream_writer)
    try:
        yield
    finally:
        _OUTSIDE.reset(before)


def emit_rung(domain: Domain[Any], decision_id: str | None, report: dict[str, Any]) -> None:
    """The report of a rung, as the decision will hold it (`RungReport`), once the router has judged it."""
    action = report.get("action")
    emit(
        "rung",
        decision_id,
        rung=report["rung"],
        outcome=report["outcome"],
        reason=report["reason"],
        action_name=None if action is None else domain.action_name(action),
        confidence=report.get("confidence"),
        report={name: value for name, value in report.items() if name != "policy"},
    )


def wait_for_search(domain: Domain[Any], ticket: SearchTicket, decision_id: str | None) -> SearchResult:
    """A search's result; until it comes, `search` events at most every `PROGRESS_SECONDS`. Who stops waiting, by
    Ctrl-C say, cancels the search."""
    try:
        while not wait([ticket], PROGRESS_SECONDS).done:
            _emit_progress(domain, ticket, decision_id)
        return ticket.result()
    except BaseException:
        ticket.cancel()
        raise


async def await_search(domain: Domain[Any], ticket: SearchTicket, decision_id: str | None) -> SearchResult:
    """As `wait_for_search`, on the event loop. Cancelling the task cancels the ticket, and with it the search."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle

    def report() -> None:
        nonlocal timer
        _emit_progress(domain, ticket, decision_id)
        timer = loop.call_later(PROGRESS_SECONDS, report)

    timer = loop.call_later(PROGRESS_SECONDS, report)  # runs in this task's context, and so in its LangGraph run
    try:
        return await asyncio.wrap_future(ticket)
    finally:
        timer.cancel()


def _emit_progress(domain: Domain[Any], ticket: SearchTicket, decision_id: str | None) -> None:
    progress = ticket.progress()
    if progress is not None:
        emit(
            "search",
            decision_id,
            simulations=progress.simulations,
            of=ticket.config.simulations,
            best=domain.action_name(progress.action),
            value=progress.value,
        )
