"""Before the first row: what cannot be seen whole is refused, on both transports, with a reason."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from uuid import uuid4

import httpx
import psycopg
import pytest

from local_stack import Stack
from local_stack.tests.conftest import Token, reload_schema, token
from tasks.contracts import Table
from tasks.errors import AccessError, ConfigurationError, PreflightError
from tasks.settings import Settings, Transport
from tasks.source import Preflight, open_source
from tests.source.kit import COLUMNS, posts_at, settings_for, source_table

TRANSPORTS = pytest.mark.parametrize("transport", ["rest", "postgres"])
__all__ = ["token"]


class AsRole(httpx.HTTPTransport):
    """Sends what it is given, with the token of a role."""

    def __init__(self, token: str) -> None:
        super().__init__()
        self.token = token

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.headers["authorization"] = f"Bearer {self.token}"
        return super().handle_request(request)


def check(settings: Settings, table: Table, sent_by: httpx.BaseTransport | None = None) -> Preflight:
    with open_source(settings, transport=sent_by) as source:
        return source.preflight([table])


@contextmanager
def filtered_role(stack: Stack) -> Iterator[str]:
    """A role like `etl`, but without BYPASSRLS: row-level security counts for it."""
    role = f"etl_like_{uuid4().hex[:8]}"
    stack.query(
        f"create role {role} nologin; grant {role} to postgres; grant usage on schema public to {role}; "
        f"grant execute on all functions in schema public to {role}; grant {role} to authenticator"
    )
    try:
        yield role
    finally:
        stack.query(f"drop owned by {role}; drop role {role}")


Check = Callable[[Table], Preflight]


def checks_as(stack: Stack, transport: Transport, role: str, token: Token, folder: Path) -> Check:
    """The preflight as `role`: over REST by a token of it, on Postgres by `set role`."""
    settings = settings_for(stack, transport, folder, db_role=role)
    return lambda table: check(settings, table, AsRole(token(role)) if transport == "rest" else None)


@TRANSPORTS
def test_what_is_found(stack: Stack, transport: Transport, tmp_path: Path) -> None:
    with source_table(stack, columns="user_id uuid, content text, created_at timestamptz") as name:
        stack.query(f"insert into public.{name} (id) select gen_random_uuid() from generate_series(1, 50)")
        stack.query(f"analyze public.{name}")
        found = check(settings_for(stack, transport, tmp_path), posts_at(name))
    info = found.tables["posts"]
    assert found.role == ("service_role" if transport == "rest" else "etl")
    assert [c.name for c in info.columns] == ["id", "user_id", "content", "created_at"]
    assert info.rows == 50
    assert found.clock.utcoffset().total_seconds() == 0  # type: ignore[union-attr]


@TRANSPORTS
def test_row_level_security_is_refused(stack: Stack, transport: Transport, token: Token, tmp_path: Path) -> None:
    with source_table(stack, rows=20) as name, filtered_role(stack) as role:
        stack.query(f"alter table public.{name} enable row level security; grant select on public.{name} to {role}")
        checked = checks_as(stack, transport, role, token, tmp_path)
        with pytest.raises(PreflightError, match=rf"row-level security of .*{name} hides rows from the role {role}"):
            checked(posts_at(name))
        stack.query(f"create policy mine on public.{name} for select to {role} using (user_id is not null)")
        with pytest.raises(PreflightError):
            checked(posts_at(name))
        stack.query(f"create policy all_of_it on public.{name} for select to {role} using (true)")
        assert checked(posts_at(name)).role == role
        stack.query(f"create policy but on public.{name} as restrictive for select using (user_id is null)")
        with pytest.raises(PreflightError):
            checked(posts_at(name))


@TRANSPORTS
def test_a_role_that_bypasses_row_level_security_sees_all(stack: Stack, transport: Transport, tmp_path: Path) -> None:
    with source_table(stack) as name:
        stack.query(f"alter table public.{name} enable row level security")
        # Over Postgres the login role: `etl` bypasses nothing.
        check(settings_for(stack, transport, tmp_path, db_role=""), posts_at(name))


def test_the_publishable_key_is_refused(stack: Stack, tmp_path: Path) -> None:
    with pytest.raises(AccessError, match="secret key"):
        check(settings_for(stack, "rest", tmp_path, supabase_service_key=stack.key), posts_at("posts"))


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


def test_security_invoker_is_an_option_however_it_is_written(stack: Stack) -> None:
    on, off = ("on", "ON", "true", "TRUE", "tr", "t", "yes", "Y", "1"), ("off", "no", "f", "FALSE", "0")
    with source_table(stack) as name, filtered_role(stack) as role, psycopg.connect(stack.db_url) as session:
        stack.query(f"alter table public.{name} enable row level security")
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
        ("id text primary key", "of type text, and the contract says uuid"),
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
def test_a_view_with_a_key_that_repeats_is_refused(stack: Stack, transport: Transport, tmp_path: Path) -> None:
    with source_table(stack, rows=3) as name:
        stack.query(
            f"create view public.{name}_twice as select * from public.{name} union all select * from public.{name}; "
            f"grant select on public.{name}_twice to service_role, etl"
        )
        with pytest.raises(PreflightError, match="not unique"):
            check(settings_for(stack, transport, tmp_path), posts_at(f"{name}_twice"))


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
        filters = f"select public.etl_row_filters('public.{name}_view'::regclass)"
        for where in (*ASKED, *NOT_ASKED):
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


@TRANSPORTS
def test_what_is_missing_is_named(stack: Stack, transport: Transport, tmp_path: Path) -> None:
    settings = settings_for(stack, transport, tmp_path)
    with pytest.raises(ConfigurationError, match=r"no table public\.posts_of_nobody"):
        check(settings, posts_at("posts_of_nobody"))
    with (
        source_table(stack, columns="user_id uuid, created_at timestamptz") as name,
        pytest.raises(ConfigurationError, match=rf"public\.{name} has no column content"),
    ):
        check(settings, posts_at(name))


@TRANSPORTS
def test_a_table_that_may_not_be_selected_is_refused(stack: Stack, transport: Transport, tmp_path: Path) -> None:
    with source_table(stack) as name:
        stack.query(
            f"revoke all on public.{name} from service_role, etl; "
            f"grant select (id) on public.{name} to etl, service_role"
        )
        with pytest.raises(AccessError, match=r"may not select from public\..*content"):
            check(settings_for(stack, transport, tmp_path), posts_at(name))


def test_a_role_that_does_not_exist_is_an_access_or_configuration_error(stack: Stack, tmp_path: Path) -> None:
    with pytest.raises((AccessError, ConfigurationError), match="nobody"):
        check(settings_for(stack, "postgres", tmp_path, db_role="nobody"), posts_at("posts"))


def test_a_wrong_password_is_reported_at_once(stack: Stack, tmp_path: Path) -> None:
    secret = stack.db_url.split(":")[2].split("@")[0]
    settings = settings_for(stack, "postgres", tmp_path, supabase_db_url=stack.db_url.replace(secret, "wrong"))
    with pytest.raises(AccessError, match="SUPABASE_DB_URL") as caught:
        check(settings, posts_at("posts"))
    assert "Tried" not in str(caught.value)
    assert "wrong" not in str(caught.value)


def test_cuts_are_even_for_random_and_rising_keys_without_statistics(stack: Stack) -> None:
    for kind, key in (("uuid", "gen_random_uuid()"), ("bigint", "g * g")):
        with source_table(stack, key=kind) as name:  # type: ignore[arg-type]
            stack.query(
                f"insert into public.{name} (id, content) "
                f"select {key}, repeat('x', 500) from generate_series(1, 40000) g"
            )
            cuts = stack.query(
                f"select jsonb_array_elements_text(etl_sample_keys('public', '{name}', 'id', 4))"
            ).split()
            shares = [
                int(stack.query(f"select count(*) from public.{name} where id <= '{cut}'")) / 40_000 for cut in cuts
            ]
        assert len(shares) == 3
        assert all(abs(share - expected) < 0.1 for share, expected in zip(shares, (0.25, 0.5, 0.75), strict=True))


def test_the_functions_are_not_for_everybody(stack: Stack) -> None:
    found = stack.query(
        "select proname || ' ' || r from pg_proc, unnest(array['anon', 'authenticated']) r "
        "where proname in ('etl_preflight', 'etl_sample_keys', 'etl_key_state', 'etl_row_filters', "
        "'etl_estimated_rows', 'etl_relations_behind') and has_function_privilege(r, pg_proc.oid, 'execute')"
    )
    assert found.strip() == ""


def test_missing_functions_say_that_the_migrations_are_missing(stack: Stack, tmp_path: Path) -> None:
    stack.query("alter function public.etl_preflight(jsonb) rename to etl_preflight_away")
    reload_schema(stack)
    try:
        for transport in ("rest", "postgres"):
            with pytest.raises(ConfigurationError, match="migrations are not applied"):
                check(settings_for(stack, transport, tmp_path), posts_at("posts"))
    finally:
        stack.query("alter function public.etl_preflight_away(jsonb) rename to etl_preflight")
        reload_schema(stack)
