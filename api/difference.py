"""The difference of two runs as the API answers it: counts, and the rows by cursor, removed, added, then changed."""

from __future__ import annotations

from typing import Any, Literal

import pyarrow as pa
from pydantic import BaseModel, Field

from api.cursors import decode, encode
from tasks.contracts import Report
from tasks.read import Diff

Kind = Literal["removed", "added", "changed"]


class DifferentRow(BaseModel):
    """A row that only one run has, or that both have with other values."""

    kind: Kind
    key: dict[str, Any] = Field(examples=[{"date": "2026-01-31"}])
    old: dict[str, Any] | None = Field(description="Of a changed row only the columns that differ.")
    new: dict[str, Any] | None


class Difference(BaseModel):
    """How a report of one run differs from that of another."""

    report: str
    base: str = Field(description="The run that was compared with.")
    run: str
    identical: bool = Field(description="Both files have the same sha256; neither was read.")
    added: int
    removed: int
    changed: int
    cells: dict[str, int] = Field(description="Of each column that differs, in how many rows.", examples=[{"posts": 3}])
    new_columns: list[str]
    lost_columns: list[str]
    items: list[DifferentRow]
    next: str | None = Field(None, description="Cursor of the next page; null on the last.")


def difference_of(diff: Diff[pa.Table], report: Report, *, cursor: str | None, limit: int) -> Difference:
    """A page of a difference. Runs never change, so a row's number is a cursor that stays right."""
    start = decode(cursor, str, str, int)[2] if cursor else 0
    total = len(diff.removed) + len(diff.added) + len(diff.changed)
    end = start + limit
    return Difference(
        report=report.name,
        base=diff.base.run_id,
        run=diff.run.run_id,
        identical=diff.identical,
        added=len(diff.added),
        removed=len(diff.removed),
        changed=len(diff.changed),
        cells=diff.cells,
        new_columns=list(diff.new_columns),
        lost_columns=list(diff.lost_columns),
        items=_page(diff, report, start, limit),
        next=encode(diff.base.run_id, diff.run.run_id, end) if end < total else None,
    )


def runs_of(cursor: str) -> tuple[str, str]:
    """The base and the run that a cursor is of: meanwhile another run may be current, or the last one of a day."""
    base, run, _ = decode(cursor, str, str, int)
    return base, run


def _page(diff: Diff[pa.Table], report: Report, start: int, limit: int) -> list[DifferentRow]:
    """Rows `start` to `start + limit` of the three tables one after the other."""
    items: list[DifferentRow] = []
    tables: tuple[tuple[Kind, pa.Table], ...] = (
        ("removed", diff.removed),
        ("added", diff.added),
        ("changed", diff.changed),
    )
    for kind, table in tables:
        some = table.slice(min(max(start, 0), len(table)), max(limit - len(items), 0))
        items += [_row(kind, row, report) for row in some.to_pylist()]
        start = max(start - len(table), 0)
    return items


def _row(kind: Kind, row: dict[str, Any], report: Report) -> DifferentRow:
    key = {name: row[name] for name in report.keys if name in row}
    if kind == "removed":
        return DifferentRow(kind=kind, key=key, old=row, new=None)
    if kind == "added":
        return DifferentRow(kind=kind, key=key, old=None, new=row)
    names = [name.removesuffix("_old") for name in row if name.endswith("_old")]
    moved = [name for name in names if row[f"{name}_old"] != row[f"{name}_new"]]
    old, new = ({name: row[f"{name}_{side}"] for name in moved} for side in ("old", "new"))
    return DifferentRow(kind="changed", key=key, old=old, new=new)
