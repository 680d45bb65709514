"""Rows of all months in, the rows of one month out, with neither in memory: parted on disk in one file."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

import pyarrow as pa
import pyarrow.compute as pc


class MonthSpill:
    """One file of Arrow messages, each the rows that a batch had of a month, and where they are by month.

    One file, however many months: a folder or handle for each would meet the system's limit with a long history. The
    file goes when the spill is closed.
    """

    def __init__(self, path: Path, schema: pa.Schema, column: str) -> None:
        self._path, self._schema, self._column = path, schema, column
        self._places: dict[datetime, list[tuple[int, int]]] = {}
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = path.open("wb+")
        self._end = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self._path.unlink(missing_ok=True)

    def add(self, batch: pa.RecordBatch) -> None:
        """Keep a batch; its rows stay in their order within each month."""
        months = pc.floor_temporal(batch.column(self._column), unit="month")
        order = pc.sort_indices(months)  # stable, as Arrow documents
        parted, start = batch.take(order), 0
        counts: Any = pc.value_counts(months.take(order))  # in order of appearance: earliest month first
        for run in counts.to_pylist():
            self._append(run["values"], parted.slice(start, run["counts"]))
            start += run["counts"]

    def _append(self, month: datetime, rows: pa.RecordBatch) -> None:
        message = rows.serialize()
        self._file.seek(self._end)
        self._file.write(message)
        self._places.setdefault(month, []).append((self._end, message.size))
        self._end += message.size

    def months(self) -> list[str]:
        """The months that have rows, as `2026-01`, earliest first."""
        return [f"{month:%Y-%m}" for month in sorted(self._places)]

    def batches(self, month: str) -> Iterator[pa.RecordBatch]:
        """The rows of a month in the order they came, a small batch at a time."""
        for start, size in next(places for at, places in self._places.items() if f"{at:%Y-%m}" == month):
            self._file.seek(start)
            yield pa.ipc.read_record_batch(pa.py_buffer(self._file.read(size)), self._schema)
