"""Record batches of another size: the same rows in the same order, however they were cut before."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import pyarrow as pa

# Large enough that the fixed cost of a batch does not count, small enough to stay near the processor.
WORK_ROWS = 20_000
WORK_BYTES = 16 * 2**20


class _Held:
    """Batches that wait to be handed out as one."""

    def __init__(self) -> None:
        self.batches: list[pa.RecordBatch] = []
        self.rows = self.nbytes = 0

    def add(self, batch: pa.RecordBatch) -> None:
        self.batches.append(batch)
        self.rows, self.nbytes = self.rows + batch.num_rows, self.nbytes + batch.nbytes

    def take(self) -> list[pa.RecordBatch]:
        taken, self.batches, self.rows, self.nbytes = self.batches, [], 0, 0
        return taken


def slices(batch: pa.RecordBatch, rows: int) -> Iterator[pa.RecordBatch]:
    """A batch in pieces of at most `rows` rows, without a copy; none of a batch without rows."""
    for start in range(0, batch.num_rows, rows):
        yield batch.slice(start, rows)


def for_work(
    batches: Iterable[pa.RecordBatch], *, rows: int = WORK_ROWS, nbytes: int = WORK_BYTES
) -> Iterator[pa.RecordBatch]:
    """Batches that have at least `rows` rows or `nbytes` bytes, but for the last; never twice as many rows.

    Each is a copy that starts at its buffers' first byte, which is what work on the buffers themselves needs.
    """
    held = _Held()
    for batch in batches:
        for piece in slices(batch, rows):
            held.add(piece)
            if held.rows >= rows or held.nbytes >= nbytes:
                yield pa.concat_batches(held.take())
    if held.batches:
        yield pa.concat_batches(held.take())


def exactly(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """Batches of exactly `rows` rows, the last one of what is left."""
    held = _Held()
    for batch in batches:
        while batch.num_rows:
            piece = batch.slice(0, rows - held.rows)
            batch = batch.slice(piece.num_rows)
            held.add(piece)
            if held.rows == rows:
                yield merged(held.take())
    if held.batches:
        yield merged(held.take())


def bounded(batches: Iterable[pa.RecordBatch], *, rows: int, nbytes: int) -> Iterator[pa.RecordBatch]:
    """Batches of at most `rows` rows and `nbytes` bytes (a row is never cut).

    Small batches are merged until they have a quarter of that: from there on a copy costs more than it saves.
    """
    held = _Held()
    for batch in batches:
        for piece in _halved(batch, rows, nbytes):
            if held.batches and (held.rows + piece.num_rows > rows or held.nbytes + piece.nbytes > nbytes):
                yield merged(held.take())
            held.add(piece)
            if 4 * held.rows >= rows or 4 * held.nbytes >= nbytes:
                yield merged(held.take())
    if held.batches:
        yield merged(held.take())


def groups(batches: Iterable[pa.RecordBatch], nbytes: int) -> Iterator[list[pa.RecordBatch]]:
    """The batches as they are, in lists of at least `nbytes` bytes, but for the last."""
    held = _Held()
    for batch in batches:
        if batch.num_rows:
            held.add(batch)
        if held.batches and held.nbytes >= nbytes:
            yield held.take()
    if held.batches:
        yield held.take()


def merged(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    """Several batches as one; a single one is not copied."""
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def _halved(batch: pa.RecordBatch, rows: int, nbytes: int) -> Iterator[pa.RecordBatch]:
    if batch.num_rows == 0:
        return
    if batch.num_rows == 1 or (batch.num_rows <= rows and batch.nbytes <= nbytes):
        yield batch
        return
    middle = batch.num_rows // 2 if batch.num_rows <= 2 * rows else rows
    yield from _halved(batch.slice(0, middle), rows, nbytes)
    yield from _halved(batch.slice(middle), rows, nbytes)
