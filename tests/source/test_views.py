"""Views as sources, before the first row: refused where a night would not see all rows, or would call a function."""

from __future__ import annotations

from pathlib import Path
from uuid import uuid4

import psycopg
import pytest

from local_stack import Stack
from local_stack.tests.conftest import Token, reload_schema, token
from tasks.errors import ConfigurationError, PreflightError, ReadError
from tasks.settings import Transport
from tasks.source import open_source
from tests.source.kit import COLUMNS, posts_at, read, settings_for, source_table, spool_at
from tests.source.test_preflight import TRANSPORTS, check, checks_as, filtered_role

__all__ = ["token"]


@TRANSPORTS
def test_a_view_is_judged_by_what_is_behind_it(
    stack: Stack, transport: Transport, token: Token, tmp_path: Path
) -> None:
    with source_table(stack, rows=30) as name, filtered_role(stack) as role:
        view = f"{name}_view"
        stack.query(
            f"alter table public.{name} enable row level security; create view public.{view} as select * from "
            f"public.{name}; grant select on public.{name}, public.{view} to {role}"
        )
        checked = checks_as(stack, transport, role, token, tmp_path)
        assert checked(posts_at(view)).tables["posts"].rows > 0  # reads as its owner, who sees all
        for written in ("on", "yes"):  # PostgreSQL stores what was written
            stack.query(f"alter view public.{view} set (security_invoker = {written})")
            with pytest.raises(PreflightError, match=f"row-level security of .*{name} hides rows"):
                checked(posts_at(view))


@TRANSPORTS
def test_a_view_that_hides_rows_is_answered_with_what_shows_them(
    stack: Stack, transport: Transport, token: Token, tmp_path: Path
) -> None:
    """It reads as its owner: the remedy named the role that asks, and the secret key, which change nothing."""
    with source_table(stack) as name, filtered_role(stack) as owner, filtered_role(stack) as role:
        view, rights = f"{name}_view", f"grant select on public.{name} to {owner}"
        stack.query(
            f"alter table public.{name} enable row level security; {rights}; grant create on schema public to {owner}; "
            f"create view public.{view} as select * from public.{name}; grant select on public.{view} to {role}; "
            f"alter view public.{view} owner to {owner}"
        )
        checked = checks_as(stack, transport, role, token, tmp_path)
        with pytest.raises(PreflightError) as caught:
            checked(posts_at(view))
        policy = caught.value.remedy.partition("`")[2].partition("`")[0]
        stack.query(f"create policy shown on public.{name} {policy}")
        checked(posts_at(view))
        stack.query(f"create or replace view public.{view} as select * from public.{name} where current_user <> ''")
        with pytest.raises(PreflightError, match="Name as the source a table, or a view that shows the same rows"):
            checked(posts_at(view))


def test_security_invoker_is_an_option_however_it_is_written(stack: Stack) -> None:
    on, off = ("on", "ON", "true", "TRUE", "tr", "t", "yes", "Y", "1"), ("off", "no", "f", "FALSE", "0")
    with source_table(stack) as name, filtered_role(stack) as role, psycopg.connect(stack.db_url) as session:
        stack.query(f"alter table public.{name} enable row level security")
        session.execute("set local standard_conforming_strings = off")  # as a database may have it
        filters = f"select public.etl_row_filters('public.{name}_view'::regclass)"
        for written in (*on, *off):
            session.execute(
                f"create or replace view public.{name}_view with (security_invoker = '{written}') as "
                f"select * from public.{name}; set local role {role}"
            )
            (found,) = session.execute(filters).fetchone() or ([],)
            assert bool(found) == (written in on), (written, found)
            session.execute("reset role")
        session.rollback()


@TRANSPORTS
@pytest.mark.parametrize(
    ("made", "said"),
    [
        ("id uuid", "not unique and free of nulls"),
        ("id uuid not null", "not unique, so"),
        ("id uuid unique", "not free of nulls, so"),
        ("id text primary key", "of type text, and the contract says uuid.*A key is uuid or bigint"),
        ("id uuid primary key, dropped int", None),
    ],
)
def test_the_key_must_be_one(stack: Stack, transport: Transport, made: str, said: str | None, tmp_path: Path) -> None:
    name = f"posts_{uuid4().hex[:12]}"
    stack.query(f"create table public.{name} ({made}, {COLUMNS}); grant select on public.{name} to service_role, etl")
    try:
        if said is None:
            check(settings_for(stack, transport, tmp_path), posts_at(name))
            return
        with pytest.raises((PreflightError, ConfigurationError), match=said):
            check(settings_for(stack, transport, tmp_path), posts_at(name))
    finally:
        stack.query(f"drop table public.{name}")


