"""Posts whose author was not among the users read: asked for again by key before they count as orphans.

Posts are read before users, so an author who is missing left in between, and the post with them; or the post changed
hands. The author is asked for first and the post after: a post that is still there then, with an author who was not,
is an orphan.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pyarrow as pa
import pyarrow.compute as pc

from tasks.arrow.arrays import rows_without, without
from tasks.arrow.duckdb import open_duckdb
from tasks.contracts import POSTS, USERS, Table
from tasks.source.model import Reconciled
from tasks.source.patch import Bounds, patch_rows
from tasks.workspace import Workspace

Ask = Callable[[Table, pa.Array], pa.Table]
_ROUNDS = 5  # only posts that changed hands while they were asked for need another
_AT_ONCE = 20_000  # posts that are asked for, which come with their texts: of most of them nothing is kept
_ANTI_JOIN = "select p.id, p.user_id from posts p anti join users u on p.user_id = u.id where p.user_id is not null"


def reconcile(workspace: Workspace, ask: Ask, bounds: Bounds) -> Reconciled:
    """Fix the two raw spools. ask: the rows of a table with these keys, as they are now, in its raw schema."""
    posts, users = workspace.raw(POSTS), workspace.raw(USERS)
    orphans = _orphans(posts.batches(), users.batches())
    asked, moved, added = orphans.num_rows, POSTS.raw_schema.empty_table(), USERS.raw_schema.empty_table()
    gone = orphans.column("id").combine_chunks().slice(0, 0)
    for _ in range(_ROUNDS):
        if not orphans.num_rows:
            break
        added = pa.concat_tables([added, ask(USERS, pc.unique(orphans["user_id"]))])
        orphans = rows_without(orphans, "user_id", added["id"])
        left, changed = _asked_again(ask, orphans)
        gone = pa.concat_arrays([gone, left])
        moved = pa.concat_tables([rows_without(moved, "id", changed["id"]), changed])
        known = [*users.batches(), *added.to_batches()] if changed.num_rows else []
        orphans = _orphans(changed.to_batches(), known)
    moved = rows_without(moved, "id", gone)
    patch_rows(posts, "id", moved, gone, bounds)
    patch_rows(users, "id", added, added["id"].combine_chunks().slice(0, 0), bounds)
    return Reconciled(asked, len(gone), moved.num_rows, added.num_rows)


def _asked_again(ask: Ask, orphans: pa.Table) -> tuple[pa.Array, pa.Table]:
    """Of posts without an author, the keys of those that are gone by now, and those that changed hands."""
    gone, changed = [orphans["id"].combine_chunks().slice(0, 0)], [POSTS.raw_schema.empty_table()]
    for start in range(0, orphans.num_rows, _AT_ONCE):
        before = orphans.slice(start, _AT_ONCE)
        keys = before["id"].combine_chunks()
        now = ask(POSTS, keys)
        gone.append(without(keys, now["id"]))
        changed.append(_changed(now, before))
    return pa.concat_arrays(gone), pa.concat_tables(changed)


def _orphans(posts: Iterable[pa.RecordBatch], users: Iterable[pa.RecordBatch]) -> pa.Table:
    """`id` and `user_id` of the posts with an author who is not among the users. Both sides are streamed."""
    with open_duckdb() as connection:
        connection.register("posts", _reader(posts, POSTS, "id", "user_id"))
        connection.register("users", _reader(users, USERS, "id"))
        found = connection.sql(_ANTI_JOIN).to_arrow_table()
    return found.cast(pa.schema([POSTS.raw_schema.field(n) for n in ("id", "user_id")]))


def _reader(batches: Iterable[pa.RecordBatch], table: Table, *columns: str) -> pa.RecordBatchReader:
    schema = pa.schema([table.raw_schema.field(name) for name in columns])
    return pa.RecordBatchReader.from_batches(schema, (b.select(list(columns)) for b in batches))


def _changed(now: pa.Table, before: pa.Table) -> pa.Table:
    """The posts of `now` that have another author than `before`, or none."""
    position = pc.index_in(now["id"], value_set=before["id"].combine_chunks())
    same = pc.equal(now["user_id"], before["user_id"].combine_chunks().take(position.combine_chunks()))
    return now.filter(pc.invert(pc.fill_null(same, False)))
