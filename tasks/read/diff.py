"""Two runs of a report, compared: what a reader imports as `diff`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Generic, Literal, TypeVar, Unpack, overload

import pandas as pd
import pyarrow as pa

from tasks.contracts import Report
from tasks.errors import ConfigurationError, NotThere
from tasks.files.manifest import Manifest
from tasks.files.parquet import report_schema
from tasks.read.difference import Difference, compare
from tasks.read.frames import to_engine
from tasks.read.options import Access, AsOf, Engine, check_engine, check_options, report_named
from tasks.read.run import OpenRun, opened

Frame = TypeVar("Frame")


@dataclass(frozen=True, slots=True)
class Diff(Generic[Frame]):
    """What differs between two runs of a report.

    added, removed: rows whose keys only the run, or only the base, has. changed: rows that both have and that differ:
    their keys, and `<column>_old` and `<column>_new` for each column that differs in any of them. cells: of each such
    column, in how many rows it differs. identical: the files have the same sha256, so neither was read. new_columns,
    lost_columns: what only the run's, or only the base's file has; they are not compared.
    """

    report: str
    keys: tuple[str, ...]
    base: Manifest
    run: Manifest
    added: Frame
    removed: Frame
    changed: Frame
    cells: dict[str, int]
    identical: bool
    new_columns: tuple[str, ...] = ()
    lost_columns: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        """Whether anything differs."""
        rows: list[Any] = [self.added, self.removed, self.changed]
        return any(len(frame) for frame in rows) or bool(self.new_columns or self.lost_columns)

    def __repr__(self) -> str:
        """One line for a notebook: the frames and manifests are asked for by name."""
        rows = f"{_rows(self.added)} added, {_rows(self.removed)} removed, {_rows(self.changed)} changed"
        of_one = ", ".join(self.new_columns + self.lost_columns)
        columns = f"; only one of the two has {of_one}" if of_one else ""
        return f"<Diff of {self.report}, {self.base.run_id} → {self.run.run_id}: {rows}{columns}>"


def _rows(frame: Any) -> str:
    return f"{len(frame):,}"


@overload
def diff(
    report: str,
    base: AsOf | OpenRun,
    run: AsOf | OpenRun | None = None,
    *,
    engine: Literal["pandas"] = "pandas",
    **access: Unpack[Access],
) -> Diff[pd.DataFrame]: ...
@overload
def diff(
    report: str,
    base: AsOf | OpenRun,
    run: AsOf | OpenRun | None = None,
    *,
    engine: Literal["arrow"],
    **access: Unpack[Access],
) -> Diff[pa.Table]: ...
@overload
def diff(
    report: str,
    base: AsOf | OpenRun,
    run: AsOf | OpenRun | None = None,
    *,
    engine: Engine = "pandas",
    **access: Unpack[Access],
) -> Diff[Any]: ...
def diff(
    report: str,
    base: AsOf | OpenRun,
    run: AsOf | OpenRun | None = None,
    *,
    engine: Engine = "pandas",
    **access: Unpack[Access],
) -> Diff[Any]:
    """How a report of one run differs from that of another: rows by the report's keys, cells by their values.

        diff("daily_activity", "2026-01-30", "2026-01-31").changed

    base, run: a run's id or path, a day or instant (as `as_of`), or an open run; no `run` is the latest one. A report
    that has one row a run, like user_statistics, is compared by that row. Null equals null, NaN equals NaN.
    engine, access: as for `read_report`. Raises what `read_report` raises.
    """
    check_options("diff", access, Access, "base", "run", "engine")
    check_engine(engine)
    declared = report_named(report)
    if base is None:
        raise ConfigurationError("There is no base to compare with.", remedy="run_before() gives the run before one.")
    old, new = opened(base, access), opened(run, access)
    path = f"reports/{report}.parquet"
    files = old.manifest.file(path), new.manifest.file(path)
    identical = bool(files[0] and files[1] and files[0].sha256 == files[1].sha256)
    if identical:
        columns: tuple[list[str], list[str]] = ([], [])
        found = _nothing(declared)
    else:
        tables = _rows_of(old, declared), _rows_of(new, declared)
        columns = tables[0].column_names, tables[1].column_names
        found = compare(*tables, _keys(declared))
    return Diff(
        report=report,
        keys=declared.keys,
        base=old.manifest,
        run=new.manifest,
        added=to_engine(found.added, engine, {}),
        removed=to_engine(found.removed, engine, {}),
        changed=to_engine(found.changed, engine, {}),
        cells=found.cells,
        identical=identical,
        new_columns=tuple(name for name in columns[1] if name not in columns[0]),
        lost_columns=tuple(name for name in columns[0] if name not in columns[1]),
    )


def _keys(report: Report) -> tuple[str, ...]:
    """What rows are matched by: nothing for a report of one row a run, whose as_of differs with every run."""
    return () if report.keys == ("as_of",) else report.keys


def _rows_of(run: OpenRun, report: Report) -> pa.Table:
    """A run's report; NotThere for one of a time when its rows had other keys."""
    table = run.report(report.name, engine="arrow")
    if missing := [key for key in _keys(report) if key not in table.column_names]:
        raise NotThere(
            f"{report.name} of run {run.run_id} has no column {', '.join(map(repr, missing))}, by which its rows are "
            "compared now: the contract got it later.",
            remedy="Compare runs that have it; `read_report` reads each of them as it was published.",
        )
    return table


def _nothing(report: Report) -> Difference:
    rows = report_schema(report).empty_table()
    return Difference(rows, rows, rows.select(list(_keys(report))), {})
