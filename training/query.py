"""Questions to the experience in SQL, answered by DuckDB from the shards themselves."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from escalade.domains.errors import EscaladeError
from escalade.training.store import ExperienceStore

TABLE, OUTCOMES = "experience", "outcomes"


class QueryError(EscaladeError, ValueError):
    """A question that cannot be answered; the message is DuckDB's."""


@dataclass(frozen=True)
class Answer:
    """Names of the columns, and the lines."""

    columns: list[str]
    lines: list[tuple[Any, ...]]


def query(store: ExperienceStore, sql: str, limit: int | None = None) -> Answer:
    """Ask about the table `experience`, whose columns are those of `training.rows.Rows`, as they were written, and
    about `outcomes`: decision, outcome, action, at, by (`training/outcomes.py`). What is not known is NULL.

    Nothing but these tables can be read, and nothing written. limit: at most so many lines. Raises QueryError.
    """
    import duckdb
    import pyarrow.dataset as datasets

    from escalade.training.shards import shard_schema

    files = [str(store.shards_folder / entry.name) for entry in store.entries]
    schema = shard_schema(store.stamp)
    source = datasets.dataset(files, schema=schema) if files else schema.empty_table()
    with duckdb.connect(":memory:") as connection:
        connection.register(TABLE, source)
        connection.register(OUTCOMES, store.outcomes.table())
        connection.execute("SET enable_external_access = false")
        connection.execute("SET lock_configuration = true")
        try:
            cursor: Any = connection.execute(sql)
            columns = [str(column[0]) for column in (cursor and cursor.description) or ()]
            if not columns:
                raise QueryError("the SQL must ask for something: begin it with SELECT")
            lines = cursor.fetchall() if limit is None else cursor.fetchmany(limit)
        except duckdb.Error as error:
            raise QueryError(" ".join(str(error).split())) from None
        return Answer(columns, lines)
