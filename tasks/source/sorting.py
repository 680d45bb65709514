"""Sorting by key on this machine, so that the product's database need not: sorted runs, merged in key order.

Batches come in any order. Each part of them is sorted, as a run: the first runs stay in memory, as many as may, and the
others go to the disk in small pages. The first key of every page is remembered. From those the whole is cut into
key-ordered buckets of about equal bytes; a bucket takes what belongs to it out of every run, and sorts it a little at a
time. Memory holds what may stay there and one bucket a worker, whatever the table. The disk holds the other rows once
more, as they are.

To copy is cheap, and to ask the system for memory is not: so copies are small, and a bucket's pages are read to where
those of the last one were.

A uuid is compared by its 16 bytes, which is its order as text and the database's order; an integer by its value.
"""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from tasks.arrow.rebatch import groups, merged, slices
from tasks.errors import ReadError
from tasks.source.runs import Bucket, Budget, Extract, Held, Keys, Memory, Piece, Run, RunWriter, read_extracts

_AT_ONCE = 2  # runs that are put together: each is there twice for a moment
_LEAST_RUN = 2**21
_RUNS = 256  # about so many, as long as each is smaller than a part
_LEAST_PAGE, _MOST_PAGE = 16 * 2**10, 128 * 2**10
_BLOCK = 16  # pages that are put in order at a time


@dataclass
class Sorter:
    """Sorts batches with the column `key`, in files of `folder`.

    part: bytes of a bucket. expected: bytes in all, an estimate that sets the sizes of runs and pages. budget: of the
    runs that stay in memory; none, unless it says otherwise.
    """

    folder: Path
    key: str
    part: int
    expected: int
    budget: Budget = field(default_factory=lambda: Budget(0))
    runs: dict[int, list[Run]] = field(default_factory=dict)
    _held: dict[int, list[Held]] = field(default_factory=dict)
    _gate: threading.Semaphore = field(default_factory=lambda: threading.Semaphore(_AT_ONCE))
    _memory: Memory = field(default_factory=Memory)

    @property
    def run(self) -> int:
        """Bytes of a run."""
        return max(1, min(self.part, max(_LEAST_RUN, self.expected // _RUNS)))

    @property
    def page(self) -> int:
        """Bytes of a page: twice a bucket's share of a run. Each page has a cost; reading a byte twice has little."""
        return min(_MOST_PAGE, max(_LEAST_PAGE, 2 * self.run * self.part // max(1, self.expected)))

    def add(self, index: int, batches: Iterable[pa.RecordBatch]) -> int:
        """Take what `batches` gives as the runs of `index`, all or nothing. Returns its rows."""
        self.folder.mkdir(parents=True, exist_ok=True)
        rows = 0
        with RunWriter(self.folder / f"{index:05d}.run", self.budget) as writer:
            for part in groups(batches, self.run):
                with self._gate:
                    rows += self._add_run(writer, part)
        self.runs[index], self._held[index] = writer.runs, writer.held
        return rows

    def _add_run(self, writer: RunWriter, part: list[pa.RecordBatch]) -> int:
        """The rows of all batches, which are let go, as a run. Returns their number."""
        rows = merged(part)
        part.clear()
        keys = sort_keys(rows.column(self.key))
        order = None if bool(np.all(keys[:-1] <= keys[1:])) else _order(keys)  # None: as in a table filled in key order
        keys = keys if order is None else keys[order]
        step = max(1, rows.num_rows * self.page // max(1, rows.nbytes))
        if self.budget.take(rows.nbytes):
            writer.hold(Piece(_taken(rows, order, 0, len(keys)), keys), step)
        else:
            blocks = (_taken(rows, order, start, start + _BLOCK * step) for start in range(0, len(keys), _BLOCK * step))
            writer.write((page for block in blocks for page in slices(block, step)), keys[::step].copy(), keys[-1])
        return len(keys)

    def buckets(self) -> tuple[Bucket, ...]:
        """Adjoining buckets of about `part` bytes that cover all keys; at least one."""
        runs: list[Run | Held] = [run for of in self.runs.values() for run in of]
        runs += [run for of in self._held.values() for run in of]
        if not runs:
            return (Bucket(0, None, None),)
        firsts, sizes = np.concatenate([r.firsts for r in runs]), np.concatenate([r.sizes for r in runs])
        order = np.argsort(firsts, kind="stable")
        reached = np.cumsum(sizes[order])
        count = max(1, -(-int(reached[-1]) // self.part))
        positions = np.searchsorted(reached, [reached[-1] * n / count for n in range(1, count)], side="right")
        cuts = np.unique(firsts[order][positions])
        edges = (None, *cuts, None)
        return tuple(Bucket(i, low, high) for i, (low, high) in enumerate(pairwise(edges)))

    def read(self, bucket: Bucket, *, nbytes: int) -> Iterator[pa.RecordBatch]:
        """The rows of a bucket in key order, in batches of about `nbytes` bytes."""
        extracts = [Extract(run, run.pages_of(bucket)) for runs in self.runs.values() for run in runs]
        extracts = [extract for extract in extracts if extract.pages]
        with self._memory.of(sum(extract.nbytes for extract in extracts)) as memory:
            read = (Piece(page, sort_keys(page.column(self.key))) for page in read_extracts(extracts, memory))
            held = (run.piece for runs in self._held.values() for run in runs)
            pieces = [piece for piece in (p.within(bucket) for p in (*held, *read)) if piece.keys.size]
            yield from _in_order(pieces, nbytes)  # copies: the memory is used again

    def clear(self) -> None:
        """Remove the files, and let go what is in memory."""
        self.runs.clear()
        self._held.clear()
        self._memory.release()
        shutil.rmtree(self.folder, ignore_errors=True)


def _in_order(pieces: list[Piece], nbytes: int) -> Iterator[pa.RecordBatch]:
    """Copies of all rows in the order of their keys, in batches of about `nbytes` bytes."""
    if not pieces:
        return
    rows, keys = merged([piece.rows for piece in pieces]), np.concatenate([piece.keys for piece in pieces])
    order, step = _order(keys), max(1, rows.num_rows * nbytes // max(1, rows.nbytes))
    for start in range(0, len(order), step):
        yield _taken(rows, order, start, start + step)


def _taken(rows: pa.RecordBatch, order: npt.NDArray[np.int64] | None, start: int, stop: int) -> pa.RecordBatch:
    """The rows from `start` to before `stop` of those in order; where that is None, they are in it already."""
    return rows.slice(start, stop - start) if order is None else rows.take(pa.array(order[start:stop]))


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
