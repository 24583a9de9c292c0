"""What travels through the graph. Plain JSON-like values only: LangGraph checkpoints all of it.

`TypedDict` is that of typing_extensions: Pydantic cannot make a schema of typing's own before Python 3.12, and without
schemas Studio has no form and MCP no tools. The descriptions are shown there.
"""

from __future__ import annotations

from typing import Annotated, Any, Required

from langgraph.managed import RemainingSteps
from pydantic import BaseModel, ConfigDict, Field, with_config
from typing_extensions import TypedDict

MAX_ID_LENGTH = 200

StateSource = str | int | float | dict[str, Any] | list[Any]
"""A state as a caller gives it: a text, or a JSON value for domains that read one."""


StateField = Annotated[
    StateSource,
    Field(
        description="The state to decide, in the domain's notation: a text, or a JSON value for domains that read one."
    ),
]
IdField = Annotated[
    str | None,
    Field(description="A name of your own for the decision, 1 to 200 printable characters; a UUID if left out."),
]


class DecisionInput(TypedDict, total=False):
    """One state to decide."""

    state: Required[StateField]
    decision_id: IdField


class InputModel(BaseModel):
    """`DecisionInput` as a Pydantic model, for `as_tool`: the one that LangGraph makes requires every field."""

    state: StateField
    decision_id: IdField = None


@with_config(ConfigDict(strict=True, allow_inf_nan=False))
class DecisionProgress(TypedDict, total=False):
    """What the nodes keep. A checkpoint may have been edited, so every node checks it (`escalade.nodes.checked`)."""

    id: Annotated[str, Field(min_length=1, max_length=MAX_ID_LENGTH, description="The decision's id.")]
    text: Annotated[str, Field(description="The canonical text of the state.")]
    rungs: Annotated[
        list[str] | None, Field(description="The rungs that the domain lets decide this state; null for all.")
    ]
    reports: Annotated[
        list[dict[str, Any]],
        Field(description="The rung reports judged so far, each with the rung's `policy` besides."),
    ]
    proposal: Annotated[
        dict[str, Any] | None,
        Field(description="What the last rung proposed, until the router has judged it."),
    ]
    next_rung: Annotated[str, Field(description="The node that the router goes to next.")]
    why: Annotated[str, Field(description="Why the router goes there.")]
    allowance_ms: Annotated[float | None, Field(description="Milliseconds that the next rung may take; null: any.")]
    allowance_usd: Annotated[float | None, Field(description="USD that the next rung may spend; null: any.")]
    network_value: Annotated[
        float | None,
        Field(description="The networks' estimate of the state in [-1, 1], where they did not accept their action."),
    ]
    elapsed_ms: Annotated[
        float, Field(ge=0, description="Milliseconds that the decision has taken so far (see escalade.nodes.step).")
    ]
    marked_at: Annotated[float, Field(description="When the last node ended, by its process' clock, in seconds.")]
    marked_by: Annotated[str, Field(description="Names that process: clocks of two do not compare.")]
    decision: Annotated[dict[str, Any], Field(description="The finished decision, as in `DecisionOutput`.")]


class DecisionState(DecisionInput, DecisionProgress, total=False):
    """The state of the graph between its nodes."""

    remaining_steps: RemainingSteps
    """Nodes that may still run before LangGraph's `recursion_limit`; given by LangGraph, not kept."""


class DecisionOutput(TypedDict):
    """The decision."""

    decision: Annotated[
        dict[str, Any],
        Field(description="A `Decision` as a plain dict: the action, its source rung, and a report of every rung."),
    ]
