"""The merge of two ordered streams is what sets say it is, however they are cut into batches."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.sink.merge import STAMPED, merge

Rows = dict[int, str]
rows = st.dictionaries(st.integers(-50, 50), st.sampled_from("ab"), max_size=40)


def key(number: int, kind: pa.DataType) -> object:
    return number if kind == pa.int64() else f"{number + 1000:08d}"


def stream(content: Rows, size: int, kind: pa.DataType) -> Iterator[pa.RecordBatch]:
    ordered = sorted(content)
    for start in range(0, len(ordered), size):
        part = ordered[start : start + size]
        ids = pa.array([key(n, kind) for n in part], kind)
        yield pa.RecordBatch.from_arrays([ids, pa.array([content[n] for n in part])], names=["id", "row_hash"])
        yield pa.RecordBatch.from_arrays([ids.slice(0, 0), pa.array([], pa.string())], names=["id", "row_hash"])


@pytest.mark.parametrize("kind", [pa.int64(), pa.string()], ids=str)
@given(ours=rows, theirs=rows, size=st.integers(1, 9), their_size=st.integers(1, 9))
def test_differences_are_those_of_the_sets(
    kind: pa.DataType, ours: Rows, theirs: Rows, size: int, their_size: int
) -> None:
    found = list(merge(stream(ours, size, kind), stream(theirs, their_size, kind)))
    changed = [k for d in found if d.batch for k in d.batch.filter(d.changed)["id"].to_pylist()]
    assert changed == [key(n, kind) for n in sorted(ours) if theirs.get(n) != ours[n]]
    assert [k for d in found for k in d.gone.to_pylist()] == [key(n, kind) for n in sorted(theirs) if n not in ours]
    assert sum(d.inserts for d in found) == len(ours.keys() - theirs.keys())
    assert sum(d.updates for d in found) == sum(theirs.get(n, v) != v for n, v in ours.items())
    assert sum(d.unchanged for d in found) == sum(theirs.get(n) == v for n, v in ours.items())
    assert sum(d.target_rows for d in found) == len(theirs)


Stamped = dict[int, tuple[str, int | None, int | None]]
stamped = st.dictionaries(
    st.integers(0, 12),
    st.tuples(st.sampled_from("ab"), st.sampled_from([None, 1, 2]), st.sampled_from([None, 0, 4])),
    max_size=12,
)


def stamped_stream(content: Stamped, size: int) -> Iterator[pa.RecordBatch]:
    ordered = sorted(content)
    for start in range(0, len(ordered), size):
        rows = [(key, *content[key]) for key in ordered[start : start + size]]
        kinds = (pa.int64(), pa.string(), pa.int64(), pa.int64())
        columns = [pa.array(column, kind) for column, kind in zip(zip(*rows, strict=True), kinds, strict=True)]
        yield pa.RecordBatch.from_arrays(columns, names=list(STAMPED))


@given(ours=stamped, theirs=stamped, same_keys=st.booleans(), size=st.integers(1, 9))
def test_rows_of_other_stamps_are_written_and_a_hash_that_differs_alone_is_suspect(
    ours: Stamped, theirs: Stamped, same_keys: bool, size: int
) -> None:
    """As a full night compares: a fingerprint or mask that differs, or is null on one side, is written again."""
    theirs = {key: theirs.get(key, row) for key, row in ours.items()} if same_keys else theirs
    found = list(merge(stamped_stream(ours, size), stamped_stream(theirs, 5)))
    changed = [k for d in found if d.batch for k in d.batch.filter(d.changed)["id"].to_pylist()]
    assert changed == [k for k in sorted(ours) if theirs.get(k) != ours[k]]
    equal = [k for k in ours.keys() & theirs.keys() if ours[k][0] == theirs[k][0]]
    assert sum(d.restamped for d in found) == sum(ours[k] != theirs[k] for k in equal)
    assert sum(d.unchanged for d in found) == len(equal)
    suspects = [k for d in found if d.batch and d.suspect for k in d.batch.filter(d.suspect)["id"].to_pylist()]
    others = [k for k in sorted(ours.keys() & theirs.keys()) if ours[k][0] != theirs[k][0]]
    assert suspects == [k for k in others if ours[k][1] is not None and ours[k][1] == theirs[k][1]]
