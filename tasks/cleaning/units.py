"""The units of cleaning: one file of a raw spool, which is one key range, cleaned by itself.

Each writes the files of its number in the run's folder and returns counts and small tables, so that units can run in
any order, on any process that sees the folder, and twice.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from tasks.arrow.rebatch import for_work
from tasks.cleaning.batches import CleaningPass, Counted, as_schema, is_whole_table
from tasks.cleaning.partials import PostPartials
from tasks.cleaning.reduced import Reduced, reducing
from tasks.cleaning.row_hash import row_hashes
from tasks.cleaning.rules import POSTS_RULES, RULES, USERS_RULES
from tasks.cleaning.rules.base import MASK, Facts, Frame, bits_of, with_column
from tasks.cleaning.rules.posts import with_author
from tasks.cleaning.user_index import index_schema, loaded_index
from tasks.cleaning.words import word_counts
from tasks.contracts import POSTS, STAMPS, TABLES, USERS, Table
from tasks.errors import ConfigurationError
from tasks.platform.workers import Tick
from tasks.workspace import Spool, Workspace, read_batches, read_table

USER_INDEX = "user_index.arrow"
FIRST_OF_EMAIL = "first_of_email.arrow"


@dataclass(frozen=True, slots=True)
class CleaningUnit:
    """A file of a table's raw spool by its number. In µs: latest (beyond it created_at has a wrong clock) and as_of."""

    workspace: Workspace
    index: int
    latest: int
    as_of: int = 0
    table: Table = POSTS

    def inputs(self) -> list[Path]:
        """The raw file of any table, the staged one, and what all units look up."""
        root, name = self.workspace.root, f"{self.index:05d}.arrow"
        tables = [table.name for table in TABLES]
        rows = [root / stage / table / name for stage in ("raw", "staged", "clean") for table in tables]
        return [*rows, self.workspace.partials / USER_INDEX, self.workspace.partials / FIRST_OF_EMAIL]


def staged_users(workspace: Workspace) -> Spool:
    """Users between the two passes: their own rules ran, duplicates are not known yet."""
    working = [pa.field("_fingerprint", pa.int64()), pa.field(MASK, pa.int64())]
    return workspace.spool("staged", USERS.name, pa.schema([*(c.field for c in USERS.source_columns), *working]))


def clean_users_alone(unit: CleaningUnit, tick: Tick) -> Counted:
    """First pass: the rules that look at one user. Raw file in, staged file and rejects out."""
    rules = tuple(rule for rule in USERS_RULES if not is_whole_table(rule))
    work = CleaningPass(USERS, rules, Facts(USERS, unit.latest, bits=bits_of(USERS_RULES)), tick, is_last=False)
    _each_batch(unit, unit.workspace.raw(USERS), staged_users(unit.workspace), work.run)
    work.write_rejects(unit.workspace, unit.index)
    return work.counted


def clean_users_together(unit: CleaningUnit, tick: Tick) -> tuple[Counted, pa.Table]:
    """Second pass: the rules that look at the whole table. Also returns the rows of the user index."""
    rules = tuple(rule for rule in USERS_RULES if is_whole_table(rule))
    first_of = _first_of(unit.workspace.partials / FIRST_OF_EMAIL)
    facts = Facts(USERS, unit.latest, first_of=first_of, bits=bits_of(USERS_RULES))
    work = CleaningPass(USERS, rules, facts, tick, is_first=False)
    index = [index_schema().empty_table()]

    def finish(frame: Frame) -> Frame:
        frame = work.run(frame)
        index.append(_index_rows(frame))
        return finished(frame, USERS)

    _each_batch(unit, staged_users(unit.workspace), unit.workspace.clean(USERS), finish)
    return work.counted, pa.concat_tables(index)


def clean_posts_of_range(unit: CleaningUnit, tick: Tick) -> tuple[Counted, Reduced]:
    """All rules for posts. Raw file in; cleaned file, rejects and pieces of the partial tables out."""
    users = loaded_index(unit.workspace.partials / USER_INDEX)
    facts = Facts(POSTS, unit.latest, users=users, bits=bits_of(POSTS_RULES))
    work = CleaningPass(POSTS, POSTS_RULES, facts, tick)
    with reducing(unit.workspace, unit.index, unit.as_of, users.created_at) as (partials, reduced):

        def finish(frame: Frame) -> Frame:
            frame = with_measures(work.run(with_author(frame, users)))
            reduce_posts(frame, partials)
            return finished(frame, POSTS)

        _each_batch(unit, unit.workspace.raw(POSTS), unit.workspace.clean(POSTS), finish)
    work.write_rejects(unit.workspace, unit.index)
    return work.counted, reduced


def clean_rows_of_range(unit: CleaningUnit, tick: Tick) -> Counted:
    """All rules for a further table, which no report is made of. Raw file in, cleaned file and rejects out."""
    table = unit.table
    work = CleaningPass(table, RULES[table.name], Facts(table, unit.latest, bits=bits_of(RULES[table.name])), tick)

    def finish(frame: Frame) -> Frame:
        return finished(work.run(frame), table)

    _each_batch(unit, unit.workspace.raw(table), unit.workspace.clean(table), finish)
    work.write_rejects(unit.workspace, unit.index)
    return work.counted


def reduce_posts_of_range(unit: CleaningUnit, tick: Tick) -> Reduced:
    """Pieces of the partial tables from posts that are clean already, for another as_of."""
    users = loaded_index(unit.workspace.partials / USER_INDEX)
    with reducing(unit.workspace, unit.index, unit.as_of, users.created_at) as (partials, reduced):
        for frame in for_work(read_batches(unit.workspace.clean(POSTS).path(unit.index))):
            reduce_posts(with_author(frame, users), partials)
            tick(frame.num_rows)
    return reduced


def _each_batch(unit: CleaningUnit, source: Spool, target: Spool, step: Callable[[Frame], Frame]) -> None:
    """Run every batch of the unit's file through `step`, into a file of the same number."""
    batches = for_work(read_batches(source.path(unit.index)))
    target.write(unit.index, (as_schema(step(frame), target.schema) for frame in batches))


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
    """The frame with its row hash and stamps: everything that the cleaned table has.

    ConfigurationError for a column that is derived, and that no rule has made.
    """
    made = {*frame.schema.names, *STAMPS}
    if missing := [column.name for column in table.columns if column.name not in made]:
        raise ConfigurationError(
            f"No rule makes {', '.join(missing)} of {table.name}, which its contract calls derived.",
            remedy=f"Add the rule in tasks/cleaning/rules/{table.name}.py, or take the column out of the contract.",
        )
    frame = with_column(frame, "row_hash", row_hashes(frame, table))
    return with_column(with_column(frame, "fingerprint", frame["_fingerprint"]), "rule_mask", frame[MASK])


def _index_rows(frame: Frame) -> pa.Table:
    rows = frame.num_rows
    status = frame["status"] if "status" in USERS else pa.array(["other"] * rows, pa.string())
    has_email = frame["email"].is_valid() if "email" in USERS else pa.array(np.zeros(rows, np.bool_))
    columns = [frame[USERS.key.name], frame["created_at"], status, frame["duplicate_of"].is_valid(), has_email]
    return pa.Table.from_arrays(columns, schema=index_schema())


def _first_of(path: Path) -> pa.Table:
    return _loaded_first_of(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=1)
def _loaded_first_of(path: Path, written: int) -> pa.Table:
    return read_table(path)
