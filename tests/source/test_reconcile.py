"""A post is an orphan only when it is still there after its author was not."""

from __future__ import annotations

from pathlib import Path
from uuid import UUID

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from local_stack import Stack
from tasks.contracts import POSTS, USERS, Table
from tasks.settings import Transport
from tasks.source import Reconciled, open_source, snapshot
from tasks.source import reconcile as reconcile_module
from tasks.source.connection import scalar
from tasks.source.patch import Bounds, patch_rows
from tasks.source.reconcile import Ask, reconcile
from tasks.workspace import Spool, Workspace
from tests.source.kit import settings_for
from tests.source.test_snapshot import HOLDER

BOUNDS = Bounds(1_000, 2**20)


def key(number: int) -> str:
    return str(UUID(int=number))


def rows(table: Table, **columns: list[object]) -> pa.Table:
    count = len(columns["id"])
    return pa.table({f.name: columns.get(f.name, [None] * count) for f in table.raw_schema}, schema=table.raw_schema)


def posts(*pairs: tuple[int, int | None]) -> pa.Table:
    return rows(POSTS, id=[key(p) for p, _ in pairs], user_id=[None if u is None else key(u) for _, u in pairs])


def users(*numbers: int) -> pa.Table:
    return rows(USERS, id=[key(n) for n in numbers])


class Database:
    """The two tables as they are now, changing a little at each question."""

    def __init__(self, *states: tuple[pa.Table, pa.Table]) -> None:
        self.states = list(states)

    def __call__(self, table: Table, keys: pa.Array) -> pa.Table:
        now = self.states.pop(0) if len(self.states) > 1 else self.states[0]
        whole = now[0] if table is POSTS else now[1]
        found = whole.filter(pa.compute.is_in(whole["id"], keys))
        return found.sort_by([("id", "descending")])  # in another order than they were asked for


def reconciled(
    folder: Path, read: tuple[pa.Table, pa.Table], database: Ask
) -> tuple[Reconciled, list[tuple[str, str | None]], list[str]]:
    workspace = Workspace(folder)
    for table, read_rows in zip((POSTS, USERS), read, strict=True):
        workspace.spool("raw", table.name, table.raw_schema).write(0, read_rows.to_batches(3))
    done = reconcile(workspace, database, BOUNDS)
    left = [workspace.spool("raw", t.name, t.raw_schema).table() for t in (POSTS, USERS)]
    pairs = list(zip(left[0]["id"].to_pylist(), left[0]["user_id"].to_pylist(), strict=True))
    return done, pairs, left[1]["id"].to_pylist()


def test_without_orphans_nobody_is_asked(tmp_path: Path) -> None:
    def refuse(table: Table, keys: pa.Array) -> pa.Table:
        raise AssertionError

    read = (posts((1, 1), (2, None)), users(1))
    done, left, _ = reconciled(tmp_path, read, refuse)
    assert done == Reconciled()
    assert left == [(key(1), key(1)), (key(2), None)]


def test_a_post_that_went_with_its_author_is_dropped(tmp_path: Path) -> None:
    read = (posts((1, 1), (2, 9), (3, 1)), users(1))
    done, left, _ = reconciled(tmp_path, read, Database((posts((1, 1), (3, 1)), users(1))))
    assert (done.asked, done.posts_gone) == (1, 1)
    assert left == [(key(1), key(1)), (key(3), key(1))]


def test_an_author_who_is_there_after_all_is_added_in_key_order(tmp_path: Path) -> None:
    read = (posts((1, 5)), users(1, 9))
    done, left, authors = reconciled(tmp_path, read, Database((posts((1, 5)), users(1, 5, 9))))
    assert done == Reconciled(asked=1, users_added=1)
    assert left == [(key(1), key(5))]
    assert authors == [key(1), key(5), key(9)]


def test_a_post_that_changed_hands_takes_its_new_author_along(tmp_path: Path) -> None:
    read = (posts((1, 5), (2, 1)), users(1))
    now = (posts((1, 7), (2, 1)), users(1, 7))
    done, left, authors = reconciled(tmp_path, read, Database(now))
    assert done == Reconciled(asked=1, posts_changed=1, users_added=1)
    assert left == [(key(1), key(7)), (key(2), key(1))]
    assert authors == [key(1), key(7)]


def test_a_post_that_went_to_nobody_or_to_an_author_who_was_read_is_as_it_is_now(tmp_path: Path) -> None:
    read = (posts((1, 5), (2, 6)), users(1))
    done, left, _ = reconciled(tmp_path, read, Database((posts((1, None), (2, 1)), users(1))))
    assert done == Reconciled(asked=2, posts_changed=2), "an author who was read is not asked for"
    assert left == [(key(1), None), (key(2), key(1))]


def test_a_post_that_changed_hands_and_then_went_is_dropped(tmp_path: Path) -> None:
    read = (posts((1, 5), (2, 1)), users(1))
    moved = (posts((1, 7), (2, 1)), users(1))
    gone = (posts((2, 1)), users(1))
    done, left, _ = reconciled(tmp_path, read, Database(moved, moved, gone))
    assert (done.posts_gone, done.posts_changed) == (1, 0)
    assert left == [(key(2), key(1))]


