"""Reading from Postgres: one exported snapshot for both tables, parallel key ranges, straight to Arrow."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from tasks.contracts import Table
from tasks.errors import AccessError, PipelineError, ReadError, RequestRefused, TransientError
from tasks.retry import Retry
from tasks.settings import Settings, Transport
from tasks.source import preflight
from tasks.source.batches import bounded, require_rising
from tasks.source.binary import from_driver
from tasks.source.connection import batches, connect
from tasks.source.mend import Bounds
from tasks.source.model import Preflight, Progress, Reconciled, TableInfo, TableRead, no_progress
from tasks.source.parallel import Tally, elapsed, run
from tasks.source.ranges import KeyRange, Plan, cuts_from, parts_for
from tasks.source.reconcile import reconcile
from tasks.source.select import keys_query, range_query
from tasks.source.snapshot import Snapshot, SnapshotLost
from tasks.workspace import Spool, Workspace

_READS = 3  # of a table whose snapshot was lost
_ASKED_KEYS = 1_000


class PostgresSource:
    """The Postgres transport; a context manager that holds the snapshot from the preflight to the end."""

    transport: Transport = "postgres"

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._snapshot: Snapshot | None = None
        self._infos: dict[str, TableInfo] = {}
        self._instants: set[str] = set()
        self._bounds = Bounds(settings.batch_rows, max(2**16, settings.batch_bytes // (2 * settings.ranges)))

    def __enter__(self) -> PostgresSource:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    def _close(self) -> None:
        if self._snapshot:
            self._snapshot.close()
        self._snapshot = None

    @property
    def began(self) -> datetime:
        return self._instant().began

    def preflight(self, tables: Sequence[Table]) -> Preflight:
        argument = _text(json.dumps(preflight.request_of(tables)))
        try:
            answer = self._retry().call(lambda: self._call(preflight.FUNCTION, f"{argument}::jsonb"), "preflight")
        except RequestRefused as error:
            raise _explained(error) from None
        found = preflight.judge(answer, tables)
        self._infos.update(found.tables)
        return found

    def read(self, table: Table, spool: Spool, *, progress: Progress = no_progress) -> TableRead:
        start, info = time.perf_counter(), self._info(table)
        for attempt in range(_READS):
            spool.clear()
            try:
                ranges, tally = self._read_all(info, spool, progress)
            except SnapshotLost:
                self._close()
                continue
            self._instants.add(self._instant().name)
            progress(tally.rows, tally.rows)
            how = f"Postgres, one snapshot, {ranges} key ranges at once"
            if attempt:
                how += f"; read again from the start {attempt} times, because the snapshot was lost"
            return TableRead(table.name, tally.rows, tally.nbytes, elapsed(start), ranges, 0, how)
        raise ReadError(
            f"{table.source_schema}.{table.source}: the snapshot was lost {_READS} times. Nothing was published.",
            remedy="See why the database ends this role's sessions: restarts, or a limit on long transactions.",
        )

    def reconcile(self, workspace: Workspace) -> Reconciled:
        """Nothing to do when both tables were read at one instant, as they are unless a snapshot was lost."""
        if len(self._instants) < 2:
            return Reconciled()
        return reconcile(workspace, self._ask, self._bounds)

    def _instant(self) -> Snapshot:
        if self._snapshot is None:
            self._snapshot = self._retry().call(lambda: Snapshot(self._settings), "connecting to the database")
        return self._snapshot

    def _call(self, function: str, *arguments: str) -> Any:
        """A SQL function, in a new snapshot when the connection that held the last one broke."""
        self._snapshot = self._snapshot or Snapshot(self._settings)
        try:
            return self._snapshot.call(function, *arguments)
        except TransientError:
            self._close()
            raise

    def _retry(self) -> Retry:
        return Retry.of(self._settings)

    def _info(self, table: Table) -> TableInfo:
        if table.name not in self._infos:
            self.preflight([table])
        return self._infos[table.name]

    def _read_all(self, info: TableInfo, spool: Spool, progress: Progress) -> tuple[int, Tally]:
        snapshot, tally = self._instant(), Tally()
        plan = Plan(self._cuts(info, snapshot), "")
        retry = Retry(self._settings.retries, self._settings.retry_base, self._settings.retry_seconds, tally.pause)

        def work(within: KeyRange) -> None:
            what = f"{info.table.source_schema}.{info.table.source}, range {within.index + 1}"
            retry.call(lambda: self._read_range(snapshot, info, within, spool, tally), what)

        progress(0, info.rows)
        workers = self._settings.ranges
        run(plan.ranges, work, tally, workers=workers, progress=progress, expected=info.rows)
        return len(plan.ranges), tally

    def _read_range(self, snapshot: Snapshot, info: TableInfo, within: KeyRange, spool: Spool, tally: Tally) -> None:
        """One range on a connection of its own: a connection that drops costs this range, and no other."""
        with snapshot.reader() as connection:
            rows = batches(connection, range_query(info, within), nbytes=min(self._bounds.nbytes, 4 * 2**20))
            counted = tally.counted(_checked(rows, info, within))
            spool.write(within.index, bounded(counted, rows=self._bounds.rows, nbytes=self._bounds.nbytes))

    def _cuts(self, info: TableInfo, snapshot: Snapshot) -> tuple[str | int, ...]:
        # As many ranges as readers: where keys are random, each range touches every page of the table.
        parts = parts_for(info.rows, workers=self._settings.ranges, rows_per_range=2**62)
        if parts < 2:
            return ()
        arguments = (
            _text(v) if isinstance(v, str) else str(v) for v in preflight.sample_of(info.table, parts).values()
        )
        try:
            sample = snapshot.call("etl_sample_keys", *arguments)
        except TransientError:
            raise SnapshotLost from None
        return cuts_from(sample, info.table.key.kind)

    def _ask(self, table: Table, keys: pa.Array) -> pa.Table:
        """Rows by key, as they are now."""
        info, found = self._info(table), [table.raw_schema.empty_table()]
        with connect(self._settings) as connection:
            for start in range(0, len(keys), _ASKED_KEYS):
                query = keys_query(info, keys[start : start + _ASKED_KEYS].to_pylist())
                rows = [
                    from_driver(b, info) for b in batches(connection, query, nbytes=self._bounds.nbytes) if b.num_rows
                ]
                found.append(pa.Table.from_batches(rows, schema=table.raw_schema))
        return pa.concat_tables(found)


def _checked(rows: Iterator[pa.RecordBatch], info: TableInfo, within: KeyRange) -> Iterator[pa.RecordBatch]:
    """Batches of the raw schema whose keys rise strictly, from one batch to the next too."""
    after = within.after
    what = f"{info.table.source_schema}.{info.table.source}, range {within.index + 1}"
    for batch in rows:
        if not batch.num_rows:
            continue
        raw = from_driver(batch, info)
        keys = raw.column(info.table.key.name)
        require_rising(keys, KeyRange(within.index, after, within.until), what)
        after = keys[-1].as_py()
        yield raw


def _text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _explained(error: RequestRefused) -> PipelineError:
    if error.code in preflight.MISSING_FUNCTION:
        return preflight.migrations_missing()
    if isinstance(error, AccessError):
        error.remedy = error.remedy or "Grant the role of ETL_DB_ROLE what supabase/migrations grants to etl."
    return error
