"""Partial tables on disk: units write sorted pieces, and a tree of merges makes one table of them, by partitions.

A partition is a range of the table's first key, so it depends on the data alone. The pieces of a partition are merged
`FAN_IN` at a time, with one batch of each in memory; each merge is a unit of its own. Nobody holds a whole table.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from pathlib import Path
from typing import Self

import numpy as np
import pyarrow as pa

from tasks.arrow.ahead import at_once
from tasks.arrow.rebatch import exactly
from tasks.cleaning.partials import Columns, Ints, Partial, add_up, empty, packed_keys
from tasks.platform.whole_file import part_of
from tasks.platform.workers import HERE, TOGETHER, Tick, Workers, no_tick
from tasks.workspace import Spool, Workspace

# A merge holds FAN_IN × BATCH_ROWS rows of some 48 bytes (25 MB) a few times over, whatever the size of the table.
BATCH_ROWS = 8_192
FAN_IN = 64
GROUP_ROWS = 400_000
WHOLE = "partial_tables"  # where the partial tables of all posts lie
_IPC = pa.ipc.IpcWriteOptions(compression="lz4")


@dataclass(frozen=True, slots=True)
class Piece:
    """Sorted rows of distinct keys of one partition: neighbouring batches of a file."""

    path: Path
    partition: int
    first: int
    batches: int

    def columns(self) -> Iterator[Columns]:
        """The rows, a batch at a time."""
        with pa.OSFile(str(self.path), "rb") as source, pa.ipc.open_file(source) as reader:
            for index in range(self.first, self.first + self.batches):
                yield columns_of(reader.get_batch(index))


@dataclass
class PieceFile:
    """The pieces of one unit in one file, which gets its name when it is complete; no file where there is no row."""

    partial: Partial
    path: Path
    pieces: list[Piece] = field(default_factory=list)
    _part: Path | None = None
    _sink: pa.OSFile | None = None
    _writer: pa.ipc.RecordBatchFileWriter | None = None

    def write(self, rows: Columns) -> None:
        """Add a piece for each partition. rows: sorted, of distinct keys."""
        found, starts = np.unique(rows[self.partial.keys[0]] // self.partial.span, return_index=True)
        batch = batch_of(self.partial, rows)
        for partition, start, end in zip(found, starts, [*starts[1:], batch.num_rows], strict=True):
            first = self.pieces[-1].first + self.pieces[-1].batches if self.pieces else 0
            size = self._append(batch.slice(int(start), int(end - start)))
            self.pieces.append(Piece(self.path, int(partition), first, size))

    def _append(self, rows: pa.RecordBatch) -> int:
        if self._writer is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._part = part_of(self.path)
            self._sink = pa.OSFile(str(self._part), "wb")
            self._writer = pa.ipc.new_file(self._sink, self.partial.schema, options=_IPC)
        starts = range(0, rows.num_rows, BATCH_ROWS)
        for start in starts:
            self._writer.write_batch(rows.slice(start, BATCH_ROWS))
        return len(starts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if self._part is None or self._writer is None or self._sink is None:
            return
        if kind is None:
            self._writer.close()
        self._sink.close()
        if kind is None:
            self._part.replace(self.path)
        else:
            self._part.unlink()


@dataclass(frozen=True, slots=True)
class PartialTable:
    """A partial table of a run: a file a partition, in key order. group: where it lies; reports read the default."""

    workspace: Workspace
    partial: Partial
    group: str = WHOLE

    @property
    def spool(self) -> Spool:
        return self.workspace.spool(self.group, self.partial.name, self.partial.schema)

    def groups(self, *columns: str) -> Iterator[Columns]:
        """The rows in key order, some `GROUP_ROWS` at a time; rows of equal first keys are in one group.

        columns: to read, among them the first key; all when none is named.
        """
        key, held = self.partial.keys[0], empty(self.partial)
        for batch in exactly(self.spool.batches(columns), GROUP_ROWS):
            held = {name: np.concatenate([held[name], values]) for name, values in columns_of(batch).items()}
            whole = int(np.searchsorted(held[key], held[key][-1]))
            if whole:
                yield {name: values[:whole] for name, values in held.items()}
            held = {name: values[whole:] for name, values in held.items()}
        if len(held[key]):
            yield held

    def whole(self) -> Columns:
        """All rows at once: for a table that is small by definition."""
        return columns_of(self.spool.table())


@dataclass(frozen=True, slots=True)
class MergeUnit:
    """Pieces of one partition, at most `FAN_IN`, to become file `index` of `target`.

    is_last: they are all that is left of the partition.
    """

    partial: Partial
    pieces: tuple[Piece, ...]
    target: Spool
    index: int
    is_last: bool

    def inputs(self) -> list[Path]:
        return sorted({piece.path for piece in self.pieces})


def piece_spool(workspace: Workspace, partial: Partial) -> Spool:
    """Where units leave their pieces, under their numbers."""
    return workspace.spool("pieces", partial.name, partial.schema)


def merge_pieces(
    tables: Iterable[tuple[PartialTable, Sequence[Piece]]], *, workers: Workers = HERE
) -> list[list[Piece]]:
    """Make partial tables of all their pieces, in place of what was there. Returns their files, each as a piece."""
    trees = [_Tree(table, list(pieces)) for table, pieces in tables]
    for tree in trees:
        tree.table.spool.clear()
    while levels := [(tree, unit) for tree in trees for unit in tree.level()]:
        for tree in trees:
            tree.waiting = []
        units = [unit for _, unit in levels]
        for (tree, unit), piece in zip(levels, _merged(units, workers), strict=True):
            (tree.merged if unit.is_last else tree.waiting).append(piece)
    for tree in trees:
        tree.between.remove()
    return [tree.merged for tree in trees]


def _merged(units: Sequence[MergeUnit], workers: Workers) -> Iterable[Piece]:
    """On the workers; in this process two at once, which is what a merge may hold twice."""
    if workers.count:
        return workers.map(merge_unit, units, together=TOGETHER)
    return at_once([partial(merge_unit, unit, no_tick) for unit in units])


@dataclass
class _Tree:
    """The merges of one table. waiting: pieces that the next level makes fewer; merged: the table's files so far."""

    table: PartialTable
    waiting: list[Piece]
    merged: list[Piece] = field(default_factory=list)
    _numbers: Iterator[int] = field(default_factory=count)

    @property
    def between(self) -> Spool:
        return self.table.workspace.spool("merges", self.table.partial.name, self.table.partial.schema)

    def level(self) -> Iterator[MergeUnit]:
        """One level of the tree: of each partition, the pieces in groups."""
        of_partition: dict[int, list[Piece]] = {}
        for piece in self.waiting:
            of_partition.setdefault(piece.partition, []).append(piece)
        for partition, of in sorted(of_partition.items()):
            is_last = len(of) <= FAN_IN
            for start in range(0, len(of), FAN_IN):
                target, index = (self.table.spool, partition) if is_last else (self.between, next(self._numbers))
                yield MergeUnit(self.table.partial, tuple(of[start : start + FAN_IN]), target, index, is_last)


