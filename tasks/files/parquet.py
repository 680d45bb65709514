"""Parquet files that say what they hold: documented, sorted, compressed, and the same bytes for the same rows.

Schema metadata holds names, descriptions, units and the contract's version, and for a report its as_of; never a run
id, a clock or a version of the code. Cleaned files do not name as_of either: a month that did not change keeps its
bytes from night to night.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.contracts import REPORTS, TABLES, Column, Kind, Report, Table
from tasks.files.manifest import HISTORICAL_NOTE, FileEntry, entry_of, instant
from tasks.files.months import MonthSpill
from tasks.settings import Settings
from tasks.workspace import Workspace

Metadata = dict[bytes | str, bytes | str]
REPORT_GROUP_ROWS = 100_000
# Every option that shapes the bytes is pinned here, so that a new default of the writer does not change a file.
# Measured on 200,000 posts: 45 % smaller than the defaults of DataFrame.to_parquet at the same speed; higher levels of
# zstd gain under 1 %. Data pages v1 and these encodings are read by everything that reads Parquet.
WRITER: dict[str, Any] = {
    "version": "2.6",
    "data_page_version": "1.0",
    "compression": "zstd",
    "compression_level": 3,
    "write_statistics": True,
    "write_page_index": True,
    "write_page_checksum": True,
    "dictionary_pagesize_limit": 4 * 2**20,
    "data_page_size": 2**20,
    "store_schema": True,
}


def write_files(
    workspace: Workspace, *, as_of: datetime, settings: Settings, historical: bool = False
) -> list[FileEntry]:
    """Write all Parquet files of a run under `workspace.files`, from its spools of reports and cleaned rows.

    A historical run (an earlier as_of told from today's rows) has reports only, and they say so.
    """
    for folder in ("reports", "clean"):
        shutil.rmtree(workspace.files / folder, ignore_errors=True)
    entries = [_write_report(workspace, report, as_of, historical=historical) for report in REPORTS]
    if not historical:
        for table in TABLES:
            entries += write_clean(workspace, table, settings)
    return entries


def _write_report(workspace: Workspace, report: Report, as_of: datetime, *, historical: bool) -> FileEntry:
    rows = workspace.spool("reports", report.name, report.schema).table()
    path = workspace.files / "reports" / f"{report.name}.parquet"
    write_report(report, rows, path, as_of=as_of, historical=historical)
    return entry_of(path, workspace.files, rows=rows.num_rows, version=report.version, kind="report")


def write_report(report: Report, rows: pa.Table, path: Path, *, as_of: datetime, historical: bool = False) -> None:
    """Write the rows of a report, in the order of its keys, as one file."""
    facts: Metadata = {"as_of": instant(as_of).isoformat(), **({"historical": HISTORICAL_NOTE} if historical else {})}
    schema = report_schema(report, facts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _writer(path, schema, report.columns, report.keys) as writer:
        for group in regroup(rows.to_batches(), REPORT_GROUP_ROWS):
            writer.write_batch(pa.RecordBatch.from_arrays(group.columns, schema=schema), row_group_size=group.num_rows)


def write_clean(workspace: Workspace, table: Table, settings: Settings) -> list[FileEntry]:
    """Write the cleaned rows of a table in parts: sorted by key, by month where the contract says so.

    However the spool's batches were cut, the files are the same.
    """
    spool = workspace.spool("clean", table.name, table.clean_schema)
    batches = (to_file_shape(table, batch) for batch in spool.batches())
    folder = workspace.files / "clean" / table.name
    if table.by_month is None:
        files = list(_write_parts(table, batches, folder, settings, always=True))
    else:
        files = list(_write_months(table, table.by_month, batches, folder, settings))
    return [_clean_entry(workspace, table, file) for file in files]


def _write_months(
    table: Table, column: str, batches: Iterable[pa.RecordBatch], folder: Path, settings: Settings
) -> Iterator[Path]:
    with MonthSpill(folder.with_suffix(".spill"), file_schema(table), column) as spill:
        for batch in batches:
            spill.add(batch)
        for month in spill.months():
            yield from _write_parts(table, spill.batches(month), folder / f"month={month}", settings)


def _write_parts(
    table: Table, batches: Iterable[pa.RecordBatch], folder: Path, settings: Settings, *, always: bool = False
) -> Iterator[Path]:
    """Parts of whole row groups, as many as fit into `part_rows`; one group is in memory at a time."""
    rows = min(settings.row_group_rows, settings.part_rows)
    groups, per_part = regroup(batches, rows), settings.part_rows // rows
    schema = file_schema(table)
    for number in count():
        first = next(groups, None)
        if first is None and not (always and number == 0):
            return
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"part-{number:03d}.parquet"
        with _writer(path, schema, table.file_columns, (table.key.name,)) as writer:
            for group in chain([first] if first else [], islice(groups, per_part - 1)):
                writer.write_batch(pa.RecordBatch.from_arrays(group.columns, schema=schema), row_group_size=rows)
        yield path


def _clean_entry(workspace: Workspace, table: Table, file: Path) -> FileEntry:
    rows = pq.read_metadata(file).num_rows
    return entry_of(file, workspace.files, rows=rows, version=table.version, kind="clean")


def regroup(batches: Iterable[pa.RecordBatch], rows: int) -> Iterator[pa.RecordBatch]:
    """The same rows in batches of exactly `rows`, the last one of what is left."""
    waiting: list[pa.RecordBatch] = []
    missing = rows
    for batch in batches:
        while batch.num_rows:
            piece = batch.slice(0, missing)
            batch = batch.slice(piece.num_rows)
            waiting.append(piece)
            missing -= piece.num_rows
            if not missing:
                yield _one_batch(waiting)
                waiting, missing = [], rows
    if waiting:
        yield _one_batch(waiting)


def _one_batch(batches: list[pa.RecordBatch]) -> pa.RecordBatch:
    return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]


def to_file_shape(table: Table, batch: pa.RecordBatch) -> pa.RecordBatch:
    """A batch of cleaned rows without personal columns: `has_<name>` in their place where the contract says so."""
    arrays = [
        batch.column(column.name) if column.in_file == "value" else pc.is_valid(batch.column(column.name))
        for column in table.columns
        if column.in_file != "absent"
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=file_schema(table))


def file_schema(table: Table) -> pa.Schema:
    """The Arrow schema of a table's cleaned files, with its documentation."""
    return _documented(table.file_columns, table.name, table.description, table.version, (table.key.name,), {})


def report_schema(report: Report, facts: Metadata | None = None) -> pa.Schema:
    """The Arrow schema of a report's file, with its documentation and `facts` (text by name)."""
    return _documented(report.columns, report.name, report.description, report.version, report.keys, facts or {})


def _documented(
    columns: Sequence[Column], name: str, description: str, version: int, keys: Sequence[str], facts: Metadata
) -> pa.Schema:
    about: Metadata = {
        "name": name,
        "description": description,
        "contract_version": str(version),
        "keys": ",".join(keys),
        **facts,
    }
    return pa.schema([column.field.with_metadata(_about(column)) for column in columns], metadata=about)


def _about(column: Column) -> Metadata:
    return {"description": column.description, **({"unit": column.unit} if column.unit else {})}


def _writer(path: Path, schema: pa.Schema, columns: Sequence[Column], keys: Sequence[str]) -> pq.ParquetWriter:
    encodings = {c.name: _encoding(c.kind) for c in columns if c.kind in ("timestamptz", "date") or keys == (c.name,)}
    options = {
        **WRITER,
        "use_dictionary": [c.name for c in columns if c.name not in encodings and c.kind != "bool"],
        "column_encoding": encodings,
        "sorting_columns": [pq.SortingColumn(schema.get_field_index(key)) for key in keys],
    }
    return pq.ParquetWriter(path, schema, **options)


def _encoding(kind: Kind) -> str:
    """How instants, days and unique keys are written; a dictionary pays for the rest, which repeats."""
    return "DELTA_BYTE_ARRAY" if kind in ("uuid", "text") else "DELTA_BINARY_PACKED"
