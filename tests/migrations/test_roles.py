"""Who can see and do what: anon, a signed-in customer, a signed-in analyst, etl, the service."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import psycopg
import pytest

from local_stack import Stack
from local_stack.home import Home
from local_stack.postgres import ADMIN
from local_stack.state import load
from local_stack.tests.conftest import client, sdk
from tasks.errors import AccessError
from tasks.platform.postgres import connect, execute
from tasks.platform.refusals import refusals
from tests.sink.kit import Night, empty, post, reject, settings_for, user, work

OURS = ("clean_users", "clean_posts", "user_statistics", "daily_activity", "etl_runs", "etl_reject_rows", "etl_batches")
TABLES = (*OURS, "etl_rejects")
AGGREGATES = ("user_statistics", "daily_activity")
FUNCTIONS = "select proname from pg_proc where pronamespace = 'public'::regnamespace and starts_with(proname, 'etl_')"


@pytest.fixture(scope="module")
def filled(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Stack:
    """A stack after a night: a row in every table of ours, in both sources, and a file in the bucket."""
    empty(stack)
    stack.query("delete from public.posts; delete from public.users")
    stack.query("insert into public.users (name) values ('Jane'); insert into public.posts (title) values ('Secret')")
    night = Night([user(1)], [post(1)], [reject(2)])
    work(settings_for(stack, "rest", tmp_path_factory.mktemp("run")), night)
    with sdk(stack, stack.service_key) as service:
        service.storage.from_("reports").upload("roles/test.json", b"{}", {"upsert": "true"})
    return stack


def token_of(stack: Stack, **claims: object) -> str:
    """A token as Auth signs it on the hosted platform: `app_metadata` is the service's to set, not the user's."""
    someone = {"role": "authenticated", "sub": "00000000-0000-4000-8000-000000000009", "exp": int(time.time()) + 600}
    return jwt.encode({**someone, **claims}, stack.jwt_secret, "HS256")


def signed_up(stack: Stack) -> str:
    """The token of someone who has just signed up and in."""
    password = secrets.token_hex(12)
    email = f"{secrets.token_hex(6)}@example.com"
    with sdk(stack, stack.key) as public:
        public.auth.sign_up({"email": email, "password": password})
        session = public.auth.sign_in_with_password({"email": email, "password": password}).session
    assert session is not None
    return session.access_token


@pytest.fixture(scope="module")
def customer(filled: Stack) -> Iterator[httpx.Client]:
    with client(filled, filled.key, signed_up(filled)) as http:
        yield http


@pytest.fixture(scope="module")
def analyst(filled: Stack) -> Iterator[httpx.Client]:
    with client(filled, filled.key, token_of(filled, app_metadata={"etl_role": "analyst"})) as http:
        yield http


@pytest.fixture
def anon(filled: Stack) -> Iterator[httpx.Client]:
    with client(filled, filled.key) as http:
        yield http


@pytest.fixture
def service(filled: Stack) -> Iterator[httpx.Client]:
    with client(filled, filled.service_key) as http:
        yield http


def rows(http: httpx.Client, table: str) -> list[dict[str, Any]] | int:
    """The rows that a client gets, or the status with which it is turned away."""
    answer = http.get(f"/rest/v1/{table}", params={"select": "*"})
    return list(answer.json()) if answer.status_code == 200 else answer.status_code


def refused(http: httpx.Client, method: str, path: str, body: object = None) -> bool:
    return http.request(method, path, json=body).status_code in (401, 403, 404)


@pytest.mark.parametrize("table", TABLES)
def test_anon_sees_nothing_of_ours(anon: httpx.Client, table: str) -> None:
    assert rows(anon, table) in (401, 403)


@pytest.mark.parametrize("table", TABLES)
def test_a_customer_sees_nothing_of_ours(customer: httpx.Client, table: str) -> None:
    assert rows(customer, table) in ([], 403)
    assert table in AGGREGATES or rows(customer, table) == 403


@pytest.mark.parametrize("table", TABLES)
def test_an_analyst_reads_the_aggregates_only(analyst: httpx.Client, table: str) -> None:
    found = rows(analyst, table)
    assert isinstance(found, list) == (table in AGGREGATES)
    assert table not in AGGREGATES or found


@pytest.mark.parametrize("table", TABLES)
def test_the_service_reads_everything_of_ours(service: httpx.Client, table: str) -> None:
    found = rows(service, table)
    assert isinstance(found, list)
    assert found or table == "etl_batches"


@pytest.mark.parametrize("who", ["anon", "customer", "analyst"])
def test_nobody_but_the_service_writes(filled: Stack, request: pytest.FixtureRequest, who: str) -> None:
    http: httpx.Client = request.getfixturevalue(who)
    before = filled.query("select count(*), min(total_users) from public.user_statistics")
    for table in OURS:
        answer = http.request("DELETE", f"/rest/v1/{table}", params={"select": "*"})
        assert answer.status_code in (401, 403)
        answer = http.request("PATCH", f"/rest/v1/{table}", params={"total_users": "eq.0"}, json={"total_users": 9})
        assert answer.status_code >= 400
    assert filled.query("select count(*), min(total_users) from public.user_statistics") == before


@pytest.mark.parametrize("who", ["anon", "customer", "analyst"])
def test_nobody_but_the_service_calls_our_functions(filled: Stack, request: pytest.FixtureRequest, who: str) -> None:
    http: httpx.Client = request.getfixturevalue(who)
    assert refused(http, "POST", "/rest/v1/rpc/etl_history", {"p_filter": {}})
    role = "anon" if who == "anon" else "authenticated"
    open_to_all = f"{FUNCTIONS} and has_function_privilege('{role}', oid, 'execute')"
    assert filled.query(open_to_all) == ""


@pytest.mark.parametrize(("who", "sees"), [("anon", False), ("customer", False), ("analyst", True), ("service", True)])
def test_who_gets_files(request: pytest.FixtureRequest, who: str, sees: bool) -> None:
    http: httpx.Client = request.getfixturevalue(who)
    assert (http.get("/storage/v1/object/reports/roles/test.json").status_code == 200) == sees
    assert http.get("/storage/v1/object/public/reports/roles/test.json").status_code >= 400
    listed = http.post("/storage/v1/object/list/reports", json={"prefix": "roles", "limit": 10})
    assert bool(listed.json() if listed.status_code == 200 else []) == sees


@pytest.mark.parametrize("who", ["anon", "customer", "analyst"])
def test_nobody_but_the_service_stores_files(request: pytest.FixtureRequest, who: str) -> None:
    http: httpx.Client = request.getfixturevalue(who)
    assert http.post("/storage/v1/object/reports/roles/mine.json", content=b"{}").status_code >= 400
    assert http.delete("/storage/v1/object/reports/roles/test.json").status_code >= 400


def test_a_user_cannot_make_himself_an_analyst(filled: Stack) -> None:
    """What users may set of themselves is another claim, `user_metadata`."""
    token = token_of(filled, user_metadata={"etl_role": "analyst"}, etl_role="analyst")
    with client(filled, filled.key, token) as http:
        assert rows(http, "user_statistics") == []


@contextmanager
def as_etl(stack: Stack, folder: Path) -> Iterator[Any]:
    connection = connect(settings_for(stack, "postgres", folder))
    try:
        with connection.cursor() as cursor:
            yield cursor
    finally:
        connection.close()


def test_etl_sees_the_sources_whole_and_writes_our_tables(filled: Stack, tmp_path: Path) -> None:
    with as_etl(filled, tmp_path) as cursor:
        cursor.execute("select current_user, (select count(*) from public.users), (select count(*) from public.posts)")
        assert cursor.fetchone() == ("etl", 1, 1)
        for table in OURS:
            cursor.execute(f"select has_table_privilege('public.{table}', 'select, insert, update, delete')")
            assert cursor.fetchone() == (True,)


# Every type that a function could name, as a domain of the caller's whose CHECK records as whom it runs.
_SHADOWS = """
create temp table called_as (who text);
grant all on called_as to public;
create function pg_temp.record_who(pg_catalog.text) returns boolean language plpgsql as
  $$ begin insert into pg_temp.called_as values (current_user); return true; end $$;
