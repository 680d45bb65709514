"""The cleaning stages: raw spool in, clean spool, rejects and partial tables out, one batch in memory at a time.

Users come first and in two passes: the rules that look at a row, then those that look at the whole table (the same
e-mail). Posts need the users that were kept, and are reduced to partial tables as they pass.
"""

from __future__ import annotations

from datetime import datetime

import pyarrow as pa

from tasks.cleaning.batches import Counted, keep_counts
from tasks.cleaning.counts import CleanCounts, save_scope
from tasks.cleaning.partials import to_micros
from tasks.cleaning.reduced import Reduced, clear_partials
from tasks.cleaning.rules import POSTS_RULES, RULES, USERS_RULES
from tasks.cleaning.rules.common import GRACE
from tasks.cleaning.rules.users import first_of_each_email
from tasks.cleaning.units import (
    FIRST_OF_EMAIL,
    USER_INDEX,
    CleaningUnit,
    clean_posts_of_range,
    clean_rows_of_range,
    clean_users_alone,
    clean_users_together,
    reduce_posts_of_range,
    staged_users,
)
from tasks.cleaning.user_index import UserIndex, index_schema
from tasks.contracts import POSTS, USERS, Table
from tasks.platform.progress import Progress, Running, no_progress
from tasks.platform.workers import HERE, TOGETHER, Workers
from tasks.workspace import Spool, Workspace, write_table


def clean_users(
    workspace: Workspace,
    *,
    snapshot_at: datetime,
    progress: Progress = no_progress,
    total: int | None = None,
    workers: Workers = HERE,
) -> CleanCounts:
    """Clean the users: spools clean/users and rejects/users, the index of kept users, counts and samples.

    snapshot_at: the database's clock when the reading started. total: rows to expect, for the progress.
    """
    _clear(workspace, USERS)
    staged = staged_users(workspace)
    staged.clear()
    units = _units(workspace, USERS, snapshot_at)
    counted = Counted()
    for of_unit in workers.map(clean_users_alone, units, tick=Running(progress, total).add, together=TOGETHER):
        counted.add(of_unit)
    write_table(workspace.partials / FIRST_OF_EMAIL, first_of_each_email(_email_keys(staged)))
    index = [index_schema().empty_table()]
    for of_unit, rows in workers.map(clean_users_together, units, together=TOGETHER):
        counted.add(of_unit)
        index.append(rows)
    staged.clear()
    UserIndex(pa.concat_tables(index)).save(workspace.partials / USER_INDEX)
    return keep_counts(workspace, USERS, USERS_RULES, counted)


def clean_posts(
    workspace: Workspace,
    *,
    snapshot_at: datetime,
    as_of: datetime,
    progress: Progress = no_progress,
    total: int | None = None,
    workers: Workers = HERE,
) -> CleanCounts:
    """Clean the posts, after the users: spools clean/posts, rejects/posts, the partial tables, counts and samples."""
    _clear(workspace, POSTS)
    clear_partials(workspace)
    counted, reduced = Counted(), Reduced(to_micros(as_of))
    units = _units(workspace, POSTS, snapshot_at, as_of=to_micros(as_of))
    tick = Running(progress, total).add
    for of_unit, of_posts in workers.map(clean_posts_of_range, units, tick=tick, together=TOGETHER):
        counted.add(of_unit)
        reduced.add(of_posts)
    reduced.merge(workspace, workers=workers)
    return keep_counts(workspace, POSTS, POSTS_RULES, counted, reduced.scope())


def clean_further(
    workspace: Workspace,
    table: Table,
    *,
    snapshot_at: datetime,
    progress: Progress = no_progress,
    total: int | None = None,
    workers: Workers = HERE,
) -> CleanCounts:
    """Clean a further table by its columns: spools clean/<table> and rejects/<table>, counts and samples."""
    _clear(workspace, table)
    counted, units = Counted(), _units(workspace, table, snapshot_at)
    tick = Running(progress, total).add
    for of_unit in workers.map(clean_rows_of_range, units, tick=tick, together=TOGETHER):
        counted.add(of_unit)
    return keep_counts(workspace, table, RULES[table.name], counted)


def reduce_again(
    workspace: Workspace,
    *,
    as_of: datetime,
    progress: Progress = no_progress,
    total: int | None = None,
    workers: Workers = HERE,
) -> None:
    """The partial tables for another as_of, from the posts that `clean_posts` has left: nothing is cleaned again."""
    clear_partials(workspace)
    reduced = Reduced(to_micros(as_of))
    files = workspace.clean(POSTS).files()
    units = [CleaningUnit(workspace, int(path.stem), latest=0, as_of=to_micros(as_of)) for path in files]
    tick = Running(progress, total).add
    for of_unit in workers.map(reduce_posts_of_range, units, tick=tick, together=TOGETHER):
        reduced.add(of_unit)
    reduced.merge(workspace, workers=workers)
    save_scope(workspace, POSTS, reduced.scope())


def _units(workspace: Workspace, table: Table, snapshot_at: datetime, *, as_of: int = 0) -> list[CleaningUnit]:
    latest = to_micros(snapshot_at) + GRACE
    files = workspace.raw(table).files()
    return [CleaningUnit(workspace, int(path.stem), latest, as_of, table) for path in files]


def _clear(workspace: Workspace, table: Table) -> None:
    workspace.clean(table).clear()
    workspace.rejects(table).clear()


def _email_keys(staged: Spool) -> pa.Table:
    """E-mail, created_at and id of the kept users: the one thing that cleaning holds of a whole table."""
    key = staged.schema.field(USERS.key.name).type
    wide = pa.large_string()  # all of it is more text than the 2 GiB that one array of strings holds
    ids = wide if pa.types.is_string(key) else key
    schema = pa.schema([("email", wide), ("created_at", pa.int64()), ("id", ids)])
    if "email" not in staged.schema.names:
        return schema.empty_table()
    keys = [batch.select(["email", "created_at", USERS.key.name]) for batch in staged.batches()]
    return pa.concat_tables([schema.empty_table(), *(pa.table(b.columns, schema.names).cast(schema) for b in keys)])
