"""The cleaning stages: raw spool in, clean spool, rejects and partial tables out, one batch in memory at a time.

Users come first and in two passes: the rules that look at a row, then those that look at the whole table (the same
e-mail). Posts need the users that were kept, and are reduced to partial tables as they pass.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.cleaning.batches import REJECT_SCHEMA, CleanCounts, RuleCount, Stage, load_counts
from tasks.cleaning.partials import PostPartials
from tasks.cleaning.row_hash import row_hashes
from tasks.cleaning.rules import POSTS_RULES, USERS_RULES
from tasks.cleaning.rules.base import Facts, Frame, with_column
from tasks.cleaning.rules.common import GRACE
from tasks.cleaning.rules.posts import with_author
from tasks.cleaning.rules.users import first_of_each_email
from tasks.cleaning.user_index import UserIndex, index_schema
from tasks.cleaning.words import word_counts
from tasks.contracts import POSTS, USERS, Table
from tasks.workspace import Spool, Workspace

__all__ = ["REJECT_SCHEMA", "CleanCounts", "RuleCount", "clean_posts", "clean_users", "load_counts", "to_micros"]

Progress = Callable[[int, int | None], None]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def clean_users(
    workspace: Workspace, *, began: datetime, progress: Progress = lambda done, total: None, total: int | None = None
) -> CleanCounts:
    """Clean the users: spools clean/users and rejects/users, the index of kept users, counts and samples.

    began: the database's clock when the run's reading began. total: rows to expect, for the progress.
    """
    stage = Stage.begin(workspace, USERS, USERS_RULES, lambda done: progress(done, total))
    facts = Facts(USERS, latest=to_micros(began) + GRACE)
    halfway = workspace.spool("halfway", USERS.name, pa.schema([c.field for c in USERS.source_columns]))
    halfway.clear()
    stage.each_file(stage.raw, halfway, lambda frame: stage.run(frame, facts, whole_table=False))
    facts = Facts(USERS, facts.latest, first_of=first_of_each_email(_email_keys(halfway)))
    index: list[pa.Table] = []

    def finish(frame: Frame) -> Frame:
        frame = stage.run(frame, facts, whole_table=True)
        index.append(_index_rows(frame))
        return finished(frame, USERS)

    stage.each_file(halfway, stage.clean, finish)
    halfway.clear()
    UserIndex(pa.concat_tables([index_schema().empty_table(), *index])).save(workspace.partials / "user_index.arrow")
    return stage.end()


def clean_posts(
    workspace: Workspace,
    *,
    began: datetime,
    as_of: datetime,
    progress: Progress = lambda done, total: None,
    total: int | None = None,
) -> CleanCounts:
    """Clean the posts, after the users: spools clean/posts, rejects/posts, the partial tables, counts and samples."""
    users = UserIndex.load(workspace.partials / "user_index.arrow")
    stage = Stage.begin(workspace, POSTS, POSTS_RULES, lambda done: progress(done, total))
    facts = Facts(POSTS, latest=to_micros(began) + GRACE, users=users)
    partials = PostPartials(to_micros(as_of), users.created_at)

    def finish(frame: Frame) -> Frame:
        frame = with_measures(stage.run(with_author(frame, users), facts))
        reduce_posts(frame, partials)
        return finished(frame, POSTS)

    stage.each_file(stage.raw, stage.clean, finish)
    partials.save(workspace.partials)
    return stage.end(**partials.counts())


def to_micros(instant: datetime) -> int:
    """Whole µs since the epoch, exactly."""
    return (instant - _EPOCH) // timedelta(microseconds=1)


def with_measures(frame: Frame) -> Frame:
    """Posts with `word_count` and `char_count` of their content."""
    content = frame["content"]
    frame = with_column(frame, "word_count", pa.array(word_counts(content)))
    return with_column(frame, "char_count", pc.fill_null(pc.utf8_length(content), 0).cast(pa.int64()))


def reduce_posts(frame: Frame, partials: PostPartials) -> None:
    """Add kept posts to the partial tables. A source without titles has only untitled posts."""
    untitled = frame["title"].is_null() if "title" in POSTS else pa.array(np.ones(frame.num_rows, np.bool_))
    partials.add(
        author=frame["_author"].to_numpy(),
        created=frame["created_at"].cast(pa.int64()).to_numpy(),
        words=frame["word_count"].to_numpy(),
        untitled=untitled.to_numpy(zero_copy_only=False).astype(np.int64),
    )


def finished(frame: Frame, table: Table) -> Frame:
    """The frame with its row hash: everything that the cleaned table has."""
    return with_column(frame, "row_hash", row_hashes(frame, table))


def _email_keys(halfway: Spool) -> pa.Table:
    """E-mail, created_at and id of the kept users: the one thing that cleaning holds of a whole table."""
    schema = pa.schema([("email", pa.string()), ("created_at", pa.int64()), ("id", halfway.schema.field(0).type)])
    if "email" not in halfway.schema.names:
        return schema.empty_table()
    keys = [batch.select(["email", "created_at", USERS.key.name]) for batch in halfway.batches()]
    return pa.concat_tables([schema.empty_table(), *(pa.table(b.columns, schema.names).cast(schema) for b in keys)])


def _index_rows(frame: Frame) -> pa.Table:
    rows = frame.num_rows
    status = frame["status"] if "status" in USERS else pa.array(["other"] * rows, pa.string())
    has_email = frame["email"].is_valid() if "email" in USERS else pa.array(np.zeros(rows, np.bool_))
    columns = [frame[USERS.key.name], frame["created_at"], status, frame["duplicate_of"].is_valid(), has_email]
    return pa.Table.from_arrays(columns, schema=index_schema())
