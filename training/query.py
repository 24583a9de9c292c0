"""Questions to the experience in SQL, answered by DuckDB from the shards themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from escalade.domains.errors import EscaladeError
from escalade.training.outcomes import with_outcomes
from escalade.training.shards import rows_table, shard_schema, table_rows
from escalade.training.store import ExperienceStore, once

TABLE, OUTCOMES = "experience", "outcomes"


class QueryError(EscaladeError, ValueError):
    """A question that cannot be answered; the message is DuckDB's."""


@dataclass(frozen=True)
class Answer:
    """Names of the columns, and the lines."""

    columns: list[str]
    lines: list[tuple[Any, ...]]


def query(store: ExperienceStore, sql: str, limit: int | None = None) -> Answer:
    """Ask about the table `experience`, whose columns are those of `training.rows.Rows`, with what is known by now of
    each decision, as `ExperienceStore.recent` has it; and about the reports themselves, the table `outcomes`: decision,
    outcome, action, told_at, told_by (`training/outcomes.py`). What is not known is NULL.

    Nothing but these tables can be read, and nothing written. A shard that turns out to be damaged is set aside, and
    the others are asked; `store.noticed` tells of it. limit: at most so many lines. Raises QueryError.
    """
    import duckdb

    while True:
        try:
            return _asked(store, sql, limit)
        except (duckdb.Error, pa.ArrowException, OSError) as error:
            asked_wrongly = isinstance(error, duckdb.Error) and not isinstance(error, duckdb.InvalidInputException)
            if not asked_wrongly and _set_aside(store):
                continue
            if not isinstance(error, duckdb.Error):
                raise
            raise QueryError(" ".join(str(error).split())) from None


def _asked(store: ExperienceStore, sql: str, limit: int | None) -> Answer:
    import duckdb

    with duckdb.connect(":memory:") as connection:
        _fill(connection, store)
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        questions = (duckdb.StatementType.SELECT, duckdb.StatementType.EXPLAIN)
        statements = connection.extract_statements(sql)
        if not statements or any(statement.type not in questions for statement in statements):
            raise QueryError("the SQL must ask for something: begin it with SELECT")
        cursor: Any = connection.execute(sql)
        columns = [str(column[0]) for column in (cursor and cursor.description) or ()]
        return Answer(columns, cursor.fetchall() if limit is None else cursor.fetchmany(limit))


def _fill(connection: Any, store: ExperienceStore) -> None:
    """Make the tables. Rows of decisions are read now and whole, as learning reads them; the others stay on disk until
    they are asked for."""
    import pyarrow.dataset as datasets

    schema, reported = shard_schema(store.stamp), store.outcomes.table()
    files = [str(store.shards_folder / entry.name) for entry in store.entries]
    options = datasets.ParquetFragmentScanOptions(page_checksum_verification=True)
    form = datasets.ParquetFileFormat(default_fragment_scan_options=options)
    source = datasets.dataset(files or schema.empty_table(), schema, form if files else None)
    decided = source.to_table(filter=datasets.field("decision").is_valid())
    if decided.num_rows:
        rows = with_outcomes(once(table_rows(decided, store.stamp)), reported)
        connection.register("decided", rows_table(rows, schema))
        connection.register("undecided", source)
        every = "SELECT * FROM undecided WHERE decision IS NULL UNION ALL SELECT * FROM decided"
        connection.execute(f"CREATE VIEW {TABLE} AS {every}")
    else:
        connection.register(TABLE, source)
    names = {"at": "told_at", "by": "told_by"}  # words of SQL's own
    connection.register(OUTCOMES, reported.rename_columns([names.get(name, name) for name in reported.column_names]))


def _set_aside(store: ExperienceStore) -> bool:
    """Set aside the first shard that cannot be read; whether there is one."""
    return any(store.read(entry.name) is None for entry in store.entries)
