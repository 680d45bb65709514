"""The migrations: as the contracts ask, applied twice as once, to any earlier state, and taken back without a trace."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from deploy.migrations import MIGRATIONS, migrate, migrations, rollback
from deploy.migrations.database import require_release
from deploy.migrations.difference import statements
from deploy.migrations.files import last_shape
from deploy.migrations.functions import functions
from deploy.migrations.shape import wanted_shape
from deploy.migrations.statements import create_table, registry
from local_stack import Stack
from local_stack.home import Home
from local_stack.postgres import ADMIN, query
from local_stack.state import load
from scripts.migrations import main
from tasks.contracts import POSTGRES_TYPES, REPORTS, TABLES, Column
from tasks.errors import ConfigurationError, ServiceUnavailable, WriteError
from tasks.sink.schema import RELEASE

OBJECTS = """
select 'relation', oid::regclass::text, relkind::text, coalesce(relacl, acldefault('r', relowner))::text from pg_class
where relnamespace in ('public'::regnamespace, to_regnamespace('supabase_migrations'))
  and relname not like 'schema_migrations%'
union all
select 'function', oid::regprocedure::text, null,
  (select string_agg(a::text, ' ' order by a::text) from unnest(proacl) a)
from pg_proc where pronamespace = 'public'::regnamespace
union all
select 'policy', polname || ' on ' || polrelid::regclass, null, null from pg_policy
order by 1, 2"""
OF_ETL = "grant create on schema public to etl; create table public.mine (); alter table public.mine owner to etl"
DECLARED: list[tuple[str, tuple[Column, ...]]] = [
    *((t.clean, t.columns) for t in TABLES),
    *((r.name, r.columns) for r in REPORTS if r.in_postgres),
]


def test_the_contracts_ask_for_nothing_beyond_the_last_migration() -> None:
    assert statements(last_shape(), wanted_shape()) == [], "run `make migration`"


@pytest.mark.parametrize(("table", "columns"), DECLARED, ids=[name for name, _ in DECLARED])
def test_the_tables_are_as_declared(stack: Stack, table: str, columns: tuple[Column, ...]) -> None:
    found = stack.query(
        "select attname, format_type(atttypid, atttypmod), attnotnull, col_description(attrelid, attnum) <> '' "
        f"from pg_attribute where attrelid = 'public.{table}'::regclass and attnum > 0 and not attisdropped"
    )
    types = {**POSTGRES_TYPES, "timestamptz": "timestamp with time zone"}
    wanted = [f"{c.name}|{types[c.kind]}|{'f' if c.nullable else 't'}|t" for c in columns]
    assert sorted(found.splitlines()) == sorted(wanted)


def test_versions_are_in_order_and_plain_sql() -> None:
    versions = [m.version for m in migrations()]
    assert versions == sorted(set(versions))
    assert all(len(version) == 14 and version.isdigit() for version in versions)
    for migration in migrations():
        assert not [line for line in migration.sql.splitlines() if line.startswith("\\")]


def test_the_last_migration_of_ours_says_which_it_is(stack: Stack) -> None:
    """What `make migration` wrote is a user's own, and not ours to ask for."""
    ours = [m for m in migrations() if not m.sql.startswith("-- Written by `make migration`")]
    assert ours[-1].version == RELEASE == stack.query("select public.etl_release()"), "each replaces etl_release()"


def test_a_run_looks_for_each_function_that_it_may_call() -> None:
    made = functions(migrations())
    owners = {"etl_access_token", "etl_make_indexes", "etl_open_to_readers", "etl_move_base"}
    looked_for = made["etl_lacking"].partition("'{")[2].partition("}'")[0].replace(",", " ").split()
    assert looked_for == sorted(name for name in made if name.startswith("etl_") and name not in owners)


def test_no_statement_of_a_function_lacks_its_where() -> None:
    """The API of a Supabase project loads pg-safeupdate, which refuses it inside functions, too."""
    changes = re.compile(r"(?<!do )(?<!for )\b(?:delete\s+from|update)\s(?:'(?:[^']|'')*'|[^;'])*")
    for name, sql in functions(migrations()).items():
        found = changes.findall(re.sub(r"--.*", "", sql))
        assert [statement for statement in found if not re.search(r"\bwhere\b", statement)] == [], name


