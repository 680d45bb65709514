"""How values come over REST: as PostgREST writes them (local_stack/lite/values.mjs)."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import httpx
import pytest

from local_stack import Stack
from local_stack.tests.conftest import reload_schema, sdk

pytestmark = pytest.mark.xdist_group("stack")


def read(service: httpx.Client, expression: str) -> str:
    """The body's text for one row of one column: what stands on the wire, before Python's JSON sees it."""
    response = service.get("/rest/v1/stack_probe", params={"select": expression, "id": "eq.1"})
    assert response.status_code == 200, response.text
    return response.text


def test_timestamps_are_iso_8601(probe: Stack, service: httpx.Client) -> None:
    """Stock: `2025-01-28 02:44:47.010406+00`."""
    probe.query("truncate stack_probe; insert into stack_probe values (1, '2025-01-28 02:44:47.010406+00')")
    assert read(service, "happened_at") == '[{"happened_at":"2025-01-28T02:44:47.010406+00:00"}]'


def test_timestamps_are_iso_8601_whatever_the_database_has_set(probe: Stack, service: httpx.Client) -> None:
    """Storage answered `28/01/2025 02:44:47 UTC`, which ended each run."""
    probe.query("truncate stack_probe; insert into stack_probe values (1, '2025-01-28 02:44:47.010406+00')")
    reconnect = "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'lite'"
    probe.query("alter database postgres set datestyle = 'SQL, DMY'")
    try:
        probe.query(reconnect)
        tries = (service.get("/rest/v1/stack_probe?select=happened_at") for _ in range(100))
        answer = next(answer for answer in tries if answer.status_code == 200)
    finally:
        probe.query("alter database postgres reset datestyle")
        probe.query(reconnect)
    assert answer.json() == [{"happened_at": "2025-01-28T02:44:47.010406+00:00"}]


def test_a_session_of_auth_is_understood_by_the_client(stack: Stack) -> None:
    """Stock: the times of a session have no `T`, and supabase-auth cannot parse them."""
    someone: Any = {"email": "someone@example.com", "password": "correct horse battery"}
    with sdk(stack, stack.key) as client:
        client.auth.sign_up(someone)
        session = client.auth.sign_in_with_password(someone)
    assert session.user
    assert isinstance(session.user.created_at, datetime)


@pytest.mark.parametrize(
    ("literal", "written"),
    [
        ("1.5", "1.5"),
        ("3", "3"),
        ("-0.00001", "-0.00001"),
        ("123456789012345678901234567890.123456789", "123456789012345678901234567890.123456789"),
        ("'NaN'", '"NaN"'),
    ],
)
def test_numerics_are_numbers_with_every_digit(probe: Stack, service: httpx.Client, literal: str, written: str) -> None:
    """Stock: text for whatever JavaScript would write otherwise."""
    probe.query(f"truncate stack_probe; insert into stack_probe (id, amount) values (1, {literal})")
    assert read(service, "amount") == f'[{{"amount":{written}}}]'


@pytest.mark.parametrize(("literal", "written"), [("0.25", "0.25"), ("'NaN'", '"NaN"'), ("'-infinity'", '"-Infinity"')])
def test_floats_that_are_no_numbers_are_text(probe: Stack, service: httpx.Client, literal: str, written: str) -> None:
    """Stock: null, which would pass for a value that is missing."""
    probe.query(f"truncate stack_probe; insert into stack_probe (id, ratio) values (1, {literal})")
    assert read(service, "ratio") == f'[{{"ratio":{written}}}]'


def test_large_integers_keep_their_digits(probe: Stack, service: httpx.Client) -> None:
    """Stock: rounded past 2^53."""
    probe.query("truncate stack_probe; insert into stack_probe (id) values (9007199254740993)")
    response = service.get("/rest/v1/stack_probe", params={"select": "id"})
    assert response.text == '[{"id":9007199254740993}]'


@pytest.fixture(scope="module")
def echo(probe: Stack) -> Stack:
    """A function that says what kind of JSON it got, and one that gives JSON back as it came."""
    probe.query(
        """
        create or replace function public.stack_kind(rows jsonb) returns text language sql
          as 'select jsonb_typeof(rows)';
        create or replace function public.stack_large() returns jsonb language sql
          as $$ select '{"id": 9007199254740993}'::jsonb $$;
        notify pgrst, 'reload schema';
        """
    )
    reload_schema(probe)
    return probe


@pytest.mark.parametrize(("value", "kind"), [([{"a": 1}], "array"), ({"a": [1]}, "object"), ([], "array")])
def test_json_arguments_arrive_as_json(echo: Stack, service: httpx.Client, value: object, kind: str) -> None:
    """Stock: every json argument arrives as a jsonb string."""
    assert service.post("/rest/v1/rpc/stack_kind", json={"rows": value}).json() == kind


def test_large_integers_inside_json_keep_their_digits(echo: Stack, service: httpx.Client) -> None:
    """Stock: rounded past 2^53."""
    assert service.post("/rest/v1/rpc/stack_large", json={}).text == '{"id":9007199254740993}'
