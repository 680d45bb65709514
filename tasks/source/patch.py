"""Changing a spool that is already written: rows by key put in, replaced or taken out, key order kept.

Only the files that change are written again, batch by batch, so memory holds one batch and the changes.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from tasks.arrow.arrays import rows_without
from tasks.arrow.rebatch import bounded
from tasks.workspace import Spool, read_batches


@dataclass(frozen=True, slots=True)
class Bounds:
    """Rows and bytes that a batch may have at most."""

    rows: int
    nbytes: int


def patch_rows(spool: Spool, key: str, put: pa.Table, drop: pa.Array, bounds: Bounds) -> None:
    """Put rows in (in place of those with their keys) and take rows out.

    put: rows of the spool's schema, at most one a key. drop: keys. The first file takes what is before every key.
    """
    put = put.sort_by(key)
    gone = pa.concat_arrays([drop, put.column(key).combine_chunks()])
    if not len(gone):
        return
    indices = [int(path.stem) for path in spool.files()] or [0]
    firsts = [_first_key(spool, index, key) for index in indices]
    for position, index in enumerate(indices):
        later = next((first for first in firsts[position + 1 :] if first is not None), None)
        mine = put if later is None else put.filter(pc.less(put.column(key), later))
        put = put.slice(mine.num_rows)
        if mine.num_rows or _holds_any(spool, index, key, gone):
            spool.write(index, bounded(_patched(spool, index, key, mine, gone), rows=bounds.rows, nbytes=bounds.nbytes))


def keys_of(spool: Spool, index: int, key: str) -> Iterator[pa.Array]:
    """The keys of one file, a batch at a time."""
    if spool.path(index).exists():
        for batch in read_batches(spool.path(index)):
            yield batch.column(key)


def _first_key(spool: Spool, index: int, key: str) -> object:
    return next((keys[0].as_py() for keys in keys_of(spool, index, key) if len(keys)), None)


def _holds_any(spool: Spool, index: int, key: str, keys: pa.Array) -> bool:
    return any(pc.any(pc.is_in(held, keys)).as_py() for held in keys_of(spool, index, key) if len(held))


def _patched(spool: Spool, index: int, key: str, put: pa.Table, gone: pa.Array) -> Iterator[pa.RecordBatch]:
    """The file's rows without those that are gone, and with those of `put` in their position."""
    if spool.path(index).exists():
        for batch in read_batches(spool.path(index)):
            before = put.filter(pc.less_equal(put.column(key), batch.column(key)[-1]))
            put = put.slice(before.num_rows)
            kept = rows_without(pa.Table.from_batches([batch]), key, gone)
            mixed = kept if not before.num_rows else pa.concat_tables([kept, before]).sort_by(key)
            yield from mixed.combine_chunks().to_batches()
    yield from put.combine_chunks().to_batches()
