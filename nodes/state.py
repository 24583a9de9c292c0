"""What travels through the graph. Plain JSON-like values only: LangGraph checkpoints all of it."""

from __future__ import annotations

from typing import Any, Required, TypedDict


class DecisionInput(TypedDict, total=False):
    """state: a text, or a JSON value for domains that read one. decision_id: the caller's own name for the decision;
    one is made up if absent."""

    state: Required[Any]
    decision_id: str | None


class DecisionState(DecisionInput, total=False):
    """id: the decision's. text: the state's canonical text. reports: rung reports judged so far, as dicts, with the
    rung's `policy` besides. rungs: those that the domain lets decide this state, None for all. forced: whether only one
    action is legal. proposal: what the last rung said, until the router has judged it. next_rung: where the
    router goes, and why. allowance_ms, allowance_usd: time and money that the next rung may take. network_value: what
    the networks think the state is worth, where they were not sure enough. elapsed_ms, marked_at: see
    `nodes/step.py`."""

    id: str
    text: str
    rungs: list[str] | None
    forced: bool
    reports: list[dict[str, Any]]
    proposal: dict[str, Any] | None
    next_rung: str
    why: str
    allowance_ms: float | None
    allowance_usd: float | None
    network_value: float | None
    elapsed_ms: float
    marked_at: float
    decision: dict[str, Any]


class DecisionOutput(TypedDict):
    """decision: a `Decision` as a plain dict."""

    decision: dict[str, Any]
