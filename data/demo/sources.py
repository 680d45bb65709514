"""Where the demo's rows go: the source tables and columns, as the contracts name them."""

from __future__ import annotations

from collections.abc import Iterable

import pyarrow as pa

from tasks.contracts import POSTS, USERS, Table
from tasks.platform.quoting import identifier

SOURCES = {"users": USERS, "posts": POSTS}
_UUIDS = ("users", "id"), ("posts", "id"), ("posts", "user_id")


def unfit() -> str:
    """Why the demo does not fit the contracts; empty when it does."""
    columns = ((SOURCES[table], name) for table, name in _UUIDS)
    others = [f"{table.name}.{name}" for table, name in columns if name not in table or table[name].kind != "uuid"]
    return f"The demo data has uuids as keys, and the contracts none in {', '.join(others)}." if others else ""


def full_name(table: Table) -> str:
    """The source's name, quoted, with its schema."""
    return identifier(table.source_schema, table.source)


def as_declared(chunks: Iterable[tuple[str, pa.Table]]) -> Iterable[tuple[Table, pa.Table]]:
    """The rows without the columns that the contracts do not declare, the others by their source's names."""
    for name, rows in chunks:
        table = SOURCES[name]
        columns = [column for column in table.source_columns if column.name in rows.schema.names]
        kept = rows.select([column.name for column in columns])
        yield table, kept.rename_columns([column.source_name for column in columns])
