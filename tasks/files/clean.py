"""The files of the cleaned tables: parts in key order, by month where the contract says so, written unit by unit.

However the spool was cut into files and batches, and whoever writes a unit, the files are the same.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, count, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from tasks.arrow.rebatch import exactly
from tasks.contracts import TABLES, Table
from tasks.files.manifest import FileEntry, entry_of
from tasks.files.months import MonthSplit, of_month, split_months
from tasks.files.parquet import file_schema, open_writer, to_file_shape
from tasks.files.steps import write_in_steps
from tasks.platform.workers import HERE, Workers
from tasks.settings import Settings
from tasks.workspace import Workspace, read_batches


@dataclass(frozen=True, slots=True)
class FileShape:
    """How many rows a part and a row group hold."""

    part_rows: int
    group_rows: int

    @classmethod
    def of(cls, settings: Settings) -> FileShape:
        return cls(settings.part_rows, min(settings.row_group_rows, settings.part_rows))


@dataclass(frozen=True, slots=True)
class SplitUnit:
    """A file of a table's cleaned spool by its number, to be split by month."""

    workspace: Workspace
    table: str
    index: int

    def inputs(self) -> list[Path]:
        return [self.workspace.clean(_table(self.table)).path(self.index)]

    def split(self) -> MonthSplit:
        table = _table(self.table)
        batches = (to_file_shape(table, batch) for batch in read_batches(*self.inputs()))
        path = self.workspace.root / "months" / table.name / f"{self.index:05d}.split"
        return split_months(batches, path, str(table.by_month))


@dataclass(frozen=True, slots=True)
class MonthUnit:
    """One month of a table, to be assembled from the files of all ranges, in their order."""

    workspace: Workspace
    table: str
    month: str
    splits: tuple[MonthSplit, ...]
    shape: FileShape

    def inputs(self) -> list[Path]:
        return [split.path for split in self.splits]

    def write(self) -> list[FileEntry]:
        table = _table(self.table)
        schema = file_schema(table)
        batches = (batch for split in self.splits for batch in split.batches(self.month, schema))
        folder = self.workspace.files / "clean" / table.name / f"month={self.month}"
        return [
            clean_entry(table, file, self.workspace.files) for file in write_parts(table, batches, folder, self.shape)
        ]


@dataclass(frozen=True, slots=True)
class WholeUnit:
    """A table that is not split by month, from the files of its cleaned spool."""

    workspace: Workspace
    table: str
    files: tuple[Path, ...]
    shape: FileShape

    def inputs(self) -> list[Path]:
        return list(self.files)

    def write(self) -> list[FileEntry]:
        table = _table(self.table)
        batches = (to_file_shape(table, batch) for path in self.files for batch in read_batches(path))
        parts = write_parts(table, batches, self.workspace.files / "clean" / table.name, self.shape, always=True)
        return [clean_entry(table, file, self.workspace.files) for file in parts]


@dataclass(frozen=True, slots=True)
class CleanFiles:
    """The files of a cleaned table, in the steps of `write_in_steps`."""

    workspace: Workspace
    table: Table
    shape: FileShape

    def splitting(self) -> list[SplitUnit]:
        if self.table.by_month is None:
            return []
        files = self.workspace.clean(self.table).files()
        return [SplitUnit(self.workspace, self.table.name, int(path.stem)) for path in files]

    def writing(self, splits: Sequence[MonthSplit]) -> list[MonthUnit] | list[WholeUnit]:
        name, shape = self.table.name, self.shape
        if self.table.by_month is None:
            files = tuple(self.workspace.clean(self.table).files())
            return [WholeUnit(self.workspace, name, files, shape)]
        months = sorted({month for split in splits for month in split.pieces})
        return [MonthUnit(self.workspace, name, month, of_month(splits, month), shape) for month in months]


def write_clean(workspace: Workspace, table: Table, settings: Settings, *, workers: Workers = HERE) -> list[FileEntry]:
    """Write the cleaned rows of a table in parts: sorted by key, by month where the contract says so."""
    return write_in_steps([CleanFiles(workspace, table, FileShape.of(settings))], workers=workers)


def write_parts(
    table: Table,
    batches: Iterable[pa.RecordBatch],
    folder: Path,
    shape: FileShape,
    *,
    always: bool = False,
    first: int = 0,
) -> Iterator[Path]:
    """Parts of whole row groups, as many as fit into a part; one group is in memory at a time.

    batches: in the shape of the files (`to_file_shape`), in key order. always: write a part also without rows.
    first: the number of the first part.
    """
    groups, per_part = exactly(batches, shape.group_rows), shape.part_rows // shape.group_rows
    schema = file_schema(table)
    for number in count(first):
        group = next(groups, None)
        if group is None and not (always and number == first):
            return
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"part-{number:03d}.parquet"
        with open_writer(path, schema, table.file_columns, (table.key.name,)) as writer:
            for part in chain([group] if group else [], islice(groups, per_part - 1)):
                rows = pa.RecordBatch.from_arrays(part.columns, schema=schema)
                writer.write_batch(rows, row_group_size=shape.group_rows)
        yield path


def clean_entry(table: Table, file: Path, root: Path) -> FileEntry:
    """The entry of a finished part below `root`."""
    return entry_of(file, root, rows=pq.read_metadata(file).num_rows, version=table.version, kind="clean")


def _table(name: str) -> Table:
    return next(table for table in TABLES if table.name == name)
