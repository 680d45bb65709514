"""Which files count as applied: our own books, what an earlier release noted, what the Supabase CLI pushed."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NoReturn

import pytest

from deploy.migrations import create_source_tables, database, migrate, migrations, rollback
from deploy.migrations.database import LOCK_TIMEOUT_SECONDS, connected, with_lock_retries
from local_stack import Stack, up
from local_stack.postgres import query
from scripts.migrations import main
from tasks.errors import ConfigurationError, WriteError

OLD = migrations()[:7]  # as the first release had them
HISTORY = """create schema if not exists supabase_migrations;
create table if not exists supabase_migrations.schema_migrations
  (version text not null primary key, statements text[], name text);"""
CHECKSUMS = """create schema if not exists supabase_migrations;
create table supabase_migrations.etl_applied
  (version text primary key, sha256 text not null, applied_at timestamptz not null default now());"""


def first_release(project: str, changed: str = "") -> None:
    """The database as the first release left it; `changed` names a file that it applied in another form."""
    query(project, HISTORY + CHECKSUMS)
    for migration in OLD:
        query(project, migration.sql)
        query(
            project,
            f"insert into supabase_migrations.schema_migrations (version, name) "
            f"values ('{migration.version}', '{migration.name}')",
        )
        sha256 = hashlib.sha256(migration.path.read_bytes()).hexdigest()
        recorded = "0" * 64 if migration.name == changed else sha256
        query(project, f"insert into supabase_migrations.etl_applied values ('{migration.version}', '{recorded}')")


def test_an_installation_of_the_first_release_gets_only_what_is_new(project: str) -> None:
    first_release(project)
    before = query(project, "select * from supabase_migrations.schema_migrations order by 1")
    said: list[str] = []
    assert migrate(project, say=said.append) == [m.path.stem for m in migrations()[7:]]
    assert said[-1] == f"  supabase migration repair --status reverted {' '.join(m.version for m in OLD)}"
    assert migrate(project) == []
    assert query(project, "select * from supabase_migrations.schema_migrations order by 1") == before
    assert query(project, "select to_regclass('supabase_migrations.etl_applied') is null") == "t"


def test_a_file_that_the_first_release_applied_in_another_form_is_applied_once_more(project: str) -> None:
    first_release(project, changed="doctor")
    assert migrate(project) == ["20261122000700_doctor", *(m.path.stem for m in migrations()[7:])]
    assert migrate(project) == []


def test_nothing_is_written_to_the_clis_history(project: str) -> None:
    migrate(project)
    assert query(project, "select to_regnamespace('supabase_migrations') is null") == "t"
    query(project, HISTORY + "insert into supabase_migrations.schema_migrations values ('20260101000000', '{}', 'own')")
    rollback(project)
    migrate(project)
    assert query(project, "select version from supabase_migrations.schema_migrations") == "20260101000000"


def test_what_the_cli_pushed_is_not_applied_again(project: str) -> None:
    query(project, HISTORY)
    for migration in migrations():
        query(project, migration.sql)
        query(
            project,
            f"insert into supabase_migrations.schema_migrations (version, name) "
            f"values ('{migration.version}', '{migration.name}')",
        )
    assert migrate(project) == []


def test_after_a_rollback_the_clis_history_counts_no_more(
    project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first_release(project)
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text(f"SUPABASE_DB_URL={project}\n")
    assert main(["rollback"]) == 0
    listed = " ".join(m.version for m in OLD)
    assert f"supabase migration repair --status reverted {listed}\n" in capsys.readouterr().out
    assert migrate(project) == [m.path.stem for m in migrations()]


@pytest.mark.parametrize(
    "made", ["alter table public.later rename to posts", "create view public.posts as table later"]
)
def test_a_source_that_was_added_later_is_named_with_its_grant(project: str, made: str) -> None:
    query(project, "alter table public.posts rename to later")
    migrate(project)
    query(project, f"alter table public.later enable row level security; {made}")
    with pytest.raises(ConfigurationError, match=r"etl may not read public\.posts") as caught:
        migrate(project)
    query(project, str(caught.value).partition("public.posts: ")[2].partition(" as a role")[0])
    assert migrate(project) == []


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("alter table public.clean_posts drop column word_count", "clean_posts has no column word_count"),
        ("alter table public.clean_users add mood text", "clean_users has a column mood"),
        ("alter table public.user_statistics add karma int not null", "user_statistics has a column karma"),
        ("alter table public.daily_activity add n int generated always as (1) stored", "daily_activity has a column n"),
        (
            "alter table public.clean_users drop bio, add bio text generated always as (name) stored",
            "clean_users.bio is filled by the database (expression)",
        ),
        (
            "alter table public.daily_activity alter words add generated always as identity",
            "daily_activity.words is filled by the database (identity)",
        ),
        (
            "create table parts (like clean_users including all) partition by hash (id); create table public.part_0 "
            "partition of parts for values with (modulus 1, remainder 0); insert into parts table clean_users; "
            "drop table clean_users; alter table parts rename to clean_users",
            "clean_users is a partitioned table",
        ),
        ("alter table public.clean_users alter status type varchar(9)", "clean_users.status is character varying(9)"),
        ("alter table public.clean_users alter name set not null", "clean_users.name refuses nulls"),
        ("alter table public.etl_reject_rows drop column came cascade", "etl_reject_rows has no column came"),
    ],
)
def test_a_table_that_was_changed_by_hand_is_named_with_the_fix(project: str, statement: str, said: str) -> None:
    migrate(project)
    query(project, statement)
    with pytest.raises(ConfigurationError, match="not all of it is there") as caught:
        migrate(project)
    line = next(line for line in str(caught.value).splitlines() if said in line)
    query(project, line.partition(": ")[2])
    assert migrate(project) == []


def test_a_column_of_somebodys_own_that_takes_nulls_stays_on_a_table_of_reports(project: str) -> None:
    migrate(project)
    query(project, "alter table public.daily_activity add note text default 'none'")
    assert migrate(project) == []


def test_no_statement_of_a_migration_waits_for_a_lock_longer_than_seconds(project: str) -> None:
    """A product's session holds a table: the migration gives up, so that nobody queues behind it, and tries again."""
    migrate(project)
    with connected(project) as holder:
        holder("begin; lock table public.clean_users in access share mode")
        holder("select pg_advisory_unlock_all()")
        waits: list[float] = []
        said: list[str] = []

        def sleep(seconds: float) -> None:
            waits.append(seconds)
            if len(waits) == 2:
                holder("commit")

        with connected(f"{project}?options=-c%20statement_timeout%3D1s") as run:  # as a hosted login has two minutes
            assert run("select current_setting('statement_timeout')") == [("0",)]
            run("set lock_timeout = '100ms'")
            add = "begin;\nalter table public.clean_users add column x int;\ncommit;"  # as the files are run
            with_lock_retries(run, add, "a file", say=said.append, sleep=sleep)
    assert waits == [1.0, 2.0]
    assert said[1] == "a file: another session holds a lock; try 3 of 6 in 2 s"
    assert LOCK_TIMEOUT_SECONDS <= 10


