"""A token with the role etl over REST and Storage: what a run needs, and nothing else, thing by thing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from uuid import UUID

import httpx
import pytest

from local_stack import Stack
from local_stack.tests.conftest import client, reload_schema, sdk
from tasks.contracts import POSTS, TABLES
from tasks.source.fingerprint import source_request
from tests.pipeline.identities import token
from tests.sink.kit import empty

SOURCES = {table.source for table in TABLES if table.source_schema == "public"}
CLOSED = ("etl_migrations", "etl_seed")  # the owner's books, and a secret that only functions use
_RELATIONS = """
select coalesce(json_object_agg(c.relname, has_table_privilege('etl', c.oid, 'select')), '{}')
from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v')"""
_FUNCTIONS = """
select coalesce(json_object_agg(proname, has_function_privilege('etl', oid, 'execute')), '{}')
from pg_proc where pronamespace = 'public'::regnamespace"""
# Everything beside a run's own that a product may have; closed to etl, whatever anon may do.
PRODUCT = """
create table public.parcels (id int primary key, total int);
create view public.parcel_totals as select sum(total) from public.parcels;
create function public.refund(p int) returns int language sql as 'select p';
revoke execute on function public.refund(int) from public;
insert into storage.buckets (id, name, public) values ('invoices', 'invoices', false), ('avatars', 'avatars', true)
"""


@pytest.fixture(scope="module")
def product(stack: Stack) -> Iterator[Stack]:
    """A product with tables, functions and buckets of its own beside the pipeline."""
    empty(stack)
    stack.query(PRODUCT)
    reload_schema(stack)
    with sdk(stack, stack.service_key) as service:
        for bucket in ("invoices", "avatars"):
            service.storage.from_(bucket).upload("a.json", b"{}", {"upsert": "true"})
    yield stack
    for bucket in ("invoices", "avatars"):
        stack.empty_bucket(bucket)
    stack.query(
        "drop view public.parcel_totals; drop table public.parcels; drop function public.refund(int);"
        "delete from storage.buckets where id in ('invoices', 'avatars')"
    )
    reload_schema(stack)


@pytest.fixture
def etl(product: Stack) -> Iterator[httpx.Client]:
    with client(product, product.key, token(product, sub="00000000-0000-4000-8000-00000000e717")) as http:
        yield http


def denied(answer: httpx.Response) -> bool:
    """Refused as a right that is missing, and not for another reason."""
    body = answer.json()
    return answer.status_code in (401, 403, 404) or str(body.get("statusCode")) in ("401", "403", "404")


def test_every_table_is_open_or_closed_as_a_run_needs(product: Stack, etl: httpx.Client) -> None:
    relations: dict[str, bool] = json.loads(product.query(_RELATIONS))
    ours = {
        name
        for name in relations
        if name.startswith(("etl_", "clean_")) or name in ("user_statistics", "daily_activity")
    }
    assert {"parcels", "parcel_totals"} <= relations.keys() - ours
    for name, readable in relations.items():
        assert readable == (name not in CLOSED and (name in ours or name in SOURCES)), name
        answer = etl.get(f"/rest/v1/{name}", params={"limit": 1})
        assert (answer.status_code == 200) == readable, (name, answer.text)


COLUMN = {"users": "name", "posts": "title", "parcels": "total", "etl_migrations": "version"}


@pytest.mark.parametrize("name", COLUMN)
@pytest.mark.parametrize("method", ["POST", "PATCH", "DELETE"])
def test_the_products_tables_are_never_written(etl: httpx.Client, name: str, method: str) -> None:
    column = COLUMN[name]
    parameters = {column: "is.null"} if method != "POST" else {}
    assert denied(etl.request(method, f"/rest/v1/{name}", params=parameters, json={column: 1}))


def test_every_function_is_open_or_closed_as_a_run_needs(product: Stack, etl: httpx.Client) -> None:
    functions: dict[str, bool] = json.loads(product.query(_FUNCTIONS))
    closed = {name for name, may in functions.items() if not may}
    assert {"refund", "etl_access_token"} <= closed
    assert all(name.startswith(("etl_", "nightly_")) for name in functions.keys() - closed), "others are not etl's"
    for name in sorted(closed):
        assert denied(etl.post(f"/rest/v1/rpc/{name}", json={"p": 1} if name == "refund" else {})), name


