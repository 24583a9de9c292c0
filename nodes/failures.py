"""The record of a run that ends without a decision: what it has cost is counted as that of any other."""

from __future__ import annotations

import logging
import uuid
from typing import Any

from escalade.domains.decision import FailedDecision, RungReport
from escalade.domains.errors import ActionError, EscaladeError, SettingsError, StateError
from escalade.nodes.resources import Resources
from escalade.nodes.state import DecisionState

log = logging.getLogger("escalade")

STATE_CHARACTERS = 200
"""Of an input that is no state."""


def failed_decision(
    resources: Resources, state: DecisionState, error: BaseException, under_way: dict[str, Any] | None
) -> FailedDecision:
    """What is known of a run when a step of it raises. under_way: the report of the rung that was being asked."""
    reports = [*state.get("reports", ()), *([] if under_way is None else [under_way])]
    costs = [report.get("cost_usd", 0.0) for report in reports]
    source = state.get("text", state.get("state"))
    if isinstance(error, StateError | ActionError | SettingsError):
        outcome: Any = "refused"
    else:
        outcome = "failed" if isinstance(error, Exception) else "cancelled"
    given = state.get("decision_id")
    text = source if isinstance(source, str) else repr(source)
    return FailedDecision(
        decision_id=_sendable(state.get("id") or (given if isinstance(given, str) else "") or str(uuid.uuid4())),
        domain=resources.domain.name,
        state=_sendable(text if "text" in state else text[:STATE_CHARACTERS]),
        outcome=outcome,
        error=type(error).__name__,
        message=_sendable(str(error)) or type(error).__name__,
        cost_usd=None if None in costs else sum(costs),
        latency_ms=state.get("elapsed_ms", 0.0),
        rungs=[RungReport(**{key: value for key, value in one.items() if key != "policy"}) for one in reports],
    )


def emit_failure(
    resources: Resources, state: DecisionState, error: BaseException, under_way: dict[str, Any] | None
) -> None:
    """Hand the record of a run that ends to the sinks of failures, and to whoever catches the error. Raises nothing:
    the error itself is what counts."""
    try:
        failed = failed_decision(resources, state, error, under_way)
    except Exception as trouble:
        log.error("a failed decision cannot be recorded", exc_info=trouble)
        return
    if isinstance(error, EscaladeError):
        error.failed = failed
    for sink in resources.failure_sinks:
        try:
            sink(failed)
        except Exception as trouble:
            log.error("a sink of failed decisions failed", exc_info=trouble)


def _sendable(text: str) -> str:
    """A text that can be stored: half of a surrogate pair becomes a question mark."""
    return text.encode("utf-8", "replace").decode()
