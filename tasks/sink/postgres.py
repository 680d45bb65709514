"""Writing over Postgres: COPY into a temporary table, one INSERT … ON CONFLICT, all of the load in one transaction."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import numpy as np
import pyarrow as pa
from adbc_driver_postgresql import dbapi

from tasks.arrow.rebatch import slices
from tasks.contracts import POSTGRES_TYPES, Kind, Table
from tasks.errors import ProofFailed, RequestRefused, WriteError
from tasks.ledger.ledger import Ledger
from tasks.platform.functions import Transaction, open_database
from tasks.platform.postgres import connect, execute, release
from tasks.platform.quoting import identifier
from tasks.platform.refusals import refusals
from tasks.platform.traffic import count_received, count_sent
from tasks.retry import Retry
from tasks.settings import Settings, Transport
from tasks.sink.job import LoadJob, Written, begin, commit, refused_keys, write_rejects
from tasks.sink.merge import STAMPED
from tasks.sink.model import LoadCounts, deletes
from tasks.sink.sink import Loading, Verify
from tasks.sink.target import Stream, TargetReader, stamped
from tasks.source.binary import uuid_texts

# What is copied before it is written: bounds the temporary space of a first load of a huge table.
STAGED_ROWS = 1_000_000
_SORTS = {"work_mem": "64MB", "jit": "off"}  # keys and hashes of some 500,000 rows, in memory
_IDS_IN_ONE_CALL = 20_000
_NUMBER = pa.field("_n", pa.int64())
_READ_ONLY = "25006"
_STAGED: dict[Kind, str] = {**POSTGRES_TYPES, "uuid": "text"}  # as it is here; etl_write_staged makes it a uuid


class PostgresSink:
    """The project's tables over Postgres: a load is one transaction, and a failed one leaves nothing."""

    transport: Transport = "postgres"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    @contextmanager
    def compare(self) -> Iterator[TargetReader]:
        """What the tables hold: rows by a cursor, rejects a page a call."""
        connection = connect(self._settings, session=_SORTS)
        try:
            yield _CursorReader(connection, self._settings.batch_rows)
        finally:
            release(connection)

    @contextmanager
    def open(self, job: LoadJob) -> Iterator[Loading]:
        """Begin to load. What was not committed is rolled back at the end."""
        connection = connect(self._settings, autocommit=False)
        try:
            transaction = Transaction(connection)
            begin(transaction, job)
            _commit(connection)
            yield _PostgresLoading(transaction, job)
        finally:
            release(connection)

    def committed(self, job: LoadJob) -> dict[str, LoadCounts] | None:
        """What the ledger says: an earlier try may have committed unheard."""
        with open_database(self._settings) as database:
            row = Ledger(database, self._settings).run(job.run.run_id)
        if row is None or row.status != "committed":
            return None
        return {name: LoadCounts(**counts) for name, counts in row.counts.written.items()}

    def retried(self, load: Callable[[], dict[str, LoadCounts]]) -> dict[str, LoadCounts]:
        """Again while the failure is transient, but not what is stored otherwise than was expected."""
        return Retry.of(self._settings).call(load, "The load", give_up=lambda error: isinstance(error, ProofFailed))


class _PostgresLoading:
    def __init__(self, transaction: Transaction, job: LoadJob) -> None:
        self._transaction, self._job = transaction, job

    def write(self) -> dict[str, Written]:
        """In the transaction of the commit."""
        job, transaction = self._job, self._transaction
        written = {table.name: Written() for table in job.tables}
        for table in reversed(job.tables):
            _delete(transaction, job, table, written[table.name])
        for table in job.tables:
            feed = _Feed(job.rows_to_write(table).batches())
            while feed.more:
                _write(transaction, job, table, feed, written[table.name])
        for table in job.tables:
            write_rejects(transaction, job, table, lambda error: False)
        return written

    def commit(self, written: Mapping[str, Written], verify: Verify | None) -> dict[str, LoadCounts]:
        """Commit what was written, once `verify` has passed."""
        counts = commit(self._transaction, self._job, written)
        if verify:
            verify(self._transaction, refused_keys(written), in_transaction=True)
        with self._job.committing():
            _commit(self._transaction.connection)
        return counts