def test_a_second_migration_says_that_it_waits_for_the_first_and_outwaits_the_logins_timeouts(project: str) -> None:
    """A hosted login has two minutes: the second one died of them, and said that the database was busy."""
    said: list[str] = []
    login = f"{project}?options=-c%20statement_timeout%3D500ms%20-c%20lock_timeout%3D500ms"
    with connected(project) as first, ThreadPoolExecutor() as beside:
        (pid,) = first("select pg_backend_pid()")[0]
        second = beside.submit(migrate, login, say=said.append)
        time.sleep(1.5)
        first("select pg_advisory_unlock_all()")
        assert second.result() == [m.path.stem for m in migrations()]
    assert said[0] == (
        f"Another migration of this database is running (session {pid}): this one waits until it has ended."
    )


def test_a_stack_that_is_complete_is_started_again_beside_a_run_that_reads_and_a_product_that_writes(
    stack: Stack,
) -> None:
    """Nothing waits for the locks of either, and nothing of the product's waits behind it."""
    with connected(stack.db_url) as holder:
        holder("select pg_advisory_unlock_all()")
        for table in ("public.users", "public.posts", "public.clean_posts"):
            holder(f"begin; lock table {table} in row exclusive mode")
        said: list[str] = []
        assert up(stack.home, empty=True, say=said.append) == stack
        holder("rollback")
    assert not [line for line in said if "lock" in line]


def test_a_column_that_a_source_lacks_waits_for_a_run_and_says_so(
    project: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    query(project, "alter table public.posts drop column title")
    with connected(project) as holder:
        holder("begin; lock table public.posts in access share mode")
        holder("select pg_advisory_unlock_all()")
        said: list[str] = []

        def say(text: str) -> None:
            said.append(text)
            holder("commit")

        monkeypatch.setattr(database, "LOCK_TIMEOUT_SECONDS", 0.1)
        create_source_tables(project, say=say)
    assert said == ["Making the source table public.posts: another session holds a lock; try 2 of 6 in 1 s"]
    assert query(project, "select count(title) from public.posts") == "0"


@pytest.mark.parametrize(
    ("made", "noted"),
    [
        ("create table public.posts as table public.before; alter table public.posts add primary key (id)", 2),
        ("create view public.posts as table public.before", 1),
        ("select 1", 0),
    ],
    ids=["table", "view", "nothing"],
)
def test_a_source_of_the_local_stack_that_somebody_made_again_gets_the_rights_of_the_runs(
    project: str, made: str, noted: int
) -> None:
    """They went with the table; row-level security is switched on for a table, and both are said."""
    migrate(project)
    query(project, f"create table public.before as table public.posts; drop table public.posts; {made}")
    said: list[str] = []
    create_source_tables(project, note=said.append)
    assert len(said) == noted
    assert all('"public"."posts"' in text for text in said)
    assert migrate(project) == []
    create_source_tables(project, note=said.append)
    assert len(said) == noted


def test_a_lock_that_stays_ends_in_an_error() -> None:
    def run(sql: str, what: str = "") -> NoReturn:
        error = WriteError("refused")
        error.code = "55P03"
        raise error

    waits: list[float] = []
    with pytest.raises(WriteError):
        with_lock_retries(run, "", "a file", say=print, sleep=waits.append)
    assert len(waits) == 5
