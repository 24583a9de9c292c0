"""Small reports beside the rows of a store, in a folder of their own: what became of decisions, and what audits found.

They are immutable Parquet, compressed with zstd, written whole; a shard's name begins with the time it was written and
ends with a hash of its contents, so that every damage shows.
"""

from __future__ import annotations

import hashlib
import io
import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import pyarrow as pa
import pyarrow.parquet as pq

from escalade.neural.files import write_whole
from escalade.neural.manifest import DomainStamp
from escalade.training.background import CLOSING_S, Background, OnFate
from escalade.training.shards import SUFFIX, ShardError

if TYPE_CHECKING:
    from escalade.training.store import Damage

T = TypeVar("T")

SCHEMA_VERSION = 1
AT = pa.field("at", pa.timestamp("us"), nullable=False)
"""The column by which reports are in order: when it was, UTC."""


def report_schema(stamp: DomainStamp, kind: str, fields: Sequence[pa.Field]) -> pa.Schema:
    """The columns of the shards of one kind of reports on one domain; one of them is AT."""
    form = {"schema_version": SCHEMA_VERSION, "domain": stamp.model_dump(mode="json")}
    return pa.schema(fields, metadata={f"escalade.{kind}".encode(): json.dumps(form, sort_keys=True).encode()})


class ReportShards:
    """The shards in one folder. schema: of `report_schema`. set_aside: is given the path of a damaged one, and the
    reason; without it, such a shard stays where it is, unread."""

    def __init__(
        self,
        folder: Path,
        stamp: DomainStamp,
        schema: pa.Schema,
        set_aside: Callable[[Path, str], list[Damage]] | None = None,
    ) -> None:
        self.folder, self.stamp, self.schema = folder, stamp, schema
        self._set_aside = set_aside
        self._tables: dict[str, pa.Table] = {}

    def write(self, columns: Sequence[Sequence[Any]], now: float | None = None) -> Path:
        """Write at least one report as a new shard: the schema's columns, in order. now: seconds since the epoch."""
        arrays = [pa.array(column, field.type) for column, field in zip(columns, self.schema, strict=True)]
        buffer = io.BytesIO()
        table = pa.Table.from_arrays(arrays, schema=self.schema)
        pq.write_table(table, buffer, compression="zstd", row_group_size=len(table), write_page_checksum=True)
        self.folder.mkdir(parents=True, exist_ok=True)
        written = time.time() if now is None else now
        path = self.folder / f"{int(written * 1e9):020d}-{_digest(buffer.getvalue())}{SUFFIX}"
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
            return self.schema.empty_table()
        return pa.concat_tables(self._tables.values()).sort_by("at")

    def _read(self, path: Path) -> pa.Table:
        raw = path.read_bytes()
        if not path.stem.endswith(_digest(raw)):
            raise ShardError(f"shard '{path.name}' is damaged: its contents are not those it was named for")
        (key,) = self.schema.metadata
        try:
            table = pq.read_table(io.BytesIO(raw), page_checksum_verification=True)
            form = json.loads((table.schema.metadata or {}).get(key, b"null"))
            difference = DomainStamp.model_validate(form["domain"]).difference(self.stamp)
        except (pa.ArrowException, OSError, ValueError, TypeError, KeyError) as error:
            raise ShardError(f"shard '{path.name}' is damaged: {error}") from None
        if form.get("schema_version") != SCHEMA_VERSION or not table.schema.equals(self.schema):
            raise ShardError(f"shard '{path.name}' has other columns than this version reads")
        if difference is not None:
            raise ShardError(f"shard '{path.name}' is of another domain: {difference}")
        return table


class ReportSink(Generic[T]):
    """Takes reports in and has `write` write them, from a thread of its own. what: its name in logs. Other options: as
    `Background`."""

    def __init__(
        self,
        write: Callable[[list[T]], object],
        what: str,
        *,
        on_fate: OnFate | None = None,
        seconds: float = 30.0,
        most: int = 16_384,
    ) -> None:
        def written(reports: list[T]) -> int:
            write(reports)
            return len(reports)

        self._background = Background(written, what=what, on_fate=on_fate, seconds=seconds, most=most)

    def offer(self, report: T) -> bool:
        """Whether there is room for it."""
        return self._background.offer(report)

    def close(self, seconds: float = CLOSING_S) -> None:
        """Write what waits, as much as that time allows."""
        self._background.close(seconds)


def _digest(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()[:32]
