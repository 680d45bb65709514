"""Postgres: one instant for both tables, and what a dropped connection costs."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from local_stack import Stack
from tasks.errors import AccessError, PipelineError, ServiceUnavailable
from tasks.source import open_source
from tasks.source.connection import batches, connect, scalar
from tasks.source.snapshot import Snapshot
from tasks.workspace import Workspace
from tests.source.kit import posts_at, settings_for, source_table, spool_at

ROWS = 20_000
MINE = "application_name = 'supabase-nightly' and pid <> pg_backend_pid()"
KILL = f"select count(pg_terminate_backend(pid)) from pg_stat_activity where {MINE}"
READERS = f"{KILL} and state = 'active' and query like 'COPY (select s.%'"
HOLDER = f"{KILL} and state = 'idle in transaction'"


@pytest.fixture
def table(stack: Stack) -> Iterator[str]:
    with source_table(stack, rows=ROWS) as name:
        yield name


class Killer:
    """Ends sessions of ours in the background, until it hit some `times` times."""

    def __init__(self, stack: Stack, statement: str, times: int) -> None:
        self.hits = 0
        self._stack, self._statement, self._times = stack, statement, times
        self._done, self._ready = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Killer:
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def _run(self) -> None:
        with psycopg.connect(self._stack.db_url, autocommit=True) as connection:
            self._ready.set()
            while not self._done.wait(0.002) and self.hits < self._times:
                row = connection.execute(self._statement.encode()).fetchone()
                self.hits += row[0] if row else 0


def test_both_tables_are_read_at_one_instant(stack: Stack, table: str, tmp_path: Path) -> None:
    with source_table(stack, rows=100) as later, open_source(settings_for(stack, "postgres", tmp_path)) as source:
        first, second = posts_at(table), posts_at(later)
        source.preflight([first])
        assert source.read(first, spool_at(tmp_path / "a", first)).rows == ROWS
        stack.query(f"delete from public.{later}")
        source.preflight([second])
        assert source.read(second, spool_at(tmp_path / "b", second)).rows == 100


def test_nothing_is_held_before_and_after_the_reading(stack: Stack, table: str, tmp_path: Path) -> None:
    """The product may change its table at once; while it is read, it waits."""
    posts, workspace = posts_at(table), Workspace.create(tmp_path, "run")
    with open_source(settings_for(stack, "postgres", tmp_path)) as source:
        source.preflight([posts])
        alter(stack, table, "before")
        source.read(posts, workspace.spool("raw", "posts", posts.raw_schema))
        with pytest.raises(psycopg.errors.LockNotAvailable):
            alter(stack, table, "meanwhile")
        source.end_reading()
        alter(stack, table, "after")
        assert stack.query(f"select count(*) from pg_stat_activity where {MINE}") == "0"


def alter(stack: Stack, table: str, column: str) -> None:
    """What a migration of the product does; an error when it has to wait."""
    with psycopg.connect(stack.db_url, options="-c lock_timeout=500ms") as connection:
        connection.execute(f"alter table public.{table} add column {column} int".encode())


def test_a_table_that_is_rewritten_is_waited_for(stack: Stack, table: str, tmp_path: Path) -> None:
    """An older snapshot would see the new table empty: the lock is taken before the snapshot."""
    posts = posts_at(table)
    with (
        psycopg.connect(stack.db_url) as product,
        open_source(settings_for(stack, "postgres", tmp_path)) as source,
        ThreadPoolExecutor(1) as pool,
    ):
        source.preflight([posts])
        product.execute(f"alter table public.{table} alter column title type varchar(200)".encode())
        product.execute(f"alter table public.{table} add column filler int generated always as (1) stored".encode())
        reading = pool.submit(source.read, posts, spool_at(tmp_path, posts))
        wait_for_lock(stack, table)
        product.commit()
        assert reading.result().rows == ROWS


def wait_for_lock(stack: Stack, table: str) -> None:
    waiting = f"select count(*) from pg_locks where relation = 'public.{table}'::regclass and not granted"
    deadline = time.monotonic() + 30
    while stack.query(waiting) == "0":
        assert time.monotonic() < deadline, "the reading does not wait"
        time.sleep(0.02)


def test_a_stream_that_stands_still_is_named(stack: Stack, table: str, tmp_path: Path) -> None:
    """Not the whole stream is limited, which also waits for us, but each wait for the database."""
    settings = settings_for(stack, "postgres", tmp_path)
    slowly = "select repeat('a row that fills a buffer', 1000), pg_sleep(0.05) from generate_series(1, 30) g"
    with connect(settings) as connection:
        assert sum(b.num_rows for b in batches(connection, slowly, nbytes=1, patience=1)) == 30
        with pytest.raises(ServiceUnavailable, match="sent no row for 1 s") as caught:
            list(batches(connection, "select pg_sleep(20)", nbytes=1, patience=1))
    assert "ETL_STATEMENT_TIMEOUT" in caught.value.remedy


@pytest.mark.slow
def test_what_the_database_says_in_a_stream_is_said(stack: Stack, tmp_path: Path) -> None:
    query = "select 1 / (50000 - g) from generate_series(1, 60000) g"
    settings = settings_for(stack, "postgres", tmp_path)
    with connect(settings) as connection, pytest.raises(PipelineError, match="division by zero"):
        list(batches(connection, query, nbytes=1, patience=10))


def test_the_database_neither_sorts_nor_reads_twice(stack: Stack, tmp_path: Path) -> None:
    """Random keys, and more rows than a sort holds in memory: no temporary file, and each page once."""
    with source_table(stack, rows=250_000) as name:
        stack.query(f"update public.{name} set content = repeat('words of a post ', 20)")
        stack.query(f"vacuum full analyze public.{name}")
        posts, settings = posts_at(name), settings_for(stack, "postgres", tmp_path, ranges=2)
        pages = int(stack.query(f"select pg_relation_size('public.{name}') / 8192"))
        temporary, touched = usage(stack, name)
        with open_source(settings) as source:
            source.preflight([posts])
            assert source.read(posts, spool_at(tmp_path, posts)).rows == 250_000
        after = usage(stack, name)
    assert after[0] - temporary == 0
    assert after[1] - touched < 1.2 * pages


def usage(stack: Stack, table: str) -> tuple[int, int]:
    """Bytes of temporary files of the database, and pages of the table that were asked for."""
    stack.query("select pg_stat_force_next_flush()")
    time.sleep(1.1)  # sessions report what they did when they end, or once a second
    temporary = stack.query("select temp_bytes from pg_stat_database where datname = current_database()")
    touched = stack.query(
        f"select heap_blks_read + heap_blks_hit from pg_statio_all_tables where relid = 'public.{table}'::regclass"
    )
    return int(temporary), int(touched)


def test_began_is_the_instant_of_the_preflight(stack: Stack, table: str, tmp_path: Path) -> None:
    with open_source(settings_for(stack, "postgres", tmp_path)) as source:
        source.preflight([posts_at(table)])
        now = float(stack.query("select extract(epoch from clock_timestamp())"))
        assert 0 <= now - source.snapshot_at.timestamp() < 60
        assert source.snapshot_at == source.snapshot_at


def test_sessions_are_named_and_bounded_and_read_as_the_role(stack: Stack, tmp_path: Path) -> None:
    settings = settings_for(stack, "postgres", tmp_path, statement_timeout=77)
    with connect(settings) as connection, closing(Snapshot(settings, ())) as snapshot, snapshot.reader() as reader:
        shown = [scalar(connection, f"select current_setting('{name}')") for name in ("statement_timeout", "role")]
        name = scalar(connection, "select application_name from pg_stat_activity where pid = pg_backend_pid()")
        assert scalar(reader, "select current_setting('statement_timeout')") == "0", "a view is one slice"
    assert (shown, name) == (["77s", "etl"], "supabase-nightly")


def test_a_dropped_reader_restarts_its_slice_in_the_same_snapshot(stack: Stack, tmp_path: Path) -> None:
    with source_table(stack, rows=60_000) as name, source_table(stack, rows=1) as other:
        table, first = posts_at(name), posts_at(other)
        settings = settings_for(stack, "postgres", tmp_path, retries=20, batch_bytes=2**20)
        with open_source(settings) as source:
            source.preflight([first])
            source.read(first, spool_at(tmp_path / "first", first))
            stack.query(f"delete from public.{name} where random() < 0.5")
            source.preflight([table])
            with Killer(stack, READERS, times=2) as killer:
                done = source.read(table, spool_at(tmp_path, table))
    assert killer.hits >= 1
    assert done.rows == 60_000
    assert len(set(spool_at(tmp_path, table).table()["id"].to_pylist())) == 60_000


@pytest.mark.parametrize("which", ["of the snapshot", "of the locks"])
def test_a_lost_snapshot_restarts_the_table(stack: Stack, table: str, tmp_path: Path, which: str) -> None:
    """Without its locks a snapshot is no evidence either: the table could have been rewritten."""
    posts, settings = posts_at(table), settings_for(stack, "postgres", tmp_path)
    with open_source(settings) as source:
        source.preflight([posts])
        source.read(posts, spool_at(tmp_path / "first", posts))
        stack.query(f"delete from public.{table} where ctid in (select ctid from public.{table} limit 1000)")
        isolated = "backend_xmin is not null" if which == "of the snapshot" else "backend_xmin is null"
        assert int(stack.query(f"{HOLDER} and {isolated}")) == 1
        done = source.read(posts, spool_at(tmp_path, posts))
    assert done.rows == ROWS - 1000
    assert "read again from the start 1 times" in done.how


def test_a_database_that_is_away_is_a_transient_error(stack: Stack, tmp_path: Path) -> None:
    url = "postgresql://postgres:secret-word@127.0.0.1:9/postgres"
    settings = settings_for(stack, "postgres", tmp_path, supabase_db_url=url, retries=1)
    with pytest.raises(ServiceUnavailable) as caught, open_source(settings) as source:
        source.preflight([posts_at("posts")])
    assert "Tried 2 times" in str(caught.value)
    assert "secret-word" not in str(caught.value)


def test_tls_is_as_the_url_says(stack: Stack, tmp_path: Path) -> None:
    settings = settings_for(stack, "postgres", tmp_path, supabase_db_url=f"{stack.db_url}?sslmode=require")
    with pytest.raises(AccessError, match="does not support SSL"), open_source(settings) as source:
        source.preflight([posts_at("posts")])
