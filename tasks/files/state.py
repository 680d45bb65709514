"""The partial tables of each month, as files: what the next night adds up instead of every post.

    state/author_days/2026-01.parquet       author and day: posts, words, first instant and the span to the last
    state/word_histogram/2026-01.parquet    hour slot and word count: posts, untitled posts

They are a cache of the month's cleaned file, as of the run's as_of. An author is the number of its id (`UserIndex`),
which takes half the bytes. It stands for a user as the id does, and goes with the files that name ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.arrow.rebatch import exactly
from tasks.cleaning.partials import AUTHOR_DAYS, DAY, WORD_HISTOGRAM, Columns
from tasks.cleaning.pieces import WHOLE, PartialTable, batch_of, columns_of
from tasks.cleaning.units import USER_INDEX
from tasks.cleaning.user_index import UserIndex, loaded_index
from tasks.files.manifest import FileEntry, entry_of
from tasks.files.months import MonthSplit, of_month, split_months
from tasks.files.parquet import WRITER
from tasks.files.steps import write_in_steps
from tasks.platform.workers import HERE, Workers
from tasks.workspace import Workspace, read_batches

STATE = "state"
GROUP_ROWS = 2**20  # of a row group
READ_ROWS = 262_144  # at a time: large enough that what is kept of each batch does not count
_SLOTS_IN_MONTH = 7 * 24
# first_at: µs into the day; span: µs from the first post of the day to the last.
_AUTHOR_SCHEMA = pa.schema(
    [pa.field(name, pa.int64(), nullable=False) for name in ("author", "day", "posts", "words", "first_at", "span")]
)
_HISTOGRAM_SCHEMA = pa.schema([pa.field(name, pa.int64(), nullable=False) for name in WORD_HISTOGRAM.schema.names])


def author_days_path(month: str) -> str:
    return f"{STATE}/author_days/{month}.parquet"


def histogram_path(month: str) -> str:
    return f"{STATE}/word_histogram/{month}.parquet"


def month_of_path(path: str) -> str:
    """The month of a state file, or of a month's cleaned file."""
    return path.rpartition("month=")[2].partition("/")[0] if "month=" in path else Path(path).stem


@dataclass(frozen=True, slots=True)
class StateSplitUnit:
    """One partition of the author days, to be split by month. group: which author days, see `PartialTable`."""

    workspace: Workspace
    group: str
    partition: int

    def inputs(self) -> list[Path]:
        return [PartialTable(self.workspace, AUTHOR_DAYS, self.group).spool.path(self.partition)]

    def split(self) -> MonthSplit:
        rows = exactly(read_batches(*self.inputs()), READ_ROWS)
        path = self.workspace.root / "months" / AUTHOR_DAYS.name / f"{self.partition:05d}.split"
        return split_months(rows, path, "first_post_at")


@dataclass(frozen=True, slots=True)
class StateMonthUnit:
    """The author days of one month, to be assembled from the partitions, in their order."""

    workspace: Workspace
    month: str
    splits: tuple[MonthSplit, ...]

    def inputs(self) -> list[Path]:
        return [*(split.path for split in self.splits), self.workspace.partials / USER_INDEX]

    def write(self) -> list[FileEntry]:
        index = loaded_index(self.workspace.partials / USER_INDEX)
        rows = (batch for split in self.splits for batch in split.batches(self.month, AUTHOR_DAYS.schema))
        batches = (_author_rows(index, columns_of(batch)) for batch in exactly(rows, GROUP_ROWS))
        return [_write(self.workspace.files, author_days_path(self.month), batches, ["posts", "words", "span"])]


