"""A night that reads what changed leaves what a full night would: on both transports, byte for byte."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from functools import partial
from itertools import product
from uuid import UUID

import psycopg
import pytest

from data.demo import DemoCounts
from flows.engine.command import json_of_error
from flows.engine.outcome import RunOutcome
from tasks.arrow.ahead import beside
from tasks.contracts import POSTS, USERS
from tasks.errors import RunHeld
from tasks.platform.quoting import literal
from tasks.platform.traffic import TRAFFIC
from tasks.settings import Transport
from tasks.source.fingerprint import source_request
from tests.cleaning.spools import small_pieces
from tests.incremental.kit import assert_same_as_full, stored
from tests.pipeline.conftest import Runner
from tests.pipeline.kit import Project

TRANSPORTS: tuple[Transport, ...] = ("postgres", "rest")
CHANGES = """
update users set bio = 'Another bio' where id in (select id from users order by id limit 3);
update posts set content = 'Other words entirely' where id in (select id from posts order by id limit 7);
delete from posts where id in (select id from posts order by id desc limit 5);
insert into users (id, name, email, status, created_at, updated_at)
values ('00000000-0000-4000-8000-00000000aaaa', 'New', 'new@example.com', 'active', '2026-01-20Z', '2026-01-20Z');
insert into posts (id, user_id, title, content, created_at, updated_at)
select gen_random_uuid(), '00000000-0000-4000-8000-00000000aaaa', title, content, at, at
from (values ('Hello', 'My first post', timestamptz '2026-01-21Z'), (null, 'Before I came', '2019-03-01Z'))
  as x (title, content, at);
"""

# Neighbours exchange values: what one row's fingerprint gains by it the other's loses, and no sum of both shows it.
EXCHANGES = """
with pairs as (select id, bio, (row_number() over (order by id) - 1) / 2 as pair from users),
     two as (select id, bio, pair, first_value(bio) over w as one, last_value(bio) over w as other
              from pairs window w as (partition by pair))
update users u set bio = case when b.bio = b.one then b.other else b.one end
from two b where b.id = u.id and b.pair % 9 = 4 and b.one <> b.other;
with pairs as (select id, content, (row_number() over (order by id) - 1) / 2 as pair from posts),
     two as (select id, content, pair, first_value(content) over w as one, last_value(content) over w as other
              from pairs window w as (partition by pair))
update posts p set content = case when b.content = b.one then b.other else b.one end
from two b where b.id = p.id and b.pair % 9 = 4 and b.one <> b.other;
"""

# Of a clock that is ahead: tried every night, though nothing of them changes. And a month after as_of, which has no
# partial tables to be carried on.
NOT_YET = """
insert into users (created_at) values (now() + interval '2 days');
insert into posts (created_at) values (now() + interval '2 days');
insert into posts (user_id, created_at) select id, '2026-02-10Z' from users where created_at < '2026-01-01' limit 1
"""

SEVERAL_CALLS = {
    "tasks.incremental.look_up._KEYS_IN_ONE_CALL": 20, "tasks.source.changes_postgres._KEYS_AT_ONCE": 20,
    "tasks.sink.postgres._IDS_IN_ONE_CALL": 2, "tasks.sink.rest._DELETES_IN_ONE_CALL": 2,
    "tasks.sink.job.REJECTS_IN_ONE_CALL": 4,
}  # fmt: skip

# A server that has no room for what parallel workers share, as in a container with little shared memory.
NO_SHARED_MEMORY = """
create or replace function public.etl_seed_value() returns bigint
language plpgsql stable parallel safe security definer set search_path = '' as
$$
begin
  if current_setting('max_parallel_workers_per_gather')::integer > 0 then
    raise exception 'could not resize shared memory segment: No space left on device' using errcode = '53100';
  end if;
  return (select s.seed from public.etl_seed s);
