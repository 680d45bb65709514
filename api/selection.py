"""A part of a report in a format: which columns and days, its ETag, and its bytes piece by piece.

The same selection of the same file gives the same bytes, so the ETag follows from the file's sha256.
"""

from __future__ import annotations

import hashlib
import io
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Any, Literal

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.contracts import Report
from tasks.files.parquet import require_columns
from tasks.publish.export import csv_of, select

Format = Literal["json", "csv", "parquet", "arrow"]
MEDIA_TYPES: dict[Format, str] = {
    "json": "application/json",
    "csv": "text/csv; charset=utf-8",
    "parquet": "application/vnd.apache.parquet",
    "arrow": "application/vnd.apache.arrow.stream",
}
ABOUT_COLUMN = (b"description", b"unit")
ROWS = 8_192
GROUP_ROWS = 100_000
CHUNK = 2**18
VERSION = "3"  # of how the bytes are made


@dataclass(frozen=True, slots=True)
class Selection:
    """What of a report is wanted. No columns: all. Days: both included, None has no bound."""

    report: Report
    format: Format
    columns: tuple[str, ...] = ()
    first: date | None = None
    last: date | None = None

    @property
    def is_whole_file(self) -> bool:
        """Whether the published Parquet file is the answer as it is."""
        return self.format == "parquet" and not self.columns and self.first is None and self.last is None

    def etag(self, sha256: str) -> str:
        """A strong ETag: equal content has the same one, also in another run."""
        if self.is_whole_file:
            return f'"{sha256[:32]}"'
        facts = (VERSION, sha256, self.format, *self.columns, str(self.first), str(self.last))
        return f'"{hashlib.sha256("|".join(facts).encode()).hexdigest()[:32]}"'

    def filename(self, day: str) -> str:
        """What a browser calls the file."""
        return f"{self.report.name}-{day}.{'arrows' if self.format == 'arrow' else self.format}"

    def pieces(self, file: Path) -> Iterator[bytes]:
        """The bytes, made as they are asked for; of a file of any size only a batch is in memory.

        ReadError or ConfigurationError, before the first of them, for a column that the file lacks.
        """
        makers = {"json": _as_json, "csv": _as_csv, "arrow": _as_arrow, "parquet": _as_parquet}
        return makers[self.format](self.report.name, self.schema_of(file), self._tables(file))

    def _tables(self, file: Path) -> Iterator[pa.Table]:
        with pq.ParquetFile(file, buffer_size=CHUNK, pre_buffer=False) as source:
            for batch in source.iter_batches(
                batch_size=GROUP_ROWS if self.format == "parquet" else ROWS, use_threads=False
            ):
                table = pa.Table.from_batches([batch])
                yield select(table, self.report, columns=self.columns, first=self.first, last=self.last)

    def schema_of(self, file: Path) -> pa.Schema:
        """The chosen columns with their types, descriptions and units, as this file has them."""
        found = pq.read_schema(file)
        require_columns(self.report.name, self.columns, found.names, self.report.schema.names)
        fields = [found.field(name) for name in self.columns or found.names]
        return pa.schema([field.with_metadata(_about(field)) for field in fields])


def _about(field: pa.Field) -> dict[bytes, bytes]:
    """Description and unit of a column, without what Parquet adds."""
    return {key: value for key, value in (field.metadata or {}).items() if key in ABOUT_COLUMN}


def columns_of(schema: pa.Schema) -> list[dict[str, Any]]:
    """Columns as the API describes them."""
    facts = [(field, {key.decode(): value.decode() for key, value in _about(field).items()}) for field in schema]
    return [
        {"name": field.name, "type": str(field.type), "unit": about.get("unit"), "nullable": field.nullable,
         "description": about.get("description", "")}
        for field, about in facts
    ]  # fmt: skip


def _as_json(report: str, schema: pa.Schema, tables: Iterator[pa.Table]) -> Iterator[bytes]:
    head = {"report": report, "columns": columns_of(schema)}
    yield orjson.dumps(head)[:-1] + b',"rows":['
    comma = b""
    for table in tables:
        if table.num_rows:
            yield comma + orjson.dumps(table.to_pylist())[1:-1]
            comma = b","
    yield b"]}"


def _as_csv(_: str, schema: pa.Schema, tables: Iterator[pa.Table]) -> Iterator[bytes]:
    yield from csv_of(schema.empty_table())  # a report without rows has a header, too
    for table in tables:
        yield from csv_of(table, header=False)


def _as_arrow(_: str, schema: pa.Schema, tables: Iterator[pa.Table]) -> Iterator[bytes]:
    sink = _Drained()
    with pa.ipc.new_stream(sink, schema) as writer:
        for table in tables:
            writer.write_table(_plain(table, schema))
            yield sink.drain()
    yield sink.drain()


def _as_parquet(_: str, schema: pa.Schema, tables: Iterator[pa.Table]) -> Iterator[bytes]:
    """On disk first: what a Parquet file begins with is known at its end only to its writer."""
    with tempfile.TemporaryFile() as file:
        with pq.ParquetWriter(file, schema, compression="zstd") as writer:
            for table in tables:
                writer.write_table(_plain(table, schema), row_group_size=GROUP_ROWS)
        file.seek(0)
        while piece := file.read(CHUNK):
            yield piece


def _plain(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Without the file's own metadata, which describes the whole file."""
    return table.cast(schema)


class _Drained(io.RawIOBase):
    """A sink whose content is taken out as it comes."""

    def __init__(self) -> None:
        super().__init__()
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._parts.append(bytes(data))
        return len(self._parts[-1])

    def drain(self) -> bytes:
        body = b"".join(self._parts)
        self._parts.clear()
        return body
