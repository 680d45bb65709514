"""Reading over REST: adjoining key ranges, several at once, each verified as complete before it counts as finished."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from queue import SimpleQueue

import httpx
import pyarrow as pa

from tasks.arrow.rebatch import bounded
from tasks.contracts import Table
from tasks.errors import ConfigurationError, ReadError
from tasks.platform.functions import RestDatabase
from tasks.platform.identity import identity_of
from tasks.platform.progress import Progress, no_progress
from tasks.platform.whole_file import part_of
from tasks.platform.workers import HERE, Tick, Workers
from tasks.settings import Settings, Transport, load_settings
from tasks.source import preflight
from tasks.source.alarm import TooManyMissing, fetch_by_keys, verify_range
from tasks.source.api import Api
from tasks.source.batches import filled_of
from tasks.source.changes import ChangeFinder
from tasks.source.changes_rest import RestChanges
from tasks.source.convert import to_arrow
from tasks.source.model import Preflight, Reconciled, TableInfo, TableRead
from tasks.source.pages import pages, rows_of
from tasks.source.parallel import Tally, run
from tasks.source.patch import Bounds
from tasks.source.ranges import KeyRange, Plan, cuts_from, parts_for, source_of
from tasks.source.reconcile import reconcile
from tasks.source.units import known
from tasks.workspace import Spool, Workspace

ROWS_PER_RANGE = 50_000
# Pages are made to fill half of it: a server writes an answer larger than its work_mem (2 MiB on the smallest project)
# to its disk before it sends it.
_MOST_PAGE_BYTES = 3 * 2**20
_READS = 3  # of one range in which too many rows are missing


@dataclass(frozen=True, slots=True)
class RangeUnit:
    """A key range to be read over REST into a file of the raw spool."""

    info: TableInfo
    within: KeyRange
    spool: Spool


class RestSource:
    """The REST transport. snapshot_at: of the run that is resumed, whose finished ranges stay as they are."""

    transport: Transport = "rest"

    def __init__(
        self,
        settings: Settings,
        *,
        snapshot_at: datetime | None = None,
        transport: httpx.BaseTransport | None = None,
        workers: Workers = HERE,
    ) -> None:
        self._settings, self._transport, self._workers = settings, transport, workers
        self._snapshot_at, self._infos = snapshot_at, dict[str, TableInfo]()
        self._page_bytes = min(_MOST_PAGE_BYTES, max(2**20, settings.batch_bytes // 8))
        self._bounds = Bounds(settings.batch_rows, max(2**16, settings.batch_bytes // settings.ranges))

    @property
    def snapshot_at(self) -> datetime:
        if self._snapshot_at is None:
            raise ConfigurationError("The preflight comes before reading.")
        return self._snapshot_at

    def preflight(self, tables: Sequence[Table]) -> Preflight:
        with self._database() as database:
            found = preflight.ask(
                database, tables, trusted=self._settings.trusted_functions, remedy=identity_of(self._settings).remedy
            )
        self._infos.update(found.tables)
        self._snapshot_at = self._snapshot_at or found.clock
        return found

    def end_reading(self) -> None:
        """Nothing is held between two requests."""

    def read(self, table: Table, spool: Spool, *, progress: Progress = no_progress) -> TableRead:
        start, info = time.perf_counter(), self._info(table)
        plan, kept = self._plan(info, spool)
        tally = Tally(*_sizes(spool))
        todo = [r for r in plan.ranges if r.index not in kept]
        progress(tally.rows, info.rows)
        outcomes = self._read_ranges(info, todo, spool, tally, progress)
        how = _in_words(len(plan.ranges), self._settings.ranges, len(kept), Counter(outcomes))
        rows, nbytes, filled = 0, 0, Counter({column.name: 0 for column in info.columns})
        for batch in spool.batches():
            rows, nbytes = rows + batch.num_rows, nbytes + batch.nbytes
            filled.update(filled_of(batch, info))
        progress(rows, rows)
        seconds = time.perf_counter() - start
        return TableRead(table.name, rows, nbytes, seconds, len(plan.ranges), len(kept), how, filled)

    def reconcile(self, workspace: Workspace) -> Reconciled:
        """Would-be orphans are asked for again, several requests at once."""
        return reconcile(workspace, self._ask, self._bounds)

    def _ask(self, table: Table, keys: pa.Array) -> pa.Table:
        """Rows by key, as they are now: a part of the keys on each of the clients."""
        info, share = self._info(table), -(-len(keys) // self._settings.ranges) or 1

        def ask(part: pa.Array) -> pa.Table:
            with self._api() as api:
                return fetch_by_keys(api, info, part)

        parts = [keys.slice(start, share) for start in range(0, len(keys), share)]
        with ThreadPoolExecutor(self._settings.ranges, thread_name_prefix="ask") as pool:
            return pa.concat_tables([table.raw_schema.empty_table(), *pool.map(ask, parts)])

    def _database(self) -> closing[RestDatabase]:
        return closing(RestDatabase(self._settings, transport=self._transport))

    def changes(self) -> ChangeFinder:
        return RestChanges(self._settings, self._api, self._database, self._info)

    def _api(self) -> Api:
        return Api(self._settings, transport=self._transport)

    def _info(self, table: Table) -> TableInfo:
        if table.name not in self._infos:
            self.preflight([table])
        return self._infos[table.name]

    def _plan(self, info: TableInfo, spool: Spool) -> tuple[Plan, frozenset[int]]:
        """The cuts, and which ranges are finished already: those of the run before, if it cut the same source."""
        source = source_of(info, self._settings.supabase_url)
        saved = Plan.load(spool)
        if saved and saved.source == source:
            return saved, frozenset(int(path.stem) for path in spool.files())
        spool.clear()
        plan = Plan(self._cuts(info), source)
        plan.save(spool)
        return plan, frozenset()

    def _cuts(self, info: TableInfo) -> tuple[str | int, ...]:
        parts = parts_for(info.rows, workers=self._settings.ranges, rows_per_range=ROWS_PER_RANGE)
        if parts < 2:
            return ()
        table = info.table
        with self._database() as database:
            sample = database.call("etl_sample_keys", **preflight.sample_of(table, parts))
        return cuts_from(sample, table.key.kind)

    def _read_ranges(
        self, info: TableInfo, todo: Sequence[KeyRange], spool: Spool, tally: Tally, progress: Progress
    ) -> list[str]:
        if self._workers.count:
            return self._read_on_workers(info, todo, spool, tally, progress)
        apis: SimpleQueue[Api] = SimpleQueue()
        workers = min(self._settings.ranges, len(todo))
        made = [self._api() for _ in range(workers)]
        for api in made:
            api.retry = replace(api.retry, sleep=tally.pause)
            apis.put(api)

        def work(within: KeyRange) -> str:
            api = apis.get()
            try:
                return self._read_range(api, info, within, spool, tally)
            finally:
                apis.put(api)

        try:
            return run(todo, work, tally, workers=workers, progress=progress, expected=info.rows)
        finally:
            for api in made:
                api.close()

    def _read_on_workers(
        self, info: TableInfo, todo: Sequence[KeyRange], spool: Spool, tally: Tally, progress: Progress
    ) -> list[str]:
        outcomes, units = [], [RangeUnit(info, within, spool) for within in todo]
        for outcome, rows, nbytes in self._workers.map(read_key_range, units):
            tally.add(rows, nbytes)
            progress(tally.rows, info.rows)
            outcomes.append(outcome)
        return outcomes

    def read_range(self, info: TableInfo, within: KeyRange, spool: Spool, tally: Tally) -> str:
        """One key range with a client of its own; returns how it was verified."""
        with self._api() as api:
            return self._read_range(api, info, within, spool, tally)

    def _read_range(self, api: Api, info: TableInfo, within: KeyRange, spool: Spool, tally: Tally) -> str:
        """Read a range, verify it, and only then put it among the finished ones.

        Until then it lies in a folder of its own: what its verification corrects must not reach ranges beside it.
        """
        with _unverified(spool, within) as unverified:
            for _ in range(_READS):
                rows = unverified.write(within.index, self._batches(api, info, within, tally))
                try:
                    outcome = verify_range(api, info, within, unverified, rows, self._bounds)
                except TooManyMissing:
                    tally.add(-rows, 0)
                    continue
                os.replace(unverified.path(within.index), spool.path(within.index))
                return outcome
        raise ReadError(
            f"{info.table.at_source}, range {within.index + 1}: read {_READS} times, and each "
            "time far fewer rows came than are listed. The read is not complete; nothing was published.",
            remedy="Look for a proxy or cache in front of the API.",
        )

    def _batches(self, api: Api, info: TableInfo, within: KeyRange, tally: Tally) -> Iterator[pa.RecordBatch]:
        read = pages(api, info, within, rows_of(api, info, within), lambda rows: to_arrow(rows, info), self._page_bytes)
        return bounded(tally.counted(read), rows=self._bounds.rows, nbytes=self._bounds.nbytes)


@contextmanager
def _unverified(spool: Spool, within: KeyRange) -> Iterator[Spool]:
    """A folder of this reader's own below the spool's: a worker that was taken for dead may read the same range."""
    folder = part_of(spool.folder / "unverified" / f"{within.index:05d}")
    try:
        yield Spool(folder, spool.schema)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def read_key_range(unit: RangeUnit, tick: Tick) -> tuple[str, int, int]:
    """Read one key range over REST and verify it. Returns how it was verified, its rows and bytes."""
    tally = Tally()
    outcome = RestSource(load_settings(transport="rest")).read_range(known(unit.info), unit.within, unit.spool, tally)
    tick(tally.rows)
    return outcome, tally.rows, tally.nbytes


def _sizes(spool: Spool) -> tuple[int, int]:
    """Rows and bytes of the finished ranges."""
    sizes = [(batch.num_rows, batch.nbytes) for batch in spool.batches()]
    return sum(rows for rows, _ in sizes), sum(nbytes for _, nbytes in sizes)


def _in_words(ranges: int, at_once: int, kept: int, outcomes: Counter[str]) -> str:
    parts = [f"REST, {ranges} key ranges, up to {at_once} at once"]
    if kept:
        parts.append(f"{kept} finished ranges of the earlier run kept")
    if outcomes["listed"]:
        parts.append(f"{outcomes['listed']} listed again, because the count differed")
    if outcomes["not counted"]:
        parts.append(f"{outcomes['not counted']} not counted in time")
    return "; ".join(parts)
