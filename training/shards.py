"""Experience on disk: immutable Parquet files, each written whole by one writer.

A shard is one row group, compressed with zstd, with a checksum on every page. Its name begins with the time it was
written and ends with chance, so names sort by time and no two writers ever meet. Lists have the fixed size of the
domain; what a row does not know is null.
"""

from __future__ import annotations

import json
import math
import secrets
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from escalade.domains.errors import EscaladeError
from escalade.neural.files import write_whole
from escalade.neural.manifest import DomainStamp
from escalade.training.rows import RowError, Rows

SCHEMA_VERSION = 1
SUFFIX = ".parquet"
_NOTES = b"escalade.notes"
_FORM = b"escalade"
"""The key in a file's metadata that says of which domain and schema it is."""


class ShardError(EscaladeError, ValueError):
    """A file is not a shard of this domain, or it is damaged."""


def shard_schema(stamp: DomainStamp) -> pa.Schema:
    """The columns of a shard of one domain."""
    actions, numbers = stamp.num_actions, math.prod(stamp.observation_shape)
    form = {"schema_version": SCHEMA_VERSION, "domain": stamp.model_dump(mode="json")}
    return pa.schema(
        [
            pa.field("game", pa.string(), nullable=False),
            pa.field("ply", pa.int32(), nullable=False),
            pa.field("state", pa.string(), nullable=False),
            pa.field("observation", pa.list_(pa.float32(), numbers), nullable=False),
            pa.field("legal", pa.list_(pa.bool_(), actions), nullable=False),
            pa.field("policy", pa.list_(pa.float32(), actions)),
            pa.field("action", pa.int32()),
            pa.field("value", pa.float32()),
            pa.field("outcome", pa.float32()),
            pa.field("source", pa.string(), nullable=False),
            pa.field("model", pa.string()),
            pa.field("decision", pa.string()),
        ],
        metadata={_FORM: json.dumps(form, sort_keys=True).encode()},
    )


def write_shard(
    folder: Path,
    rows: Rows,
    stamp: DomainStamp,
    writer: str = "",
    clock: Callable[[], int] = time.time_ns,
    *,
    name: str | None = None,
    notes: dict[str, Any] | None = None,
) -> Path:
    """Write at least one row as a new shard. Raises RowError for rows that are not this domain's.

    writer: a name to find it by. name: of the file, without suffix, in place of one made from time and chance; one that
    is there already is replaced, so work that is done again leaves its rows once. notes: JSON that `shard_notes` reads.
    """
    rows.check()
    if len(rows) == 0 or rows.observation.shape[1:] != stamp.observation_shape:
        raise RowError(f"observation is {list(rows.observation.shape)}; {stamp.name} has {stamp.observation_shape}")
    if rows.legal.shape[1] != stamp.num_actions:
        raise RowError(f"legal is {list(rows.legal.shape)}; {stamp.name} has {stamp.num_actions} actions")
    schema = shard_schema(stamp)
    if notes is not None:
        schema = schema.with_metadata({**schema.metadata, _NOTES: json.dumps(notes).encode()})
    table = rows_table(rows, schema)
    folder.mkdir(parents=True, exist_ok=True)
    parts = [f"{clock():020d}", writer, secrets.token_hex(6)] if name is None else [name]
    path = folder / ("-".join(part for part in parts if part) + SUFFIX)
    write_whole(
        path,
        lambda file: pq.write_table(
            table, file, compression="zstd", row_group_size=max(len(rows), 1), write_page_checksum=True
        ),
    )
    return path


def read_shard(path: Path, stamp: DomainStamp) -> Rows:
    """The rows of a shard. Raises ShardError for a file that is damaged, missing, or of another domain or schema, and
    OSError where the system would not let it be read, which says nothing of the file."""
    try:
        with pq.ParquetFile(path, page_checksum_verification=True, memory_map=True) as file:
            _check_form(path, file.schema_arrow, stamp)
            rows = table_rows(file.read(), stamp)
        rows.check()
    except (pa.ArrowException, OSError, ValueError, TypeError) as error:
        if isinstance(error, ShardError) or _of_the_system(error):
            raise
        raise ShardError(f"shard '{path.name}' is damaged: {error}") from None
    return rows