class _CursorReader(TargetReader):
    """Reads the cleaned rows by one statement, a batch at a time."""

    def __init__(self, connection: dbapi.Connection, page_rows: int) -> None:
        super().__init__(Transaction(connection), page_rows)
        self._connection = connection

    def rows(self, table: Table) -> Stream:
        """As in pages: `id`, `row_hash`, `fingerprint` and `rule_mask` in key order."""
        key, stamps = identifier(table.key.name), STAMPED[1:]
        relation = identifier("public", table.clean)
        query = f"select {key} as id, {', '.join(stamps)} from {relation} order by {key}"  # noqa: S608 - contracts
        with refusals(), self._connection.cursor() as cursor:
            cursor.execute(query)
            with cursor.fetch_record_batch() as reader:
                for batch in count_received(reader):
                    yield stamped(_key(batch["id"]), *(batch[name] for name in stamps))


def _key(ids: pa.Array) -> pa.Array:
    return uuid_texts(ids.storage) if isinstance(ids.type, pa.UuidType) else ids


def _commit(connection: dbapi.Connection) -> None:
    with refusals():
        execute(connection, "select 1")  # in a transaction that has failed, COMMIT rolls back and raises nothing
        connection.commit()


def _delete(transaction: Transaction, job: LoadJob, table: Table, written: Written) -> None:
    for index, batch in enumerate(deletes(job.workspace, table).batches()):
        for part, rows in enumerate(slices(batch, _IDS_IN_ONE_CALL)):
            ids = rows.column(0).to_pylist()
            name = f"delete/{table.name}/{index}/{part * _IDS_IN_ONE_CALL}"
            written.add(transaction.call("etl_delete", **job.run.evidence, p_batch=name, p_table=table.name, p_ids=ids))
            job.passed(len(ids))


def _write(transaction: Transaction, job: LoadJob, table: Table, feed: _Feed, written: Written) -> None:
    _stage(transaction.connection, table, feed)
    left = job.limit(table) - len(written.refused)
    written.add(
        transaction.call("etl_write_staged", **job.run.evidence, p_table=table.name, p_count=feed.rows, p_limit=left)
    )
    job.passed(feed.rows)


def _stage(connection: dbapi.Connection, table: Table, feed: _Feed) -> None:
    """The next part of the rows in etl_stage_<table>, with `_n` that counts them: a refused one is found by it.

    Nothing here may commit: the load is one transaction. (`executescript` of the driver commits what is open.) A table
    that is truncated in the transaction that made it gives its disk space back at once, one that is dropped does not.
    """
    name = f"etl_stage_{table.name}"
    if feed.rows:
        with refusals():
            execute(connection, f"truncate pg_temp.{identifier(name)}")
    else:
        _make_stage(connection, table, name)
    reader = pa.RecordBatchReader.from_batches(table.clean_schema.append(_NUMBER), count_sent(feed.part()))
    with refusals(), connection.cursor() as cursor:
        cursor.adbc_ingest(name, reader, mode="append", temporary=True)


def _make_stage(connection: dbapi.Connection, table: Table, name: str) -> None:
    """The driver would make it, too, but says no SQLSTATE where that is refused: it was taken for an outage."""
    columns = ", ".join(f"{identifier(column.name)} {_STAGED[column.kind]}" for column in table.columns)
    try:
        with refusals():
            execute(connection, f"create temporary table {identifier(name)} ({columns}, {_NUMBER.name} bigint)")
    except RequestRefused as error:
        if error.code == _READ_ONLY:
            raise
        raise WriteError(
            f"The database refused the temporary table by which {table.clean} is loaded (SQLSTATE {error.code}).",
            remedy="Grant the role of ETL_DB_ROLE that right (grant temporary on database … to etl), or where an event "
            "trigger of your own forbids it (pg_event_trigger) let temporary tables pass. Or set ETL_TRANSPORT=rest.",
        ) from None


class _Feed:
    """Batches handed out in parts of at most STAGED_ROWS rows, numbered; one batch is held at any time.

    more: whether there is another part. rows: of the part that was handed out last, 0 before the first.
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
