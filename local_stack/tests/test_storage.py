"""Storage behaves as the hosted platform's (local_stack/lite/storage.mjs, filestore.mjs)."""

from __future__ import annotations

import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from urllib.parse import urlsplit

import fsspec
import httpx
import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from storage3.exceptions import StorageApiError
from supabase import Client

from local_stack import Stack, api, up
from local_stack.home import Home
from local_stack.processes import running
from local_stack.tests.conftest import sdk

pytestmark = pytest.mark.xdist_group("stack")

BUCKET = "stack-files"
CONTENT = bytes(range(256)) * 40


@pytest.fixture(scope="module")
def files(stack: Stack) -> Iterator[Client]:
    """A client with the service's key and an empty bucket."""
    with sdk(stack, stack.service_key) as client:
        client.storage.create_bucket(BUCKET)
        yield client
        stack.empty_bucket(BUCKET)
        client.storage.delete_bucket(BUCKET)


def put(files: Client, key: str, content: bytes = CONTENT, options: dict[str, str] | None = None) -> None:
    """Store a file, over an older one."""
    sent = {"content-type": "application/octet-stream", "upsert": "true", **(options or {})}
    files.storage.from_(BUCKET).upload(key, content, sent)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("header", "part"),
    [
        ("bytes=0-0", CONTENT[:1]),
        ("bytes=10-19", CONTENT[10:20]),
        ("bytes=10200-", CONTENT[10200:]),
        ("bytes=-5", CONTENT[-5:]),
        ("bytes=10000-99999", CONTENT[10000:]),
    ],
    ids=["first", "middle", "from", "last", "beyond"],
)
def test_a_range_is_a_206(files: Client, service: httpx.Client, header: str, part: bytes) -> None:
    """Stock: not known; pyarrow over fsspec and Polars need it."""
    put(files, "range.bin")
    response = service.get(f"/storage/v1/object/{BUCKET}/range.bin", headers={"range": header})
    assert (response.status_code, response.content) == (206, part)
    assert response.headers["content-range"].endswith(f"/{len(CONTENT)}")
    assert int(response.headers["content-length"]) == len(part)


@pytest.mark.parametrize(("header", "status"), [("bytes=10240-", 416), ("bytes=99999-", 416), ("lines=1-2", 200)])
def test_a_range_past_the_end_is_a_416(files: Client, service: httpx.Client, header: str, status: int) -> None:
    put(files, "range.bin")
    assert service.get(f"/storage/v1/object/{BUCKET}/range.bin", headers={"range": header}).status_code == status


def test_a_signed_url_can_be_read_in_parts(files: Client) -> None:
    put(files, "parts.bin")
    url = str(files.storage.from_(BUCKET).create_signed_url("parts.bin", 60)["signedURL"])
    with fsspec.open(url, block_size=1024).open() as remote:
        remote.seek(-6, 2)
        assert remote.read() == CONTENT[-6:]


def test_signed_urls_have_the_hosted_shape(files: Client, stack: Stack) -> None:
    """Stock: `signedUrl`, on which storage3 fails; signing many at once answers 404."""
    put(files, "a folder/über 1.txt", b"one")
    put(files, "two.txt", b"two")
    signed = files.storage.from_(BUCKET).create_signed_urls(["a folder/über 1.txt", "two.txt", "none.txt"], 60)
    assert [httpx.get(str(entry["signedURL"])).content for entry in signed[:2]] == [b"one", b"two"]
    assert signed[2]["error"]
    assert files.storage.from_(BUCKET).create_signed_urls([], 60) == []


def test_a_signed_upload_works(files: Client) -> None:
    """Stock: `signedUrl` where the client reads `url`."""
    bucket = files.storage.from_(BUCKET)
    ticket = bucket.create_signed_upload_url("uploaded.txt")
    bucket.upload_to_signed_url("uploaded.txt", ticket["token"], b"sent")
    assert bucket.download("uploaded.txt") == b"sent"


def test_an_update_replaces_the_file(files: Client) -> None:
    """Stock: stores the form that the file came in."""
    put(files, "updated.txt", b"old")
    files.storage.from_(BUCKET).update("updated.txt", b"new", {"content-type": "text/plain"})
    assert files.storage.from_(BUCKET).download("updated.txt") == b"new"