LAST = "ffffffff-ffff-ffff-ffff-ffffffffffff"
# What becomes the service role, and reads a table with it: where a key is expected, or a part of a statement was.
_COLUMNS = [{"name": name, "source": name, "kind": "int"} for name in ("id", "total")]
PARCELS = {"schema": "public", "table": "parcels", "key": "id", "columns": _COLUMNS}
INJECTED = (
    " and (set_config('role', 'service_role', true) || "
    f"public.etl_rows('{json.dumps(PARCELS)}', '', '', '10')::text)::integer > 0"
)
CALL = {"p_table": "posts", "p_source": source_request(POSTS), "p_buckets": [1], "p_most": 10}
ENDS = {"p_low": str(UUID(int=0)), "p_high": LAST, "p_bits": 4}
CALLS: dict[str, dict[str, object]] = {
    "a part of the statement": {"p_bounds": INJECTED, "p_bucket": "1", "p_lows": [str(UUID(int=0))], "p_highs": [LAST]},
    "a key": {**ENDS, "p_after": f"{LAST}'::uuid{INJECTED} --", "p_until": ""},
    "the last key": {**ENDS, "p_low": f"{LAST}')::uuid::text{INJECTED} --", "p_after": "", "p_until": ""},
}


@pytest.mark.parametrize("given", CALLS)
def test_a_statement_of_the_callers_own_is_not_run(product: Stack, etl: httpx.Client, given: str) -> None:
    product.query("insert into parcels values (1, 4711) on conflict do nothing; insert into posts default values")
    answer = etl.post("/rest/v1/rpc/etl_compare_buckets", json={**CALL, **CALLS[given]})
    product.query("truncate public.posts")
    assert answer.status_code == (404 if given == "a part of the statement" else 400), answer.text
    assert "4711" not in answer.text


def test_every_other_bucket_is_closed(product: Stack, etl: httpx.Client) -> None:
    assert [bucket["id"] for bucket in etl.get("/storage/v1/bucket").json()] == ["reports"]
    for bucket in ("invoices", "avatars"):
        assert denied(etl.get(f"/storage/v1/bucket/{bucket}"))
        if bucket != "avatars":  # a public bucket is anybody's to read
            assert denied(etl.get(f"/storage/v1/object/{bucket}/a.json"))
        assert denied(etl.post(f"/storage/v1/object/{bucket}/b.json", content=b"{}"))
        listed = etl.post(f"/storage/v1/object/list/{bucket}", json={"prefix": "", "limit": 10})
        assert listed.status_code != 200 or listed.json() == []
        etl.request("DELETE", f"/storage/v1/object/{bucket}", json={"prefixes": ["a.json"]})
        etl.post(
            "/storage/v1/object/move", json={"bucketId": bucket, "sourceKey": "a.json", "destinationKey": "c.json"}
        )
    for body in ({"id": "mine", "name": "mine", "public": True},):
        assert denied(etl.post("/storage/v1/bucket", json=body))
    etl.put("/storage/v1/bucket/reports", json={"public": True})
    assert product.query("select public from storage.buckets where id = 'reports'") == "f"
    left = (
        "select string_agg(bucket_id || '/' || name, ' ' order by 1) from storage.objects where bucket_id <> 'reports'"
    )
    assert sorted(product.query(left).split()) == ["avatars/a.json", "invoices/a.json"], (
        "nothing was stored, moved or deleted"
    )


def test_its_own_bucket_is_open(product: Stack, etl: httpx.Client) -> None:
    path = "/storage/v1/object/reports/identity/x.json"
    assert etl.post(path, content=b"{}", headers={"content-type": "application/json"}).status_code == 200
    assert etl.get(path).content == b"{}"
    assert (
        etl.request("DELETE", "/storage/v1/object/reports", json={"prefixes": ["identity/x.json"]}).status_code == 200
    )


def test_accounts_are_closed_and_so_are_other_schemas(etl: httpx.Client) -> None:
    assert etl.get("/rest/v1/users", headers={"accept-profile": "auth"}).status_code >= 400
    assert etl.get("/auth/v1/admin/users").status_code in (401, 403, 404)
