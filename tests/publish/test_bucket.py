"""The bucket on the real stack: retries that do not store twice, replaced content, listings, limits that are named."""

from __future__ import annotations

import hashlib
import time

import httpx
import pytest

from local_stack import Stack
from tasks.errors import PublishError, ServiceUnavailable
from tasks.platform.bucket import Bucket
from tasks.platform.buckets import each
from tasks.settings import Settings

BODY = b"PAR1 some bytes"
MD5 = hashlib.md5(BODY).hexdigest()
HOSTED = Settings(
    supabase_url="https://abcdefghijklmnopqrst.supabase.co",
    supabase_service_key="sb_secret_x",
    retries=2,
    retry_base=0.001,
)


class Losing(httpx.BaseTransport):
    """The real network, but the answers to the first `losses` posts to `path` are lost on their way."""

    def __init__(self, losses: int, *, before: bool = False, path: str = "/object/reports/") -> None:
        self._inner, self._losses, self._before, self._path = httpx.HTTPTransport(), losses, before, path
        self.uploads = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        upload = request.method == "POST" and self._path in request.url.path
        self.uploads += upload
        lose = upload and self.uploads <= self._losses
        if lose and self._before:
            raise httpx.ConnectError("no route")
        response = self._inner.handle_request(request)
        if lose:
            response.read()
            response.close()
            raise httpx.ReadError("connection reset")
        return response

    def close(self) -> None:
        self._inner.close()


@pytest.mark.parametrize("before", [False, True])
def test_a_lost_answer_is_no_second_file(settings: Settings, before: bool) -> None:
    network = Losing(1, before=before)
    with Bucket(settings, transport=network) as bucket:
        bucket.store("runs/a.parquet", BODY)
        assert [file.path for file in bucket.walk("runs")] == ["runs/a.parquet"]
        assert bucket.download("runs/a.parquet") == BODY
    assert network.uploads == 2


def test_retries_end(settings: Settings) -> None:
    with (
        Bucket(settings, transport=Losing(99, before=True)) as bucket,
        pytest.raises(ServiceUnavailable, match=r"Upload of runs/a.parquet: .* Tried 3 times"),
    ):
        bucket.store("runs/a.parquet", BODY)


def test_other_content_under_a_name_is_replaced_by_what_was_sent(settings: Settings) -> None:
    with Bucket(settings) as bucket:
        bucket.store("runs/a.parquet", b"cut sho")
        bucket.store("runs/a.parquet", BODY)
        assert bucket.download("runs/a.parquet") == BODY


def test_replace_overwrites_and_find_tells_absence(settings: Settings) -> None:
    with Bucket(settings) as bucket:
        assert bucket.find("latest.json") is None
        for body in (b"{}", b'{"a": 1}'):
            bucket.replace("latest.json", body)
            assert bucket.find("latest.json") == body


def test_what_was_stored_is_listed_until_it_is_removed(settings: Settings) -> None:
    names = [f"runs/2026-01-0{day}/a/manifest.json" for day in range(1, 5)]
    with Bucket(settings) as bucket:
        for name in names:
            bucket.store(name, b"{}")
        assert bucket.folders("runs") == [f"2026-01-0{day}" for day in range(1, 5)]
        assert sorted(file.path for file in bucket.walk("runs")) == names
        bucket.remove([*names, "runs/none.json"])
        assert bucket.folders("runs") == []


def test_each_stops_at_the_first_error(settings: Settings) -> None:
    begun: list[int] = []

    def work(bucket: Bucket, item: int) -> int:
        begun.append(item)
        if item == 0:
            raise PublishError("no")
        time.sleep(0.005)  # no item is done so fast that all are before the error is heard of
        return item

    with pytest.raises(PublishError, match="no"):
        list(each(settings.model_copy(update={"writers": 1}), work, range(1_000)))
    assert len(begun) < 1_000


def test_a_bucket_limit_is_named(settings: Settings, clean_stack: Stack) -> None:
    clean_stack.query("update storage.buckets set file_size_limit = 100000 where id = 'reports'")
    try:
        with Bucket(settings) as bucket, pytest.raises(PublishError) as caught:
            bucket.store("runs/big.parquet", b"x" * 200_000)
    finally:
        clean_stack.query("update storage.buckets set file_size_limit = null where id = 'reports'")
    assert "runs/big.parquet" in caught.value.message
    assert "limit" in caught.value.message


def test_a_public_bucket_is_refused_before_anything_is_uploaded(settings: Settings, clean_stack: Stack) -> None:
    clean_stack.query("update storage.buckets set public = true where id = 'reports'")
    try:
        with Bucket(settings) as bucket, pytest.raises(PublishError, match="The bucket reports is public") as caught:
            bucket.require_private()
    finally:
        clean_stack.query("update storage.buckets set public = false where id = 'reports'")
    assert "Make it private" in caught.value.remedy
    with Bucket(settings) as bucket:
        bucket.require_private()
