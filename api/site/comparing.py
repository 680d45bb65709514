"""Two runs side by side: what the reading kit's `diff` found, written for people."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pandas as pd
import pyarrow as pa

from api.site.formats import change, css, title, value, whole
from tasks.contracts import Column, Report
from tasks.contracts.reports import USER_STATISTICS
from tasks.read import Diff

SHOWN = 200
NUMBERS = ("int", "float", "bigint")


@dataclass(frozen=True, slots=True)
class Block:
    """A table of the comparison; `more` says what is left out."""

    title: str
    columns: list[Any]
    rows: list[list[Any]]
    more: str


@dataclass(frozen=True, slots=True)
class Head:
    """A column's head."""

    title: str
    css: str


@dataclass(frozen=True, slots=True)
class Comparison:
    """What the page shows of a difference."""

    added: pa.Table
    removed: pa.Table
    changed: pa.Table
    identical: bool
    blocks: list[Block]
    columns: str  # what only one of the two files has, in words

    @property
    def same(self) -> bool:
        return not (len(self.added) or len(self.removed) or len(self.changed) or self.columns)


def comparison(diff: Diff[pa.Table], report: Report) -> Comparison:
    """The blocks that have rows: changed, added, removed."""
    blocks = [
        _changed(diff, report),
        _plain("Only in the second run", diff.added, report),
        _plain("Only in the first run", diff.removed, report),
    ]
    some = [block for block in blocks if block.rows]
    return Comparison(diff.added, diff.removed, diff.changed, diff.identical, some, _columns(diff))


def _columns(diff: Diff[pa.Table]) -> str:
    """Which columns are not compared, since only one of the two files has them; empty where there are none."""
    sides = (("second", diff.new_columns), ("first", diff.lost_columns))
    return " ".join(f"Only the {side} run has {', '.join(map(title, names))}." for side, names in sides if names)


def _plain(name: str, rows: pa.Table, report: Report) -> Block:
    columns = [column for column in report.columns if column.name in rows.column_names]
    cells = [[value(column, given) for given in _some(rows, column.name)] for column in columns]
    heads = [Head(title(column.name), css(column)) for column in columns]
    return Block(name, heads, [list(row) for row in zip(*cells, strict=True)], _more(rows))


def _changed(diff: Diff[pa.Table], report: Report) -> Block:
    rows = diff.changed
    keys = [column for column in report.columns if f"{column.name}_old" not in rows.column_names]
    keys = [column for column in keys if column.name in rows.column_names]
    moved = [column for column in report.columns if f"{column.name}_old" in rows.column_names]
    cells: list[list[Any]] = [[value(column, given) for given in _some(rows, column.name)] for column in keys]
    cells += [_cells(column, rows) for column in moved]
    heads = [*(Head(title(c.name), css(c)) for c in keys), *(Head(title(c.name), "number") for c in moved)]
    return Block("Changed rows", heads, [list(row) for row in zip(*cells, strict=True)], _more(rows))


def _cells(column: Column, rows: pa.Table) -> list[dict[str, Any]]:
    pairs = zip(_some(rows, f"{column.name}_old"), _some(rows, f"{column.name}_new"), strict=True)
    return [_cell(column, old, new) for old, new in pairs]


def _cell(column: Column, old: Any, new: Any) -> dict[str, Any]:
    is_number = column.kind in NUMBERS and all(isinstance(given, int | float) for given in (old, new))
    text, direction = change(old, new, points=column.unit == "share") if is_number else ("", "same")
    before, after = value(column, old) or "–", value(column, new) or "–"
    return {"differs": old != new, "old": before, "new": after, "change": text, "direction": direction}


def _some(rows: pa.Table, name: str) -> list[Any]:
    found: list[Any] = rows[name].slice(0, SHOWN).to_pylist()
    return found


def _more(rows: pa.Table) -> str:
    left = len(rows) - SHOWN
    return f"{whole(left)} more rows; GET /reports/…/diff has all of them." if left > 0 else ""


def headline(old: pd.DataFrame, new: pd.DataFrame) -> list[dict[str, str]]:
    """The figures of user_statistics of two runs, one a row."""
    found = []
    for column in USER_STATISTICS.columns:
        if column.kind not in NUMBERS:
            continue
        before, after = _number(old, column), _number(new, column)
        text, direction = change(before, after)
        row = {"title": title(column.name), "description": column.description, "change": text, "direction": direction}
        found.append({**row, "old": value(column, before) or "–", "new": value(column, after) or "–"})
    return found


def _number(frame: pd.DataFrame, column: Column) -> float | None:
    if column.name not in frame.columns or frame.empty or pd.isna(frame[column.name].iloc[0]):
        return None
    return float(frame[column.name].iloc[0])
