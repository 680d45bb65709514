"""The hosted Storage, faked at the transport: checksums in either shape, listings, errors that name file and limit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest
from pydantic import SecretStr

from tasks.errors import AccessError, PublishError
from tasks.platform.bucket import Bucket
from tasks.settings import Settings

BODY = b"PAR1 some bytes"
MD5 = hashlib.md5(BODY).hexdigest()
HOSTED = Settings(
    supabase_url="https://abcdefghijklmnopqrst.supabase.co",
    supabase_service_key="sb_secret_x",
    retries=2,
    retry_base=0.001,
)


def _hosted(answer: Callable[[httpx.Request], httpx.Response]) -> Bucket:
    return Bucket(HOSTED, transport=httpx.MockTransport(answer))


# The answers below have the shapes that hosted Storage gives.
def _error(status: int, error: str, message: str) -> httpx.Response:
    return httpx.Response(400, json={"statusCode": str(status), "error": error, "message": message})


def _info(etag: str) -> dict[str, Any]:
    return {
        "id": "0b7f2f7e-0000-4000-8000-000000000000", "name": "runs/a.parquet", "version": "1", "bucket_id": "reports",
        "size": len(BODY), "content_type": "application/vnd.apache.parquet", "cache_control": "max-age=3600",
        "etag": etag, "metadata": {}, "last_modified": "2026-01-31T00:00:00.000Z",
    }  # fmt: skip


def _stored(path: str) -> httpx.Response:
    return httpx.Response(200, json={"Key": path, "Id": "0b7f2f7e-0000-4000-8000-000000000000"})


@pytest.mark.parametrize(
    ("info", "md5"),
    [
        (_info(f'"{MD5}"'), MD5),
        (_info(f'"{MD5}-2"'), None),
        (_info(f'W/"{MD5}"'), MD5),
        ({"metadata": {"size": 15, "mimetype": "image/png", "eTag": f'"{MD5}"'}}, MD5),
        ({"metadata": None}, None),
    ],
)
def test_the_checksum_is_read_from_either_shape(info: dict[str, Any], md5: str | None) -> None:
    with _hosted(lambda request: httpx.Response(200, json=info)) as bucket:
        assert bucket.info("runs/a.parquet").md5 == md5


def test_an_etag_of_parts_is_verified_by_reading_back() -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(f"{request.method} {request.url.path.removeprefix('/storage/v1')}")
        if "/info/" in request.url.path:
            return httpx.Response(200, json=_info(f'"{MD5}-2"'))
        return httpx.Response(200, content=BODY) if request.method == "GET" else _stored("reports/runs/a.parquet")

    with _hosted(answer) as bucket:
        bucket.store("runs/a.parquet", BODY)
    assert asked == [
        "POST /object/reports/runs/a.parquet",
        "GET /object/info/reports/runs/a.parquet",
        "GET /object/reports/runs/a.parquet",
    ]


def test_what_arrives_damaged_once_is_taken_away_and_sent_again() -> None:
    there: list[str] = []
    checksums = ["0" * 32, MD5]

    def answer(request: httpx.Request) -> httpx.Response:
        if "/info/" in request.url.path:
            return httpx.Response(200, json=_info(f'"{there[0]}"'))
        if request.method == "DELETE":
            there.clear()
            return httpx.Response(200, json=[])
        if there:
            return _error(409, "Duplicate", "The resource already exists")
        there.append(checksums.pop(0))
        return _stored("reports/runs/a.parquet")

    with _hosted(answer) as bucket:
        bucket.store("runs/a.parquet", BODY)
    assert there == [MD5]


def test_what_arrives_damaged_twice_is_an_error() -> None:
    uploads: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        if "/info/" in request.url.path:
            return httpx.Response(200, json=_info('"00000000000000000000000000000000"'))
        if request.method == "DELETE":
            return httpx.Response(200, json=[])
        uploads.append(request)
        return _stored("reports/runs/a.parquet")

    with _hosted(answer) as bucket, pytest.raises(PublishError, match=r"runs/a\.parquet did not arrive as it was sent"):
        bucket.store("runs/a.parquet", BODY)
    assert len(uploads) == 2
    assert uploads[0].headers["x-upsert"] == "false"


def test_a_duplicate_behind_a_400_counts_when_it_is_the_same() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if "/info/" in request.url.path:
            return httpx.Response(200, json=_info(f'"{MD5}"'))
        return _error(409, "Duplicate", "The resource already exists")

    with _hosted(answer) as bucket:
        bucket.store("runs/a.parquet", BODY)


@pytest.mark.parametrize(
    ("limit", "named"),
    [(50 * 2**20, "the limit of 50.0 MiB a file of the bucket reports"), (None, "the project's limit")],
)
def test_a_file_above_the_limit_names_file_and_limit(limit: int | None, named: str, tmp_path: Path) -> None:
    bucket_facts = {
        "id": "reports", "name": "reports", "owner": "", "public": False, "file_size_limit": limit,
        "allowed_mime_types": None, "created_at": "2026-01-01T00:00:00.000Z", "updated_at": "2026-01-01T00:00:00.000Z",
    }  # fmt: skip

    def answer(request: httpx.Request) -> httpx.Response:
        if "/bucket/" in request.url.path:
            return httpx.Response(200, json=bucket_facts)
        return _error(413, "Payload too large", "The object exceeded the maximum allowed size")

    file = tmp_path / "part-000.parquet"
    file.write_bytes(b"x" * 2**20)
    with _hosted(answer) as bucket, pytest.raises(PublishError) as caught:
        bucket.store("runs/clean/posts/part-000.parquet", file)
    assert "runs/clean/posts/part-000.parquet has 1.0 MiB" in caught.value.message
    assert named in caught.value.message
    assert "ETL_PART_ROWS" in caught.value.remedy


@pytest.mark.parametrize(
    "store",
    [
        lambda bucket: bucket.store("runs/a.parquet", BODY),
        lambda bucket: bucket.copy("runs/b.parquet", "runs/a.parquet"),
        lambda bucket: bucket.require_private(),
    ],
)
def test_a_quota_that_is_reached_says_where_to_see_it(store: Callable[[Bucket], None]) -> None:
    with (
        _hosted(lambda request: _error(402, "exceed_storage_size_quota", "The quota is reached")) as bucket,
        pytest.raises(PublishError, match="a quota or a payment is due") as caught,
    ):
        store(bucket)
    assert "Usage and Billing" in caught.value.remedy


def test_a_missing_bucket_is_a_clear_error() -> None:
    with (
        _hosted(lambda request: _error(404, "Bucket not found", "Bucket not found")) as bucket,
        pytest.raises(PublishError, match="Bucket not found"),
    ):
        bucket.store("runs/a.parquet", BODY)


@pytest.mark.parametrize(
    "ask",
    [
        lambda bucket: bucket.find("latest.json"),
        lambda bucket: bucket.download_published("runs/a.parquet"),
        lambda bucket: bucket.info("runs/a.parquet"),
    ],
)
def test_a_file_that_is_hidden_from_a_token_of_no_use_is_not_taken_for_a_missing_one(
    ask: Callable[[Bucket], object],
) -> None:
    """Retention removed a committed run as one without a manifest, when a token had expired on its way."""
    token = jwt.encode({"role": "etl"}, "of a signing key that was revoked meanwhile", "HS256")
    settings = HOSTED.model_copy(update={"access_token": SecretStr(token), "supabase_key": SecretStr("public")})

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "GET":
            return _error(404, "Bucket not found", "Bucket not found")
        return _error(403, "Unauthorized", "signature verification failed")

    with Bucket(settings, transport=httpx.MockTransport(answer)) as bucket, pytest.raises(AccessError) as caught:
        ask(bucket)
    assert "ETL_ACCESS_TOKEN must be signed with a key" in caught.value.remedy


def test_in_a_bucket_that_is_not_there_is_no_file() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        return (
            _error(404, "Bucket not found", "Bucket not found")
            if request.method == "GET"
            else httpx.Response(200, json=[])
        )

    with _hosted(answer) as bucket:
        assert bucket.find("latest.json") is None


def _entry(name: str, *, folder: bool) -> dict[str, Any]:
    stamp = None if folder else "2026-01-31T03:00:00.000Z"
    return {
        "name": name, "id": None if folder else "0b7f2f7e-0000-4000-8000-000000000000", "updated_at": stamp,
        "created_at": stamp, "last_accessed_at": stamp, "metadata": None if folder else {"size": 3},
    }  # fmt: skip


TREE = {
    "runs": [_entry("2026-01-30", folder=True), _entry("2026-01-31", folder=True)],
    "runs/2026-01-30": [_entry("a", folder=True)],
    "runs/2026-01-30/a": [_entry("manifest.json", folder=False), _entry("charts", folder=True)],
    "runs/2026-01-30/a/charts": [_entry("growth.png", folder=False)],
    "runs/2026-01-31": [],
}


def test_hosted_listings_are_walked_folder_by_folder() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        return httpx.Response(200, json=TREE[body["prefix"]][body["offset"] : body["offset"] + body["limit"]])

    with _hosted(answer) as bucket:
        assert bucket.folders("runs") == ["2026-01-30", "2026-01-31"]
        assert [(file.path, file.created_at) for file in bucket.walk("runs")] == [
            ("runs/2026-01-30/a/manifest.json", "2026-01-31T03:00:00.000Z"),
            ("runs/2026-01-30/a/charts/growth.png", "2026-01-31T03:00:00.000Z"),
        ]


def test_stock_listings_of_full_keys_are_walked_too() -> None:
    keys = ["runs/2026-01-30/a/manifest.json", "runs/2026-01-31/b/charts/growth.png"]

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        entries = [_entry(key, folder=False) for key in keys if key.startswith(body["prefix"])]
        return httpx.Response(200, json=entries[body["offset"] :])

    with _hosted(answer) as bucket:
        assert bucket.folders("runs") == ["2026-01-30", "2026-01-31"]
        assert [file.path for file in bucket.walk("runs")] == keys


def test_a_long_listing_is_asked_for_page_by_page() -> None:
    asked: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        asked.append(body["offset"])
        entries = [_entry(f"{day:04}", folder=True) for day in range(2_500)]
        return httpx.Response(200, json=entries[body["offset"] : body["offset"] + body["limit"]])

    with _hosted(answer) as bucket:
        assert len(bucket.folders("runs")) == 2_500
    assert asked == [0, 1_000, 2_000, 2_500]


def test_many_files_are_signed_and_removed_a_thousand_at_once() -> None:
    asked: list[int] = []

    def answer(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        paths = body.get("prefixes", body.get("paths"))
        asked.append(len(paths))
        if len(paths) > 1_000:
            return _error(400, "Error", "body/paths must NOT have more than 1000 items")
        links = [{"path": path, "signedURL": f"/object/sign/reports/{path}?token=x", "error": None} for path in paths]
        return httpx.Response(200, json=links if "paths" in body else [])

    files = [f"runs/{number}.json" for number in range(2_500)]
    with _hosted(answer) as bucket:
        bucket.remove(files)
        bucket.remove([])
        assert list(bucket.sign(files, 60)) == files
        assert bucket.sign([], 60) == {}
    assert asked == 2 * [1_000, 1_000, 500]


def test_a_bucket_that_is_not_there_is_named() -> None:
    with (
        _hosted(lambda request: _error(404, "Bucket not found", "Bucket not found")) as bucket,
        pytest.raises(PublishError, match=r"The bucket reports cannot be used: .*Nothing was uploaded"),
    ):
        bucket.require_private()