@dataclass(frozen=True, slots=True)
class HistogramUnit:
    """The word histogram of all months, from the files of the partial table."""

    workspace: Workspace
    files: tuple[Path, ...]

    def inputs(self) -> list[Path]:
        return list(self.files)

    def write(self) -> list[FileEntry]:
        rows = [batch for path in self.files for batch in read_batches(path)]
        histogram = columns_of(pa.Table.from_batches(rows, WORD_HISTOGRAM.schema))
        return [
            _write(self.workspace.files, histogram_path(month), [_histogram_rows(of_month)], ["posts", "untitled"])
            for month, of_month in _by_month(histogram, histogram["slot"] // _SLOTS_IN_MONTH)
        ]


@dataclass(frozen=True, slots=True)
class StateFiles:
    """A file of each kind for each month with posts in scope, in the steps of `write_in_steps`; see `write_state`."""

    workspace: Workspace
    group: str = WHOLE

    def splitting(self) -> list[StateSplitUnit]:
        partitions = PartialTable(self.workspace, AUTHOR_DAYS, self.group).spool.files()
        return [StateSplitUnit(self.workspace, self.group, int(path.stem)) for path in partitions]

    def writing(self, splits: Sequence[MonthSplit]) -> list[StateMonthUnit | HistogramUnit]:
        found = sorted({month for split in splits for month in split.pieces})
        histogram = tuple(PartialTable(self.workspace, WORD_HISTOGRAM, self.group).spool.files())
        of_authors = (StateMonthUnit(self.workspace, month, of_month(splits, month)) for month in found)
        return [*of_authors, HistogramUnit(self.workspace, histogram)]


def write_state(workspace: Workspace, *, group: str = WHOLE, workers: Workers = HERE) -> list[FileEntry]:
    """A file of each kind for each month with posts in scope, from partial tables: the run's, or those of a group.

    None where two users have one number, which happens once in 10⁹ projects of 200,000 users: they have no state then,
    and each night computes it from the months' files.
    """
    if not has_state(workspace):
        return []
    return write_in_steps([StateFiles(workspace, group)], workers=workers)


def has_state(workspace: Workspace) -> bool:
    """Whether the users have numbers of their own, and were cleaned in this folder: else there is no state to write."""
    path = workspace.partials / USER_INDEX
    return path.exists() and loaded_index(path).has_numbers


def _author_rows(index: UserIndex, rows: Columns) -> pa.RecordBatch:
    """A row group, in the order of its authors' numbers: rising numbers take the fewest bytes."""
    author = index.numbers[rows["author"]]
    order = np.lexsort((rows["day"], author))
    columns = {
        "author": author,
        "day": rows["day"],
        "posts": rows["posts"],
        "words": rows["words"],
        "first_at": rows["first_post_at"] - rows["day"] * DAY,
        "span": rows["last_post_at"] - rows["first_post_at"],
    }
    arrays = [pa.array(columns[name][order]) for name in _AUTHOR_SCHEMA.names]
    return pa.RecordBatch.from_arrays(arrays, schema=_AUTHOR_SCHEMA)


def _histogram_rows(rows: Columns) -> pa.RecordBatch:
    return batch_of(WORD_HISTOGRAM, rows).cast(_HISTOGRAM_SCHEMA)


def _by_month(columns: Columns, months: npt.NDArray[np.int64]) -> Iterator[tuple[str, Columns]]:
    """The rows of each month, in their order. months: of each row, since January 1970; they rise."""
    found, starts = np.unique(months, return_index=True)
    for month, start, end in zip(found, starts, np.append(starts, len(months))[1:], strict=True):
        yield str(np.datetime64(int(month), "M")), {name: values[start:end] for name, values in columns.items()}


def _write(root: Path, path: str, batches: Iterable[pa.RecordBatch], repeating: list[str]) -> FileEntry:
    """Write a file, a batch a row group; there is at least one.

    repeating: columns in which values come again, for which a dictionary pays; the others rise, or nearly so.
    """
    file, groups = root / path, iter(batches)
    first = next(groups)
    file.parent.mkdir(parents=True, exist_ok=True)
    rising = {name: "DELTA_BINARY_PACKED" for name in first.schema.names if name not in repeating}
    options: dict[str, Any] = {**WRITER, "use_dictionary": repeating, "column_encoding": rising}
    rows = 0
    with pq.ParquetWriter(file, first.schema, **options) as writer:
        for batch in chain([first], groups):
            writer.write_batch(batch, row_group_size=GROUP_ROWS)
            rows += batch.num_rows
    return entry_of(file, root, rows=rows, version=2, kind="state")


def read_author_days(file: Path, index: UserIndex) -> Iterator[Columns]:
    """Author days with the authors' positions in `index`, some at a time, in the order of the file.

    ValueError when an author is not in the index.
    """
    with pq.ParquetFile(file) as parquet:
        for batch in parquet.iter_batches(READ_ROWS):
            values = columns_of(batch)
            author = index.positions_of_numbers(values["author"])
            if len(author) and author.min() < 0:
                raise ValueError("an author of a kept post is not among the kept users")
            first = values["day"] * DAY + values["first_at"]
            yield {
                "author": author,
                **{name: values[name] for name in ("day", "posts", "words")},
                "first_post_at": first,
                "last_post_at": first + values["span"],
            }


def read_histogram(file: Path) -> Columns:
    return columns_of(pq.read_table(file))
