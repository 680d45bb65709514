"""REST behaves as PostgREST does (local_stack/lite/database.mjs, errors.mjs, server.mjs)."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from local_stack import Stack, up
from local_stack.tests.conftest import Token, client, reload_schema

pytestmark = pytest.mark.xdist_group("stack")

FUNCTIONS = """
create or replace function public.stack_raise(code text) returns void language plpgsql
  as $$ begin raise exception using errcode = code, message = 'as asked', hint = 'a hint'; end $$;
create or replace function public.stack_sleep(seconds float) returns void language sql as 'select pg_sleep(seconds)';
create or replace function public.stack_sleep_briefly(seconds float) returns void language sql
  set statement_timeout = '300ms' as 'select pg_sleep(seconds)';
create or replace function public.stack_whoami() returns text language sql as 'select current_user::text';
"""


@pytest.fixture(scope="module", autouse=True)
def functions(probe: Stack) -> Iterator[None]:
    """The functions that these tests call."""
    probe.query(FUNCTIONS)
    reload_schema(probe)
    yield
    probe.query(
        "drop function stack_raise, stack_sleep, stack_sleep_briefly, stack_whoami; notify pgrst, 'reload schema'"
    )


# --- rows ---


@pytest.mark.parametrize(("missing", "note"), [("missing=default,", "by default"), ("", None)])
def test_an_absent_key_is_null_unless_the_default_is_asked_for(
    probe: Stack, service: httpx.Client, missing: str, note: str | None
) -> None:
    """Stock: always the default, and null in the answer."""
    probe.query("truncate stack_probe")
    response = service.post(
        "/rest/v1/stack_probe",
        params={"columns": "id,note"},
        headers={"prefer": f"{missing}return=representation"},
        json=[{"id": 1}, {"id": 2, "note": "given"}],
    )
    assert response.status_code == 201, response.text
    assert [row["note"] for row in response.json()] == [note, "given"]
    assert probe.query("select coalesce(note, 'null') from stack_probe where id = 1") == (note or "null")


def test_the_row_cap_is_silent_and_can_be_set(probe: Stack, service: httpx.Client) -> None:
    probe.query("truncate stack_probe; insert into stack_probe (id) select generate_series(1, 1500)")
    assert len(service.get("/rest/v1/stack_probe", params={"limit": 1200}).json()) == 1000
    up(probe.home, empty=True, max_rows=7)
    try:
        response = service.get("/rest/v1/stack_probe")
        assert (response.status_code, len(response.json())) == (200, 7)
    finally:
        up(probe.home, empty=True, max_rows=1000)


@pytest.mark.parametrize("after_a_crash", [False, True])
def test_a_new_table_is_seen_after_notify(stack: Stack, service: httpx.Client, after_a_crash: bool) -> None:
    """Stock: after a restart only. The driver's own way of listening is deaf once the database was away."""
    if after_a_crash:
        stack.kill_database()
        time.sleep(0.6)  # longer than the driver's one attempt to come back
        up(stack.home, empty=True)
    assert service.get("/rest/v1/stack_fresh").status_code == 404
    stack.query("create table public.stack_fresh (id int primary key); notify pgrst, 'reload schema'")
    deadline = time.monotonic() + 10
    while (code := service.get("/rest/v1/stack_fresh").status_code) != 200 and time.monotonic() < deadline:
        time.sleep(0.05)
    stack.query("drop table public.stack_fresh; notify pgrst, 'reload schema'")
    assert code == 200


# --- who may what ---


def test_a_revoke_survives_a_restart(probe: Stack, anon: httpx.Client) -> None:
    """Stock: the first request after each start grants everything again, once any table has policies."""
    probe.query("revoke all on stack_probe from anon; revoke delete on storage.objects from anon")
    probe.kill_api()
    up(probe.home, empty=True)
    anon.get("/rest/v1/users")
    response = anon.get("/rest/v1/stack_probe")
    assert (response.status_code, response.json()["code"]) == (401, "42501")
    assert probe.query("select has_table_privilege('anon', 'storage.objects', 'delete')") == "f"
    probe.query("grant all on stack_probe to anon; grant delete on storage.objects to anon")


def test_a_token_can_not_become_the_owner(stack: Stack, token: Token) -> None:
    """Stock, connected as the superuser: `role: postgres` in a token is a superuser."""
    for role in ("postgres", "supabase_admin"):
        with client(stack, stack.key, token(role)) as someone:
            response = someone.post("/rest/v1/rpc/stack_whoami", json={})
        assert response.status_code == 403, (role, response.text)


def test_keys_and_tokens_become_their_roles(stack: Stack, token: Token) -> None:
    stack.query("drop role if exists stack_guest; create role stack_guest; grant stack_guest to authenticator")
    seen = {}
    for name, key, jwt in [
        ("anon", stack.key, None),
        ("service_role", stack.service_key, None),
        ("authenticated", stack.key, token("authenticated")),
        ("stack_guest", stack.key, token("stack_guest")),
    ]:
        with client(stack, key, jwt) as someone:
            seen[name] = someone.post("/rest/v1/rpc/stack_whoami", json={}).json()
    stack.query("drop role stack_guest")
    assert seen == {name: name for name in seen}


