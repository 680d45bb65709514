"""Postgres: one instant for both tables, and what a dropped connection costs."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from local_stack import Stack
from tasks.errors import AccessError, ServiceUnavailable
from tasks.source import open_source
from tasks.source.connection import connect, scalar
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


def test_began_is_the_instant_of_the_snapshot(stack: Stack, table: str, tmp_path: Path) -> None:
    with open_source(settings_for(stack, "postgres", tmp_path)) as source:
        source.preflight([posts_at(table)])
        now = float(stack.query("select extract(epoch from clock_timestamp())"))
        assert 0 <= now - source.began.timestamp() < 60
        assert source.began == source.began


def test_sessions_are_named_and_bounded_and_read_as_the_role(stack: Stack, tmp_path: Path) -> None:
    settings = settings_for(stack, "postgres", tmp_path, statement_timeout=77)
    with connect(settings) as connection:
        shown = [scalar(connection, f"select current_setting('{name}')") for name in ("statement_timeout", "role")]
        name = scalar(connection, "select application_name from pg_stat_activity where pid = pg_backend_pid()")
    assert (shown, name) == (["77s", "etl"], "supabase-nightly")


def test_a_dropped_reader_restarts_its_range_in_the_same_snapshot(stack: Stack, tmp_path: Path) -> None:
    with source_table(stack, rows=60_000) as name:
        table = posts_at(name)
        settings = settings_for(stack, "postgres", tmp_path, retries=20, batch_rows=500)
        with open_source(settings) as source:
            source.preflight([table])
            began = source.began
            stack.query(f"delete from public.{name} where random() < 0.5")
            with Killer(stack, READERS, times=2) as killer:
                done = source.read(table, spool_at(tmp_path, table))
            assert source.began == began
    assert killer.hits >= 1
    assert done.rows == 60_000
    assert len(set(spool_at(tmp_path, table).table()["id"].to_pylist())) == 60_000


def test_a_lost_snapshot_restarts_the_table(stack: Stack, table: str, tmp_path: Path) -> None:
    posts, settings = posts_at(table), settings_for(stack, "postgres", tmp_path)
    with open_source(settings) as source:
        source.preflight([posts])
        began = source.began
        stack.query(f"delete from public.{table} where ctid in (select ctid from public.{table} limit 1000)")
        assert int(stack.query(HOLDER)) == 1
        done = source.read(posts, spool_at(tmp_path, posts))
        assert source.began > began
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
