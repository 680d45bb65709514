"""Sorting here: any order comes out in key order, whole, whatever the sizes of parts and pages."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tasks.contracts import POSTS
from tasks.errors import ReadError
from tasks.source.model import TableInfo
from tasks.source.patch import Bounds
from tasks.source.runs import Budget
from tasks.source.sorting import Sorter
from tasks.source.units import BucketUnit, SortPlan, save_runs, sorter_of
from tasks.workspace import Spool

SCHEMA = pa.schema([("id", pa.uuid()), ("content", pa.string())])
# Keys that share their first eight bytes, and bytes of zero at the end, are what a shortcut would get wrong.
UUIDS = st.one_of(
    st.uuids(),
    st.integers(0, 300).map(lambda n: UUID(int=n)),
    st.integers(0, 9).map(lambda n: UUID(int=n << 120)),
)


def batches_of(keys: list[UUID], size: int) -> list[pa.RecordBatch]:
    columns = [pa.array([k.bytes for k in keys], pa.uuid()), pa.array([f"text of {k}" for k in keys])]
    whole = pa.RecordBatch.from_arrays(columns, schema=SCHEMA)
    return [whole.slice(start, size) for start in range(0, len(keys), size)]


def in_order(sorter: Sorter) -> list[dict[str, object]]:
    read = [batch for bucket in sorter.buckets() for batch in sorter.read(bucket, nbytes=500)]
    return [row for batch in read for row in batch.to_pylist()]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.lists(UUIDS, max_size=60), max_size=4),
    st.integers(1, 25),
    st.sampled_from([200, 3_000, 2**20]),
    st.sampled_from([0, 2_000, 2**20]),
)
def test_every_row_comes_once_in_key_order(
    tmp_path: Path, parts: list[list[UUID]], size: int, part: int, held: int
) -> None:
    """held: bytes that stay in memory: none, some or all."""
    sorter = Sorter(tmp_path / "runs", "id", part, part, Budget(held))
    for index, keys in enumerate(parts):
        assert sorter.add(index, batches_of(keys, size)) == len(keys)
    expected = sorted((key for keys in parts for key in keys), key=lambda key: key.bytes)
    assert [row["id"] for row in in_order(sorter)] == expected
    assert all(row["content"] == f"text of {row['id']}" for row in in_order(sorter))
    sorter.clear()
    assert not (tmp_path / "runs").exists()


def test_a_slice_that_is_written_again_replaces_its_rows(tmp_path: Path) -> None:
    sorter = Sorter(tmp_path, "id", 1_000, expected=1_000)
    keys = [UUID(int=n) for n in range(50)]
    sorter.add(0, batches_of(keys[:20], 7))

    def broken() -> Iterator[pa.RecordBatch]:
        yield from batches_of(keys[20:30], 3)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        sorter.add(1, broken())
    sorter.add(1, batches_of(keys[20:], 9))
    assert [row["id"] for row in in_order(sorter)] == keys


def test_a_table_that_is_read_again_at_once_has_the_runs_of_the_second_time(tmp_path: Path) -> None:
    """As after a lost snapshot, where the disk's clock has not moved since the first one was sorted."""
    plan = SortPlan(tmp_path / "unsorted", "id", 1_000, 1_000)
    info, spool, bounds = TableInfo(POSTS, {}, 0), Spool(tmp_path, SCHEMA), Bounds(9, 999)
    for keys in ([UUID(int=n) for n in range(8)], [UUID(int=n) for n in range(2, 60)]):
        sorter = plan.sorter()
        sorter.add(0, batches_of(keys, 5))
        index = save_runs(plan, sorter)
        for path in plan.folder.iterdir():
            os.utime(path, (1, 1))
        units = [BucketUnit(info, bucket, plan, spool, bounds, index) for bucket in sorter.buckets()]
        read = [rows for unit in units for rows in sorter_of(unit).read(unit.bucket, nbytes=500)]
        assert [row["id"] for rows in read for row in rows.to_pylist()] == keys
        sorter.clear()


def test_what_a_failed_slice_held_in_memory_is_free_again(tmp_path: Path) -> None:
    budget = Budget(10_000)
    sorter = Sorter(tmp_path, "id", 1_000, 1_000, budget)
    keys = [UUID(int=n) for n in range(50)]

    def broken() -> Iterator[pa.RecordBatch]:
        yield from batches_of(keys, 20)
        raise ConnectionError

    with pytest.raises(ConnectionError):
        sorter.add(0, broken())
    assert budget.take(10_000)
    assert not budget.take(1)
    sorter.add(0, batches_of(keys[::-1], 20))  # without room in memory: from the disk
    assert [row["id"] for row in in_order(sorter)] == keys
    assert all(run.firsts.base is None for run in sorter.runs[0])  # else each run keeps all of its keys


def test_a_file_that_was_cut_is_an_error(tmp_path: Path) -> None:
    sorter = Sorter(tmp_path, "id", 1_000, expected=1_000)
    sorter.add(0, batches_of([UUID(int=n) for n in range(50)], 50))
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(ReadError, match="shorter than it was written"):
        in_order(sorter)


def test_a_table_of_more_than_a_hundred_thousand_buckets_is_read_in_their_order(tmp_path: Path) -> None:
    spool, keys = Spool(tmp_path, SCHEMA), [UUID(int=n) for n in range(4)]
    for index, key in zip((9_999, 10_000, 99_999, 100_000), keys, strict=True):
        spool.write(index, batches_of([key], 1))
    assert spool.table()["id"].to_pylist() == keys


def test_whole_numbers_are_sorted_by_value(tmp_path: Path) -> None:
    values = [5, -3, 2**62, 0, -(2**62)]
    sorter = Sorter(tmp_path, "id", 39, 64, Budget(40))
    sorter.add(0, [pa.record_batch({"id": pa.array(values, pa.int64())})])
    assert len(sorter.buckets()) == 2, "of 40 bytes, as a bucket has 39 at most"
    assert [row["id"] for row in in_order(sorter)] == sorted(values)


def test_a_null_key_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ReadError, match="key is null"):
        Sorter(tmp_path, "id", 64, expected=64).add(0, [pa.record_batch({"id": pa.array([1, None], pa.int64())})])
