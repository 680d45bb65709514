"""The index of kept users finds every id, and nothing else, whatever the ids."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from tasks.cleaning import user_index
from tasks.cleaning.passes import clean_users
from tasks.cleaning.units import FIRST_OF_EMAIL, USER_INDEX
from tasks.cleaning.user_index import UserIndex, index_schema
from tasks.contracts import USERS
from tasks.incremental.merge import Edit, edited
from tasks.workspace import Workspace
from tests.cleaning.spools import SNAPSHOT_AT, fill_raw, uid, user
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
    UserIndex(index_schema().empty_table()).save(tmp_path / "empty.arrow")
    nobody = UserIndex.load(tmp_path / "empty.arrow")
    assert nobody.has_numbers
    assert (
        nobody.positions(pa.array([uid(1)])).tolist()
        == nobody.positions_of_numbers(index.numbers[1:2]).tolist()
        == [-1]
    )


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


def index_of_more_text_than_one_array_holds(keys: list[str]) -> UserIndex:
    """As of 60 million uuids, without their memory: behind the first id are 2 GiB of zeros that nothing touches."""
    text = np.zeros(2**31 - 100, np.uint8)
    text[:36] = list(keys[0].encode())
    offsets = pa.py_buffer(np.array([0, len(text)], np.int32))
    first = pa.Array.from_buffers(pa.string(), 1, [None, offsets, pa.py_buffer(text)])
    rest = index_of(keys).table
    return UserIndex(rest.set_column(0, index_schema().field("id"), pa.chunked_array([first, pa.array(keys[1:])])))


def test_the_ids_are_never_one_array_of_text() -> None:
    keys = [uid(number) for number in range(12)]
    index = index_of_more_text_than_one_array_holds(keys)
    assert index.positions(pa.array([uid(11), uid(0), uid(99), uid(4)])).tolist() == [11, 0, -1, 4]
    assert index.positions_of_numbers(index.numbers[[3, 0]]).tolist() == [3, 0]
    assert index.rows(np.array([1, 2, 11]), "id")["id"].to_pylist() == [uid(1), uid(2), uid(11)]


def test_users_at_rising_positions_come_from_whatever_batches_they_are_in() -> None:
    keys = [uid(number) for number in range(20)]
    tables = [index_of(keys[start : start + 6]).table for start in (0, 6, 12, 18)]
    index = UserIndex(pa.concat_tables([index_schema().empty_table(), *tables]))
    for positions in ([], [0, 5, 6, 11, 18, 19], [13], [*range(20)]):
        found = index.rows(np.array(positions, np.int64), "id", "status")
        assert found["id"].to_pylist() == [keys[position] for position in positions]
        assert found.column_names == ["id", "status"]
    put = index_of([keys[3], uid(30)]).table.set_column(2, "status", pa.array(["active", "other"]))
    edit = Edit(put, pa.array([keys[0], keys[3], keys[19], uid(30)]))
    merged = pa.Table.from_batches(edited("id", index.table.to_batches(), edit))
    assert merged["id"].to_pylist() == [*keys[1:19], uid(30)]
    assert merged["status"].drop_null().to_pylist() == ["active", "other"]


def test_the_emails_of_all_users_are_not_bound_to_what_one_array_holds(tmp_path: Path) -> None:
    """Together they have more than 2 GiB from some 80 million users on: their offsets have 64 bits."""
    workspace = Workspace.create(tmp_path, "run")
    fill_raw(workspace, USERS, [user(1), user(2, email="user1@example.com"), user(3)])
    clean_users(workspace, snapshot_at=SNAPSHOT_AT)
    with pa.ipc.open_file(workspace.partials / FIRST_OF_EMAIL) as reader:
        assert reader.schema == pa.schema([("id", pa.large_string()), ("first", pa.large_string())])
        assert reader.read_all().to_pylist() == [{"id": uid(2), "first": uid(1)}]
    duplicates = UserIndex.load(workspace.partials / USER_INDEX).table["is_duplicate"].to_pylist()
    assert duplicates == [False, True, False]
