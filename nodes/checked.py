"""What a checkpoint holds is checked before a node uses it: in Studio, or by `update_state`, a person may edit any of
it. What is not of its type is refused with the field at fault; an action that is not legal in the state's text is taken
out of the choice, whoever proposed it.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError

from escalade.domains.base import Domain
from escalade.domains.decision import RungReport
from escalade.domains.errors import DomainFault, EscaladeError, StateError
from escalade.nodes.state import DecisionProgress, DecisionState


class KeptReport(RungReport):
    """A rung report in the state: with the rung's distribution over all actions, `[num_actions]`, besides."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    policy: list[float] | None = None
    cost_usd: float | None = Field(ge=0)


class KeptProposal(KeptReport):
    """A proposal, which the router has not judged yet unless the rung failed."""

    outcome: Any = None
    reason: str = ""


_PROGRESS = TypeAdapter(DecisionProgress)
_REPORTS = TypeAdapter(list[KeptReport])
_PROPOSAL = TypeAdapter(KeptProposal | None)


def check_state(state: DecisionState, needs: Collection[str]) -> None:
    """Raises StateError naming the field that is not as `DecisionProgress` and `RungReport` say, or one of those
    needed that is missing."""
    for name in needs:
        if name not in state:
            raise StateError(f"the graph's state has no '{name}': run the graph from its start, which parses the state")
    check_fields(_PROGRESS, state)
    check_fields(_REPORTS, state.get("reports", []), "reports")
    check_fields(_PROPOSAL, state.get("proposal"), "proposal")


def check_fields(schema: TypeAdapter[Any], value: Any, name: str | None = None) -> None:
    """Raises StateError naming the first field of a value that does not fit its schema. name: of the value itself."""
    try:
        schema.validate_python(value)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in (name, *first["loc"]) if part is not None)
        raise StateError(
            f"the graph's state was edited into one that no node can read: {field}: {first['msg']}, not "
            f"{str(first['input'])[:80]!r}"
        ) from None


def with_legality(report: dict[str, Any], legal: Collection[int], domain: Domain[Any]) -> dict[str, Any]:
    """A report or proposal, or a failed one in its place (`illegal_action`) if its action is not among the legal ones
    or its distribution is not one over the domain's actions."""
    action, policy = report.get("action"), report.get("policy")
    if report.get("outcome") in ("failed", "skipped") and action is None:
        return report
    if action is None:
        what = "it names no action"
    elif action not in legal:
        what = f"action {action} ({action_name(domain, action)}) is not legal in this state"
    elif policy is not None and len(policy) != domain.num_actions:
        what = f"its policy has {len(policy)} numbers for {domain.num_actions} actions"
    else:
        return report
    details = {**(report.get("details") or {}), "message": what}
    kept = {name: value for name, value in report.items() if name not in ("action", "policy", "threshold")}
    return {**kept, "outcome": "failed", "reason": "illegal_action", "details": details}


def action_name(domain: Domain[Any], action: int) -> str:
    """What a person calls an action, or that there is none of this number."""
    if not 0 <= action < domain.num_actions:
        return "there is none of this number"
    try:
        return domain.action_name(action)
    except EscaladeError:
        raise
    except Exception as error:
        raise DomainFault(f"domain '{domain.name}' has no name for its action {action}: {error!r}") from error