do $do$
declare
  shadowed pg_catalog.name;
begin
  for shadowed in select t.typname from pg_type t where t.typnamespace = 'pg_catalog'::regnamespace and t.typtype = 'b'
    and t.typcategory in ('B', 'D', 'N', 'S', 'T', 'U') and t.typname !~ '^pg_'
  loop
    execute format(
      'create domain pg_temp.%1$I as pg_catalog.%1$I check (pg_temp.record_who(value::pg_catalog.text))', shadowed);
  end loop;
end
$do$
"""


@pytest.mark.parametrize("call", ["etl_seed_id()", "etl_seed_value()", "etl_waits('1')", """etl_waits('"1"')"""])
def test_nothing_of_a_callers_runs_as_the_owner(call: str, filled: Stack) -> None:
    """A type that stands before the real one would: its CHECK is the caller's own function."""
    with psycopg.connect(filled.db_url) as session:
        session.execute("set role etl")
        session.execute(_SHADOWS)
        session.execute(f"select public.{call}")
        assert session.execute("select who from called_as").fetchall() == []


def test_functions_that_act_as_their_owner_look_nowhere_else(filled: Stack) -> None:
    found = filled.query(
        "select proname, array_to_string(proconfig, ' ') from pg_proc where prosecdef "
        "and pronamespace = 'public'::regnamespace and proname ~ '^(etl|nightly)_' order by 1"
    )
    assert found.splitlines() == [
        f"{name}|search_path=pg_catalog, pg_temp" for name in ("etl_seed_id", "etl_seed_value", "etl_waits")
    ]


