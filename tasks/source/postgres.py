"""Reading from Postgres: one exported snapshot, each table's pages once in parallel slices, sorted here, to Arrow."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

import pyarrow as pa

from tasks.arrow.rebatch import bounded
from tasks.contracts import Table
from tasks.errors import ConfigurationError, ReadError, ServiceUnavailable
from tasks.platform.functions import PostgresDatabase
from tasks.platform.progress import Progress, no_progress
from tasks.retry import Retry
from tasks.settings import Settings, Transport
from tasks.source import preflight
from tasks.source.batches import filled_of, require_rising
from tasks.source.binary import from_driver
from tasks.source.changes import ChangeFinder
from tasks.source.changes_postgres import PostgresChanges
from tasks.source.connection import batches, connect
from tasks.source.fingerprint import FINGERPRINT_FUNCTION, source_request
from tasks.source.mend import Bounds
from tasks.source.model import Preflight, Reconciled, TableInfo, TableRead
from tasks.source.parallel import Tally, elapsed, run
from tasks.source.ranges import KeyRange
from tasks.source.reconcile import reconcile
from tasks.source.select import keys_query, slice_query
from tasks.source.slices import Slice, slices_of
from tasks.source.snapshot import Readers, Snapshot, SnapshotLost
from tasks.source.sorting import Bucket, Sorter
from tasks.workspace import Spool, Workspace

_PAGE_BYTES = 8_192
_LEAST_PAGES = 16
_READS = 3  # of a table whose snapshot was lost
_ASKED_KEYS = 1_000
_DRIVER_BYTES = 4 * 2**20
_LEAST_PART = 2**18
_ROLE_HELP = "Grant the role of ETL_DB_ROLE what supabase/migrations grants to etl: `make migrate`."


class PostgresSource:
    """The Postgres transport; a context manager. The snapshot lives from the first read to `end_reading`."""

    transport: Transport = "postgres"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._snapshot: Snapshot | None = None
        self._began: datetime | None = None
        self._infos: dict[str, TableInfo] = {}
        self._instants: set[str] = set()
        self._bounds = Bounds(settings.batch_rows, max(2**16, settings.batch_bytes // (2 * settings.ranges)))

    def __enter__(self) -> PostgresSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.end_reading()

    @property
    def began(self) -> datetime:
        if self._began is None:
            raise ConfigurationError("The preflight comes before reading.")
        return self._began

    def preflight(self, tables: Sequence[Table]) -> Preflight:
        database = PostgresDatabase(self._settings)
        try:
            found = preflight.ask(database, tables, trusted=self._settings.trusted_functions, remedy=_ROLE_HELP)
            stamped = {name: _with_fingerprint(database, info) for name, info in found.tables.items()}
        finally:
            database.close()  # nothing is held between the preflight and the reading
        self._infos.update(stamped)
        self._began = self._began or found.clock
        return replace(found, tables=stamped)

    def read(self, table: Table, spool: Spool, *, progress: Progress = no_progress) -> TableRead:
        start, info = time.perf_counter(), self._info(table)
        for attempt in range(_READS):
            spool.clear()
            try:
                with self._snapshot_for(info) as snapshot:
                    slices, filled, tally = self._read_all(snapshot, info, spool, progress)
            except SnapshotLost:
                self.end_reading()
                continue
            progress(tally.rows, tally.rows)
            ranges = len(spool.files())
            how = f"Postgres, one snapshot, {slices} slices of the table's pages, sorted into {ranges} key ranges"
            if attempt:
                how += f"; read again from the start {attempt} times, because the snapshot was lost"
            return TableRead(table.name, tally.rows, tally.nbytes, elapsed(start), ranges, 0, how, filled)
        raise ReadError(
            f"{table.source_schema}.{table.source}: the snapshot was lost {_READS} times. Nothing was published.",
            remedy="See why the database ends this role's sessions: restarts, or a limit on long transactions.",
        )

    def reconcile(self, workspace: Workspace) -> Reconciled:
        """Nothing to ask when both tables were read at one instant, as they are unless a snapshot was lost."""
        self.end_reading()
        if len(self._instants) < 2:
            return Reconciled()
        return reconcile(workspace, self._ask, self._bounds)

    def end_reading(self) -> None:
        """End the snapshot and the locks; a later read takes new ones."""
        if self._snapshot:
            self._snapshot.close()
        self._snapshot = None

    def changes(self) -> ChangeFinder:
        return PostgresChanges(self._settings, self._snapshot_for, self._info, self.end_reading)

    @contextmanager
    def _snapshot_for(self, info: TableInfo) -> Iterator[Snapshot]:
        """The snapshot, with the table locked in it; SnapshotLost when its transactions ended while it was used."""
        if self._snapshot is None:
            tables = list(self._infos.values())
            make = lambda: Snapshot(self._settings, tables)  # noqa: E731
            self._snapshot = Retry.of(self._settings).call(make, "connecting to the database")
        try:
            self._snapshot.lock(info)
        except ServiceUnavailable:
            raise SnapshotLost from None
        yield self._snapshot
        if not self._snapshot.alive():
            raise SnapshotLost
        self._instants.add(self._snapshot.name)

    def _info(self, table: Table) -> TableInfo:
        if table.name not in self._infos:
            self.preflight([table])
        return self._infos[table.name]

    def _read_all(
        self, snapshot: Snapshot, info: TableInfo, spool: Spool, progress: Progress
    ) -> tuple[int, Counter[str], Tally]:
        """Slices, non-null values by column, and what was read."""
        extent, tally = snapshot.extent(info), Tally()
        batch_bytes = self._settings.batch_bytes
        slices = slices_of(extent, pages=max(_LEAST_PAGES, batch_bytes // 2 // _PAGE_BYTES))
        part = max(_LEAST_PART, batch_bytes // self._settings.ranges)
        sorter = Sorter(spool.folder / "unsorted", info.table.key.name, part, max(extent.nbytes, 500 * info.rows))
        progress(0, info.rows)
        with Readers(snapshot) as readers:
            self._read_slices(slices, readers, info, sorter, tally, progress)
        buckets = sorter.buckets()

        def convert(bucket: Bucket) -> Counter[str]:
            raw = self._converted(sorter.read(bucket), info, bucket.index)
            spool.write(bucket.index, bounded([raw], rows=self._bounds.rows, nbytes=self._bounds.nbytes))
            return filled_of(raw, info)

        filled = run(buckets, convert, Tally(), workers=self._settings.ranges, progress=no_progress, expected=None)
        sorter.clear()
        pa.default_memory_pool().release_unused()
        total = Counter[str]()
        for counts in filled:
            total.update(counts)  # `+` would leave out columns without a value
        return len(slices), total, tally

    def _read_slices(
        self,
        slices: Sequence[Slice],
        readers: Readers,
        info: TableInfo,
        sorter: Sorter,
        tally: Tally,
        progress: Progress,
    ) -> None:
        settings = self._settings
        retry = Retry(settings.retries, settings.retry_base, settings.retry_seconds, tally.pause)

        def read(part: Slice) -> None:
            """One slice on a connection; a connection that drops costs this slice, and no other."""
            with readers.one() as connection:
                query = slice_query(info, part)
                rows = batches(connection, query, nbytes=_DRIVER_BYTES, patience=settings.statement_timeout)
                sorter.add(part.index, tally.counted(rows))

        def work(part: Slice) -> None:
            what = f"{info.table.source_schema}.{info.table.source}, slice {part.index + 1} of {len(slices)}"
            retry.call(lambda: read(part), what)

        run(slices, work, tally, workers=settings.ranges, progress=progress, expected=info.rows)

    def _converted(self, rows: pa.RecordBatch | None, info: TableInfo, index: int) -> pa.RecordBatch:
        """A sorted bucket as a batch of the raw schema, whose keys are verified to rise."""
        if rows is None:
            return pa.RecordBatch.from_pylist([], schema=info.table.raw_schema)
        raw = from_driver(rows, info)
        where = f"{info.table.source_schema}.{info.table.source}"
        require_rising(raw.column(info.table.key.name), KeyRange(index, None, None), where)
        return raw

    def _ask(self, table: Table, keys: pa.Array) -> pa.Table:
        """Rows by key, as they are now."""
        info, found = self._info(table), [table.raw_schema.empty_table()]
        with connect(self._settings) as connection:
            for start in range(0, len(keys), _ASKED_KEYS):
                query = keys_query(info, keys[start : start + _ASKED_KEYS].to_pylist())
                read = batches(connection, query, nbytes=_DRIVER_BYTES, patience=self._settings.statement_timeout)
                rows = [from_driver(batch, info) for batch in read if batch.num_rows]
                found.append(pa.Table.from_batches(rows, schema=table.raw_schema))
        return pa.concat_tables(found)


def _with_fingerprint(database: PostgresDatabase, info: TableInfo) -> TableInfo:
    """The table with the expression of its fingerprint, of exactly the columns that are read."""
    return replace(info, fingerprint=str(database.call(FINGERPRINT_FUNCTION, p_source=source_request(info.table))))
