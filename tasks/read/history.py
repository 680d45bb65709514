"""One report over many runs, in one frame: what a reader imports as `read_history`."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any, Literal, Unpack, overload

import pandas as pd
import pyarrow as pa

from tasks.contracts import Report
from tasks.errors import NotThere
from tasks.files.manifest import FileEntry, Manifest
from tasks.files.parquet import report_schema
from tasks.read.access import why_hidden
from tasks.read.cache import Cache
from tasks.read.catalog import Catalog, open_catalog
from tasks.read.frames import load_stamped, to_engine
from tasks.read.options import (
    Access,
    Engine,
    Filters,
    Part,
    check_engine,
    check_options,
    checked_columns,
    checked_filters,
    checked_number,
    report_named,
)

AS_OF = pa.field("as_of", pa.timestamp("us", tz="UTC"), nullable=False)
DAYS = 30


class HistoryOptions(Part, Access, total=False):
    """Which part of each run's report, as whom: see `Part` and `Access`."""


@overload
def read_history(
    report: str, *, days: int = DAYS, engine: Literal["pandas"] = "pandas", **options: Unpack[HistoryOptions]
) -> pd.DataFrame: ...
@overload
def read_history(
    report: str, *, days: int = DAYS, engine: Literal["arrow"], **options: Unpack[HistoryOptions]
) -> pa.Table: ...
@overload
def read_history(
    report: str, *, days: int = DAYS, engine: Engine = "pandas", **options: Unpack[HistoryOptions]
) -> Any: ...
def read_history(report: str, *, days: int = DAYS, engine: Engine = "pandas", **options: Unpack[HistoryOptions]) -> Any:
    """A report of many runs as one frame, `as_of` always in front: one run a day, oldest first.

    days: how many days that have runs, from the latest back. Of a day's runs the last is taken, a night that really
    ran before a backfill. A column that a later run added is null in earlier ones, also to filters; one whose types do
    not go together, as where a table got another key, is text. Runs whose file retention removed are left out, and with
    a warning those whose file is lost; a DataFrame's `attrs["runs"]` lists the ids of those that are in it, by as_of.
    options: as for `read_report`; `filters` may name `as_of`. ReadError when no run has the report.
    """
    check_options("read_history", options, HistoryOptions, "days", "engine")
    check_engine(engine)
    declared, days = report_named(report), checked_number("days", days)
    wanted = checked_columns(report, options.get("columns"), pa.schema([AS_OF, *report_schema(declared)]))
    filters = checked_filters(options.get("filters"))
    names = declared.schema.names if wanted is None else wanted
    columns = [AS_OF.name, *(name for name in names if name != AS_OF.name)]
    with open_catalog(options.get("settings"), options.get("access_token")) as catalog:
        runs = _files(catalog, report, days)
        try:
            table, found = _read(catalog, declared, runs, columns, filters)
        except FileNotFoundError:  # past its time meanwhile, and forgotten by another process that shares the cache
            table, found = _read(catalog, declared, runs, columns, filters)
    there = {run.run for run in found}
    for path in (f"{run.run}/{entry.path}" for run, entry in runs if run.run not in there):
        warnings.warn(f"{path} is not in the bucket any more: its run is left out.", stacklevel=2)
    if table is None:
        raise why_hidden(catalog.settings, catalog.access_token) or NotThere(
            f"No run of the last {days} days with runs has the report {report}.",
            remedy="Raise days=; list_runs() shows the runs there are.",
        )
    return to_engine(table, engine, {"runs": {run.as_of.isoformat(): run.run_id for run in found}})


def _read(
    catalog: Catalog,
    report: Report,
    runs: list[tuple[Manifest, FileEntry]],
    columns: list[str],
    filters: Filters | None,
) -> tuple[pa.Table | None, list[Manifest]]:
    """The rows of all runs whose file is there, None without one, and these runs."""
    local = catalog.fetch_what_is_there(runs, Cache.of(catalog.settings))
    found = [run for run, _ in runs if run.run in local]
    tables = [_rows(report, run, local[run.run], columns, filters) for run in found]
    return (pa.concat_tables(_of_one_type(tables), promote_options="permissive") if tables else None), found


def _of_one_type(tables: list[pa.Table]) -> list[pa.Table]:
    """The tables with a column as text where its types in them cannot be one."""
    for at, name in enumerate(tables[0].column_names):
        try:
            pa.unify_schemas([pa.schema([table.field(name)]) for table in tables], promote_options="permissive")
        except pa.ArrowTypeError:
            text = pa.field(name, pa.string())
            tables = [table.set_column(at, text, table[name].cast(text.type)) for table in tables]
    return tables


def _files(catalog: Catalog, report: str, days: int) -> list[tuple[Manifest, FileEntry]]:
    """Of each of the last days the run to take and its file, oldest first."""
    path = f"reports/{report}.parquet"
    ranked = catalog.ranked(catalog.folders_of(catalog.days()[:days]))
    left = {day: (of for of in runs if report in of.reports) for day, runs in ranked.items()}
    best: dict[str, Manifest] = {}
    while left:
        asked = {day: of.run for day, runs in left.items() if (of := next(runs, None))}
        found = catalog.manifests(list(asked.values()))
        best |= {day: found[run] for day, run in asked.items() if run in found and found[run].file(path)}
        left = {day: left[day] for day in asked if day not in best}
    runs = sorted(best.values(), key=lambda run: run.as_of)
    return [(run, entry) for run in runs if (entry := run.file(path))]


def _rows(report: Report, run: Manifest, file: Path, columns: list[str], filters: Filters | None) -> pa.Table:
    """The rows of one run; a column that its file lacks is null."""
    what = f"{report.name} as of {run.as_of.isoformat()}"
    as_of = (AS_OF, pa.scalar(run.as_of, AS_OF.type))
    return load_stamped(what, file, columns, filters, report_schema(report), as_of).replace_schema_metadata()
