"""The database's own counters: every kind of change shows, and reading them looks at no row."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import pytest

from local_stack import Stack
from tasks.live.counts import Counts, fetch_counts, parse_counts, to_json
from tasks.platform.functions import PostgresDatabase, RestDatabase
from tests.sink.kit import settings_for


@pytest.fixture(params=["rest", "postgres"])
def database(
    clean_stack: Stack, request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[RestDatabase | PostgresDatabase]:
    kind = RestDatabase if request.param == "rest" else PostgresDatabase
    with closing(kind(settings_for(clean_stack, request.param, tmp_path))) as opened:
        yield opened


def test_every_kind_of_change_shows(clean_stack: Stack, database: RestDatabase | PostgresDatabase) -> None:
    seen: Counts = fetch_counts(database)
    for statement, changes in (
        ("insert into public.users (name) select 'x' from generate_series(1, 5)", 5),
        ("update public.users set name = 'y'", 5),
        ("delete from public.users where ctid in (select ctid from public.users limit 2)", 2),
        ("truncate public.posts", 1),
        ("alter table public.posts add column extra int default 7; alter table public.posts drop column extra", 1),
    ):
        clean_stack.query(statement)
        now = fetch_counts(database)
        for _ in range(100):  # the server counts when the statement's session has ended, which may be a moment later
            if now.since(seen):
                break
            time.sleep(0.05)
            now = fetch_counts(database)
        assert now.since(seen) == changes, statement
        seen = now
    clean_stack.query("select count(*) from public.users; analyze public.users; vacuum public.users")
    assert fetch_counts(database).since(seen) == 0, "reading and cleaning up change nothing"


def test_a_view_partitions_and_tables_that_inherit_are_looked_through(
    clean_stack: Stack, database: RestDatabase | PostgresDatabase
) -> None:
    clean_stack.query(
        "create table public.parts (id int primary key) partition by range (id);"
        "create table public.parts_1 partition of public.parts for values from (0) to (10);"
        "create view public.parts_view as select * from public.parts where id > 0"
    )
    asked = [{"name": name, "schema": "public", "table": name} for name in ("parts", "parts_view", "not_there", "old")]
    clean_stack.query(
        "create table public.old (id int); create table public.older () inherits (public.old);"
        "create table public.oldest () inherits (public.older)"
    )
    try:
        before = parse_counts(database.call("etl_changes", p_sources=asked))
        clean_stack.query(
            "insert into public.parts values (3); insert into public.older values (1), (2), (3);"
            "insert into public.oldest values (1); select pg_stat_force_next_flush()"
        )
        after = parse_counts(database.call("etl_changes", p_sources=asked))
    finally:
        clean_stack.query("drop view public.parts_view; drop table public.parts; drop table public.old cascade")
    assert after.since(before) == 2 + 4
    assert after.uncounted == ["not_there"]


COLUMNS = (
    "run_id, token, as_of_mode, transport, lease_seconds, kind, status, historical, started_at, began, as_of, heartbeat"
)
RUNS = f"""
insert into public.etl_runs ({COLUMNS})
select r, gen_random_uuid(), 'now', 'rest', 120, k, s, h, t, t + interval '1 min', a,
       now() - unheard * interval '1 second'
from (values ('first', 'run', 'committed', false, '2026-01-30 03:00Z'::timestamptz, '2026-01-30'::timestamptz, 0),
             ('night', 'run', 'committed', false, '2026-01-31 03:00Z', '2026-01-31', 0),
             ('backfill', 'run', 'committed', true, '2026-01-31 04:00Z', '2026-01-05', 0),
             ('back', 'restore', 'committed', true, '2026-01-31 05:00Z', '2026-01-30', 0),
             ('failed', 'run', 'failed', false, '2026-01-31 06:00Z', '2026-01-31', 0),
             ('unresponsive', 'run', 'running', false, '2026-01-31 07:00Z', null, 121)) x (r, k, s, h, t, a, unheard)
"""


def test_the_run_that_counts_is_the_newest_that_readers_were_given(
    clean_stack: Stack, database: RestDatabase | PostgresDatabase
) -> None:
    """No backfill, restore or failed run; and one that was not heard of for its term is in nobody's way."""
    clean_stack.query(RUNS)
    seen = fetch_counts(database)
    assert (seen.started_at, seen.read_at) == (datetime(2026, 1, 31, 3, tzinfo=UTC), datetime(2026, 1, 31, tzinfo=UTC))
    assert seen.running is None
    clean_stack.query("update public.etl_runs set heartbeat = now() where run_id = 'unresponsive'")
    assert fetch_counts(database).running == "unresponsive"


def test_what_is_kept_is_what_was_seen(database: RestDatabase | PostgresDatabase) -> None:
    seen = fetch_counts(database)
    assert seen.since(parse_counts(to_json(seen))) == 0