def test_a_folder_lists_its_own_entries(files: Client) -> None:
    """Stock: full keys of everything below it, folders never."""
    for key in ("l/1.txt", "l/2.txt", "l/deep/3.txt", "l/deep/4.txt", "l_x/5.txt", "lost/6.txt"):
        put(files, key, b"x")
    listed = files.storage.from_(BUCKET).list("l")
    assert [(entry["name"], entry["id"] is None) for entry in listed] == [
        ("1.txt", False),
        ("2.txt", False),
        ("deep", True),
    ]
    page = {"limit": 1, "offset": 1, "sortBy": {"column": "name", "order": "desc"}}
    assert [entry["name"] for entry in files.storage.from_(BUCKET).list("l", page)] == ["2.txt"]  # type: ignore[arg-type]


def test_info_has_the_hosted_shape(files: Client) -> None:
    """Stock: size, type and etag below `metadata`."""
    put(files, "info.bin", options={"content-type": "application/x-test", "cache-control": "60"})
    info = files.storage.from_(BUCKET).info("info.bin")
    assert info["size"] == len(CONTENT)
    assert info["content_type"] == "application/x-test"
    assert info["etag"] == f'"{hashlib.md5(CONTENT).hexdigest()}"'
    assert info["cache_control"] == "max-age=60"
    assert "T" in str(info["last_modified"])


def test_type_and_caching_come_back_with_the_file(files: Client, service: httpx.Client) -> None:
    put(files, "typed.json", b"{}", {"content-type": "application/json", "cache-control": "0"})
    response = service.get(f"/storage/v1/object/{BUCKET}/typed.json")
    assert response.headers["content-type"].startswith("application/json")
    assert response.headers["cache-control"] == "max-age=0"
    assert response.headers["etag"] == f'"{hashlib.md5(b"{}").hexdigest()}"'


def test_a_reader_beside_a_writer_sees_one_whole_file(files: Client, service: httpx.Client) -> None:
    """Stock: overwrites in place; a reader gets half of each."""
    versions = [bytes([number]) * 400_000 for number in range(8)]
    put(files, "torn.bin", versions[0])
    done = threading.Event()
    torn: list[int] = []

    def read() -> None:
        while not done.is_set():
            body = service.get(f"/storage/v1/object/{BUCKET}/torn.bin").content
            if body not in versions:
                torn.append(len(body))

    reader = threading.Thread(target=read)
    reader.start()
    for version in versions * 3:
        put(files, "torn.bin", version)
    done.set()
    reader.join()
    assert torn == []


def test_an_upload_that_breaks_off_leaves_the_old_file(files: Client, stack: Stack, service: httpx.Client) -> None:
    """Stock: an empty file, served with 200."""
    put(files, "broken.bin", b"old")
    head = (
        f"POST /storage/v1/object/{BUCKET}/broken.bin HTTP/1.1\r\nHost: x\r\napikey: {stack.service_key}\r\n"
        f"Authorization: Bearer {stack.service_key}\r\nx-upsert: true\r\nContent-Length: 1000000\r\n\r\n"
    )
    with socket.create_connection(("127.0.0.1", urlsplit(stack.url).port or 0)) as half:
        half.sendall(head.encode() + b"new" * 1000)
    assert files.storage.from_(BUCKET).download("broken.bin") == b"old"
    wait_for_no_leftovers(stack)


def test_a_kill_during_an_upload_leaves_one_whole_file(files: Client, stack: Stack) -> None:
    put(files, "killed.bin", b"old")
    new = b"n" * 30_000_000

    def send() -> None:
        with suppress(httpx.HTTPError):
            put(files, "killed.bin", new)

    sender = threading.Thread(target=send)
    sender.start()
    sender.join(0.05)
    stack.kill_api()
    sender.join()
    up(stack.home, empty=True)
    assert files.storage.from_(BUCKET).download("killed.bin") in (b"old", new)
    wait_for_no_leftovers(stack)


