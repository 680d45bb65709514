"""Before the first row: what cannot be seen whole is refused, on both transports, with a reason."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from uuid import uuid4

import httpx
import pytest

from local_stack import Stack
from local_stack.tests.conftest import Token, reload_schema, token
from tasks.contracts import Table
from tasks.errors import AccessError, ConfigurationError, PreflightError
from tasks.platform import rights
from tasks.settings import Settings, Transport
from tasks.source import Preflight, open_source
from tests.source.kit import posts_at, settings_for, source_table

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
        with pytest.raises(PreflightError) as caught:
            checked(posts_at(name))
        assert f"`as restrictive` hides rows all the same: it must not apply to {role}" in caught.value.remedy
        assert f"{name}|but|{{public}}" in stack.query(caught.value.remedy.split("`")[5]).splitlines()
        part = f"create view public.{name}_part as select * from public.{name} where user_id is null"
        stack.query(f"{part}; grant select on public.{name}_part to {role}")  # as docs/keys.md says
        assert checked(posts_at(f"{name}_part")).role == role
        stack.query(f"drop view public.{name}_part")
        stack.query(f"alter policy but on public.{name} to authenticated")  # as the remedy says
        assert checked(posts_at(name)).role == role


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
def test_what_is_missing_is_named(stack: Stack, transport: Transport, tmp_path: Path) -> None:
    settings = settings_for(stack, transport, tmp_path)
    with pytest.raises(ConfigurationError, match=r"no table public\.posts_of_nobody"):
        check(settings, posts_at("posts_of_nobody"))
    with (
        source_table(stack, columns="user_id uuid, created_at timestamptz") as name,
        pytest.raises(ConfigurationError, match=rf"public\.{name} has no column content"),
    ):
        check(settings, posts_at(name))


@pytest.mark.parametrize(
    ("columns", "remedy"),
    [
        ("content jsonb", "No kind in tasks/contracts/ takes jsonb: name as the source a view .* as text"),
        ("content int", "the kind bigint or int or float in tasks/contracts/, then `make migration`.*; or name as"),
    ],
)
def test_a_type_that_the_contract_does_not_take_is_answered_with_what_does(
    stack: Stack, columns: str, remedy: str, tmp_path: Path
) -> None:
    made = f"user_id uuid, {columns}, created_at timestamptz"
    with source_table(stack, columns=made) as name, pytest.raises(ConfigurationError, match="content is of") as caught:
        check(settings_for(stack, "postgres", tmp_path), posts_at(name))
    assert re.search(remedy, caught.value.remedy)


@TRANSPORTS
def test_a_table_that_may_not_be_selected_is_refused(stack: Stack, transport: Transport, tmp_path: Path) -> None:
    with source_table(stack) as name:
        stack.query(
            f"revoke all on public.{name} from service_role, etl; "
            f"grant select (id) on public.{name} to etl, service_role"
        )
        with pytest.raises(AccessError, match=r"may not select from public\..*content") as caught:
            check(settings_for(stack, transport, tmp_path), posts_at(name))
        stack.query(caught.value.remedy)
        check(settings_for(stack, transport, tmp_path), posts_at(name))


@TRANSPORTS
def test_a_source_in_a_schema_that_may_not_be_used_is_refused_with_what_fixes_it(
    stack: Stack, transport: Transport, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(stack, transport, tmp_path)
    with source_table(stack) as name:
        table = replace(posts_at(f"{name} x"), source_schema=f"{name} y")
        monkeypatch.setattr(rights, "TABLES", (table,))
        stack.query(
            f'create schema "{name} y"; create table "{name} y"."{name} x" (like public.{name} including all); '
            f'grant select on "{name} y"."{name} x" to service_role, etl'
        )
        try:
            assert len(rights.rights(settings)) == (1 if transport == "rest" else 2), "a run asks first who it is"
            with pytest.raises(AccessError, match=rf"may not select from {name} y\.{name} x") as caught:
                check(settings, table)
            stack.query(caught.value.remedy)
            check(settings, table)
        finally:
            stack.query(f'drop schema "{name} y" cascade')


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
