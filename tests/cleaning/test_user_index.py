"""The index of kept users finds every id, and nothing else, whatever the ids."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tasks.cleaning import user_index
from tasks.cleaning.user_index import UserIndex, index_schema

ids = st.one_of(st.uuids().map(str), st.integers(0, 40).map(lambda n: str(UUID(int=n << 64 | n * 7))))


def index_of(keys: list[str] | list[int]) -> UserIndex:
    kind = pa.int64() if keys and isinstance(keys[0], int) else pa.string()
    table = index_schema().empty_table()
    columns = {name: pa.nulls(len(keys), table.schema.field(name).type) for name in table.schema.names}
    return UserIndex(pa.table({**columns, "id": pa.array(keys, kind)}))


@given(st.lists(ids, unique=True), st.lists(st.one_of(st.none(), ids)), st.integers(0, 2))
def test_positions_of_uuids(known: list[str], asked: list[str | None], offset: int) -> None:
    known.sort()
    asked += known
    array = pa.array(asked, pa.string()).slice(offset)
    expected = [known.index(key) if key in known else -1 for key in array.to_pylist()]
    assert index_of(known).positions(array).tolist() == expected


def test_positions_of_bigints() -> None:
    index = index_of([-5, 0, 7, 2**62])
    assert index.positions(pa.array([7, None, 1, -5, 0, 2**62], pa.int64())).tolist() == [2, -1, -1, 0, 1, 3]


def test_ids_that_mix_to_one_word_are_distinguished() -> None:
    lookup = user_index._Lookup(np.array([[0, 5]], np.uint64), np.uint64(1))
    same = np.array([[1, 4]], np.uint64)
    assert lookup.mix(lookup.words).tolist() == lookup.mix(same).tolist()
    index = index_of([str(UUID(int=5))])
    index.__dict__["_lookup"] = lookup
    assert index.positions(pa.array([str(UUID(int=1 << 64 | 4)), str(UUID(int=5))])).tolist() == [-1, 0]


def test_it_survives_the_disk(tmp_path: Path) -> None:
    index = index_of([str(UUID(int=n)) for n in range(3)])
    index.save(tmp_path / "index.arrow")
    assert UserIndex.load(tmp_path / "index.arrow").table.equals(index.table)
