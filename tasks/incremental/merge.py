"""Cleaned files from the base's and the changes: the bytes that a full night would write, part by part.

Unchanged rows come from the base's files, never from the cleaned tables: a row that the database refused is in the
files and not, or differently, in the table. An insert shifts the bounds of all parts behind it, so a table or month is
written again from the first part that a change is in; all else stays the base's, and is copied inside Storage.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.arrow.arrays import rows_without
from tasks.contracts import Table
from tasks.files.clean import FileShape, clean_entry, write_parts
from tasks.files.manifest import FileEntry
from tasks.files.parquet import file_schema
from tasks.incremental.store import BaseFiles

BATCH_ROWS = 65_536
_FEW = 200  # changed rows of a batch up to which looking their positions up is quicker than sorting the batch


@dataclass(frozen=True, slots=True)
class Edit:
    """What changes in one folder of files. put: rows in the files' shape, sorted by key; drop: keys, sorted.

    Keys of `put` are among `drop`.
    """

    put: pa.Table
    drop: pa.Array


def merge_folder(
    table: Table, base: Sequence[FileEntry], edit: Edit, files: BaseFiles, root: Path, folder: str, shape: FileShape,
    *, always: bool = False,
) -> list[FileEntry]:  # fmt: skip
    """The files of a folder after the edit, in their order; those that are not under `root` are the base's.

    base: its files in this folder, in their order. always: keep a file also without rows.
    """
    start = _first_changed(table, base, edit, files)
    batches = _merged(table, files.paths(base[start:]), edit)
    written = write_parts(table, batches, root / folder, shape, always=always and start == 0, first=start)
    return [*base[:start], *(clean_entry(table, file, root) for file in written)]


def _first_changed(table: Table, base: Sequence[FileEntry], edit: Edit, files: BaseFiles) -> int:
    """The first part that the edit is in. The last part takes what comes behind all, as it may not be full."""
    for number, entry in enumerate(base[:-1]):
        if pc.less_equal(edit.drop[0], _last_key(table, files.path(entry))).as_py():
            return number
    return max(0, len(base) - 1)


def _last_key(table: Table, file: Path) -> pa.Scalar:
    with pq.ParquetFile(file) as parquet:
        keys = parquet.read_row_group(parquet.num_row_groups - 1, columns=[table.key.name])
    return keys.column(0)[-1]


def _merged(table: Table, parts: Iterable[Path], edit: Edit) -> Iterator[pa.RecordBatch]:
    """The rows of the parts after the edit."""
    schema = file_schema(table)

    def rows() -> Iterator[pa.RecordBatch]:
        for part in parts:
            with pq.ParquetFile(part) as parquet:
                for batch in parquet.iter_batches(BATCH_ROWS):
                    yield pa.RecordBatch.from_arrays(batch.columns, schema=schema)

    return edited(table.key.name, rows(), edit)


def edited(key: str, batches: Iterable[pa.RecordBatch], edit: Edit) -> Iterator[pa.RecordBatch]:
    """The rows of batches sorted by key without those dropped, and with those put in their positions."""
    put, drop = edit.put, edit.drop
    for rows in (batch for batch in batches if batch.num_rows):
        before = put.filter(pc.less_equal(put[key], rows[key][-1]))
        gone = drop.filter(pc.less_equal(drop, rows[key][-1]))
        put, drop = put.slice(before.num_rows), drop.slice(len(gone))
        yield from _edited(key, rows, before, gone).combine_chunks().to_batches() if len(gone) else [rows]
    yield from put.combine_chunks().to_batches()


def _edited(key: str, rows: pa.RecordBatch, put: pa.Table, drop: pa.Array) -> pa.Table:
    """Rows sorted by key, without those dropped and with those put in their positions. drop, put: as in `Edit`."""
    few = _FEW * (1 + rows.num_rows // BATCH_ROWS)
    return (_spliced if len(drop) <= few else _sorted)(key, rows, put, drop)


def _sorted(key: str, rows: pa.RecordBatch, put: pa.Table, drop: pa.Array) -> pa.Table:
    """The rows of a batch after an edit with many rows."""
    kept = pa.Table.from_batches([rows_without(rows, key, drop)])
    return pa.concat_tables([kept, put]).sort_by(key) if put.num_rows else kept


def _spliced(key: str, rows: pa.RecordBatch, put: pa.Table, drop: pa.Array) -> pa.Table:
    """The same for few rows: the positions of their keys are looked up, and no other row is compared or moved."""
    keys, new = rows[key], {k: at for at, k in enumerate(put[key].to_pylist())}
    pieces, start = [pa.Table.from_batches([rows.slice(0, 0)])], 0
    for gone in drop.to_pylist():
        at = bisect_left(range(len(keys)), gone, lo=start, key=lambda i: keys[i].as_py())
        pieces.append(pa.Table.from_batches([rows.slice(start, at - start)]))
        start = at + 1 if at < len(keys) and keys[at].as_py() == gone else at
        if gone in new:
            pieces.append(put.slice(new[gone], 1))
    return pa.concat_tables([*pieces, pa.Table.from_batches([rows.slice(start)])])