end
$$
"""


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_quiet_night_reads_only_what_is_tried_every_night(
    transport: Transport, project: Project, demo: DemoCounts, run: Runner
) -> None:
    project.stack.query(NOT_YET)
    first = run(transport)
    assert first.full_because == "there is no earlier run to start from"
    assert_buckets_find_what_a_join_finds(project)
    writes, tables, before = project.writes(), stored(project), project.manifest()
    project.stack.query(NO_SHARED_MEMORY)
    night = run(transport)
    assert night.mode == "incremental", night.full_because
    assert night.base_run == first.run_id
    assert night.not_read["rows"] > 500
    assert project.writes() == writes
    assert stored(project) == tables
    manifest = project.manifest()
    assert manifest["base"] == before["base"], "with the last full read, which is due a week after it"
    assert manifest["counts"]["columns"] == before["counts"]["columns"], "of which the next full night misses none"
    assert_same_as_full(project, night, lambda: run(transport, full_refresh=True))


def assert_buckets_find_what_a_join_finds(project: Project) -> None:
    """Both ways to find changes, of the whole table and of a part of it: the same rows, counts and sums."""
    for table, (after, until) in product((USERS, POSTS), (("", ""), (str(UUID(int=2**126)), str(UUID(int=2**127))))):
        source = literal(json.dumps(source_request(table)))
        arguments = f"'{table.name}', {source}, '{after}', '{until}'"
        few = json.loads(project.stack.query(f"select public.etl_find_few_changes({arguments}, '1000')"))
        query = project.stack.query(f"select public.etl_find_changes_sql({arguments}) #>> '{{}}'")
        groups = json.loads(project.stack.query(f"select json_agg(g) from ({query}) g"))
        listed = [g for g in groups if g["key"] is not None]
        assert sorted(map(str, few["changed"])) == sorted(
            str([g["key"], g["source_rows"] > 0, g["source_sum"]]) for g in listed
        )
        for name in ("source_rows", "source_sum", "known_rows", "known_sum", "target_rows"):
            assert int(few[name]) == sum(int(g[name] or 0) for g in groups), name
        assert listed or after


def assert_a_held_night_leaves_no_file(project: Project, run: Callable[[], RunOutcome]) -> None:
    """Files of the base are copied before the guard has looked at the metrics: they are taken back."""
    before = {file.path for file in project.bucket.walk("runs")}
    base = project.manifest()["run_id"]
    with pytest.raises(RunHeld) as held:
        run()
    said = json_of_error(held.value)
    assert (said["mode"], said["base_run"], said["full_because"]) == ("incremental", base, None)
    assert said["not_read"]["rows"] > 0
    assert {file.path for file in project.bucket.walk("runs")} == before


@pytest.mark.as_etl
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_changes_give_what_a_full_night_gives(
    transport: Transport, project: Project, demo: DemoCounts, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys are looked up, fetched and deleted, and rejects written, in several calls."""
    for name, keys in SEVERAL_CALLS.items():
        monkeypatch.setattr(name, keys)
    run(transport)
    project.stack.query(EXCHANGES)
    assert_buckets_find_what_a_join_finds(project)
    project.stack.query(CHANGES)
    assert_buckets_find_what_a_join_finds(project)
    # A hundred rows never make a night full, whatever their share: a small table would be read whole for a handful.
    # Its partial tables are cut as those of a large source are; those of the full nights are in one piece.
    before = TRAFFIC.sent
    with small_pieces(spill=300, batch=200, fan_in=3, group=300, span=25):
        night = run(transport, ETL_MAX_CHANGED_SHARE=0.001)
    # Files are stored beside the stages: what is sent between two of them is counted, too.
    assert TRAFFIC.sent - before - sum(stage["sent"] for stage in night.stages.values()) < 1_000
    assert night.tables["users"]["inserted"] == 1
    assert night.tables["posts"]["deleted"] in (4, 5)
    full = assert_same_as_full(project, night, lambda: run(transport, full_refresh=True))
    assert full.full_because == "it was asked for (--full-refresh)"
    project.stack.query("delete from posts where id in (select id from posts order by id limit 1)")
    assert_a_held_night_leaves_no_file(project, lambda: run(transport, ETL_MAX_DELETE_SHARE=0, ETL_DRIFT_FLOOR_ROWS=0))


def lock_posts_while_a_run_loads(project: Project, seconds: float) -> None:
    """As VACUUM FULL does, from when the ledger says that rows are being written."""
    with psycopg.connect(project.stack.db_url) as session:
        while not session.execute("select from etl_runs where status = 'loading'").fetchall():
            session.rollback()
            time.sleep(0.01)
        session.execute("lock table clean_posts in access exclusive mode")
        time.sleep(seconds)


@pytest.mark.slow
def test_a_proof_that_takes_too_long_fails_the_transaction_that_it_is_part_of(
    project: Project, demo: DemoCounts, run: Runner
) -> None:
    """The server rolls back what a transaction wrote before a statement timed out, and a COMMIT says nothing of it."""
    run()
    project.stack.query("update users set name = 'Another' where id in (select id from users order by id limit 1)")
    with beside(partial(lock_posts_while_a_run_loads, project, 3)) as locked:
        night = run(ETL_STATEMENT_TIMEOUT=2, ETL_RETRY_BASE=0.5)
        locked.result()
    assert night.tables["users"]["updated"] == 1
    assert_same_as_full(project, night, lambda: run(full_refresh=True))


