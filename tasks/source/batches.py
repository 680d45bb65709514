"""Batches of bounded size: merged from pages, split where a batch holds too much."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator

import pyarrow as pa
import pyarrow.compute as pc

from tasks.errors import ReadError
from tasks.source.model import TableInfo
from tasks.source.ranges import KeyRange


def bounded(batches: Iterable[pa.RecordBatch], *, rows: int, nbytes: int) -> Iterator[pa.RecordBatch]:
    """The same rows in the same order, in batches of at most `rows` rows and `nbytes` bytes (a row is never cut).

    Small batches are merged until they come to a quarter of that: from there on a copy costs more than it saves.
    """
    held: list[pa.RecordBatch] = []
    held_rows = held_bytes = 0
    for batch in batches:
        for piece in _split(batch, rows, nbytes):
            if held and (held_rows + piece.num_rows > rows or held_bytes + piece.nbytes > nbytes):
                yield _merged(held)
                held, held_rows, held_bytes = [], 0, 0
            held.append(piece)
            held_rows, held_bytes = held_rows + piece.num_rows, held_bytes + piece.nbytes
            if 4 * held_rows >= rows or 4 * held_bytes >= nbytes:
                yield _merged(held)
                held, held_rows, held_bytes = [], 0, 0
    if held:
        yield _merged(held)


def _split(batch: pa.RecordBatch, rows: int, nbytes: int) -> Iterator[pa.RecordBatch]:
    if batch.num_rows == 0:
        return
    if batch.num_rows == 1 or (batch.num_rows <= rows and batch.nbytes <= nbytes):
        yield batch
        return
    middle = batch.num_rows // 2 if batch.num_rows <= 2 * rows else rows
    yield from _split(batch.slice(0, middle), rows, nbytes)
    yield from _split(batch.slice(middle), rows, nbytes)


def _merged(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return batches[0] if len(batches) == 1 else pa.concat_batches(batches)


def require_rising(keys: pa.Array, within: KeyRange, what: str) -> None:
    """ReadError unless keys rise strictly, without nulls, inside their range: else keyset pages prove nothing."""
    if keys.null_count:
        raise ReadError(f"{what}: a row without a key came back.", remedy="The key must be unique and not null.")
    rising = len(keys) < 2 or pc.all(pc.less(keys[:-1], keys[1:])).as_py()
    first, last = keys[0].as_py(), keys[-1].as_py()
    inside = (within.after is None or first > within.after) and (within.until is None or last <= within.until)
    if not (rising and inside):
        raise ReadError(
            f"{what}: the rows are not in the order of their keys, or a key came twice.",
            remedy="The key must be unique, and sorted by the database as uuid or bigint.",
        )


def filled_of(batch: pa.RecordBatch, info: TableInfo) -> Counter[str]:
    """Non-null values of each column that the source has; a value that its column cannot hold is none."""
    return Counter({c.name: batch.num_rows - batch.column(c.name).null_count for c in info.columns})
