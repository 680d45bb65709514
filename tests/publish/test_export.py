"""Exports: the rows and columns asked for, in files that others read."""

from __future__ import annotations

import io
import re
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import httpx
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_stack import Stack
from tasks.contracts import AUTHOR_ACTIVITY, DAILY_ACTIVITY, DATA_QUALITY, REPORTS, Report
from tasks.errors import PublishError, ReadError
from tasks.publish import export
from tasks.publish.export import Format, csv_of, date_column, encode, export_path, select, upload_export
from tests.publish.builders import reports, settings_of

FIRST = date(2026, 1, 1)
ZEROS = {"int": 0, "float": 0.0, "text": "x", "bool": False, "uuid": "u", "bigint": 1}


def days(report: Report, count: int) -> pa.Table:
    """A report with one row a day from FIRST on."""
    columns = {}
    for column in report.columns:
        values: list[object] = [ZEROS.get(column.kind)] * count
        if column.kind == "date":
            values = [FIRST + timedelta(days=n) for n in range(count)]
        if column.kind == "timestamptz":
            values = [datetime(2026, 1, 1, 23, 59, tzinfo=UTC) + timedelta(days=n) for n in range(count)]
        columns[column.name] = values
    return pa.table(columns, schema=report.schema)


def encoded(table: pa.Table, form: Format, folder: Path) -> bytes:
    encode(table, form, path := folder / f"export.{form}")
    return path.read_bytes()


@given(st.integers(0, 12), st.none() | st.integers(-2, 14), st.none() | st.integers(-2, 14))
def test_a_range_keeps_the_days_in_it_both_ends_included(count: int, first: int | None, last: int | None) -> None:
    bounds = [None if n is None else FIRST + timedelta(days=n) for n in (first, last)]
    kept = select(days(DAILY_ACTIVITY, count), DAILY_ACTIVITY, columns=["date"], first=bounds[0], last=bounds[1])
    wanted = [n for n in range(count) if (first is None or n >= first) and (last is None or n <= last)]
    assert kept["date"].to_pylist() == [FIRST + timedelta(days=n) for n in wanted]


@pytest.mark.parametrize("report", [DAILY_ACTIVITY, AUTHOR_ACTIVITY], ids=lambda report: report.name)
def test_the_first_and_the_last_day_that_there_are_leave_a_range_open(report: Report) -> None:
    kept = select(days(report, 3), report, columns=[], first=date.min, last=date.max)
    assert kept.equals(days(report, 3))


def test_a_run_of_before_a_change_of_the_contract_is_exported_as_it_is() -> None:
    old = days(DAILY_ACTIVITY, 3).drop_columns(["words"])
    assert select(old, DAILY_ACTIVITY, columns=[], first=FIRST, last=None).equals(old)
    with pytest.raises(ReadError, match="has no column 'words': the contract got it later"):
        select(old, DAILY_ACTIVITY, columns=["words"], first=None, last=None)


def test_the_last_instant_of_the_last_day_is_in() -> None:
    kept = select(days(AUTHOR_ACTIVITY, 3), AUTHOR_ACTIVITY, columns=[], first=FIRST, last=FIRST)
    assert kept.num_rows == 1
    assert kept.column_names == [column.name for column in AUTHOR_ACTIVITY.columns]


@pytest.mark.parametrize("report", REPORTS, ids=lambda report: report.name)
@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_pandas_reads_what_was_exported(report: Report, form: Format, tmp_path: Path) -> None:
    body = io.BytesIO(encoded(days(report, 2), form, tmp_path))
    frame = pd.read_parquet(body) if form == "parquet" else pd.read_csv(body)
    assert list(frame.columns) == [column.name for column in report.columns]
    assert len(frame) == 2


def test_a_csv_says_what_is_a_float_and_where_a_text_ends(tmp_path: Path) -> None:
    """Polars takes the types from the first hundred rows."""
    table = pa.table({"name": ['a "b",\nc'] * 153, "share": [0.0] * 150 + [0.04, None, 1.0], "rows": range(153)})
    frame = pl.read_csv(encoded(table, "csv", tmp_path))
    assert frame.schema == {"name": pl.String, "share": pl.Float64, "rows": pl.Int64}
    assert frame.to_dict(as_series=False) == table.to_pydict()


def test_a_large_csv_is_made_some_rows_at_a_time(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """As one text of more than 2 GiB it was a defect; and it was in memory as a whole, twice."""
    table = pa.table({"name": ["a", "b", None] * 3, "share": [0.5, None, 1.0] * 3})
    whole = encoded(table, "csv", tmp_path)
    joined, join = list[int](), pc.binary_join

    def counted(texts: pa.Array, by: str) -> pa.Array:
        joined.append(len(texts[0]))
        return join(texts, by)

    monkeypatch.setattr(export, "CSV_ROWS", 4)
    monkeypatch.setattr(pc, "binary_join", counted)
    pieces = csv_of(table)
    next(pieces)
    next(pieces)
    assert joined == [2, 4], "a piece is made when the one before it is written"
    assert encoded(table, "csv", tmp_path) == whole
    assert joined[2:] == [2, 4, 4, 1]


def test_a_report_without_days_has_no_column_for_them() -> None:
    assert date_column(DATA_QUALITY) is None


def test_an_export_has_a_path_by_its_day() -> None:
    at = datetime(2026, 1, 31, 12, 0, 5, tzinfo=UTC)
    assert export_path("daily_activity", "csv", at=at, unique="ab") == (
        "exports/2026-01-31/daily_activity-120005-ab.csv"
    )


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_an_export_comes_back_by_its_link_with_its_type(clean_stack: Stack, tmp_path: Path, form: Format) -> None:
    settings = settings_of(clean_stack, tmp_path)
    report = DAILY_ACTIVITY
    rows = reports(np.random.default_rng(1), ["u"])[report]
    body = encoded(rows, form, tmp_path)
    file = tmp_path / f"export.{form}"
    path, link = upload_export(settings, file, report.name, form, link_seconds=60)
    assert re.fullmatch(rf"exports/\d{{4}}-\d\d-\d\d/daily_activity-\d{{6}}-[0-9a-f]{{8}}\.{form}", path)
    answer = httpx.get(link)
    assert answer.content == body
    assert answer.headers["content-type"].startswith("text/csv" if form == "csv" else "application/vnd.apache.parquet")
    clean_stack.query("update storage.buckets set file_size_limit = 100 where id = 'reports'")
    try:
        with pytest.raises(PublishError, match=r"the bucket reports takes 0\.0 MiB a file\. Nothing was uploaded"):
            upload_export(settings, file, report.name, form, link_seconds=60)
    finally:
        clean_stack.query("update storage.buckets set file_size_limit = null where id = 'reports'")
    assert clean_stack.query("select name from storage.objects where name like 'exports/%'") == path
    if form == "csv":
        frame = pd.read_csv(link, parse_dates=["date"])
        assert frame["posts"].tolist() == rows["posts"].to_pylist()
        assert frame["date"].dt.date.tolist() == rows["date"].to_pylist()
