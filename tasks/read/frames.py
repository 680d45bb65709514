"""Parquet files on this machine to a frame of the engine asked for, which says which run it is of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.errors import ConfigurationError
from tasks.files.manifest import FileEntry, Manifest
from tasks.files.parquet import require_columns
from tasks.read.options import Engine, Filters


def load(
    what: str,
    files: Sequence[Path],
    columns: Sequence[str] | None,
    filters: Filters | None,
    *,
    declared: Sequence[str],
) -> pa.Table:
    """The rows of these files, one after the other. ConfigurationError for filters that pyarrow cannot apply.

    declared: the columns of the contract, to say which kind of mistake a column is that a file lacks.

    Without any column there are still as many rows, as in pandas.
    """
    some = pq.read_schema(files[0]).names[:1] if columns is not None and not columns else columns
    tables = [_load_one(what, file, some, filters, declared) for file in files]
    table = pa.concat_tables(tables).replace_schema_metadata(tables[0].schema.metadata)
    return table if some is columns else table.select([])


def no_rows(what: str, schema: pa.Schema, columns: Sequence[str] | None, filters: Filters | None) -> pa.Table:
    """What `load` gives of a file of that schema without rows."""
    with _as_filters(what, filters):
        table = schema.empty_table()
        table = table if filters is None else table.filter(pq.filters_to_expression(filters))
    return table if columns is None else table.select(list(columns))


def load_stamped(
    what: str,
    file: Path,
    columns: Sequence[str],
    filters: Filters | None,
    declared: pa.Schema,
    stamp: tuple[pa.Field, pa.Scalar[Any]],
) -> pa.Table:
    """The rows of a file with a constant column, `stamp`; columns and filters may name that one too.

    A column of the same name in the file is not read. A declared column that the file lacks is null.
    """
    import pyarrow.dataset as ds  # slow to import: only histories need it

    column, value = stamp
    found = pq.read_schema(file)
    later = [field.with_nullable(True) for field in declared if field.name not in found.names]
    schema = pa.schema([column, *(field for field in (*found, *later) if field.name != column.name)])
    known = ds.ParquetFileFormat().make_fragment(
        str(file), filesystem=pa.fs.LocalFileSystem(), partition_expression=pc.field(column.name) == value
    )
    with _as_filters(what, filters):
        rows = ds.FileSystemDataset([known], schema, known.format)
        matching = None if filters is None else pq.filters_to_expression(filters)
        return rows.to_table(columns=list(columns), filter=matching)


def _load_one(
    what: str, file: Path, columns: Sequence[str] | None, filters: Filters | None, declared: Sequence[str]
) -> pa.Table:
    require_columns(what, columns or (), pq.read_schema(file).names, declared)
    with _as_filters(what, filters):
        return pq.read_table(file, columns=columns, filters=filters, partitioning=None)


@contextmanager
def _as_filters(what: str, filters: Filters | None) -> Iterator[None]:
    """ConfigurationError for what pyarrow raises when it applies filters."""
    try:
        yield
    except (pa.ArrowException, TypeError, ValueError, KeyError, IndexError, AttributeError) as error:
        if filters is None:
            raise
        raise ConfigurationError(
            f"The filters {filters!r} cannot be applied to {what}: {str(error).splitlines()[0].rstrip('.')}.",
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
        return _described(table, {**(table.schema.metadata or {}), **texts})
    if engine == "polars":
        import polars  # optional: only who asks for it needs it

        return polars.from_arrow(table)
    frame = to_pandas(table)
    frame.attrs.update(source)
    return frame


def _described(table: pa.Table, metadata: dict[Any, Any]) -> pa.Table:
    """The table with that metadata; also one without columns keeps its number of rows, which pyarrow would drop."""
    if table.column_names:
        return table.replace_schema_metadata(metadata)
    return table.append_column("", pa.nulls(table.num_rows)).replace_schema_metadata(metadata).select([])


def to_pandas(table: pa.Table) -> pd.DataFrame:
    """Days as datetime64; a whole number that may be null stays one, as Int64."""
    frame: pd.DataFrame = table.to_pandas(date_as_object=False)
    for field in table.schema:
        if pa.types.is_integer(field.type) and field.nullable:
            frame[field.name] = table[field.name].to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return frame
