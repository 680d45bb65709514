"""Parquet files that say what they hold: documented, sorted, compressed, and the same bytes for the same rows.

Schema metadata holds names, descriptions, units and the contract's version, and for a report its as_of; never a run
id, a clock or a version of the code. Cleaned files do not name as_of either: a month that did not change keeps its
bytes from night to night.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.arrow.rebatch import exactly
from tasks.contracts import Column, Kind, Report, Table
from tasks.errors import ConfigurationError, ReadError
from tasks.files.layout import instant
from tasks.files.manifest import HISTORICAL_NOTE

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


def write_report(report: Report, rows: pa.Table, path: Path, *, as_of: datetime, historical: bool = False) -> None:
    """Write the rows of a report, in the order of its keys, as one file."""
    facts: Metadata = {"as_of": instant(as_of).isoformat(), **({"historical": HISTORICAL_NOTE} if historical else {})}
    schema = report_schema(report, facts)
    path.parent.mkdir(parents=True, exist_ok=True)
    with open_writer(path, schema, report.columns, report.keys if report.sorted_by_keys else ()) as writer:
        for group in exactly(rows.to_batches(), REPORT_GROUP_ROWS):
            writer.write_batch(pa.RecordBatch.from_arrays(group.columns, schema=schema), row_group_size=group.num_rows)


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


def require_columns(what: str, wanted: Iterable[str], found: Sequence[str], declared: Sequence[str] = ()) -> None:
    """ReadError that names the columns that the file of an earlier run lacks; `found` are those it has.

    ConfigurationError, where the declared columns are given, for one that neither of them has.
    """
    missing = [column for column in wanted if column not in found]
    has = f"{', '.join(found)}."
    if declared and (unknown := [column for column in missing if column not in declared]):
        raise ConfigurationError(f"{what} has no column {', '.join(unknown)[:100]}.", remedy=f"It has {has}")
    if missing:
        raise ReadError(
            f"{what} of this run has no column {', '.join(map(repr, missing))}: the contract got it later.",
            remedy=f"The run's file has {has}",
        )


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


def open_writer(path: Path, schema: pa.Schema, columns: Sequence[Column], keys: Sequence[str]) -> pq.ParquetWriter:
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