@TRANSPORTS
def test_a_key_that_is_not_null_but_for_the_rows_of_before_is_looked_through(
    stack: Stack, transport: Transport, tmp_path: Path
) -> None:
    """The read met the null: it asked who had changed the table meanwhile, night after night."""
    if int(stack.query("show server_version_num")) < 180000:
        pytest.skip("PostgreSQL 18 brought not-null constraints that are NOT VALID")
    with source_table(stack, rows=3) as name:
        settings = settings_for(stack, transport, tmp_path)
        stack.query(
            f"alter table public.{name} drop constraint {name}_pkey, add unique (id), alter id drop not null;"
            f"alter table public.{name} add not null id not valid"
        )
        check(settings, posts_at(name))
        stack.query(
            f"alter table public.{name} alter id drop not null; insert into public.{name} (created_at) values (now());"
            f"alter table public.{name} add not null id not valid"
        )
        with pytest.raises(PreflightError, match="not free of nulls, so it cannot be the key") as caught:
            check(settings, posts_at(name))
        assert stack.query(_statement(caught.value.remedy)) == "|1"


@TRANSPORTS
def test_a_view_with_a_key_that_repeats_is_refused(stack: Stack, transport: Transport, tmp_path: Path) -> None:
    with source_table(stack, rows=3) as name:
        stack.query(
            f"create view public.{name}_twice as select * from public.{name} union all select * from public.{name}; "
            f"grant select on public.{name}_twice to service_role, etl"
        )
        with pytest.raises(PreflightError, match="not unique"):
            check(settings_for(stack, transport, tmp_path), posts_at(f"{name}_twice"))


@TRANSPORTS
def test_a_partitioned_table_needs_no_key_of_one_column(stack: Stack, transport: Transport, tmp_path: Path) -> None:
    with source_table(stack, rows=30) as name:
        parts, settings = f"{name}_parts", settings_for(stack, transport, tmp_path)
        stack.query(
            f"create table public.{parts} (like public.{name}, primary key (id, created_at)) partition by range "
            f"(created_at); create table public.{parts}_a partition of public.{parts} for values from (minvalue) to "
            f"(now() - interval '10 minutes'); create table public.{parts}_b partition of public.{parts} default; "
            f"insert into public.{parts} select * from public.{name}; "
            f"alter table public.{parts} disable row level security; "
            f"grant select on public.{parts} to service_role, etl"
        )
        reload_schema(stack)
        try:
            assert read(settings, posts_at(parts), tmp_path)[0].num_rows == 30
            stack.query(f"insert into public.{parts} (id, created_at) select id, now() from public.{name} limit 1")
            with pytest.raises(PreflightError, match="not unique") as caught:
                check(settings, posts_at(parts))
            assert stack.query(f"select count(*) from ({_statement(caught.value.remedy)}) x") == "1"
        finally:
            stack.query(f"drop table public.{parts}")


def _statement(remedy: str) -> str:
    """The query that a remedy gives."""
    return remedy.partition(": ")[2].partition(". Show")[0]


@TRANSPORTS
def test_a_key_that_repeats_in_an_inheriting_table_is_refused(
    stack: Stack, transport: Transport, tmp_path: Path
) -> None:
    """The parent's index holds the parent's own rows alone, and a reader of the parent sees all. Also where it is
    repeated after the preflight, and a row is as large as what is looked at together."""
    settings = settings_for(stack, transport, tmp_path, batch_bytes=2**17)
    with source_table(stack, rows=3) as name, open_source(settings) as source:
        stack.query(f"create table public.{name}_more () inherits (public.{name})")
        source.preflight([posts_at(name)])
        stack.query(
            f"update public.{name} set content = repeat('x', 50000); "
            f"insert into public.{name}_more select * from public.{name} limit 1"
        )
        with pytest.raises(ReadError, match="a key came twice"):
            source.read(posts_at(name), spool_at(tmp_path, posts_at(name)))
        with pytest.raises(PreflightError, match="not unique"):
            check(settings, posts_at(name))


