"""Sorting by key on this machine, so that the product's database need not: sorted runs on disk, merged in key order.

Batches come in any order. Each part of them is sorted in memory and written as a run of small pages, and of every page
the first key is remembered. From those the whole is cut into key-ordered buckets of about equal bytes; a bucket reads
the pages that reach into it, from every run, and sorts them. Memory holds one part or one bucket a worker, whatever the
table: only keys are put in order, and rows follow a page at a time. The disk holds the rows once more.

A uuid is compared by its 16 bytes, which is its order as text and the database's order; an integer by its value.
"""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.arrow.rebatch import groups
from tasks.errors import ReadError

Keys = npt.NDArray[Any]
_IPC = pa.ipc.IpcWriteOptions(compression="lz4")
_AT_ONCE = 2  # parts that are put together and written: each is there twice for a moment
_LEAST_PAGE, _MOST_PAGE = 16 * 2**10, 128 * 2**10


@dataclass(frozen=True, slots=True)
class Run:
    """Sorted rows in a file: pages `first` to before `first + len(firsts)`, each with its first key and bytes."""

    path: Path
    first: int
    firsts: Keys
    sizes: npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Bucket:
    """Keys from `low` to before `high`, in the sorter's form; None is the end of the key space."""

    index: int
    low: Any
    high: Any