def test_a_product_that_starts_with_nothing(project: Project, run: Runner) -> None:
    assert run().tables["posts"]["read"] == 0
    project.stack.query(
        "insert into users (id, created_at) values ('00000000-0000-4000-8000-00000000aaaa', '2026-01-20Z'); "
        "insert into posts (user_id, content, created_at) "
        "values ('00000000-0000-4000-8000-00000000aaaa', 'The first post', '2026-01-21Z')"
    )
    assert run("rest").tables["posts"]["inserted"] == 1
    project.stack.query("insert into posts (user_id, created_at) select id, '2026-01-22Z' from users")
    assert_same_as_full(project, run("rest"), lambda: run(full_refresh=True))


# Of the second of two nights in one month, on whose morning and noon they are as of, without a change in between.
_FIRST, _SECOND = "2026-01-10T12:00:00+00:00", "2026-01-10T13:30:00+00:00"
_AT_EDGES = f"""
insert into users (id, created_at) values
  ('00000000-0000-4000-8000-00000000000a', '2025-09-01Z'), ('00000000-0000-4000-8000-00000000000b', '{_FIRST}');
insert into posts (user_id, content, created_at) values
  ('00000000-0000-4000-8000-00000000000a', 'In scope as before', '2025-10-02Z'),
  ('00000000-0000-4000-8000-00000000000b', 'An early post', '2025-10-03Z');
insert into posts (user_id, content, created_at)
select '00000000-0000-4000-8000-00000000000a', 'At an edge', at + step * interval '1 microsecond'
from unnest(array['{_FIRST}', '{_SECOND}', timestamptz '{_SECOND}' - interval '30 days', '2025-12-12Z']) at,
     unnest(array[-1, 0]) step
"""


def test_what_an_instant_lets_in_is_exact_to_the_microsecond(project: Project, run: Runner) -> None:
    """Partial tables of months that nothing touched are carried: the user of the first instant brings an old post into
    scope, and of the day in which a window begins the part that lies in it counts. Copies that were cut short on the
    worker's disk are loaded again."""
    project.stack.query(_AT_EDGES)
    run(as_of=_FIRST)
    for copy in (path for path in (project.folder / "data" / "base").rglob("*") if path.is_file()):
        copy.write_bytes(copy.read_bytes()[:99])
    night = run("rest", as_of=_SECOND)
    statistics = project.stack.query("select total_users, total_posts, posts_30d from user_statistics order by as_of")
    assert statistics.splitlines() == ["1|6|5", "2|9|6"]
    assert_same_as_full(project, night, lambda: run(as_of=_SECOND, full_refresh=True))


def assert_posts_are_scanned(project: Project, wanted: bool) -> None:
    """Whether finding changes, and summing what is stored, read the cleaned posts from their start to their end."""
    source = literal(json.dumps(source_request(POSTS)))
    for call in (f"etl_find_changes('posts', {source}, '', '', '1000')", "etl_known_sum('posts')"):
        with psycopg.connect(project.stack.db_url) as session:
            session.execute(f"select public.{call}")
            (scans,) = session.execute(
                "select seq_scan from pg_stat_xact_all_tables where relid = 'clean_posts'::regclass"
            ).fetchone() or (0,)
        assert (scans > 0) == wanted, call


def counted(project: Project, statement: str) -> None:
    """Run a statement, and have the server's statistics know of it."""
    with psycopg.connect(project.stack.db_url, autocommit=True) as session:
        session.execute(statement)
        session.execute("select pg_stat_force_next_flush()")


def test_what_is_stored_is_read_by_an_index_alone_unless_many_rows_are_new_to_vacuum(
    project: Project, demo: DemoCounts, run: Runner
) -> None:
    run()
    counted(project, "alter table clean_posts set (autovacuum_enabled = off)")  # it could run between the two calls
    try:
        counted(project, "vacuum analyze clean_posts")
        assert_posts_are_scanned(project, False)
        counted(project, "update clean_posts set row_hash = row_hash")
        assert_posts_are_scanned(project, True)
    finally:
        counted(project, "alter table clean_posts reset (autovacuum_enabled)")
