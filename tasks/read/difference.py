"""What differs between two tables of one report: rows by its keys, cells with their old and new value. Pure Arrow."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.arrow.arrays import differs

OLD, NEW = "_old", "_new"
_BASE, _RUN = "__base__", "__run__"


@dataclass(frozen=True, slots=True)
class Difference:
    """Rows only in the run, rows only in the base, and rows in both that differ.

    changed: keys, then `<column>_old` and `<column>_new` for each column that differs in any row. cells: of each such
    column, in how many rows it differs. All in the order of the keys.
    """

    added: pa.Table
    removed: pa.Table
    changed: pa.Table
    cells: dict[str, int]


def compare(base: pa.Table, run: pa.Table, keys: Sequence[str]) -> Difference:
    """How `run` differs from `base`; each has at most one row for given keys. Empty keys: the only row of each.

    Null equals null and NaN equals NaN; null and NaN differ. Columns that only one side has are not compared.
    """
    common = [name for name in run.column_names if name in base.column_names and name not in keys]
    if not keys:
        base_rows, run_rows = _row_numbers(base.num_rows), _row_numbers(run.num_rows)
        both = min(base.num_rows, run.num_rows)
        pairs = (base_rows[:both], run_rows[:both])
        added, removed = run_rows[both:], base_rows[both:]
    else:
        pairs, added, removed = _matched(base, run, keys)
    changed, cells = _changed(base.take(pairs[0]), run.take(pairs[1]), keys, common)
    return Difference(_in_order(run.take(added), keys), _in_order(base.take(removed), keys), changed, cells)


def _row_numbers(rows: int) -> pa.Array:
    return pa.array(np.arange(rows))


def _matched(
    base: pa.Table, run: pa.Table, keys: Sequence[str]
) -> tuple[tuple[pa.ChunkedArray, pa.ChunkedArray], pa.ChunkedArray, pa.ChunkedArray]:
    """Row numbers of both sides where the keys are equal; those of the run alone; those of the base alone."""
    sides = [_of_one_type(rows.select(list(keys)), other) for rows, other in ((run, base), (base, run))]
    left = sides[0].append_column(_RUN, _row_numbers(run.num_rows))
    right = sides[1].append_column(_BASE, _row_numbers(base.num_rows))
    joined = left.join(right, list(keys), join_type="full outer").sort_by([(key, "ascending") for key in keys])
    in_base, in_run = pc.is_valid(joined[_BASE]), pc.is_valid(joined[_RUN])
    both = joined.filter(pc.and_(in_base, in_run))
    added, removed = joined.filter(pc.invert(in_base)), joined.filter(pc.invert(in_run))
    return (both[_BASE], both[_RUN]), added[_RUN], removed[_BASE]


def _of_one_type(keys: pa.Table, other: pa.Table) -> pa.Table:
    """The keys; one whose type changed, as where a table got another key, as text."""
    fields = [f if f.type == other.schema.field(f.name).type else f.with_type(pa.string()) for f in keys.schema]
    return keys.cast(pa.schema(fields))


def _changed(
    old: pa.Table, new: pa.Table, keys: Sequence[str], columns: Sequence[str]
) -> tuple[pa.Table, dict[str, int]]:
    """Rows that differ, from two tables of the same rows in the same order."""
    masks = {name: _cells_differ(old[name], new[name]) for name in columns}
    cells = {name: count for name, mask in masks.items() if (count := pc.sum(mask).as_py() or 0)}
    any_cell = pa.chunked_array([pa.array([False] * new.num_rows, pa.bool_())])
    for name in cells:
        any_cell = pc.or_(any_cell, masks[name])
    table = new.select(list(keys))
    for name in cells:
        for suffix, side in ((OLD, old), (NEW, new)):
            table = table.append_column(side.schema.field(name).with_name(f"{name}{suffix}"), side[name])
    return table.filter(any_cell), cells


def _cells_differ(old: pa.ChunkedArray, new: pa.ChunkedArray) -> pa.ChunkedArray:
    """Row by row whether the values differ, never null; a column whose type changed is compared as text."""
    if old.type != new.type:
        old, new = old.cast(pa.string()), new.cast(pa.string())
    unequal = differs(old, new)
    if pa.types.is_floating(new.type):
        both_nan = pc.and_(pc.fill_null(pc.is_nan(old), False), pc.fill_null(pc.is_nan(new), False))
        unequal = pc.and_not(unequal, both_nan)
    return unequal


def _in_order(table: pa.Table, keys: Sequence[str]) -> pa.Table:
    return table.sort_by([(key, "ascending") for key in keys]) if keys else table
