"""A report, or a part of it, as one file: chosen columns and days, Parquet or CSV."""

from __future__ import annotations

import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from tasks.contracts import Column, Report
from tasks.errors import PublishError
from tasks.files.layout import EXPORTS
from tasks.files.parquet import require_columns
from tasks.ledger.resume import project_folder
from tasks.platform.bucket import Bucket
from tasks.settings import Settings
from tasks.workspace import Workspace

Format = Literal["parquet", "csv"]
CSV_ROWS = 100_000  # that are made into text at once: Arrow holds no more than 2 GiB of it


def date_column(report: Report) -> Column | None:
    """The column that a range of days selects by: the report's first day or instant; None when it has none."""
    return next((c for c in report.columns if c.kind in ("date", "timestamptz")), None)


def select(
    table: pa.Table, report: Report, *, columns: Sequence[str], first: date | None, last: date | None
) -> pa.Table:
    """The rows of the days from `first` to `last`, both included, and the columns asked for, in that order.

    Either day may be None: no bound there. No columns means all that the table has: one of an earlier run may have
    others than are declared now. ReadError for a column that it lacks. The schema's metadata is kept.
    """
    column = date_column(report) if first or last else None
    require_columns(report.name, [*columns, *([column.name] if column else [])], table.column_names)
    if column is not None:
        if first is not None:
            table = table.filter(pc.greater_equal(table[column.name], _bound(first, time.min, column)))
        if last is not None:
            table = table.filter(pc.less_equal(table[column.name], _bound(last, time.max, column)))
    return table.select(list(columns) or table.column_names)


def span(table: pa.Table, report: Report) -> tuple[date, date] | None:
    """The first and the last day (UTC) that a range could select; None where there is none."""
    column = date_column(report)
    if column is None or column.name not in table.column_names or not len(table):
        return None
    ends = pc.min_max(table[column.name].cast(pa.date32()))
    return ends["min"].as_py(), ends["max"].as_py()


def _bound(day: date, at: time, column: Column) -> pa.Scalar[Any]:
    """A day, or of a column of instants its first or last microsecond: instants have no finer parts."""
    return pa.scalar(day if column.kind == "date" else datetime.combine(day, at, UTC), column.field.type)


@contextmanager
def export_folder(settings: Settings) -> Iterator[Path]:
    """Where a file is until it is stored: a folder of the project that its next run removes if this process cannot."""
    name, project = f"export-{uuid.uuid4().hex[:8]}", project_folder(settings)
    workspace = Workspace.create(settings.data_dir, name, project=project)
    try:
        with workspace.held():
            yield workspace.root
    finally:
        workspace.remove()


def encode(table: pa.Table, form: Format, path: Path) -> None:
    """Write the file: Parquet with zstd, or CSV (see `csv_of`)."""
    if form == "csv":
        with path.open("wb") as file:
            file.writelines(csv_of(table))
    else:
        pq.write_table(table, path, compression="zstd")


def csv_of(table: pa.Table, *, header: bool = True) -> Iterator[bytes]:
    """CSV in UTF-8, in pieces: texts in quotes, null as nothing, instants in ISO form; a float always says that it is
    one.

    pyarrow's own writer makes 0 of 0.0: readers that go by the first rows take such a column for whole numbers.
    """
    if header:
        yield _joined(_quoted(pa.array(table.column_names)), ",")
    yield from (_lines(table.slice(start, CSV_ROWS)) for start in range(0, table.num_rows, CSV_ROWS))


def _lines(rows: pa.Table) -> bytes:
    columns = [_as_text(column).combine_chunks() for column in rows.columns]
    return _joined(pc.binary_join_element_wise(*columns, ",", null_handling="replace", null_replacement=""), "\n")


def _joined(texts: Any, by: str) -> bytes:
    """The texts as one line, or one a line, with a line's end behind; nothing of none."""
    whole = pa.ListArray.from_arrays(pa.array([0, len(texts)], pa.int32()), texts)
    return bytes(pc.binary_join(whole, by)[0].as_buffer()) + b"\n" if len(texts) else b""


def _as_text(column: Any) -> Any:
    """Each value as it stands in a CSV."""
    if pa.types.is_string(column.type):
        return _quoted(column)
    text = column.cast(pa.string())
    if not pa.types.is_floating(column.type):
        return text
    is_whole = pc.match_substring_regex(text, r"^-?[0-9]+$")
    return pc.if_else(is_whole, pc.binary_join_element_wise(text, "0", "."), text)


def _quoted(texts: Any) -> Any:
    return pc.binary_join_element_wise('"', pc.replace_substring(texts, '"', '""'), '"', "")


def upload_export(settings: Settings, file: Path, report: str, form: Format, *, link_seconds: int) -> tuple[str, str]:
    """Store an exported file under a new path; returns the path, and a link to it that works for `link_seconds`.

    PublishError when the bucket is public or takes no file of that size, or the file cannot be stored or gets no link.
    """
    path = export_path(report, form, at=datetime.now(UTC), unique=uuid.uuid4().hex[:8])
    with Bucket(settings) as bucket:
        most = bucket.require_private()
        if most is not None and (size := file.stat().st_size) > most:
            raise PublishError(
                f"The file has {size / 2**20:,.1f} MiB, and the bucket {settings.bucket} takes "
                f"{most / 2**20:,.1f} MiB a file. Nothing was uploaded.",
                remedy="Export fewer columns or days, or Parquet; or raise the limit in the project's Storage.",
            )
        bucket.store(path, file)
        link = bucket.sign([path], link_seconds).get(path)
    if link is None:
        raise PublishError(
            f"{path} was stored, but Storage gives out no link to it.", remedy="Start the export again; see `doctor`."
        )
    return path, link


def export_path(report: str, form: Format, *, at: datetime, unique: str) -> str:
    """A new path in the bucket, by the day of the export, so that retention can find old ones."""
    return f"{EXPORTS}/{at.astimezone(UTC):%Y-%m-%d}/{report}-{at.astimezone(UTC):%H%M%S}-{unique}.{form}"
