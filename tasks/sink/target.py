"""What the database holds already, streamed as (key, hash) in key order, over either transport."""

from __future__ import annotations

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from adbc_driver_postgresql import dbapi

from tasks.contracts import ARROW_TYPES, Table
from tasks.errors import ServiceUnavailable
from tasks.platform.functions import Database, Transaction, open_database
from tasks.platform.postgres import STATEMENT_TIMEOUT, connect, refusals, release
from tasks.platform.quoting import identifier
from tasks.platform.traffic import count_received
from tasks.settings import Settings
from tasks.sink.merge import STAMPED
from tasks.source.binary import uuid_texts

_SORTS = {"work_mem": "64MB", "jit": "off"}  # keys and hashes of some 500,000 rows, in memory
_LEAST_ROWS = 100
Stream = Generator[pa.RecordBatch, None, None]


class TargetReader:
    """The project's own tables, read by one client or connection. Close a stream before the next one is begun."""

    def __init__(self, database: Database, page_rows: int, connection: dbapi.Connection | None = None) -> None:
        self._database, self._page_rows, self._connection = database, page_rows, connection

    def rows(self, table: Table) -> Stream:
        """The cleaned table's `id`, `row_hash`, `fingerprint` and `rule_mask` in key order, a batch at a time."""
        return self._by_pages(table) if self._connection is None else self._by_cursor(self._connection, table)

    def rejects(self, table: Table) -> Stream:
        """The rejects of the rules, as `id` (key, U+001F, rule) and a hash of the rest, by id."""
        after = ""
        while True:
            page = self._page("etl_rejects_page", table, after)
            if not page["ids"]:
                return
            after = page["ids"][-1]
            yield _batch(pa.array(page["ids"], pa.string()), pa.array(page["hashes"], pa.string()))

    def _page(self, function: str, table: Table, after: str) -> Any:
        """A page of at most `_page_rows` rows, which are halved for good where the statement timeout ends it."""
        while True:
            last = self._page_rows <= _LEAST_ROWS
            try:
                return self._database.call(
                    function,
                    give_up=None if last else _timed_out,
                    p_table=table.name,
                    p_after=after,
                    p_limit=self._page_rows,
                )
            except ServiceUnavailable as error:
                if last or not _timed_out(error):
                    raise
                self._page_rows = max(_LEAST_ROWS, self._page_rows // 2)

    def _by_cursor(self, connection: dbapi.Connection, table: Table) -> Stream:
        key = identifier(table.key.name)
        columns = ", ".join(STAMPED[1:])
        query = f"select {key} as id, {columns} from {identifier('public', table.clean)} order by {key}"  # noqa: S608 - contracts
        with refusals(), connection.cursor() as cursor:
            cursor.execute(query)
            with cursor.fetch_record_batch() as reader:
                for batch in count_received(reader):
                    yield _stamped(_key(batch["id"]), *(batch[name] for name in STAMPED[1:]))

    def _by_pages(self, table: Table) -> Stream:
        after = ""
        while True:
            page = self._page("etl_target_page", table, after)
            if not page["rows"]:
                return
            ids = _split(page["ids"])
            after = ids[-1].as_py()
            stamps = (_integers(page["fingerprints"]), _integers(page["masks"]))
            yield _stamped(ids.cast(ARROW_TYPES[table.key.kind]), _split(page["hashes"]), *stamps)


@contextmanager
def open_target(settings: Settings) -> Iterator[TargetReader]:
    """What the database holds, over the transport of the settings."""
    if settings.resolved_transport == "rest":
        with open_database(settings) as database:
            yield TargetReader(database, settings.batch_rows)
        return
    connection = connect(settings, session=_SORTS)
    try:
        yield TargetReader(Transaction(connection), settings.batch_rows, connection)
    finally:
        release(connection)


def _key(ids: pa.Array) -> pa.Array:
    return uuid_texts(ids.storage) if isinstance(ids.type, pa.UuidType) else ids


def _split(joined: str) -> pa.Array:
    return pc.split_pattern(pa.array([joined]), ",").flatten()


def _integers(joined: str) -> pa.Array:
    """Whole numbers joined by commas; an empty one is null."""
    texts = _split(joined)
    return pc.if_else(pc.equal(texts, ""), pa.scalar(None, pa.string()), texts).cast(pa.int64())


def _stamped(ids: pa.Array, hashes: pa.Array, fingerprints: pa.Array, masks: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([ids, hashes, fingerprints, masks], names=list(STAMPED))


def _batch(ids: pa.Array, hashes: pa.Array) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([ids, hashes], names=["id", "row_hash"])


def _timed_out(error: Exception) -> bool:
    return getattr(error, "code", None) == STATEMENT_TIMEOUT
