"""Batches of another size hold the same rows in the same order, within the bounds that were asked for."""

from __future__ import annotations

import itertools

import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tasks.arrow.rebatch import bounded, exactly, for_work, groups, slices

SIZES = st.lists(st.integers(0, 50), max_size=15)


def batches_of(sizes: list[int]) -> list[pa.RecordBatch]:
    numbers = iter(range(sum(sizes)))
    return [pa.record_batch({"n": pa.array(list(itertools.islice(numbers, size)), pa.int64())}) for size in sizes]


def numbers_in(batches: list[pa.RecordBatch]) -> list[int]:
    return [number for batch in batches for number in batch.column("n").to_pylist()]


@given(sizes=SIZES, rows=st.integers(1, 40))
def test_regrouping_keeps_rows_and_order(sizes: list[int], rows: int) -> None:
    groups = list(exactly(batches_of(sizes), rows))
    assert numbers_in(groups) == list(range(sum(sizes)))
    assert all(group.num_rows == rows for group in groups[:-1])
    assert all(0 < group.num_rows <= rows for group in groups[-1:])


@given(sizes=SIZES, rows=st.integers(1, 40), nbytes=st.integers(8, 400))
def test_bounded_batches_stay_below_both_bounds(sizes: list[int], rows: int, nbytes: int) -> None:
    cut = list(bounded(batches_of(sizes), rows=rows, nbytes=nbytes))
    assert numbers_in(cut) == list(range(sum(sizes)))
    assert all(0 < batch.num_rows <= rows and batch.nbytes <= nbytes for batch in cut)


@given(sizes=SIZES, rows=st.integers(1, 40), nbytes=st.integers(8, 400))
def test_batches_for_work_are_full_and_own_their_buffers(sizes: list[int], rows: int, nbytes: int) -> None:
    cut = list(for_work(batches_of(sizes), rows=rows, nbytes=nbytes))
    assert numbers_in(cut) == list(range(sum(sizes)))
    assert all(batch.num_rows >= rows or batch.nbytes >= nbytes for batch in cut[:-1])
    assert all(batch.num_rows < 2 * rows and batch.column("n").offset == 0 for batch in cut)


@given(sizes=SIZES, nbytes=st.integers(1, 400))
def test_groups_leave_batches_as_they_are(sizes: list[int], nbytes: int) -> None:
    batches = batches_of(sizes)
    found = list(groups(batches, nbytes))
    assert [batch for group in found for batch in group] == [batch for batch in batches if batch.num_rows]
    assert all(sum(batch.nbytes for batch in group) >= nbytes for group in found[:-1])


def test_slices_are_at_most_so_long() -> None:
    (batch,) = batches_of([5])
    assert [piece.num_rows for piece in slices(batch, 2)] == [2, 2, 1]
    assert list(slices(batch.slice(0, 0), 2)) == []
