"""What a decision reports while it is being made: LangGraph's `custom` stream events, as plain JSON-like dicts.

Each has `escalade`, the version of this form, and `event`, its kind; docs/embedding.md lists the kinds and fields.
Events change nothing about a decision, and where nobody streams them LangGraph drops them.
"""

from __future__ import annotations

import asyncio
from concurrent.futures import wait
from typing import Any

from langgraph.runtime import get_runtime

from escalade.domains.base import Domain
from escalade.search.results import SearchResult
from escalade.search.service import SearchTicket

VERSION = 1
PROGRESS_SECONDS = 0.1
"""Time between two `search` events of one search; one that is done sooner emits none."""


def emit(event: str, decision_id: str | None, **fields: Any) -> None:
    """Write a custom event to the stream of the run that this code is part of; outside of any run nothing happens."""
    try:
        runtime = get_runtime()
    except RuntimeError:  # no run: such as a question asked while labelling
        return
    if runtime is not None:
        runtime.stream_writer({"escalade": VERSION, "event": event, "decision_id": decision_id, **fields})


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
    """A search's result; until it comes, `search` events at most every `PROGRESS_SECONDS`."""
    while not wait([ticket], PROGRESS_SECONDS).done:
        _emit_progress(domain, ticket, decision_id)
    return ticket.result()


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
