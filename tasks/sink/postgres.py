"""Writing over Postgres: COPY into a temporary table, one INSERT … ON CONFLICT, all of the load in one transaction."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from adbc_driver_postgresql import dbapi

from tasks.contracts import Table
from tasks.database import Transaction
from tasks.postgres import refusals
from tasks.sink.job import Job, Written, write_rejects
from tasks.sink.model import deletes

# What is copied before it is written: bounds the temporary space of a first load of a huge table.
STAGED_ROWS = 1_000_000
_IDS_IN_ONE_CALL = 20_000


def write_in_transaction(transaction: Transaction, job: Job) -> dict[str, Written]:
    """Deletes, posts before authors; then rows, authors before posts; then rejects. Does not commit."""
    written = {table.name: Written() for table in job.tables}
    for table in reversed(job.tables):
        _delete(transaction, job, table, written[table.name])
    for table in job.tables:
        for part in _parts(job.rows_to_write(table).batches()):
            _write(transaction, job, table, part, written[table.name])
    write_rejects(transaction, job)
    return written


def _delete(transaction: Transaction, job: Job, table: Table, written: Written) -> None:
    for index, batch in enumerate(deletes(job.workspace, table).batches()):
        for start in range(0, batch.num_rows, _IDS_IN_ONE_CALL):
            ids = batch.column(0).slice(start, _IDS_IN_ONE_CALL).to_pylist()
            name = f"delete/{table.name}/{index}/{start}"
            written.add(transaction.call("etl_delete", **job.lease, p_batch=name, p_table=table.name, p_ids=ids))
            job.passed(len(ids))


def _write(transaction: Transaction, job: Job, table: Table, part: list[pa.RecordBatch], written: Written) -> None:
    rows = sum(batch.num_rows for batch in part)
    _stage(transaction.connection, table, part)
    left = job.limit(table) - len(written.refused)
    written.add(transaction.call("etl_write_staged", **job.lease, p_table=table.name, p_count=rows, p_limit=left))
    job.passed(rows)


def _stage(connection: dbapi.Connection, table: Table, part: list[pa.RecordBatch]) -> None:
    """The rows in etl_stage_<table>, with `_n` that counts them from 1: a refused one is found by it."""
    reader = pa.RecordBatchReader.from_batches(_staged_schema(table), _numbered(part))
    name = f"etl_stage_{table.name}"
    with refusals(), connection.cursor() as cursor:
        cursor.executescript(f'drop table if exists pg_temp."{name}"')
        cursor.adbc_ingest(name, reader, mode="create", temporary=True)


def _staged_schema(table: Table) -> pa.Schema:
    return table.clean_schema.append(pa.field("_n", pa.int64()))


def _numbered(part: list[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    first = 1
    for batch in part:
        numbers = np.arange(first, first + batch.num_rows)
        yield batch.append_column("_n", pa.array(numbers, pa.int64()))
        first += batch.num_rows


def _parts(batches: Iterator[pa.RecordBatch]) -> Iterator[list[pa.RecordBatch]]:
    """Batches in groups of at most STAGED_ROWS rows."""
    part: list[pa.RecordBatch] = []
    rows = 0
    for batch in batches:
        if part and rows + batch.num_rows > STAGED_ROWS:
            yield part
            part, rows = [], 0
        part.append(batch)
        rows += batch.num_rows
    if part:
        yield part
