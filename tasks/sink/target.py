"""What the database holds already, streamed as (key, hash) in key order, over either transport."""

from __future__ import annotations

from collections.abc import Generator

import pyarrow as pa
import pyarrow.compute as pc

from tasks.contracts import ARROW_TYPES, Table
from tasks.database import Database, open_database
from tasks.postgres import connect, refusals
from tasks.settings import Settings


def target_rows(settings: Settings, table: Table) -> Generator[pa.RecordBatch, None, None]:
    """The cleaned table's `id` and `row_hash` in key order, a batch at a time."""
    if settings.resolved_transport == "postgres":
        yield from _by_cursor(settings, table)
        return
    with open_database(settings) as database:
        yield from _by_pages(database, table, settings.batch_rows)


def _by_cursor(settings: Settings, table: Table) -> Generator[pa.RecordBatch, None, None]:
    key = '"' + table.key.name.replace('"', '""') + '"'
    text = f"{key}::text" if table.key.kind == "uuid" else key
    query = f'select {text} as id, row_hash from public."{table.clean}" t order by t.{key}'  # noqa: S608 - of the contracts
    connection = connect(settings)
    try:
        with refusals(), connection.cursor() as cursor:
            cursor.execute(query)
            yield from cursor.fetch_record_batch()
    finally:
        connection.close()


def _by_pages(database: Database, table: Table, rows: int) -> Generator[pa.RecordBatch, None, None]:
    after = ""
    while True:
        page = database.call("etl_target_page", p_table=table.name, p_after=after, p_limit=rows)
        if not page["rows"]:
            return
        ids = _split(page["ids"])
        after = ids[-1].as_py()
        yield _batch(ids.cast(ARROW_TYPES[table.key.kind]), _split(page["hashes"]))


def reject_rows(settings: Settings, table: Table) -> Generator[pa.RecordBatch, None, None]:
    """The rejects of the rules that the database holds, as `id` (key, U+001F, rule) and a hash of the rest, by id."""
    after = ""
    with open_database(settings) as database:
        while True:
            page = database.call("etl_rejects_page", p_table=table.name, p_after=after, p_limit=settings.batch_rows)
            if not page["ids"]:
                return
            after = page["ids"][-1]
            yield _batch(pa.array(page["ids"], pa.string()), pa.array(page["hashes"], pa.string()))


def _split(joined: str) -> pa.Array:
    return pc.split_pattern(pa.array([joined]), ",").flatten()


def _batch(ids: pa.Array, hashes: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([ids, hashes], names=["id", "row_hash"])
