"""Writing over Postgres: COPY into a temporary table, one INSERT … ON CONFLICT, all of the load in one transaction."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from adbc_driver_postgresql import dbapi

from tasks.arrow.rebatch import slices
from tasks.contracts import Table
from tasks.platform.functions import Transaction
from tasks.platform.postgres import refusals
from tasks.platform.traffic import count_sent
from tasks.sink.job import Job, Written, write_rejects
from tasks.sink.model import deletes

# What is copied before it is written: bounds the temporary space of a first load of a huge table.
STAGED_ROWS = 1_000_000
_IDS_IN_ONE_CALL = 20_000
_NUMBER = pa.field("_n", pa.int64())


def write_in_transaction(transaction: Transaction, job: Job) -> dict[str, Written]:
    """Deletes, posts before authors; then rows, authors before posts; then rejects. Does not commit."""
    written = {table.name: Written() for table in job.tables}
    for table in reversed(job.tables):
        _delete(transaction, job, table, written[table.name])
    for table in job.tables:
        feed = _Feed(job.rows_to_write(table).batches())
        while feed.more:
            _write(transaction, job, table, feed, written[table.name])
    write_rejects(transaction, job)
    return written


def _delete(transaction: Transaction, job: Job, table: Table, written: Written) -> None:
    for index, batch in enumerate(deletes(job.workspace, table).batches()):
        for part, rows in enumerate(slices(batch, _IDS_IN_ONE_CALL)):
            ids = rows.column(0).to_pylist()
            name = f"delete/{table.name}/{index}/{part * _IDS_IN_ONE_CALL}"
            written.add(transaction.call("etl_delete", **job.lease, p_batch=name, p_table=table.name, p_ids=ids))
            job.passed(len(ids))


def _write(transaction: Transaction, job: Job, table: Table, feed: _Feed, written: Written) -> None:
    _stage(transaction.connection, table, feed)
    left = job.limit(table) - len(written.refused)
    written.add(transaction.call("etl_write_staged", **job.lease, p_table=table.name, p_count=feed.rows, p_limit=left))
    job.passed(feed.rows)


def _stage(connection: dbapi.Connection, table: Table, feed: _Feed) -> None:
    """The next part of the rows in etl_stage_<table>, with `_n` that counts them: a refused one is found by it."""
    reader = pa.RecordBatchReader.from_batches(table.clean_schema.append(_NUMBER), count_sent(feed.part()))
    name = f"etl_stage_{table.name}"
    with refusals(), connection.cursor() as cursor:
        cursor.executescript(f'drop table if exists pg_temp."{name}"')
        cursor.adbc_ingest(name, reader, mode="create", temporary=True)


class _Feed:
    """Batches handed out in parts of at most STAGED_ROWS rows, numbered; one batch is held at any time.

    more: whether there is another part. rows: of the part that was handed out last.
    """

    def __init__(self, batches: Iterator[pa.RecordBatch]) -> None:
        self._batches = batches
        self._next = next(batches, None)
        self.rows = 0

    @property
    def more(self) -> bool:
        return self._next is not None

    def part(self) -> Iterator[pa.RecordBatch]:
        self.rows = 0
        while (batch := self._next) is not None and (not self.rows or self.rows + batch.num_rows <= STAGED_ROWS):
            numbers = np.arange(self.rows + 1, self.rows + 1 + batch.num_rows)
            self.rows += batch.num_rows
            self._next = next(self._batches, None)
            yield batch.append_column(_NUMBER, pa.array(numbers, pa.int64()))
