"""Parquet files on this machine to a frame of the engine asked for, which says which run it is of."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.errors import ConfigurationError, ReadError
from tasks.files.manifest import FileEntry, Manifest
from tasks.read.options import Engine, Filters


def load(what: str, files: Sequence[Path], columns: Sequence[str] | None, filters: Filters | None) -> pa.Table:
    """The rows of these files, one after the other. ConfigurationError for filters that pyarrow cannot apply."""
    tables = [_load_one(what, file, columns, filters) for file in files]
    return pa.concat_tables(tables).replace_schema_metadata(tables[0].schema.metadata)


def _load_one(what: str, file: Path, columns: Sequence[str] | None, filters: Filters | None) -> pa.Table:
    names = pq.read_schema(file).names
    if missing := [column for column in columns or () if column not in names]:
        raise ReadError(
            f"{what} of this run has no column {', '.join(map(repr, missing))}: the contract got it later.",
            remedy=f"The run's file has {', '.join(names)}.",
        )
    try:
        return pq.read_table(file, columns=columns, filters=filters, partitioning=None)
    except (pa.ArrowException, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        if filters is None:
            raise
        raise ConfigurationError(
            f"The filters {filters!r} cannot be applied to {what}: {str(error).splitlines()[0]}.",
            remedy='They look like [("posts", ">", 10), ("date", ">=", date(2026, 1, 1))].',
        ) from None


def source_of(manifest: Manifest, entries: Sequence[FileEntry]) -> dict[str, Any]:
    """Which run a frame is of: run_id, run (its path), as_of (ISO) and sha256, of a report its file's, else by file."""
    sums = {entry.path: entry.sha256 for entry in entries}
    one = len(entries) == 1 and entries[0].kind == "report"
    return {
        "run_id": manifest.run_id,
        "run": manifest.run,
        "as_of": manifest.as_of.isoformat(),
        "sha256": entries[0].sha256 if one else sums,
    }


def to_engine(table: pa.Table, engine: Engine, source: dict[str, Any]) -> Any:
    """The table as a frame of that engine: see `read_report`. source: what a DataFrame's `attrs` shall say."""
    if engine == "arrow":
        texts = {name: value if isinstance(value, str) else json.dumps(value) for name, value in source.items()}
        return table.replace_schema_metadata({**(table.schema.metadata or {}), **texts})
    if engine == "polars":
        import polars  # optional: only who asks for it needs it

        return polars.from_arrow(table)
    frame = to_pandas(table)
    frame.attrs.update(source)
    return frame


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Days as datetime64; a whole number that may be null stays one, as Int64."""
    frame: pd.DataFrame = table.to_pandas(date_as_object=False)
    for field in table.schema:
        if pa.types.is_integer(field.type) and field.nullable:
            frame[field.name] = table[field.name].to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return frame