@pytest.mark.parametrize("role", ["postgres", "lite"])
def test_nobody_who_connects_is_superuser(stack: Stack, role: str) -> None:
    assert stack.query("select rolsuper from pg_roles where rolname = :'role'", {"role": role}) == "f"


@pytest.mark.parametrize("path", ["info", "config", "introspect", "", "info/", "%69nfo", "../_system/info"])
def test_the_system_pages_are_closed(stack: Stack, path: str) -> None:
    """Stock: /_system/info and /_system/config show the database's URL with its password to anyone."""
    response = httpx.get(f"{stack.url}/_system/{path}", headers={"apikey": stack.key})
    assert (response.status_code, response.content) == (404, b"")


def test_no_answer_holds_the_database_password(stack: Stack) -> None:
    password = stack.query("select current_setting('port')")
    for path in ("/", "/rest/v1/", "/auth/v1/settings", "/_system/ping", "//_system/info", "/_SYSTEM/info"):
        body = httpx.get(f"{stack.url}{path}", headers={"apikey": stack.service_key}).text
        assert f":{password}/postgres" not in body, path


def test_reload_is_for_the_service_only(stack: Stack) -> None:
    assert httpx.post(f"{stack.url}/_system/reload", headers={"apikey": stack.key}).status_code == 404


# --- errors ---


@pytest.mark.parametrize(
    ("code", "status"),
    [
        ("P0001", 400),
        ("23514", 400),
        ("23505", 409),
        ("22023", 400),
        ("42501", 403),
        ("40001", 500),
        ("40P01", 500),
        ("57014", 500),
        ("57P01", 503),
        ("53300", 503),
        ("53100", 503),
        ("55P03", 500),
        ("XX000", 500),
    ],
)
def test_sqlstates_come_with_their_status(service: httpx.Client, code: str, status: int) -> None:
    """Stock: 500 with code `SUP` for most of them, so that nobody knows what is worth another try."""
    response = service.post("/rest/v1/rpc/stack_raise", json={"code": code})
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.json()["message"] == "as asked"
    assert set(response.json()) == {"code", "message", "details", "hint"}


def test_a_key_twice_in_one_upsert_is_a_500(probe: Stack, service: httpx.Client) -> None:
    """Stock: 400. Hosted: 500 with SQLSTATE 21000, although it is permanent."""
    response = service.post(
        "/rest/v1/stack_probe", headers={"prefer": "resolution=merge-duplicates"}, json=[{"id": 7}, {"id": 7}]
    )
    assert (response.status_code, response.json()["code"]) == (500, "21000")


def test_the_timeout_of_the_role_counts(service: httpx.Client, anon: httpx.Client, stack: Stack) -> None:
    """Stock: that of the login role counts, and no other."""
    stack.query("alter role anon set statement_timeout = '250ms'")
    reload_schema(stack)
    try:
        refused = anon.post("/rest/v1/rpc/stack_sleep", json={"seconds": 2})
        assert (refused.status_code, refused.json()["code"]) == (500, "57014")
        assert service.post("/rest/v1/rpc/stack_sleep", json={"seconds": 0.4}).status_code == 204
    finally:
        stack.query("alter role anon set statement_timeout = '3s'")
        reload_schema(stack)


def test_the_timeout_of_a_function_counts(service: httpx.Client) -> None:
    """Stock: is not looked at."""
    response = service.post("/rest/v1/rpc/stack_sleep_briefly", json={"seconds": 2})
    assert (response.status_code, response.json()["code"]) == (500, "57014")


def test_the_service_has_the_login_roles_timeout(stack: Stack) -> None:
    assert stack.query("select rolconfig from pg_roles where rolname = 'lite'") == "{statement_timeout=8s}"


def test_a_database_that_is_away_is_a_503_and_comes_back(stack: Stack, service: httpx.Client) -> None:
    """Stock: 500 with code `SUP`, or 404 as if the table did not exist."""
    stack.kill_database()
    response = service.get("/rest/v1/stack_probe")
    up(stack.home, empty=True)
    assert (response.status_code, response.json()["code"]) == (503, "PGRST001")
    assert service.get("/rest/v1/stack_probe").status_code == 200


@pytest.mark.slow
def test_crashes_of_the_database_under_load_leave_no_request_hanging(stack: Stack) -> None:
    """Stock: the driver ends the whole server, or requests wait for ever (local_stack/lite/driver.mjs)."""
    ended = threading.Event()
    answers: set[tuple[int, str]] = set()

    def ask() -> None:
        with client(stack, stack.service_key) as service:
            while not ended.is_set():
                response = service.get("/rest/v1/stack_probe", params={"limit": 1})
                answers.add((response.status_code, "" if response.is_success else response.json()["code"]))

    # More clients than the API has connections: some of them wait for one when the database goes.
    with ThreadPoolExecutor(14) as pool:
        asking = [pool.submit(ask) for _ in range(14)]
        for _ in range(3):
            time.sleep(0.7)
            stack.kill_database()
            time.sleep(0.3)
            up(stack.home, empty=True)
        time.sleep(0.7)
        ended.set()
        for future in asking:
            future.result()  # a request that hung raises ReadTimeout here, a server that died ConnectError
    assert (200, "") in answers
    assert {status for status, _ in answers} == {200, 503}, answers