def test_the_key_of_a_view_is_not_looked_up_row_by_row(stack: Stack) -> None:
    """The planner takes the index of the table behind it where that saves a sort, and a page for each row."""
    with source_table(stack, rows=30) as name:
        state = stack.query(
            f"create view public.{name}_all as select id, content from public.{name}; analyze public.{name}; "
            "set enable_sort = off; set enable_hashagg = off; "  # as if 30 rows were too many for the memory
            f"select public.etl_key_state('public.{name}_all'::regclass, 'id') ->> 'unique', "
            f"pg_stat_get_xact_numscans('public.{name}_pkey'::regclass)"
        )
        assert state == "true|0"


@TRANSPORTS
def test_a_view_that_looks_at_who_asks_is_refused(stack: Stack, transport: Transport, tmp_path: Path) -> None:
    with source_table(stack, rows=3) as name:
        for asked in ("current_user = 'someone'", "pg_has_role('postgres', 'usage')"):
            stack.query(
                f"create or replace view public.{name}_mine as select * from public.{name} where {asked}; "
                f"grant select on public.{name}_mine to service_role, etl"
            )
            with pytest.raises(PreflightError, match=f"the view .*{name}_mine shows each role other rows"):
                check(settings_for(stack, transport, tmp_path), posts_at(f"{name}_mine"))


ASKED = (
    "current_user = 'x'", "session_user = 'x'", "current_role = 'x'", "user = 'x'", "content = user",
    "system_user = 'x'", "current_setting('x.y', true) = 'x'", "pg_has_role('postgres', 'member')",
    "has_table_privilege('users', 'select')", "has_column_privilege('users', 'id', 'select')",
    "has_schema_privilege('public', 'create')", "pg_catalog.has_any_column_privilege('users', 'update')",
    "row_security_active('users')", "current_schema = 'x'",
    "current_schema() = 'x'", "'x' = any (current_schemas(true))", "inet_client_addr() is null", "pg_backend_pid() = 1",
    "exists (select from information_schema.enabled_roles r where r.role_name = 'x')",
)  # fmt: skip
NOT_ASKED = (
    '"user" = \'the user\'', "content = 'USER'", "content = 'pg_has_role(x)'", "has_editor_privilege",
    "(has_editor_privilege) or \"user's\" = 1", "content = '\"' and content <> 'a user'",
)  # fmt: skip


def test_what_a_view_asks_is_found_in_its_definition(stack: Stack) -> None:
    more = '"user" text, has_editor_privilege bool, "user\'s" int'
    with source_table(stack, columns=f"content text, {more}") as name, psycopg.connect(stack.db_url) as session:
        session.execute("set local standard_conforming_strings = off")  # as a database may have it
        filters = f"select public.etl_row_filters('public.{name}_view'::regclass)"
        newer = {where for where in ASKED if "system_user" in where and session.info.server_version < 160_000}
        for where in (w for w in (*ASKED, *NOT_ASKED) if w not in newer):
            session.execute(f"create or replace view public.{name}_view as select * from public.{name} where {where}")
            (found,) = session.execute(filters).fetchone() or ([],)
            assert bool(found) == (where in ASKED), (where, found)
        session.rollback()


@TRANSPORTS
@pytest.mark.parametrize("by", ["function", "operator"])
def test_a_view_that_calls_a_function_needs_consent(
    stack: Stack, transport: Transport, by: str, tmp_path: Path
) -> None:
    """`where public.visible(id)`: it reads the token of who asks, passes every policy, and shows no row to a run."""
    claims = "current_setting('request.jwt.claims', true)::jsonb ->> 'sub' = $1::text"
    with source_table(stack, rows=10) as name:
        where = f"{name}_visible(id)" if by == "function" else "id === id"
        stack.query(
            f"create function public.{name}_visible(uuid) returns boolean language sql stable as "
            f"$f$ select {claims} $f$;"
            f"create function public.{name}_same(uuid, uuid) returns boolean language sql stable as 'select false';"
            f"create operator public.=== (function = public.{name}_same, leftarg = uuid, rightarg = uuid);"
            f"create view public.{name}_shown as select * from public.{name} where {where};"
            f"grant select on public.{name}_shown to service_role, etl"
        )
        reload_schema(stack)
        called = f"public.{name}_{'visible' if by == 'function' else 'same'}"
        try:
            with pytest.raises(PreflightError, match=called) as caught:
                check(settings_for(stack, transport, tmp_path), posts_at(f"{name}_shown"))
            assert f"ETL_TRUSTED_FUNCTIONS={called}" in caught.value.remedy
            trusting = settings_for(stack, transport, tmp_path, trusted_functions=f"public.other, {called}")
            assert check(trusting, posts_at(f"{name}_shown"))
        finally:
            stack.query(f"drop function public.{name}_visible, public.{name}_same cascade")
