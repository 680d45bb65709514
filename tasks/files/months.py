"""Rows of all months in, the rows of one month out, with neither in memory: split on disk, one file a unit."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc


@dataclass
class MonthSplit:
    """One file of Arrow messages, each the rows that a batch had of a month, and where they are by month.

    One file, however many months: a folder or handle for each would meet the system's limit with a long history.
    """

    path: Path
    pieces: dict[str, list[tuple[int, int]]] = field(default_factory=dict)

    def batches(self, month: str, schema: pa.Schema) -> Iterator[pa.RecordBatch]:
        """The rows of a month in the order in which they were split, a small batch at a time."""
        if month not in self.pieces:
            return
        with self.path.open("rb") as file:
            for start, size in self.pieces[month]:
                file.seek(start)
                yield pa.ipc.read_record_batch(pa.py_buffer(file.read(size)), schema)

    def remove(self) -> None:
        """Delete the file."""
        self.path.unlink(missing_ok=True)


def of_month(splits: Iterable[MonthSplit], month: str) -> tuple[MonthSplit, ...]:
    """The same files with this month's pieces alone: what travels to a worker stays small."""
    return tuple(MonthSplit(split.path, {month: split.pieces[month]}) for split in splits if month in split.pieces)


def split_months(batches: Iterable[pa.RecordBatch], path: Path, column: str) -> MonthSplit:
    """Write the batches to a file, split by the month (UTC) of an instant; rows stay in their order within a month.

    column: of the instant; a whole number is µs.
    """
    split = MonthSplit(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for batch in batches:
            for instant, rows in _by_month(batch, column):
                _append(file, split, f"{instant:%Y-%m}", rows)
    return split


def _by_month(batch: pa.RecordBatch, column: str) -> Iterator[tuple[datetime, pa.RecordBatch]]:
    # Without a zone: with one, UTC too, Arrow asks the machine's database of zones, which small images lack.
    months = pc.floor_temporal(batch.column(column).cast(pa.timestamp("us")), unit="month")
    order = pc.sort_indices(months)  # stable, as Arrow documents
    sorted_rows, start = batch.take(order), 0
    counts: Any = pc.value_counts(months.take(order))  # in order of appearance: earliest month first
    for run in counts.to_pylist():
        yield run["values"], sorted_rows.slice(start, run["counts"])
        start += run["counts"]


def _append(file: BinaryIO, split: MonthSplit, month: str, rows: pa.RecordBatch) -> None:
    message = rows.serialize()
    split.pieces.setdefault(month, []).append((file.tell(), message.size))
    file.write(message)
