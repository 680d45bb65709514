"""Stock @supabase/lite still differs from the hosted platform: each test fails when a fix is no longer needed.

What each fix makes of it is in test_values, test_auth, test_rest and test_storage.
"""

from __future__ import annotations

import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from local_stack import Stack, api, npm
from local_stack.home import Home
from local_stack.state import free_port
from local_stack.tests.conftest import reload_schema

pytestmark = pytest.mark.xdist_group("stack")

BUCKET = "stock-files"


@pytest.fixture(scope="module")
def stock(probe: Stack) -> Iterator[httpx.Client]:
    """A client of stock lite, with the service's key, over the session's database."""
    probe.query(
        """
        create function public.stock_kind(rows jsonb) returns text language sql as 'select jsonb_typeof(rows)';
        create function public.stock_raise(code text) returns void language plpgsql
          as $$ begin raise exception using errcode = code; end $$;
        insert into storage.buckets (id, name) values ('stock-files', 'stock-files');
        insert into stack_probe values (9007199254740993, '2025-01-28 02:44:47+00', 1.50, 'NaN');
        """
    )
    port = free_port()
    settings = Home.at(probe.home).launcher_settings
    arguments = [*map(str, (npm.node(), Path(__file__).with_name("stock.mjs"), api.SOURCE, settings, port))]
    headers = {"apikey": probe.service_key, "authorization": f"Bearer {probe.service_key}"}
    with (
        subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process,
        httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers) as client,
    ):
        assert process.stdout
        assert any(line.strip() == "ready" for line in process.stdout)
        client.post(f"/storage/v1/object/{BUCKET}/folder/one.txt", content=b"one").raise_for_status()
        yield client
        process.kill()
    probe.query("drop function public.stock_kind, public.stock_raise; truncate stack_probe")
    probe.empty_bucket(BUCKET)
    probe.query("delete from storage.buckets where id = 'stock-files'")
    reload_schema(probe)


def row(stock: httpx.Client) -> dict[str, Any]:
    """The one row of the probe."""
    return dict(stock.get("/rest/v1/stack_probe").json()[0])


def test_timestamps_have_no_t(stock: httpx.Client) -> None:
    assert row(stock)["happened_at"] == "2025-01-28 02:44:47+00"


def test_numerics_are_text(stock: httpx.Client) -> None:
    assert row(stock)["amount"] == "1.50"


def test_nan_is_null(stock: httpx.Client) -> None:
    assert row(stock)["ratio"] is None


def test_large_integers_are_rounded_or_text(stock: httpx.Client) -> None:
    assert row(stock)["id"] != 9007199254740993


def test_json_arguments_are_strings(stock: httpx.Client) -> None:
    assert stock.post("/rest/v1/rpc/stock_kind", json={"rows": [1]}).json() == "string"


def test_a_missing_default_is_echoed_as_null(stock: httpx.Client, probe: Stack) -> None:
    headers = {"prefer": "missing=default,return=representation"}
    rows = [{"id": 1, "note": "given"}, {"id": 2}]
    response = stock.post("/rest/v1/stack_probe", params={"columns": "id,note"}, headers=headers, json=rows)
    probe.query("delete from stack_probe where id < 10")
    assert response.json()[1]["note"] is None


@pytest.mark.parametrize("code", ["57014", "40001", "40P01", "57P01", "23514", "P0001"])
def test_sqlstates_are_lost(stock: httpx.Client, code: str) -> None:
    assert stock.post("/rest/v1/rpc/stock_raise", json={"code": code}).json()["code"] == "SUP"


def test_a_new_table_is_not_seen(stock: httpx.Client, probe: Stack) -> None:
    probe.query("create table public.stock_fresh (id int primary key); notify pgrst, 'reload schema'")
    reload_schema(probe)  # ours has seen it: time enough
    seen = stock.get("/rest/v1/stock_fresh").status_code
    probe.query("drop table public.stock_fresh")
    assert seen == 404


def test_the_system_page_shows_the_password(stock: httpx.Client, probe: Stack) -> None:
    shown = httpx.get(stock.base_url.join("/_system/info")).text
    assert "postgresql://lite:" in shown


def test_tokens_hold_no_metadata(stock: httpx.Client, probe: Stack) -> None:
    someone = {"email": f"{secrets.token_hex(6)}@example.com", "password": secrets.token_hex(12)}
    session = stock.post("/auth/v1/signup", json=someone, headers={"apikey": probe.key}).json()
    claims = jwt.decode(session["access_token"], probe.jwt_secret, ["HS256"], audience="authenticated")
    assert "app_metadata" not in claims


def test_signed_urls_are_named_otherwise(stock: httpx.Client) -> None:
    signed = stock.post(f"/storage/v1/object/sign/{BUCKET}/folder/one.txt", json={"expiresIn": 60}).json()
    assert "signedURL" not in signed


def test_many_urls_cannot_be_signed(stock: httpx.Client) -> None:
    body = {"expiresIn": 60, "paths": ["folder/one.txt"]}
    assert stock.post(f"/storage/v1/object/sign/{BUCKET}", json=body).status_code >= 400


def test_folders_are_not_listed(stock: httpx.Client) -> None:
    listed = stock.post(f"/storage/v1/object/list/{BUCKET}", json={"prefix": ""}).json()
    assert [entry["name"] for entry in listed] == ["folder/one.txt"]


def test_info_is_nested(stock: httpx.Client) -> None:
    assert "size" not in stock.get(f"/storage/v1/object/info/{BUCKET}/folder/one.txt").json()


def test_a_range_is_a_200(stock: httpx.Client) -> None:
    response = stock.get(f"/storage/v1/object/{BUCKET}/folder/one.txt", headers={"range": "bytes=0-0"})
    assert response.status_code == 200


def test_a_put_stores_the_form(stock: httpx.Client) -> None:
    path = f"/storage/v1/object/{BUCKET}/folder/one.txt"
    stock.put(path, files={"file": ("one.txt", b"two")})
    assert stock.get(path).content != b"two"


def test_a_chunked_body_passes_the_limit(stock: httpx.Client) -> None:
    chunks = iter([bytes(2**20)] * 2)
    assert stock.post(f"/storage/v1/object/{BUCKET}/large.bin", content=chunks).status_code == 200