def merge_unit(unit: MergeUnit, tick: Tick) -> Piece:
    """Write the merged file, and return it as a piece."""
    merged = merge_sorted(unit.partial, [piece.columns() for piece in unit.pieces])
    batches = exactly((batch_of(unit.partial, rows) for rows in merged), BATCH_ROWS)
    rows = unit.target.write(unit.index, batches)
    return Piece(unit.target.path(unit.index), unit.pieces[0].partition, 0, -(-rows // BATCH_ROWS))


@dataclass
class _Head:
    """The next rows of a sorted piece: what is left of one batch."""

    partial: Partial
    source: Iterator[Columns]
    rows: Columns = field(default_factory=dict)
    keys: Ints = field(default_factory=lambda: np.empty(0, np.int64))

    def fill(self) -> bool:
        """Read the next batch where nothing is left. False at the end."""
        while not len(self.keys):
            rows = next(self.source, None)
            if rows is None:
                return False
            self.rows, self.keys = rows, packed_keys(self.partial, rows)
        return True

    def take(self, bound: int) -> Columns:
        """The rows up to a key."""
        size = int(np.searchsorted(self.keys, bound, side="right"))
        taken = {name: values[:size] for name, values in self.rows.items()}
        self.rows, self.keys = {name: values[size:] for name, values in self.rows.items()}, self.keys[size:]
        return taken


def merge_sorted(partial: Partial, sources: Sequence[Iterator[Columns]]) -> Iterator[Columns]:
    """Sorted sources of distinct keys as one, rows of equal keys made one; one batch of each source is in memory.

    Up to the smallest of the last keys that are in memory, every source is known.
    """
    heads = [head for head in (_Head(partial, source) for source in sources) if head.fill()]
    while heads:
        bound = min(int(head.keys[-1]) for head in heads)
        yield add_up(partial, [head.take(bound) for head in heads])
        heads = [head for head in heads if head.fill()]


def batch_of(partial: Partial, rows: Columns) -> pa.RecordBatch:
    return pa.RecordBatch.from_arrays([pa.array(rows[name]) for name in partial.schema.names], schema=partial.schema)


def columns_of(rows: pa.RecordBatch | pa.Table) -> Columns:
    return {name: rows[name].to_numpy() for name in rows.schema.names}