def wait_for_no_leftovers(stack: Stack) -> None:
    """The folder for files on their way is empty, at once or very soon."""
    for _ in range(100):
        if not list(Path(stack.home, "storage", ".incoming").iterdir()):
            return
        threading.Event().wait(0.05)
    pytest.fail("an unfinished upload stayed behind")


def test_a_file_over_the_limit_is_refused(files: Client, service: httpx.Client) -> None:
    """Stock: the limit is held against Content-Length only."""
    with pytest.raises(StorageApiError) as refused:
        put(files, "large.bin", bytes(51 * 2**20))
    assert str(refused.value.status) == "413"

    def chunks() -> Iterator[bytes]:
        for _ in range(51):
            yield bytes(2**20)

    response = service.post(f"/storage/v1/object/{BUCKET}/large.bin", content=chunks())
    assert (response.status_code, response.json()["statusCode"]) == (400, "413")
    assert not files.storage.from_(BUCKET).exists("large.bin")


def test_move_copy_and_remove(files: Client) -> None:
    bucket = files.storage.from_(BUCKET)
    put(files, "from.bin")
    bucket.copy("from.bin", "copied.bin")
    bucket.move("from.bin", "moved.bin")
    assert bucket.download("copied.bin") == bucket.download("moved.bin") == CONTENT
    bucket.remove(["copied.bin", "moved.bin"])
    assert not bucket.exists("moved.bin")


def test_a_file_that_only_the_database_knows_is_a_404(files: Client, stack: Stack) -> None:
    """As after a restore: backups of a database hold no files."""
    put(files, "gone.bin")
    bucket, name = files.storage.from_(BUCKET), hashlib.sha256(b"gone.bin").hexdigest()
    (Home.at(stack.home).storage / BUCKET / name[:2] / name).unlink()
    for ask in (lambda: bucket.download("gone.bin"), lambda: bucket.copy("gone.bin", "again.bin")):
        with pytest.raises(StorageApiError) as refused:
            ask()
        assert (str(refused.value.status), refused.value.code) == ("404", "NoSuchKey")
    bucket.remove(["gone.bin"])


def test_a_key_can_be_the_folder_of_another(files: Client) -> None:
    put(files, "both", b"file")
    put(files, "both/below", b"below")
    assert [files.storage.from_(BUCKET).download(key) for key in ("both", "both/below")] == [b"file", b"below"]


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(content=st.binary(max_size=5000), start=st.integers(0, 5000), length=st.integers(0, 5000))
def test_what_is_stored_comes_back(
    files: Client, service: httpx.Client, content: bytes, start: int, length: int
) -> None:
    put(files, "any.bin", content)
    whole = service.get(f"/storage/v1/object/{BUCKET}/any.bin")
    part = service.get(f"/storage/v1/object/{BUCKET}/any.bin", headers={"range": f"bytes={start}-{start + length}"})
    assert whole.content == content
    if start < len(content):
        assert (part.status_code, part.content) == (206, content[start : start + length + 1])
    else:
        assert part.status_code == 416


def test_anon_sees_no_private_file(files: Client, anon: httpx.Client) -> None:
    put(files, "private.bin")
    assert anon.get(f"/storage/v1/object/{BUCKET}/private.bin").status_code == 400
    assert anon.post(f"/storage/v1/object/list/{BUCKET}", json={"prefix": ""}).json() == []
    response = anon.post(f"/storage/v1/object/{BUCKET}/mine.bin", content=b"x")
    assert response.json()["statusCode"] == "403"


def test_no_file_descriptor_stays_open(files: Client, stack: Stack, service: httpx.Client) -> None:
    put(files, "open.bin")
    process = running(api.service(Home.at(stack.home)))
    assert isinstance(process, psutil.Process)
    path = f"/storage/v1/object/{BUCKET}/open.bin"
    for _ in range(20):
        service.head(path)
        service.get(path, headers={"range": "bytes=99999-"})
        service.get(path)
    for _ in range(100):  # a stream closes its file a moment after its last byte
        if not [file for file in process.open_files() if f"/storage/{BUCKET}/" in file.path]:
            return
        threading.Event().wait(0.05)
    pytest.fail("files stay open after they were sent")
