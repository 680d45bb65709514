"""Sorting by key on this machine, so that the product's database need not: sorted runs on disk, merged in key order.

Batches come in any order. Each part of them is sorted in memory and written as a run of small pages, and of every page
the first key is remembered. From those the whole is cut into key-ordered buckets of about equal bytes; a bucket reads
the pages that reach into it, from every run, and sorts them. Memory holds one part or one bucket a worker, whatever the
table; the disk holds the rows once more.

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
_AT_ONCE = 2  # sorts: each needs its rows twice over
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
        path, rows, runs, pages = self.folder / f"{index:05d}.run", 0, list[Run](), 0
        staged = path.with_suffix(".part")
        with pa.OSFile(str(staged), "wb") as sink:
            writer = None
            for part in groups(batches, self.part):
                with self._gate:
                    batch, keys = self._sorted(part)
                writer = writer or pa.ipc.new_file(sink, batch.schema, options=_IPC)
                runs.append(self._write(writer, path, pages, batch, keys))
                pages, rows = pages + len(runs[-1].firsts), rows + batch.num_rows
            if writer:
                writer.close()
        os.replace(staged, path)
        self.runs[index] = runs
        return rows

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

    def read(self, bucket: Bucket) -> pa.RecordBatch | None:
        """The rows of a bucket in key order; None when there are none."""
        with self._gate:
            pieces = [p for runs in self.runs.values() for run in runs for p in self._pieces(run, bucket)]
            return self._sorted(pieces)[0] if pieces else None

    def clear(self) -> None:
        """Remove the files."""
        self.runs.clear()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _sorted(self, batches: list[pa.RecordBatch]) -> tuple[pa.RecordBatch, Keys]:
        whole = batches[0] if len(batches) == 1 else pa.concat_batches(batches)
        keys = sort_keys(whole.column(self.key))
        if bool(np.all(keys[:-1] <= keys[1:])):  # as in a table that was filled in key order
            return whole, keys
        order = _order(keys)
        return whole.take(pa.array(order)), keys[order]

    def _write(self, writer: Any, path: Path, first: int, batch: pa.RecordBatch, keys: Keys) -> Run:
        rows = max(1, batch.num_rows * self.page // max(1, batch.nbytes))
        starts = range(0, batch.num_rows, rows)
        for start in starts:
            writer.write_batch(batch.slice(start, rows))
        share = batch.nbytes / batch.num_rows
        sizes = np.array([int(share * min(rows, batch.num_rows - start)) for start in starts], np.int64)
        return Run(path, first, keys[list(starts)], sizes)

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
    """The places of the keys in rising order."""
    if keys.dtype.kind != "S":
        return np.argsort(keys)
    halves = keys.view(">u8").reshape(-1, 2).astype("u8")
    order = np.argsort(halves[:, 0])  # by far the quickest; few keys share their first eight bytes
    first = halves[order, 0]
    if bool(np.any(first[1:] == first[:-1])):
        return np.lexsort((halves[:, 1], halves[:, 0]))
    return order