def test_the_base_moves_where_triggers_do_not_fire(filled: Stack) -> None:
    """Left behind, it gave the next night older files for the rows that had not changed since the last one."""
    state = load(Home.at(filled.home))
    assert state is not None
    with psycopg.connect(state.url(ADMIN, state.admin_password)) as session:
        session.execute("set local session_replication_role = replica")
        session.execute("delete from public.etl_base")
        (run,) = session.execute("update public.etl_runs set status = 'loading' returning run_id").fetchall()
        session.execute("update public.etl_runs set status = 'committed'")
        assert session.execute("select run_id from public.etl_base").fetchall() == [run]
        session.rollback()


REFUSED = {
    "read another table": "select * from public.strangers",
    "write a source": "update public.users set name = 'x'",
    "insert into a source": "insert into public.posts default values",
    "delete from a source": "delete from public.posts",
    "empty a source": "truncate public.users",
    "read the accounts": "select * from auth.users",
    "make a bucket": "insert into storage.buckets (id, name) values ('mine', 'mine')",
    "open the bucket": "update storage.buckets set public = true",
    "store in another bucket": "insert into storage.objects (bucket_id, name) values ('elsewhere', 'x')",
    "call a foreign function": "select public.foreign_function()",
    "make a table": "create table public.mine (x int)",
    "drop a table of ours": "drop table public.clean_posts",
    "change a function of ours": "drop function public.etl_json(jsonb)",
    "read a file of the server": "select pg_read_file('/etc/hostname')",
}


@pytest.fixture(scope="module")
def foreign(filled: Stack) -> Iterator[Stack]:
    """A table and a function of the user's own."""
    filled.query(
        "create table public.strangers (x int); create function public.foreign_function() returns int "
        "language sql as 'select 1'; revoke execute on function public.foreign_function() from public"
    )
    yield filled
    filled.query("drop table public.strangers; drop function public.foreign_function()")


@pytest.mark.parametrize("what", REFUSED)
def test_etl_may_no_more_than_that(foreign: Stack, tmp_path: Path, what: str) -> None:
    with as_etl(foreign, tmp_path) as cursor, pytest.raises(AccessError), refusals():
        execute(cursor.connection, REFUSED[what])


def test_etl_cannot_log_in_and_is_no_other_role(filled: Stack) -> None:
    assert filled.query("select rolcanlogin, rolsuper, rolcreaterole from pg_roles where rolname = 'etl'") == "f|f|f"
    assert (
        filled.query("select rolname from pg_roles where rolname <> 'etl' and pg_has_role('etl', oid, 'member')") == ""
    )


def test_row_level_security_is_on_for_every_table_of_ours(filled: Stack) -> None:
    names = ", ".join(f"'public.{table}'::regclass" for table in OURS)
    assert filled.query(f"select count(*) from pg_class where oid in ({names}) and relrowsecurity") == str(len(OURS))
