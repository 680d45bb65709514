"""Both transports read a whole table, once, in key order."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from local_stack import Stack, up
from tasks.contracts import POSTS, Column, Kind
from tasks.settings import Transport
from tasks.source import open_source
from tests.source.kit import posts_at, read, settings_for, source_table, spool_at

TRANSPORTS = pytest.mark.parametrize("transport", ["rest", "postgres"])
ROWS = 9_000


@pytest.fixture(scope="module", params=["uuid", "bigint"])
def filled(stack: Stack, request: pytest.FixtureRequest) -> Iterator[tuple[str, Kind]]:
    with source_table(stack, key=request.param, rows=ROWS) as name:
        yield name, request.param


def is_rising(keys: pa.ChunkedArray) -> bool:
    whole = keys.combine_chunks()
    return bool(pc.all(pc.less(whole[:-1], whole[1:])).as_py())


@TRANSPORTS
def test_a_table_is_read_whole_in_key_order(
    stack: Stack, filled: tuple[str, Kind], transport: Transport, tmp_path: Path
) -> None:
    table = posts_at(*filled)
    settings = settings_for(stack, transport, tmp_path, ranges=3, batch_bytes=2**20)  # small: several slices and ranges
    rows, done = read(settings, table, tmp_path)
    assert rows.schema == table.raw_schema
    assert rows.num_rows == done.rows == ROWS
    assert done.ranges >= 3
    assert len(spool_at(tmp_path, table).files()) == done.ranges
    assert is_rising(rows["id"])
    assert rows["_invalid"].null_count == ROWS


def test_both_transports_give_the_same_rows(stack: Stack, filled: tuple[str, Kind], tmp_path: Path) -> None:
    table = posts_at(*filled)
    rest, _ = read(settings_for(stack, "rest", tmp_path), table, tmp_path / "rest")
    postgres, _ = read(settings_for(stack, "postgres", tmp_path), table, tmp_path / "postgres")
    assert rest.equals(postgres)


@TRANSPORTS
def test_batches_keep_to_their_bounds(
    stack: Stack, filled: tuple[str, Kind], transport: Transport, tmp_path: Path
) -> None:
    settings = settings_for(stack, transport, tmp_path, ranges=2, batch_rows=700, batch_bytes=2**17)
    table = posts_at(*filled)
    read(settings, table, tmp_path)
    batches = list(spool_at(tmp_path, table).batches())
    assert max(b.num_rows for b in batches) <= 700
    assert max(b.nbytes for b in batches) <= 2**16


@TRANSPORTS
def test_an_empty_table_gives_no_rows_and_the_right_columns(stack: Stack, transport: Transport, tmp_path: Path) -> None:
    with source_table(stack) as name:
        rows, done = read(settings_for(stack, transport, tmp_path), posts_at(name), tmp_path)
    assert (rows.num_rows, done.rows, rows.schema) == (0, 0, POSTS.raw_schema)
    assert done.shares == {column.name: 0.0 for column in POSTS.source_columns}, "it has them, which the guard looks at"


@TRANSPORTS
def test_an_optional_column_that_the_source_lacks_is_null(stack: Stack, transport: Transport, tmp_path: Path) -> None:
    columns = "user_id uuid, content text, created_at timestamptz"
    with source_table(stack, columns=columns) as name:
        stack.query(f"insert into public.{name} values (gen_random_uuid(), null, 'a text', now())")
        rows, _ = read(settings_for(stack, transport, tmp_path), posts_at(name), tmp_path)
    assert rows.schema == POSTS.raw_schema
    assert rows["title"].null_count == rows["updated_at"].null_count == 1
    assert rows["content"].to_pylist() == ["a text"]


@TRANSPORTS
def test_columns_come_under_the_names_of_the_contract(stack: Stack, transport: Transport, tmp_path: Path) -> None:
    columns = (
        Column("user_id", "uuid", "", source="Author of it"),
        Column("content", "text", "", source="body"),
        Column("made_on", "date", "", source="made"),
        Column("score", "float", "", source="rating"),
        Column("is_open", "bool", "", source="open"),
    )
    made = '"Author of it" uuid, body text, made date, rating real, open boolean'
    with source_table(stack, columns=made) as name:
        stack.query(f"""insert into public.{name} values
            (gen_random_uuid(), null, 'a', '2026-01-31', 0.1, true),
            (gen_random_uuid(), null, 'b', 'infinity', 'NaN', null)""")
        table = posts_at(name, columns=columns)
        rows, _ = read(settings_for(stack, transport, tmp_path), table, tmp_path)
    assert rows.schema == table.raw_schema
    by_text = {row["content"]: row for row in rows.to_pylist()}
    assert (by_text["a"]["score"], by_text["a"]["is_open"], by_text["a"]["made_on"].isoformat()) == (
        0.1,
        True,
        "2026-01-31",
    )
    assert by_text["b"]["_invalid"] == "made_on: infinity"
    assert by_text["b"]["score"] is None


def test_keys_past_two_to_the_53_keep_every_digit(stack: Stack, tmp_path: Path) -> None:
    keys = [-(2**63) + 1, -(2**53) - 1, 0, 2**53 + 1, 2**63 - 1]
    with source_table(stack, key="bigint") as name:
        stack.query(f"insert into public.{name} (id) values {', '.join(f'({k})' for k in keys)}")
        for transport in ("rest", "postgres"):
            settings = settings_for(stack, transport, tmp_path, page_rows=2)
            rows, _ = read(settings, posts_at(name, "bigint"), tmp_path / transport)
            assert rows["id"].to_pylist() == keys


def test_the_row_cap_of_the_server_is_found(stack: Stack, tmp_path: Path) -> None:
    up(stack.home, empty=True, max_rows=7)
    try:
        with source_table(stack, rows=500) as name:
            rows, done = read(settings_for(stack, "rest", tmp_path), posts_at(name), tmp_path)
    finally:
        up(stack.home, empty=True, max_rows=1000)
    assert rows.num_rows == done.rows == 500
    assert len(set(rows["id"].to_pylist())) == 500


def test_a_resumed_read_keeps_finished_ranges_and_cuts(stack: Stack, filled: tuple[str, Kind], tmp_path: Path) -> None:
    table, settings = posts_at(*filled), settings_for(stack, "rest", tmp_path, ranges=4)
    whole, first = read(settings, table, tmp_path)
    spool = spool_at(tmp_path, table)
    spool.path(2).unlink()
    kept = spool.path(1).stat().st_mtime_ns
    again, done = read(settings, table, tmp_path)
    assert (first.resumed_ranges, done.resumed_ranges) == (0, 3)
    assert "3 finished ranges" in done.how
    assert spool.path(1).stat().st_mtime_ns == kept
    assert again.equals(whole)


def test_ranges_of_another_source_are_not_kept(stack: Stack, filled: tuple[str, Kind], tmp_path: Path) -> None:
    settings = settings_for(stack, "rest", tmp_path)
    read(settings, posts_at(*filled), tmp_path)
    with source_table(stack, rows=10) as other:
        rows, done = read(settings, posts_at(other), tmp_path)
    assert (rows.num_rows, done.resumed_ranges) == (10, 0)


def test_a_resumed_run_over_rest_keeps_its_began(stack: Stack, filled: tuple[str, Kind], tmp_path: Path) -> None:
    table, settings = posts_at(*filled), settings_for(stack, "rest", tmp_path)
    with open_source(settings) as source:
        clock = source.preflight([table]).clock
        assert source.snapshot_at == clock
    with open_source(settings, snapshot_at=clock) as source:
        assert source.preflight([table]).clock > clock
        assert source.snapshot_at == clock


@TRANSPORTS
def test_progress_ends_with_all_rows(
    stack: Stack, filled: tuple[str, Kind], transport: Transport, tmp_path: Path
) -> None:
    table, seen = posts_at(*filled), []
    with open_source(settings_for(stack, transport, tmp_path)) as source:
        source.preflight([table])
        source.read(table, spool_at(tmp_path, table), progress=lambda done, total: seen.append((done, total)))
    assert seen[0][0] == 0
    assert seen[-1] == (ROWS, ROWS)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