@dataclass
class Sorter:
    """Sorts batches with the column `key`, in files of `folder`.

    part: bytes that are sorted in memory at a time. expected: bytes in all, an estimate that sets the pages' size.
    """

    folder: Path
    key: str
    part: int
    expected: int
    runs: dict[int, list[Run]] = field(default_factory=dict)
    _gate: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_AT_ONCE))

    @property
    def page(self) -> int:
        """Bytes of a page: a bucket's share of a run holds several, so that little is read twice."""
        return min(_MOST_PAGE, max(_LEAST_PAGE, self.part * self.part // (4 * max(1, self.expected))))

    def add(self, index: int, batches: Iterable[pa.RecordBatch]) -> int:
        """Write what `batches` gives as the runs of `index`, all or nothing. Returns its rows."""
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{index:05d}.run"
        staged = path.with_suffix(".part")
        with pa.OSFile(str(staged), "wb") as sink:
            runs, rows = self._write_runs(sink, path, batches)
        os.replace(staged, path)
        self.runs[index] = runs
        return rows

    def _write_runs(self, sink: pa.NativeFile, path: Path, batches: Iterable[pa.RecordBatch]) -> tuple[list[Run], int]:
        writer, runs, rows, pages = None, list[Run](), 0, 0
        for part in groups(batches, self.part):
            writer = writer or pa.ipc.new_file(sink, part[0].schema, options=_IPC)
            with self._gate:
                ordered = _Ordered.of(part, self.key)
                runs.append(self._write(writer, path, pages, ordered))
            pages, rows = pages + len(runs[-1].firsts), rows + ordered.num_rows
            del ordered  # the next part is read without this one
        if writer:
            writer.close()
        return runs, rows

    def buckets(self) -> tuple[Bucket, ...]:
        """Adjoining buckets of about `part` bytes that cover all keys; at least one."""
        runs = [run for of in self.runs.values() for run in of]
        if not runs:
            return (Bucket(0, None, None),)
        firsts, sizes = np.concatenate([r.firsts for r in runs]), np.concatenate([r.sizes for r in runs])
        order = np.argsort(firsts, kind="stable")
        reached = np.cumsum(sizes[order])
        count = max(1, -(-int(reached[-1]) // self.part))
        places = np.searchsorted(reached, [reached[-1] * n / count for n in range(1, count)], side="right")
        cuts = np.unique(firsts[order][np.minimum(places, len(firsts) - 1)])
        edges = (None, *cuts, None)
        return tuple(Bucket(i, low, high) for i, (low, high) in enumerate(pairwise(edges)))

    def read(self, bucket: Bucket, *, nbytes: int) -> Iterator[pa.RecordBatch]:
        """The rows of a bucket in key order, in batches of about `nbytes` bytes."""
        with self._gate:
            pieces = [p for runs in self.runs.values() for run in runs for p in self._pieces(run, bucket)]
            ordered = _Ordered.of(pieces, self.key) if pieces else None
        if ordered:
            yield from ordered.batches(ordered.rows_of(nbytes))

    def clear(self) -> None:
        """Remove the files."""
        self.runs.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _write(self, writer: Any, path: Path, first: int, ordered: _Ordered) -> Run:
        rows = ordered.rows_of(self.page)
        for page in ordered.batches(rows):
            writer.write_batch(page)
        starts = range(0, ordered.num_rows, rows)
        share = ordered.nbytes / ordered.num_rows
        sizes = np.array([int(share * min(rows, ordered.num_rows - start)) for start in starts], np.int64)
        return Run(path, first, ordered.keys[list(starts)], sizes)

    def _pieces(self, run: Run, bucket: Bucket) -> Iterator[pa.RecordBatch]:
        # The page before the first that starts in the bucket may end in it; equal keys may begin there, too.
        low = 0 if bucket.low is None else max(0, int(np.searchsorted(run.firsts, bucket.low)) - 1)
        high = len(run.firsts) if bucket.high is None else int(np.searchsorted(run.firsts, bucket.high))
        if low >= high:
            return
        with pa.OSFile(str(run.path), "rb") as source, pa.ipc.open_file(source) as reader:
            for page in range(low, high):
                batch = reader.get_batch(run.first + page)
                keys = sort_keys(batch.column(self.key))
                start = 0 if bucket.low is None else int(np.searchsorted(keys, bucket.low))
                stop = len(keys) if bucket.high is None else int(np.searchsorted(keys, bucket.high))
                if stop > start:
                    yield batch.slice(start, stop - start)


@dataclass(frozen=True, slots=True)
class _Ordered:
    """Rows and the order of their keys. keys: in that order. order: row numbers; None where they are in it already."""

    rows: pa.RecordBatch
    keys: Keys
    order: npt.NDArray[np.int64] | None

    @classmethod
    def of(cls, pieces: list[pa.RecordBatch], key: str) -> _Ordered:
        """The rows of all pieces, which are let go."""
        rows = pieces[0] if len(pieces) == 1 else pa.concat_batches(pieces)
        pieces.clear()
        keys = sort_keys(rows.column(key))
        if bool(np.all(keys[:-1] <= keys[1:])):  # as in a table that was filled in key order
            return cls(rows, keys, None)
        order = _order(keys)
        return cls(rows, keys[order], order)

    @property
    def num_rows(self) -> int:
        return int(self.rows.num_rows)

    @property
    def nbytes(self) -> int:
        return int(self.rows.nbytes)

    def rows_of(self, nbytes: int) -> int:
        """How many rows have about so many bytes; at least one."""
        return max(1, self.num_rows * nbytes // max(1, self.nbytes))

    def batches(self, rows: int) -> Iterator[pa.RecordBatch]:
        """The rows in the order of their keys, so many at a time."""
        for start in range(0, self.num_rows, rows):
            if self.order is None:
                yield self.rows.slice(start, rows)
            else:
                yield self.rows.take(pa.array(self.order[start : start + rows]))


def sort_keys(column: pa.Array) -> Keys:
    """The keys as numbers or as 16 bytes each, which numpy compares as the database does. ReadError for a null."""
    if column.null_count:
        raise ReadError(
            "A row whose key is null came back, though the column was not null before. Nothing was published.",
            remedy="Did somebody change the table while it was read? Start the run again.",
        )
    if isinstance(column.type, pa.UuidType):
        cells = column.storage
        return np.frombuffer(cells.buffers()[1], "S16")[cells.offset : cells.offset + len(cells)]
    return np.asarray(column.cast(pa.int64()).to_numpy(zero_copy_only=False))


def _order(keys: Keys) -> npt.NDArray[np.int64]:
    """The row numbers of the keys in rising order."""
    if keys.dtype.kind != "S":
        return np.argsort(keys)
    halves = keys.view(">u8").reshape(-1, 2).astype("u8")
    order = np.argsort(halves[:, 0])  # by far the quickest; few keys share their first eight bytes
    first = halves[order, 0]
    if bool(np.any(first[1:] == first[:-1])):
        return np.lexsort((halves[:, 1], halves[:, 0]))
    return order
