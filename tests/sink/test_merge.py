"""The merge of two ordered streams is what sets say it is, however they are cut into batches."""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.sink.merge import merge

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