def shard_notes(path: Path) -> dict[str, Any]:
    """What was noted when a shard was written. Raises FileNotFoundError if there is none, ShardError if it cannot be
    read."""
    try:
        notes: dict[str, Any] = json.loads((pq.read_schema(path).metadata or {}).get(_NOTES, b"{}"))
    except FileNotFoundError:
        raise
    except (pa.ArrowException, OSError, ValueError) as error:
        raise ShardError(f"shard '{path.name}' is damaged: {error}") from None
    return notes


def _of_the_system(error: BaseException) -> bool:
    """Whether a disk, a right or a limit is at fault, and not what stands in the file (Arrow says that by OSError
    too, without a number)."""
    return isinstance(error, OSError) and error.errno is not None and not isinstance(error, FileNotFoundError)


def _check_form(path: Path, schema: pa.Schema, stamp: DomainStamp) -> None:
    form = json.loads((schema.metadata or {}).get(_FORM, b"null"))
    if not isinstance(form, dict):
        raise ShardError(f"shard '{path.name}' was not written by Escalade")
    if form.get("schema_version") != SCHEMA_VERSION:
        version = form.get("schema_version")
        raise ShardError(f"shard '{path.name}' has schema_version {version!r}; this version reads {SCHEMA_VERSION}")
    difference = DomainStamp.model_validate(form.get("domain")).difference(stamp)
    if difference:
        raise ShardError(f"shard '{path.name}' is of another domain: {difference}")
    if not schema.equals(shard_schema(stamp)):
        raise ShardError(f"shard '{path.name}' has other columns than its schema_version says")


def rows_table(rows: Rows, schema: pa.Schema) -> pa.Table:
    """Rows as the columns of `shard_schema`."""
    count = len(rows)
    told = ~np.isnan(rows.policy).all(axis=1)
    columns: dict[str, Any] = {
        "game": pa.array(rows.game),
        "ply": pa.array(rows.ply.astype(np.int32)),
        "state": pa.array(rows.state),
        "observation": _lists(
            np.asarray(rows.observation).reshape(count, -1).astype(np.float32), schema.field("observation").type
        ),
        "legal": _lists(rows.legal, schema.field("legal").type),
        "policy": _lists(np.nan_to_num(rows.policy), schema.field("policy").type, ~told),
        "action": pa.array(rows.action.astype(np.int32), mask=rows.action < 0),
        "value": pa.array(rows.value.astype(np.float32), mask=np.isnan(rows.value)),
        "outcome": pa.array(rows.outcome.astype(np.float32), mask=np.isnan(rows.outcome)),
        "source": pa.array(rows.source),
        "model": pa.array(rows.model, mask=rows.model == ""),
        "decision": pa.array(rows.decision, mask=rows.decision == ""),
    }
    arrays = [columns[field.name].cast(field.type) for field in schema]
    return pa.Table.from_arrays(arrays, schema=schema)


def _lists(values: Any, kind: Any, missing: Any = None) -> Any:
    flat = pa.array(np.ascontiguousarray(values).reshape(-1), kind.value_type)
    mask = None if missing is None else pa.array(missing)
    return pa.FixedSizeListArray.from_arrays(flat, type=kind, mask=mask)


def table_rows(table: pa.Table, stamp: DomainStamp) -> Rows:
    """The rows of a table with the columns of `shard_schema`."""
    count, actions = table.num_rows, stamp.num_actions

    def column(name: str) -> Any:
        return table.column(name).combine_chunks()

    def numbers(name: str, kind: Any, missing: float) -> Any:
        return column(name).fill_null(missing).to_numpy(zero_copy_only=False).astype(kind)

    def texts(name: str) -> Any:
        return np.array(column(name).fill_null("").to_pylist(), np.str_).reshape(count)

    def lists(name: str, width: int) -> Any:
        return column(name).values.to_numpy(zero_copy_only=False).reshape(count, width)

    policy = lists("policy", actions).astype(np.float32)
    policy[column("policy").is_null().to_numpy(zero_copy_only=False)] = np.nan
    return Rows(
        game=texts("game"),
        ply=numbers("ply", np.int32, 0),
        state=texts("state"),
        observation=lists("observation", math.prod(stamp.observation_shape)).reshape(count, *stamp.observation_shape),
        legal=lists("legal", actions).astype(np.bool_),
        policy=policy,
        action=numbers("action", np.int32, -1),
        value=numbers("value", np.float32, np.nan),
        outcome=numbers("outcome", np.float32, np.nan),
        source=texts("source"),
        model=texts("model"),
        decision=texts("decision"),
    )
