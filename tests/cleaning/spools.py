"""Raw spools made of rows, and the cleaning stages run over them: what the tests of cleaning and reports share."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from tasks.arrow.rebatch import for_work
from tasks.cleaning import partials, pieces, reduced, units
from tasks.cleaning.counts import CleanCounts
from tasks.cleaning.passes import clean_further, clean_posts, clean_users
from tasks.contracts import FURTHER_TABLES, POSTS, REPORTS, USERS, Table
from tasks.files import state
from tasks.reports.build import build_reports
from tasks.workspace import Workspace

Row = dict[str, Any]
AS_OF = datetime(2026, 3, 1, tzinfo=UTC)
SNAPSHOT_AT = datetime(2026, 3, 1, 3, tzinfo=UTC)


def uid(number: int) -> str:
    """A uuid that sorts as its number does."""
    return f"{number:08x}-0000-4000-8000-{number:012x}"


def at(text: str) -> datetime:
    """An instant, UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def user(number: int, **values: Any) -> Row:
    """A user with nothing to clean."""
    defaults = {"name": f"Name {number}", "email": f"user{number}@example.com", "status": "active", "bio": "Writes."}
    created = values.get("created_at", AS_OF - timedelta(days=40))
    return {"id": uid(number), **defaults, "created_at": created, "updated_at": created, **values}


def post(number: int, author: int | None, **values: Any) -> Row:
    """A post with nothing to clean."""
    created = values.get("created_at", AS_OF - timedelta(days=3))
    writer = None if author is None else uid(author)
    texts = {"title": f"Title {number}", "content": "some words"}
    return {"id": uid(number), "user_id": writer, **texts, "created_at": created, "updated_at": created, **values}


def fill_raw(workspace: Workspace, table: Table, rows: Sequence[Row], cuts: Sequence[int] = ()) -> None:
    """Write the raw spool in key order. cuts: rows after which a new batch begins; every other cut begins a file.

    Of a table without rows there is no file, as after a reading.
    """
    ordered = sorted(rows, key=lambda row: (row[table.key.name] is None, row[table.key.name] or ""))
    edges = [0, *sorted(min(cut, len(ordered)) for cut in cuts), len(ordered)]
    batches = [
        pa.RecordBatch.from_pylist(ordered[first:last], schema=table.raw_schema) for first, last in pairwise(edges)
    ]
    spool = workspace.spool("raw", table.name, table.raw_schema)
    spool.clear()
    for index in range(0, len(batches) if ordered else 0, 2):
        spool.write(index // 2, batches[index : index + 2])


def make_run(
    folder: Path,
    users: Sequence[Row],
    posts: Sequence[Row],
    *,
    as_of: datetime = AS_OF,
    snapshot_at: datetime = SNAPSHOT_AT,
    cuts: Sequence[int] = (),
) -> tuple[Workspace, Mapping[str, CleanCounts]]:
    """The workspace of a run that has cleaned these rows and built its reports."""
    workspace = Workspace.create(folder, f"run{len(list(folder.glob('runs/*')))}")
    fill_raw(workspace, USERS, users, cuts)
    fill_raw(workspace, POSTS, posts, cuts)
    counts = {
        "users": clean_users(workspace, snapshot_at=snapshot_at),
        "posts": clean_posts(workspace, snapshot_at=snapshot_at, as_of=as_of),
    }
    for table in FURTHER_TABLES:
        fill_raw(workspace, table, ())
        counts[table.name] = clean_further(workspace, table, snapshot_at=snapshot_at)
    build_reports(workspace, as_of=as_of)
    return workspace, counts


@contextmanager
def small_pieces(
    *, merge: int = 0, spill: int = 3, batch: int = 2, fan_in: int = 2, group: int = 2, span: int = 2, work: int = 10
) -> Iterator[None]:
    """Rows and partial tables cut as those of a large source: batches and partitions of a few, trees of levels."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(units, "for_work", partial(for_work, rows=work))
        patch.setattr(partials, "_MERGE_ROWS", merge)
        patch.setattr(partials, "SPILL_ROWS", spill)
        patch.setattr(pieces, "BATCH_ROWS", batch)
        patch.setattr(pieces, "FAN_IN", fan_in)
        patch.setattr(pieces, "GROUP_ROWS", group)
        patch.setattr(state, "READ_ROWS", group)
        author_days, histogram = reduced.PARTIALS
        cut = replace(author_days, span=span), replace(histogram, span=168 * span)  # some months of hour slots
        patch.setattr(reduced, "PARTIALS", cut)
        yield


def cleaned(workspace: Workspace, table: Table) -> list[Row]:
    rows: list[Row] = workspace.spool("clean", table.name, table.clean_schema).table().to_pylist()
    return rows


def all_reports(workspace: Workspace) -> dict[str, pa.Table]:
    return {report.name: workspace.report(report).table() for report in REPORTS}
