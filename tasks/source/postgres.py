"""Reading from Postgres: one exported snapshot, each table's pages once in parallel slices, sorted here, to Arrow."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime

import pyarrow as pa

from tasks.contracts import Table
from tasks.errors import ConfigurationError, ReadError, ServiceUnavailable
from tasks.platform.functions import PostgresDatabase
from tasks.platform.postgres import connecting_to
from tasks.platform.progress import Progress, no_progress
from tasks.platform.workers import HERE, Workers
from tasks.retry import Retry
from tasks.settings import Settings, Transport
from tasks.source import preflight
from tasks.source.buckets import write_bucket
from tasks.source.changes import ChangeFinder
from tasks.source.changes_postgres import PostgresChanges, rows_of_keys
from tasks.source.connection import connect
from tasks.source.fingerprint import FINGERPRINT_FUNCTION, source_request
from tasks.source.model import Preflight, Reconciled, TableInfo, TableRead
from tasks.source.parallel import Tally, run
from tasks.source.patch import Bounds
from tasks.source.reconcile import reconcile
from tasks.source.runs import Bucket
from tasks.source.slices import Slice, slices_of
from tasks.source.snapshot import Readers, Snapshot, SnapshotLost
from tasks.source.sorting import Sorter
from tasks.source.units import (
    BucketUnit,
    SliceUnit,
    SortPlan,
    convert_bucket,
    read_slice,
    save_runs,
    slice_name,
    sort_slice,
)
from tasks.workspace import Spool, Workspace

_PAGE_BYTES = 8_192
_LEAST_PAGES = 16
_SLICES_EACH = 8  # of a connection, where they are not too small then
_READS = 3  # of a table whose snapshot was lost
_LEAST_PART = 2**17
_ROLE_HELP = "Grant the role of ETL_DB_ROLE what supabase/migrations grants to etl: `make migrate`."


class PostgresSource:
    """The Postgres transport; a context manager. The snapshot lives from the first read to `end_reading`."""

    transport: Transport = "postgres"

    def __init__(self, settings: Settings, workers: Workers = HERE) -> None:
        self._settings, self._workers = settings, workers
        self._snapshot: Snapshot | None = None
        self._snapshot_at: datetime | None = None
        self._infos: dict[str, TableInfo] = {}
        self._instants: set[Snapshot] = set()  # not their names, which a server that restarted gives again
        self._bounds = Bounds(settings.batch_rows, max(2**16, settings.batch_bytes // (2 * settings.ranges)))

    def __enter__(self) -> PostgresSource:
        return self

    def __exit__(self, *_: object) -> None:
        self.end_reading()

    @property
    def snapshot_at(self) -> datetime:
        if self._snapshot_at is None:
            raise ConfigurationError("The preflight comes before reading.")
        return self._snapshot_at

    def preflight(self, tables: Sequence[Table]) -> Preflight:
        database = PostgresDatabase(self._settings)
        try:
            found = preflight.ask(database, tables, trusted=self._settings.trusted_functions, remedy=_ROLE_HELP)
            stamped = {name: _with_fingerprint(database, info) for name, info in found.tables.items()}
        finally:
            database.close()  # nothing is held between the preflight and the reading
        self._infos.update(stamped)
        self._snapshot_at = self._snapshot_at or found.clock
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
            return TableRead(table.name, tally.rows, tally.nbytes, time.perf_counter() - start, ranges, 0, how, filled)
        raise ReadError(
            f"{table.at_source}: the snapshot was lost {_READS} times. Nothing was published.",
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
            retry, tables = Retry.of(self._settings), list(self._infos.values())
            self._snapshot = retry.call(lambda: Snapshot(self._settings, tables), connecting_to(self._settings))
        try:
            self._snapshot.lock(info)
        except ServiceUnavailable:
            raise SnapshotLost from None
        yield self._snapshot
        if not self._snapshot.alive():
            raise SnapshotLost
        self._instants.add(self._snapshot)

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
        most = max(_LEAST_PAGES, batch_bytes // 2 // _PAGE_BYTES)
        enough = extent.pages // (_SLICES_EACH * self._settings.ranges)  # so that none is left for one connection alone
        slices = slices_of(extent, pages=min(most, max(most // 4, enough)))
        part = max(_LEAST_PART, batch_bytes // (2 * self._settings.ranges))
        folder = spool.folder / "unsorted"
        plan = SortPlan(folder, info.table.key.name, part, extent.nbytes or 500 * info.rows)
        sorter = plan.sorter(hold=0 if self._workers.count else batch_bytes)
        progress(0, info.rows)
        if self._workers.count:
            self._read_on_workers(slices, snapshot, info, plan, sorter, tally, progress)
        else:
            with Readers(snapshot) as readers:
                self._read_slices(slices, readers, info, sorter, tally, progress)
        _give_back()
        total = Counter[str]()
        for counts in self._convert(info, spool, plan, sorter):
            total.update(counts)  # `+` would leave out columns without a value
        sorter.clear()
        _give_back()
        return len(slices), total, tally

    def _convert(self, info: TableInfo, spool: Spool, plan: SortPlan, sorter: Sorter) -> Iterable[Counter[str]]:
        """Each bucket of sorted rows as a file of the raw spool, on threads or on workers."""
        buckets = sorter.buckets()
        if self._workers.count:
            index = save_runs(plan, sorter)
            units = [BucketUnit(info, bucket, plan, spool, self._bounds, index) for bucket in buckets]
            return list(self._workers.map(convert_bucket, units))

        def convert(bucket: Bucket) -> Counter[str]:
            return write_bucket(sorter, bucket, info, spool, self._bounds)

        threads = min(self._settings.ranges, os.cpu_count() or 1)  # nothing is waited for here, and each holds a bucket
        return run(buckets, convert, Tally(), workers=threads, progress=no_progress, expected=None)

    def _read_on_workers(
        self,
        slices: Sequence[Slice],
        snapshot: Snapshot,
        info: TableInfo,
        plan: SortPlan,
        sorter: Sorter,
        tally: Tally,
        progress: Progress,
    ) -> None:
        plan.folder.mkdir(parents=True, exist_ok=True)
        units = [SliceUnit(info, part, len(slices), snapshot.name, plan) for part in slices]
        for part, read in zip(slices, self._workers.map(read_slice, units), strict=True):
            sorter.runs[part.index] = read.runs
            tally.add(read.rows, read.nbytes)
            progress(tally.rows, info.rows)

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
                sort_slice(connection, info, part, sorter, tally, settings)

        def work(part: Slice) -> None:
            retry.call(lambda: read(part), slice_name(info, part, len(slices)))

        run(slices, work, tally, workers=settings.ranges, progress=progress, expected=info.rows)

    def _ask(self, table: Table, keys: pa.Array) -> pa.Table:
        """Rows by key, as they are now."""
        with connect(self._settings) as connection:
            return rows_of_keys(connection, self._info(table), keys, patience=self._settings.statement_timeout)


def _give_back() -> None:
    """To the system: what Arrow's pool has let go, and what the driver has, which asks the C library for memory."""
    pa.default_memory_pool().release_unused()
    pa.system_memory_pool().release_unused()


def _with_fingerprint(database: PostgresDatabase, info: TableInfo) -> TableInfo:
    """The table with the expression of its fingerprint, of exactly the columns that are read."""
    return replace(info, fingerprint=str(database.call(FINGERPRINT_FUNCTION, p_source=source_request(info.table))))
