"""What became of decisions, learned late: how it ended, or which action would have been right.

Reports (`escalade.training.report_shards`) in the store's folder `outcomes/`, joined to the rows by the decision's id.
Of several reports on one decision the last one counts, for the outcome and for the right action apart.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from escalade.domains.base import Domain
from escalade.domains.errors import OverloadedError
from escalade.neural.manifest import DomainStamp
from escalade.training.report_shards import AT, ReportShards, ReportSink, report_schema
from escalade.training.rows import RowError, Rows

if TYPE_CHECKING:
    from escalade.training.store import Damage, ExperienceStore

LONGEST_NAME = 200
"""Characters of a decision's id, and of who reports."""


@dataclass(frozen=True)
class Outcome:
    """What one person or program reports of one decision: a value, an action, or both.

    value: in [-1, 1], as the player who was to move in the decided state sees it. action: the right one, an index from
    0. by: who says so. at: when, in seconds since the epoch. Raises RowError naming the field at fault.
    """

    decision: str
    value: float | None = None
    action: int | None = None
    by: str = ""
    at: float = 0.0

    def __post_init__(self) -> None:
        for name, least in (("decision", 1), ("by", 0)):
            text = getattr(self, name)
            if not isinstance(text, str) or not least <= len(text) <= LONGEST_NAME or not text.isprintable():
                raise RowError(f"{name} must be a text of {least} to {LONGEST_NAME} printable characters")
        if self.value is None and self.action is None:
            raise RowError("value or action must be given: how it ended, or which action was right")
        if isinstance(self.value, bool):  # which Python takes for a number
            raise RowError(f"value must be a number in [-1, 1], not {self.value!r}")
        if self.value is not None and not -1 <= self.value <= 1:
            raise RowError(f"value must be in [-1, 1], not {self.value!r}")


class OutcomeShards(ReportShards):
    """Those in one folder. set_aside: as `ReportShards`."""

    def __init__(
        self, folder: Path, stamp: DomainStamp, set_aside: Callable[[Path, str], list[Damage]] | None = None
    ) -> None:
        super().__init__(folder, stamp, outcome_schema(stamp), set_aside)

    def add(self, outcomes: Sequence[Outcome], clock: Callable[[], float] = time.time) -> Path:
        """Write at least one as a new shard. Those without a time get that of `clock`. Raises RowError for an action
        that the domain does not have."""
        for each in outcomes:
            if each.action is not None and not 0 <= each.action < self.stamp.num_actions:
                raise RowError(f"action must be in 0 .. {self.stamp.num_actions - 1}, not {each.action!r}")
        now = clock()
        columns: list[list[Any]] = [
            [each.decision for each in outcomes],
            [each.value for each in outcomes],
            [each.action for each in outcomes],
            [int((each.at or now) * 1e6) for each in outcomes],
            [each.by or None for each in outcomes],
        ]
        return self.write(columns, now)


def outcome_schema(stamp: DomainStamp) -> pa.Schema:
    """The columns of the shards: decision, outcome, action, at (UTC), by."""
    fields = [
        pa.field("decision", pa.string(), nullable=False),
        pa.field("outcome", pa.float32()),
        pa.field("action", pa.int32()),
        AT,
        pa.field("by", pa.string()),
    ]
    return report_schema(stamp, "outcomes", fields)


def with_outcomes(rows: Rows, table: pa.Table) -> Rows:
    """The rows with what is known by now of their decisions (`OutcomeShards.table`): its outcome, and the right action,
    if it was legal, as a policy that a person gave."""
    if not table.num_rows or not (rows.decision != "").any():
        return rows
    ids = np.array(table.column("decision").to_pylist(), np.str_)
    value, known = _last(ids, table.column("outcome"), rows.decision)
    outcome = np.where(known, value, rows.outcome).astype(np.float32)
    right, known = _last(ids, table.column("action"), rows.decision)
    action = np.where(known, right, 0).astype(np.int64)
    taught = known & rows.legal[np.arange(len(rows)), action]
    one_hot = np.arange(rows.legal.shape[1]) == action[:, None]
    return replace(
        rows,
        outcome=outcome,
        policy=np.where(taught[:, None], one_hot, rows.policy).astype(np.float32),
        source=np.where(taught, "human", rows.source),
    )


def decided_state(store: ExperienceStore, decision: str) -> str | None:
    """The state of a decision that is in the store, by its id; None if it is not."""
    for entry in reversed(store.entries):
        rows = store.read(entry.name)
        if rows is not None and len(found := np.flatnonzero(rows.decision == decision)):
            return str(rows.state[found[-1]])
    return None


def _last(ids: NDArray[np.str_], column: Any, wanted: NDArray[np.str_]) -> tuple[Any, NDArray[np.bool_]]:
    """Of a column `[N]` in order of time, the last that is known of each decision wanted `[M]`, and whether any is."""
    values = column.to_numpy()  # null is NaN
    told = np.flatnonzero(~np.isnan(values))[::-1]
    if not len(told):
        return np.zeros(len(wanted)), np.zeros(len(wanted), np.bool_)
    unique, first = np.unique(ids[told], return_index=True)
    place = np.minimum(np.searchsorted(unique, wanted), len(unique) - 1)
    return values[told][first][place], (unique[place] == wanted) & (wanted != "")


class OutcomeSink(ReportSink[Outcome]):
    """Takes reports in and writes them to the store in `folder`. Options: as `ReportSink`."""

    def __init__(self, folder: Path | str, domain: Domain[Any], **options: Any) -> None:
        self.shards = OutcomeShards(Path(folder) / "outcomes", DomainStamp.of(domain))
        super().__init__(self.shards.add, "outcomes", **options)

    def report(self, outcome: Outcome) -> None:
        """Raises OverloadedError if there is no room: who reports keeps it and comes again."""
        if outcome.at == 0:
            outcome = replace(outcome, at=time.time())
        if not self.offer(outcome):
            raise OverloadedError("outcomes wait faster than they are written: report this one again later")