def test_a_post_that_changes_hands_while_it_is_asked_for_is_there_once_and_as_it_was_last(tmp_path: Path) -> None:
    states = [(posts((1, author), (2, 1)), users(1, 8)) for author in (7, 7, 7, 8)]
    done, left, authors = reconciled(tmp_path, (posts((1, 5), (2, 1)), users(1)), Database(*states))
    assert done == Reconciled(asked=1, posts_changed=1, users_added=1)
    assert left == [(key(1), key(8)), (key(2), key(1))]
    assert authors == [key(1), key(8)]


def test_many_are_asked_for_a_part_at_a_time_so_that_no_more_of_their_texts_is_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconcile_module, "_AT_ONCE", 2)
    now = Database((posts((1, 9), (3, 1), (4, 9), (5, 1)), users(1)))
    asked = list[int]()

    def ask(table: Table, keys: pa.Array) -> pa.Table:
        asked.append(len(keys) if table is POSTS else 0)
        return now(table, keys)

    done, left, _ = reconciled(tmp_path, (posts(*((n, 9) for n in range(1, 6))), users(1)), ask)
    assert done == Reconciled(asked=5, posts_gone=1, posts_changed=2)
    assert left == [(key(n), key(user)) for n, user in ((1, 9), (3, 1), (4, 9), (5, 1))]
    assert asked == [0, 2, 2, 1]


def test_true_orphans_stay(tmp_path: Path) -> None:
    read = (posts((1, 5), (2, 1), (3, 6)), users(1))
    done, left, _ = reconciled(tmp_path, read, Database(read))
    assert done == Reconciled(asked=2)
    assert left == [(key(1), key(5)), (key(2), key(1)), (key(3), key(6))]


class Alike(str):
    """The name of a snapshot: a server that restarted, and may have done so before the first one, gives it again."""

    __slots__ = ()
    __hash__ = str.__len__

    def __str__(self) -> str:
        return self

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Alike)


@pytest.mark.parametrize("transport", ["rest", "postgres"])
def test_tables_of_two_instants_are_compared_with_the_database(
    transport: Transport, stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Over REST always; over Postgres after a snapshot was lost, as where the server restarts."""
    monkeypatch.setattr(snapshot, "scalar", lambda connection, query: _alike(scalar(connection, query)))
    one, two = key(1), key(2)
    stack.query(
        f"truncate public.users cascade; insert into public.users (id) values ('{one}'), ('{two}'); "
        f"insert into public.posts (id, user_id) values ('{one}', '{one}'), ('{two}', '{two}')"
    )
    workspace = Workspace(tmp_path)
    try:
        with open_source(settings_for(stack, transport, tmp_path)) as source:
            source.preflight([POSTS, USERS])
            source.read(POSTS, workspace.spool("raw", "posts", POSTS.raw_schema))
            stack.query(HOLDER)
            stack.query(
                f"delete from public.posts where user_id = '{key(1)}'; delete from public.users where id = '{key(1)}'"
            )
            source.read(USERS, workspace.spool("raw", "users", USERS.raw_schema))
            done = source.reconcile(workspace)
    finally:
        stack.query("truncate public.users cascade")
    assert done == Reconciled(asked=1, posts_gone=1)
    assert workspace.spool("raw", "posts", POSTS.raw_schema).table()["id"].to_pylist() == [key(2)]


def _alike(value: object) -> object:
    return Alike(value) if isinstance(value, str) else value


@settings(max_examples=60)
@given(st.data())
def test_patching_replaces_by_key_in_order(data: st.DataObject) -> None:
    numbers = st.lists(st.integers(0, 40), unique=True, max_size=25)
    held, put, drop = (sorted(data.draw(numbers)) for _ in range(3))
    drop = [d for d in drop if d not in put]
    cut = data.draw(st.lists(st.integers(0, len(held)), max_size=3).map(sorted))
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        spool = Spool(Path(folder), POSTS.raw_schema)
        for index, (start, end) in enumerate(zip([0, *cut], [*cut, len(held)], strict=True)):
            spool.write(index, posts(*((n, 1) for n in held[start:end])).to_batches(4))
        patch_rows(spool, "id", posts(*((n, 2) for n in put)), pa.array([key(d) for d in drop], pa.string()), BOUNDS)
        left = spool.table()
    expected = dict.fromkeys((n for n in held if n not in drop), 1) | dict.fromkeys(put, 2)
    assert left["id"].to_pylist() == [key(n) for n in sorted(expected)]
    assert left["user_id"].to_pylist() == [key(expected[n]) for n in sorted(expected)]


@pytest.mark.parametrize("empty", [True, False])
def test_patching_an_empty_spool_writes_its_first_file(empty: bool, tmp_path: Path) -> None:
    spool = Spool(tmp_path, POSTS.raw_schema)
    if empty:
        spool.write(0, [])
    patch_rows(spool, "id", posts((2, 1), (1, 1)), pa.array([], pa.string()), BOUNDS)
    assert spool.table()["id"].to_pylist() == [key(1), key(2)]
