"""Reading over Postgres in units that a worker process runs by itself: slices of a table, and buckets of sorted rows.

A unit carries no secret: the worker has its own settings. Tables travel by their names, since code compares them by
identity.
"""

from __future__ import annotations

import pickle
import uuid
from collections import Counter
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

from tasks.contracts import TABLES
from tasks.platform.postgres import Connection
from tasks.platform.workers import Tick
from tasks.retry import Retry
from tasks.settings import Settings, load_settings
from tasks.source.buckets import write_bucket
from tasks.source.connection import batches
from tasks.source.model import TableInfo
from tasks.source.parallel import Tally
from tasks.source.patch import Bounds
from tasks.source.runs import Bucket, Budget, Run
from tasks.source.select import slice_query
from tasks.source.slices import Slice
from tasks.source.snapshot import reader_at
from tasks.source.sorting import Sorter
from tasks.workspace import Spool

_DRIVER_BYTES = 2**22


@dataclass(frozen=True, slots=True)
class SortPlan:
    """Where sorted runs lie, and how they are made: what a `Sorter` is made of."""

    folder: Path
    key: str
    part: int
    expected: int

    def sorter(self, *, hold: int = 0) -> Sorter:
        """hold: bytes that may stay in memory."""
        return Sorter(self.folder, self.key, self.part, self.expected, Budget(hold))


@dataclass(frozen=True, slots=True)
class SliceUnit:
    """A slice of a table's pages, to be read in an exported snapshot and sorted. of: the number of slices."""

    info: TableInfo
    part: Slice
    of: int
    snapshot: str
    plan: SortPlan


@dataclass(frozen=True, slots=True)
class SliceRead:
    """What a slice gave: its sorted runs, rows and bytes."""

    runs: list[Run]
    rows: int
    nbytes: int


@dataclass(frozen=True, slots=True)
class BucketUnit:
    """A bucket of sorted rows, to become a file of the raw spool. index: the name of the file that `save_runs` made."""

    info: TableInfo
    bucket: Bucket
    plan: SortPlan
    spool: Spool
    bounds: Bounds
    index: str

    def inputs(self) -> list[Path]:
        """All sorted runs: a bucket has rows of each."""
        return sorted(self.plan.folder.iterdir()) if self.plan.folder.is_dir() else []


def read_slice(unit: SliceUnit, tick: Tick) -> SliceRead:
    """Read one slice on a connection of its own; a connection that drops costs this slice, and no other."""
    settings, info = load_settings(transport="postgres"), known(unit.info)
    sorter, tally = unit.plan.sorter(), Tally()

    def attempt() -> None:
        with reader_at(settings, unit.snapshot) as connection:
            sort_slice(connection, info, unit.part, sorter, tally, settings)

    Retry.of(settings).call(attempt, slice_name(info, unit.part, unit.of))
    tick(tally.rows)
    return SliceRead(sorter.runs[unit.part.index], tally.rows, tally.nbytes)


def sort_slice(
    connection: Connection, info: TableInfo, part: Slice, sorter: Sorter, tally: Tally, settings: Settings
) -> None:
    """Read a slice and give it to the sorter, all or nothing."""
    rows = batches(connection, slice_query(info, part), nbytes=_DRIVER_BYTES, patience=settings.statement_timeout)
    sorter.add(part.index, tally.counted(rows))


def slice_name(info: TableInfo, part: Slice, of: int) -> str:
    return f"{info.table.at_source}, slice {part.index + 1} of {of}"


def save_runs(plan: SortPlan, sorter: Sorter) -> str:
    """Leave what is known of the sorted runs where each worker reads it once. Returns the file's name.

    A name of its own: a table that is read again has other runs in the same folder.
    """
    index = f"runs-{uuid.uuid4().hex}.pickle"
    (plan.folder / index).write_bytes(pickle.dumps(sorter.runs))
    return index


def convert_bucket(unit: BucketUnit, tick: Tick) -> Counter[str]:
    """Sort a bucket and write it as a file of the raw spool. Returns the non-null values by column."""
    return write_bucket(sorter_of(unit), unit.bucket, known(unit.info), unit.spool, unit.bounds)


def sorter_of(unit: BucketUnit) -> Sorter:
    """The sorter of all runs, as `save_runs` left them."""
    sorter = unit.plan.sorter()
    sorter.runs = _runs(unit.plan.folder / unit.index)
    return sorter


@lru_cache(maxsize=1)
def _runs(index: Path) -> dict[int, list[Run]]:
    saved: dict[int, list[Run]] = pickle.loads(index.read_bytes())  # noqa: S301 - our own file, in the run's folder
    here = index.parent  # which this worker may have elsewhere than the coordinator
    return {number: [replace(run, path=here / run.path.name) for run in runs] for number, runs in saved.items()}


def known(info: TableInfo) -> TableInfo:
    """The same with this process's own declaration of the table."""
    return replace(info, table=next(table for table in TABLES if table.name == info.table.name))
