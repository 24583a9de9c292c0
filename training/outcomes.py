"""What became of decisions, learned late: how it ended, or which action would have been right.

Shards of their own in the store's folder `outcomes/`, joined to the rows by the decision's id. They are immutable
Parquet, compressed with zstd, written whole; a shard's name ends with a hash of its contents, so that every damage
shows. Of several reports on one decision the last one counts, for the outcome and for the right action apart.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from escalade.domains.base import Domain
from escalade.domains.errors import OverloadedError
from escalade.neural.files import write_whole
from escalade.neural.manifest import DomainStamp
from escalade.training.background import CLOSING_S, Background, OnFate
from escalade.training.rows import RowError, Rows
from escalade.training.shards import SUFFIX, ShardError

if TYPE_CHECKING:
    from escalade.training.store import Damage, ExperienceStore

SCHEMA_VERSION = 1
LONGEST_NAME = 200
"""Characters of a decision's id, and of who reports."""
_FORM = b"escalade.outcomes"


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


def outcome_schema(stamp: DomainStamp) -> pa.Schema:
    """The columns of the shards: decision, outcome, action, at (UTC), by."""
    form = {"schema_version": SCHEMA_VERSION, "domain": stamp.model_dump(mode="json")}
    return pa.schema(
        [
            pa.field("decision", pa.string(), nullable=False),
            pa.field("outcome", pa.float32()),
            pa.field("action", pa.int32()),
            pa.field("at", pa.timestamp("us"), nullable=False),
            pa.field("by", pa.string()),
        ],
        metadata={_FORM: json.dumps(form, sort_keys=True).encode()},
    )


class OutcomeShards:
    """The shards in one folder. set_aside: is given the path of a damaged one, and the reason; without it, such a shard
    stays where it is, unread."""

    def __init__(
        self, folder: Path, stamp: DomainStamp, set_aside: Callable[[Path, str], list[Damage]] | None = None
    ) -> None:
        self.folder = folder
        self.stamp = stamp
        self._set_aside = set_aside
        self._tables: dict[str, pa.Table] = {}

    def add(self, outcomes: Sequence[Outcome], clock: Callable[[], float] = time.time) -> Path:
        """Write at least one as a new shard. Those without a time get that of `clock`. Raises RowError for an action
        that the domain does not have."""
        for each in outcomes:
            if each.action is not None and not 0 <= each.action < self.stamp.num_actions:
                raise RowError(f"action must be in 0 .. {self.stamp.num_actions - 1}, not {each.action!r}")
        now = clock()
        columns = [
            [each.decision for each in outcomes],
            [each.value for each in outcomes],
            [each.action for each in outcomes],
            [int((each.at or now) * 1e6) for each in outcomes],
            [each.by or None for each in outcomes],
        ]
        schema = outcome_schema(self.stamp)
        arrays = [pa.array(column, field.type) for column, field in zip(columns, schema, strict=True)]
        buffer = io.BytesIO()
        table = pa.Table.from_arrays(arrays, schema=schema)
        pq.write_table(table, buffer, compression="zstd", row_group_size=len(outcomes), write_page_checksum=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{int(now * 1e9):020d}-{_digest(buffer.getvalue())}{SUFFIX}"
        write_whole(path, lambda file: file.write(buffer.getvalue()))
        return path

    def refresh(self) -> list[Damage]:
        """Read shards that are new. Returns what was set aside."""
        found = {path.name: path for path in self.folder.glob(f"*{SUFFIX}") if path.is_file()}
        damages: list[Damage] = []
        tables: dict[str, pa.Table] = {}
        for name, path in sorted(found.items()):
            try:
                tables[name] = self._tables[name] if name in self._tables else self._read(path)
            except FileNotFoundError:
                continue  # another process has set it aside
            except ShardError as error:
                damages += self._set_aside(path, str(error)) if self._set_aside else []
        self._tables = tables
        return damages

    def check(self) -> list[Damage]:
        """Read every shard again. Returns what was set aside."""
        self._tables = {}
        return self.refresh()

    def table(self) -> pa.Table:
        """All reports that are there now, the earliest first."""
        self.refresh()
        if not self._tables:
            return outcome_schema(self.stamp).empty_table()
        return pa.concat_tables(self._tables.values()).sort_by("at")

    def _read(self, path: Path) -> pa.Table:
        raw = path.read_bytes()
        if not path.stem.endswith(_digest(raw)):
            raise ShardError(f"shard '{path.name}' is damaged: its contents are not those it was named for")
        try:
            table = pq.read_table(io.BytesIO(raw), page_checksum_verification=True)
            form = json.loads((table.schema.metadata or {}).get(_FORM, b"null"))
            difference = DomainStamp.model_validate(form["domain"]).difference(self.stamp)
        except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
            raise ShardError(f"shard '{path.name}' is damaged: {error}") from None
        if form.get("schema_version") != SCHEMA_VERSION or not table.schema.equals(outcome_schema(self.stamp)):
            raise ShardError(f"shard '{path.name}' has other columns than this version reads")
        if difference is not None:
            raise ShardError(f"shard '{path.name}' is of another domain: {difference}")
        return table


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:32]


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


class OutcomeSink:
    """Takes reports in and writes them to the store in `folder` from a thread of its own. Options: as `Background`."""

    def __init__(
        self,
        folder: Path | str,
        domain: Domain[Any],
        *,
        on_fate: OnFate | None = None,
        seconds: float = 30.0,
        most: int = 16_384,
    ) -> None:
        self.shards = OutcomeShards(Path(folder) / "outcomes", DomainStamp.of(domain))
        self._background = Background(self._write, what="outcomes", on_fate=on_fate, seconds=seconds, most=most)

    def report(self, outcome: Outcome) -> None:
        """Raises OverloadedError if there is no room: who reports keeps it and comes again."""
        if outcome.at == 0:
            outcome = replace(outcome, at=time.time())
        if not self._background.offer(outcome):
            raise OverloadedError("outcomes wait faster than they are written: report this one again later")

    def close(self, seconds: float = CLOSING_S) -> None:
        """Write what waits, as much as that time allows."""
        self._background.close(seconds)

    def _write(self, outcomes: list[Outcome]) -> int:
        self.shards.add(outcomes)
        return len(outcomes)
