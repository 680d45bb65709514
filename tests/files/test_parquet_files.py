"""The Parquet files: documented, typed, sorted, and the same bytes however their rows came."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from tasks.contracts import ARROW_TYPES, POSTS, REPORTS, TABLES, USERS, Column, Kind, Report, Table
from tasks.files.clean import write_clean
from tasks.files.manifest import FileEntry
from tasks.files.months import split_months
from tasks.files.parquet import file_schema, to_file_shape
from tasks.files.run_files import write_files
from tasks.settings import Settings
from tasks.workspace import Workspace
from tests.publish.builders import AS_OF, clean_posts, clean_users, empty_reports, make_workspace, uuids, write_spool

SMALL = Settings(part_rows=200, row_group_rows=100)
PANDAS: dict[Kind, str] = {
    "uuid": "str", "bigint": "int64", "text": "str", "timestamptz": "datetime64[us, UTC]", "date": "object",
    "int": "int64", "float": "float64", "bool": "bool",
}  # fmt: skip
POLARS: dict[Kind, Any] = {
    "uuid": pl.String, "bigint": pl.Int64, "text": pl.String, "timestamptz": pl.Datetime("us", "UTC"), "date": pl.Date,
    "int": pl.Int64, "float": pl.Float64, "bool": pl.Boolean,
}  # fmt: skip
DUCKDB: dict[Kind, str] = {
    "uuid": "VARCHAR", "bigint": "BIGINT", "text": "VARCHAR", "timestamptz": "TIMESTAMP WITH TIME ZONE", "date": "DATE",
    "int": "BIGINT", "float": "DOUBLE", "bool": "BOOLEAN",
}  # fmt: skip


@pytest.fixture(scope="module")
def workspace(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    return make_workspace(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def entries(workspace: Workspace) -> list[FileEntry]:
    return write_files(workspace, as_of=AS_OF, settings=SMALL)


def _files(workspace: Workspace, entries: list[FileEntry]) -> Iterator[tuple[Path, Report | Table]]:
    for entry in entries:
        parts = entry.path.split("/")
        declared: list[Report | Table] = [*REPORTS, *TABLES]
        found = next(of for of in declared if of.name == parts[1].removesuffix(".parquet"))
        yield workspace.files / entry.path, found


def _columns(of: Report | Table) -> tuple[Column, ...]:
    return of.columns if isinstance(of, Report) else of.file_columns


def test_the_layout_is_the_documented_one(entries: list[FileEntry]) -> None:
    paths = [entry.path for entry in entries]
    assert [path for path in paths if path.startswith("reports/")] == [f"reports/{r.name}.parquet" for r in REPORTS]
    assert [path for path in paths if path.startswith("clean/users/")] == [
        "clean/users/part-000.parquet", "clean/users/part-001.parquet",
    ]  # fmt: skip
    months = {path.split("/")[2] for path in paths if path.startswith("clean/posts/")}
    assert months == {f"month=2025-{month:02}" for month in range(6, 13)} | {"month=2026-01"}


def test_an_entry_tells_the_truth_of_its_file(workspace: Workspace, entries: list[FileEntry]) -> None:
    for entry in entries:
        body = (workspace.files / entry.path).read_bytes()
        assert entry.bytes == len(body)
        assert entry.sha256 == hashlib.sha256(body).hexdigest()
        assert entry.md5 == hashlib.md5(body).hexdigest()
        assert entry.rows == pq.read_metadata(workspace.files / entry.path).num_rows


def test_pyarrow_sees_the_contract(workspace: Workspace, entries: list[FileEntry]) -> None:
    for path, of in _files(workspace, entries):
        schema = pq.read_schema(path)
        assert schema.names == [c.name for c in _columns(of)]
        assert [f.type for f in schema] == [ARROW_TYPES[c.kind] for c in _columns(of)]
        assert [f.nullable for f in schema] == [c.nullable for c in _columns(of)]


def test_pandas_sees_the_documented_types(workspace: Workspace, entries: list[FileEntry]) -> None:
    for path, of in _files(workspace, entries):
        dtypes = pd.read_parquet(path).dtypes.astype(str)
        assert dtypes.to_dict() == {c.name: PANDAS[c.kind] for c in _columns(of)}


def test_polars_sees_the_documented_types(workspace: Workspace, entries: list[FileEntry]) -> None:
    for path, of in _files(workspace, entries):
        assert dict(pl.read_parquet(path).schema) == {c.name: POLARS[c.kind] for c in _columns(of)}


def test_duckdb_sees_the_documented_types(workspace: Workspace, entries: list[FileEntry]) -> None:
    for path, of in _files(workspace, entries):
        relation = duckdb.read_parquet(str(path))
        assert dict(zip(relation.columns, map(str, relation.types), strict=True)) == {
            c.name: DUCKDB[c.kind] for c in _columns(of)
        }


def test_all_readers_see_the_same_rows(workspace: Workspace, entries: list[FileEntry]) -> None:
    for path, of in _files(workspace, entries):
        expected = pq.read_table(path).to_pylist()
        assert pl.read_parquet(path).to_dicts() == expected
        relation = duckdb.read_parquet(str(path))
        assert relation.to_arrow_table().num_rows == len(expected)
        assert pd.read_parquet(path)[of.columns[0].name].tolist() == [row[of.columns[0].name] for row in expected]


def test_the_schema_documents_itself(workspace: Workspace, entries: list[FileEntry]) -> None:
    for path, of in _files(workspace, entries):
        schema = pq.read_schema(path)
        about = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
        assert about["name"] == of.name
        assert about["description"] == of.description
        assert about["contract_version"] == str(of.version)
        assert "historical" not in about
        assert about.get("as_of") == ("2026-02-01T00:00:00+00:00" if isinstance(of, Report) else None)
        for column in _columns(of):
            described = schema.field(column.name).metadata or {}
            assert described[b"description"].decode() == column.description
            assert described.get(b"unit", b"").decode() == (column.unit or "")


def test_files_are_compressed_and_have_statistics(workspace: Workspace, entries: list[FileEntry]) -> None:
    for path, _ in _files(workspace, entries):
        metadata = pq.read_metadata(path)
        for group, column in itertools.product(range(metadata.num_row_groups), range(metadata.num_columns)):
            chunk = metadata.row_group(group).column(column)
            assert chunk.compression == "ZSTD"
            assert chunk.is_stats_set
            assert chunk.has_offset_index
            assert chunk.has_column_index


def test_instants_and_keys_are_written_as_differences_and_what_repeats_as_a_dictionary(
    workspace: Workspace, entries: list[FileEntry]
) -> None:
    differences = {"text": "DELTA_BYTE_ARRAY", "uuid": "DELTA_BYTE_ARRAY"}
    for path, of in _files(workspace, entries):
        keys = of.keys if isinstance(of, Report) else (of.key.name,)
        for number, column in enumerate(_columns(of)):
            expected = "PLAIN" if column.kind == "bool" else "RLE_DICTIONARY"
            if column.kind in ("timestamptz", "date") or keys == (column.name,):
                expected = differences.get(column.kind, "DELTA_BINARY_PACKED")
            chunk = pq.read_metadata(path).row_group(0).column(number)
            assert expected in chunk.encodings, f"{of.name}.{column.name}"
            assert chunk.has_dictionary_page == (expected == "RLE_DICTIONARY"), f"{of.name}.{column.name}"


def test_no_personal_column_is_in_a_file(workspace: Workspace, entries: list[FileEntry]) -> None:
    personal = {c.name for table in TABLES for c in table.columns if c.personal}
    for path, of in _files(workspace, entries):
        assert not personal & set(pq.read_schema(path).names)
        assert b"Person 1" not in path.read_bytes()
        assert b"@mail.example" not in path.read_bytes(), of.name


def test_presence_stands_for_a_personal_column() -> None:
    rows = clean_users(np.random.default_rng(5), uuids(np.random.default_rng(6), 100))
    batch = rows.combine_chunks().to_batches()[0]
    shaped = to_file_shape(USERS, batch)
    assert shaped.schema.names == [c.name for c in USERS.file_columns]
    personal = [column.name for column in USERS.columns if column.in_file == "presence"]
    assert {"name", "email"} <= set(personal)
    for name in personal:
        assert shaped.column(f"has_{name}").to_pylist() == [
            value is not None for value in batch.column(name).to_pylist()
        ]


def test_rows_are_sorted_in_parts_and_groups_of_fixed_size(workspace: Workspace, entries: list[FileEntry]) -> None:
    clean = [entry for entry in entries if entry.kind == "clean"]
    for _, parts in itertools.groupby(clean, key=lambda entry: entry.path.rpartition("/")[0]):
        in_order = list(parts)
        ids: list[str] = []
        for entry in in_order:
            metadata = pq.read_metadata(workspace.files / entry.path)
            groups = [metadata.row_group(g).num_rows for g in range(metadata.num_row_groups)]
            assert all(rows == 100 for rows in groups[:-1])
            ids += pq.read_table(workspace.files / entry.path, columns=["id"])["id"].to_pylist()
        assert all(entry.rows == 200 for entry in in_order[:-1])
        assert ids == sorted(ids)


def test_each_month_has_its_rows_and_no_other(workspace: Workspace, entries: list[FileEntry]) -> None:
    seen = 0
    for entry in entries:
        if entry.path.startswith("clean/posts/"):
            created = pq.read_table(workspace.files / entry.path)["created_at"].to_pandas()
            assert set(created.dt.strftime("%Y-%m")) == {entry.path.split("/")[2].removeprefix("month=")}
            seen += len(created)
    assert seen == workspace.spool("clean", "posts", POSTS.clean_schema).rows()


def test_twice_gives_the_same_bytes(tmp_path: Path, entries: list[FileEntry]) -> None:
    other = make_workspace(tmp_path, "another-run")
    assert write_files(other, as_of=AS_OF, settings=SMALL) == entries
    assert write_files(other, as_of=AS_OF, settings=SMALL) == entries


def test_cleaned_files_do_not_change_with_as_of(tmp_path: Path, entries: list[FileEntry]) -> None:
    later = write_files(make_workspace(tmp_path), as_of=datetime(2026, 2, 2, tzinfo=UTC), settings=SMALL)
    clean = [entry for entry in later if entry.kind == "clean"]
    assert clean == [entry for entry in entries if entry.kind == "clean"]
    assert later != entries


def test_a_historical_run_has_reports_only_and_they_say_so(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path)
    entries = write_files(workspace, as_of=AS_OF, settings=SMALL, historical=True)
    assert {entry.kind for entry in entries} == {"report"}
    for entry in entries:
        metadata = pq.read_schema(workspace.files / entry.path).metadata or {}
        assert b"is not known" in metadata[b"historical"]


def test_empty_tables_give_their_columns_and_no_rows(tmp_path: Path) -> None:
    workspace = make_workspace(tmp_path, users=0, posts=0)
    for report, rows in empty_reports().items():
        workspace.spool("reports", report.name, report.schema).write(0, rows.to_batches())
    entries = write_files(workspace, as_of=AS_OF, settings=SMALL)
    whole = [f"clean/{table.name}/part-000.parquet" for table in TABLES if table.by_month is None]
    assert whole[0] == "clean/users/part-000.parquet"
    assert [entry.path for entry in entries if entry.kind == "clean"] == whole
    assert pq.read_table(workspace.files / "clean/users/part-000.parquet").schema.equals(file_schema(USERS))
    for entry in entries:
        if entry.path.startswith("reports/d"):
            assert pd.read_parquet(workspace.files / entry.path).columns.tolist()


POST_ROWS = clean_posts(
    np.random.default_rng(2), uuids(np.random.default_rng(3), 400), uuids(np.random.default_rng(4), 9)
)


@hypothesis_settings(max_examples=25)
@given(
    cuts=st.lists(st.integers(0, 400), max_size=12),
    shape=st.sampled_from([(500, 100), (30, 10), (7, 100), (64, 64)]),
)
def test_the_bytes_do_not_depend_on_how_batches_were_cut(
    tmp_path_factory: pytest.TempPathFactory, cuts: list[int], shape: tuple[int, int]
) -> None:
    settings = Settings(part_rows=shape[0], row_group_rows=shape[1])
    whole = Workspace.create(tmp_path_factory.mktemp("whole"), "run")
    write_spool(whole, POSTS, POST_ROWS, batch=10_000)
    cut = Workspace.create(tmp_path_factory.mktemp("cut"), "run")
    edges = [0, *sorted(cuts), 400]
    pieces = [POST_ROWS.slice(a, b - a).combine_chunks() for a, b in itertools.pairwise(edges)]
    batches = [batch for piece in pieces for batch in piece.to_batches()]
    cut.spool("clean", "posts", POSTS.clean_schema).write(0, batches)
    assert write_clean(cut, POSTS, settings) == write_clean(whole, POSTS, settings)


@pytest.mark.parametrize("zone", ["UTC", "Zone/Of/No/Database"])  # small images have none, so that UTC is not in it
def test_seven_hundred_months_need_one_file(zone: str, tmp_path: Path) -> None:
    months = [datetime(1970 + i // 12, i % 12 + 1, 15, tzinfo=UTC) for i in range(700)]
    batch = pa.record_batch({"at": pa.array(months[::-1], pa.timestamp("us", tz=zone)), "n": pa.array(range(700))})
    split = split_months([batch, batch], tmp_path / "split", "at")
    assert [p.name for p in tmp_path.iterdir()] == ["split"]
    assert sorted(split.pieces)[:2] == ["1970-01", "1970-02"]
    assert [b.column("n").to_pylist() for b in split.batches("1970-01", batch.schema)] == [[699], [699]]
    split.remove()
    assert not list(tmp_path.iterdir())