def test_again_applies_nothing_and_by_force_changes_nothing(project: str) -> None:
    assert migrate(project) == [m.path.stem for m in migrations()]
    before = query(project, OBJECTS)
    assert migrate(project) == []
    query(project, "truncate public.etl_migrations")
    assert len(migrate(project)) == len(migrations())
    assert query(project, OBJECTS) == before


def test_the_way_back_leaves_no_trace(project: str) -> None:
    query(project, "create function public.etl_of_the_user() returns int language sql as 'select 1'")
    mine = (
        "create table public.of_the_user (x int); create policy etl_all on public.of_the_user to etl using (true);"
        "create policy etl_reads on public.of_the_user for select to authenticated using (true)"
    )
    before = query(project, OBJECTS)
    migrate(project)
    history = replace(next(t for t in wanted_shape().values() if t.kind == "aggregate"), relation="report_of_before")
    query(project, create_table(history))
    query(project, mine)
    rollback(project)
    assert (
        query(project, "select polname from pg_policy where polrelid = 'public.of_the_user'::regclass") == "etl_reads"
    )
    query(project, "drop table public.of_the_user")
    assert query(project, OBJECTS) == before
    assert migrate(project) == [m.path.stem for m in migrations()]


def test_a_view_is_a_source_where_nobody_may_bypass_row_level_security(stack: Stack, project: str) -> None:
    """As on PostgreSQL 15, where that asks for a superuser. Nothing but a table has policies."""
    state = load(Home.at(stack.home))
    assert state is not None
    superuser = state.url(ADMIN, state.admin_password)
    query(project, "alter table public.posts rename to written; create view public.posts as table public.written")
    query(superuser, "alter role postgres nobypassrls")
    try:
        migrate(project)
    finally:
        query(superuser, "alter role postgres bypassrls")
    assert query(project, "select has_table_privilege('etl', 'public.posts', 'select')") == "t"


def test_a_database_that_does_not_answer_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="SUPABASE_DB_URL") as caught:
        migrate("postgresql://postgres:hidden@127.0.0.1:9/none")
    assert "hidden" not in str(caught.value)
    assert MIGRATIONS.exists()


@pytest.fixture
def in_the_way(project: str) -> Callable[[str], None]:
    """Makes each migration run a statement of PL/pgSQL at its end, as something in a user's project might."""
    migrate(project)

    def put(statement: str) -> None:
        query(
            project,
            f"""create function public.in_the_way() returns trigger language plpgsql as
            $$ begin {statement}; return new; end $$;
            create trigger in_the_way before insert on public.etl_migrations
            for each row execute function public.in_the_way();
            delete from public.etl_migrations where version like '%400'""",
        )

    return put


def test_a_server_that_is_too_old_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="runs PostgreSQL 14; 15 or newer is needed"):
        require_release(lambda sql, what="": [(14,)])


@pytest.mark.parametrize(
    ("code", "said", "remedy"),
    [
        ("42501", 'no right to "etl_runs"', "the role that owns the database"),
        ("2BP01", 'no right to "…"', "Something of your own uses"),
        ("53200", 'no right to "etl_runs"', "wait, and start again"),
        ("42P07", 'no right to "etl_runs"', "Fix what it names, and start again"),
        ("22P02", 'no right to "…"', "Fix what it names, and start again"),
        ("P0001", 'no right to "etl_runs"', "Do what it says, and start again"),
    ],
)
def test_a_refused_file_is_named_with_the_reason_and_the_remedy(
    project: str, in_the_way: Callable[[str], None], code: str, said: str, remedy: str
) -> None:
    in_the_way(f"raise exception 'no right to \"etl_runs\"' using errcode = '{code}', detail = 'hidden'")
    before = query(project, OBJECTS)
    with pytest.raises(WriteError) as caught:
        migrate(project)
    assert caught.value.message == (
        f"20261122000400_ledger.sql was refused: {said} (SQLSTATE {code}). Nothing of it was applied."
    )
    assert remedy in caught.value.remedy
    assert caught.value.code == code
    assert query(project, OBJECTS) == before


