"""The index of kept users finds every id, and nothing else, whatever the ids."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tasks.cleaning import user_index
from tasks.cleaning.user_index import UserIndex
from tests.cleaning.twins import index_of, twin_of

ids = st.one_of(st.uuids().map(str), st.integers(0, 40).map(lambda n: str(UUID(int=n << 64 | n * 7))))


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


@given(st.lists(ids, unique=True), st.lists(ids))
def test_positions_of_numbers(known: list[str], others: list[str]) -> None:
    known.sort()
    index = index_of(known)
    assert index.has_numbers
    assert index.positions_of_numbers(index.numbers if known else np.empty(0, np.int64)).tolist() == [
        *range(len(known))
    ]
    absent = [key for key in others if key not in known]
    numbers = index_of(sorted(set(absent))).numbers if absent else np.empty(0, np.int64)
    assert set(index.positions_of_numbers(numbers).tolist()) <= {-1}


def test_users_with_one_number_have_none_and_are_found_all_the_same() -> None:
    one = str(UUID(int=7))
    both = sorted([one, twin_of(one)])
    assert both[0] != both[1]
    index = index_of(both)
    assert not index.has_numbers
    assert index.positions(pa.array(both)).tolist() == [0, 1]
    assert index_of([-5, 7]).numbers.tolist() == [-5, 7]