def test_a_connection_that_breaks_is_reported_without_the_query(
    project: str, in_the_way: Callable[[str], None]
) -> None:
    before = query(project, OBJECTS)
    in_the_way("perform pg_terminate_backend(pg_backend_pid())")
    with pytest.raises(ServiceUnavailable) as caught:
        migrate(project)
    assert str(caught.value).startswith(
        "20261122000400_ledger.sql: the connection broke (terminating connection due to administrator command). Wait"
    )
    query(project, "drop function public.in_the_way cascade")
    assert migrate(project) == ["20261122000400_ledger"]
    left = set(query(project, OBJECTS).splitlines()) ^ set(before.splitlines())
    assert not left, "also a function that returned something else in that file"


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("create view public.etl_runs as select 1 as run_id", "the view public.etl_runs"),
        ("create table public.daily_activity (date date primary key, visits int)", "the table public.daily_activity"),
        ("create function public.etl_start(x int) returns int return x", "the function public.etl_start(x integer)"),
        (OF_ETL, "the role etl"),
    ],
)
def test_nothing_is_applied_where_something_of_the_users_has_a_name_of_ours(
    project: str, statement: str, said: str
) -> None:
    """A table was taken over, its rows deleted by the first run; a function was dropped; a role got rights."""
    query(project, f"{statement}; create table public.clean_posts_of_mine ()")
    before = query(project, OBJECTS)
    with pytest.raises(ConfigurationError) as caught:
        migrate(project)
    assert str(caught.value).startswith(f"There is already {said}. Nothing was applied. The pipeline makes something")
    assert query(project, OBJECTS) == before


def test_a_way_back_that_would_drop_something_of_the_users_is_refused(project: str) -> None:
    migrate(project)
    query(project, OF_ETL)
    with pytest.raises(WriteError, match="the role etl owns something of your own"):
        rollback(project)
    assert query(
        project, "select to_regclass('public.mine') is not null and to_regclass('public.etl_runs') is not null"
    )


def test_a_part_of_the_password_taken_for_the_port_is_not_shown() -> None:
    with pytest.raises(ConfigurationError, match="Write special characters of a password as") as caught:
        migrate("postgresql://postgres:half@127.0.0.1:hidden/half@127.0.0.1:9/none")
    assert "hidden" not in str(caught.value)


@pytest.mark.parametrize(
    "line", ["up --into x", "--name x", "rollback --version 1", "new --into=", "new --name a/b", "new --version abc"]
)
def test_an_argument_that_cannot_be_meant_is_refused(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`make migrate ARGS="--into …"` would have changed the project; an unset variable would be this folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SUPABASE_DB_URL", "postgresql://nobody@127.0.0.1:9/none")
    with pytest.raises(SystemExit) as ended:
        main(line.split())
    assert ended.value.code == 2
    assert not list(tmp_path.iterdir())


def test_the_command_takes_the_url_of_the_env_file(
    project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main([]) == 2
    Path(".env").write_text(f"SUPABASE_DB_URL={project}\n")
    assert main([]) == main(["up"]) == main(["rollback"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines == [*(f"applied {m.path.stem}" for m in migrations()), "nothing to apply", "taken back"]
    query(project, "create view public.etl_runs as select 1 as run_id")
    assert main([]) == 1
    assert capsys.readouterr().err.startswith("error: There is already the view public.etl_runs. ")


@pytest.mark.parametrize("back", [migrate, rollback])
def test_a_table_that_the_contracts_lack_can_be_dropped_as_it_is_said(
    project: str, back: Callable[..., object]
) -> None:
    """Each of our functions was refused then: the list that newer contracts made names that table."""
    migrate(project)
    of_ours, newer = wanted_shape(), replace(wanted_shape()["clean_users"], relation="clean_orders", name="orders")
    query(project, f"{create_table(newer)} {registry({**of_ours, 'clean_orders': newer})}")
    with pytest.raises(ConfigurationError, match="no contract names the table clean_orders: drop table") as extra:
        migrate(project)
    (statement,) = re.findall(r"drop table .+;", str(extra.value))
    query(project, statement)
    said: list[str] = []
    back(project, say=said.append)
    assert said == ["made the list of our tables again, without those that somebody dropped"]
    migrate(project)
