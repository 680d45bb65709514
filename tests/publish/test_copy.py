"""A copy inside Storage, verified by size and checksum: on the real server, and on answers as the hosted one gives."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from threading import Event, Thread, get_ident

import httpx
import pytest

from local_stack import Stack
from tasks.errors import PipelineError, PublishError, report_of
from tasks.files.manifest import FileEntry
from tasks.platform.bucket import Bucket
from tasks.platform.stored import StoredInfo
from tasks.platform.traffic import TRAFFIC
from tasks.publish.export import upload_export
from tasks.publish.upload import FILES_LEFT, publish, storing
from tasks.reports.figures import RunCounts
from tasks.settings import Settings
from tasks.workspace import Workspace
from tests.publish.builders import FakeRun
from tests.publish.test_bucket import HOSTED, Losing

BODY = b"PAR1 the rows of a month"
MD5 = hashlib.md5(BODY).hexdigest()
SOURCE = "runs/2026-01-30/a/clean/posts/month=2026-01/part-000.parquet"
TARGET = "runs/2026-01-31/b/clean/posts/month=2026-01/part-000.parquet"


def _copy(bucket: Bucket, *, size: int = len(BODY), md5: str = MD5) -> None:
    bucket.copy(SOURCE, TARGET)
    bucket.verify_copy(SOURCE, TARGET, size=size, md5=md5)


def test_a_copy_has_the_same_content_and_the_source_stays(settings: Settings) -> None:
    with Bucket(settings) as bucket:
        bucket.store(SOURCE, BODY)
        _copy(bucket)
        _copy(bucket)  # again: what is there is the same
        assert bucket.download(TARGET) == bucket.download(SOURCE) == BODY
        assert bucket.info(TARGET) == StoredInfo(len(BODY), MD5)
        assert {file.info for file in bucket.walk("runs")} == {StoredInfo(len(BODY), MD5)}


def test_another_content_under_the_target_is_replaced(settings: Settings) -> None:
    with Bucket(settings) as bucket:
        bucket.store(SOURCE, BODY)
        bucket.store(TARGET, b"PAR1 of another try")
        _copy(bucket)
        assert bucket.download(TARGET) == BODY


def test_a_lost_answer_is_no_error(settings: Settings) -> None:
    with Bucket(settings) as bucket:
        bucket.store(SOURCE, BODY)
    with Bucket(settings, transport=Losing(1, path="/object/copy")) as bucket:
        _copy(bucket)
        assert bucket.download(TARGET) == BODY


def test_a_source_that_is_gone_or_damaged_is_named_and_nothing_stays(settings: Settings) -> None:
    with Bucket(settings) as bucket:
        with pytest.raises(PublishError, match=rf"{SOURCE} is not in the bucket any more"):
            _copy(bucket)
        bucket.store(SOURCE, b"PAR1 something else")
        with pytest.raises(PublishError, match=rf"{SOURCE} is damaged.*{TARGET} was not written"):
            _copy(bucket)
        assert bucket.find(TARGET) is None


def _answer(asked: list[str], *, etag: str) -> httpx.MockTransport:
    def answer(request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/storage/v1")
        asked.append(f"{request.method} {path.replace(SOURCE, 'SOURCE').replace(TARGET, 'TARGET')}")
        stored = httpx.Response(200, json={"Key": f"reports/{TARGET}", "Id": "0b7f2f7e-0000-4000-8000-000000000000"})
        if path == "/object/copy":
            assert json.loads(request.content) == {
                "bucketId": "reports", "sourceKey": SOURCE, "destinationKey": TARGET,
            }  # fmt: skip
            return stored
        if "/info/" in path:
            known = etag if not any(line.startswith("POST /object/reports") for line in asked) else f'"{MD5}"'
            return httpx.Response(200, json={"size": len(BODY), "etag": known, "metadata": {}})
        if request.method == "DELETE":
            return httpx.Response(200, json=[])
        return httpx.Response(200, content=BODY) if request.method == "GET" else stored

    return httpx.MockTransport(answer)


def test_hosted_storage_is_asked_to_copy_and_for_the_checksum() -> None:
    asked: list[str] = []
    with Bucket(HOSTED, transport=_answer(asked, etag=f'"{MD5}"')) as bucket:
        _copy(bucket)
    assert asked == ["POST /object/copy", "GET /object/info/reports/TARGET"]


def test_where_etags_do_not_follow_content_the_file_is_uploaded() -> None:
    asked: list[str] = []
    with Bucket(HOSTED, transport=_answer(asked, etag=f'"{MD5}-2"')) as bucket:
        _copy(bucket)
    assert asked[-4:] == [
        "DELETE /object/reports", "GET /object/reports/SOURCE", "POST /object/reports/TARGET",
        "GET /object/info/reports/TARGET",
    ]  # fmt: skip


def test_a_duplicate_behind_a_400_counts_when_it_is_the_same() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if "/info/" in request.url.path:
            return httpx.Response(200, json={"size": len(BODY), "etag": f'"{MD5}"'})
        return httpx.Response(400, json={"statusCode": "409", "error": "Duplicate", "message": "It exists"})

    with Bucket(HOSTED, transport=httpx.MockTransport(answer)) as bucket:
        _copy(bucket)


def test_a_caller_that_may_not_look_into_storages_table_asks_storage(stack: Stack) -> None:
    looks = """begin; create role looker; grant looker to current_user; grant usage on schema public to looker;
    grant execute on function public.etl_stored_files(text, text) to looker; set local role looker;
    select coalesce(public.etl_stored_files('reports', 'runs/')::text, 'Storage is asked'); rollback"""
    assert stack.query(looks).strip() == "Storage is asked"


def test_nothing_goes_to_a_public_bucket(
    settings: Settings, clean_stack: Stack, workspace: Workspace, files: list[FileEntry]
) -> None:
    clean_stack.query("update storage.buckets set public = true where id = 'reports'")
    try:
        with pytest.raises(PublishError, match=r"is public: anyone could read the cleaned tables\. Nothing was"):
            publish(settings, workspace, FakeRun(), files, RunCounts())
        before = TRAFFIC.sent
        with (
            pytest.raises(PublishError, match="is public"),
            storing(settings, workspace, "runs/x", files, {}),
        ):
            pass
        assert TRAFFIC.sent - before < max(file.bytes for file in files)
        with pytest.raises(PublishError, match="is public"):
            upload_export(settings, workspace.files / files[0].path, "daily_activity", "csv", link_seconds=60)
    finally:
        clean_stack.query("update storage.buckets set public = false where id = 'reports'")
    with Bucket(settings) as bucket:
        assert not [file for top in ("runs", "exports") for file in bucket.walk(top)]


@pytest.mark.usefixtures("hears_ctrl_c")
@pytest.mark.parametrize("ahead", [True, False])
def test_nobody_waits_for_storage_where_an_error_or_a_signal_ends_the_work_beside(
    ahead: bool, settings: Settings, workspace: Workspace, files: list[FileEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        if "/object/" not in request.url.path:
            return send(transport, request)
        asked.set()
        raise httpx.ConnectError("Storage is away")

    def stop() -> None:
        assert asked.wait(10)
        signal.pthread_kill(main, signal.SIGINT)

    send, asked, main, start = httpx.HTTPTransport.handle_request, Event(), get_ident(), time.monotonic()
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", away)
    patient = settings.model_copy(update={"retry_base": 30})
    if ahead:
        with pytest.raises(KeyboardInterrupt) as stopped, storing(patient, workspace, "runs/x", files, {}):
            stop()
        assert report_of(stopped.value).written == FILES_LEFT, "they could not be taken back either"
    else:
        Thread(target=stop).start()
        with pytest.raises(KeyboardInterrupt):
            publish(patient, workspace, FakeRun(), files, RunCounts())
    assert time.monotonic() - start < 10


@pytest.mark.usefixtures("hears_ctrl_c")
@pytest.mark.parametrize("ahead", [True, False])
def test_no_file_is_stored_any_more_once_a_signal_has_ended_the_work(
    ahead: bool, settings: Settings, workspace: Workspace, files: list[FileEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All that were left were stored first: minutes, where there are many or Storage is slow."""
    send, main, uploads = httpx.HTTPTransport.handle_request, get_ident(), list[str]()

    def stopped(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        if request.method == "POST" and "/object/" in request.url.path:
            uploads.append(request.url.path)
            if len(uploads) == 1:
                signal.pthread_kill(main, signal.SIGINT)
            time.sleep(0.2)
        return send(transport, request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", stopped)
    one = settings.model_copy(update={"writers": 1})
    if ahead:
        with pytest.raises(KeyboardInterrupt), storing(one, workspace, "runs/x", files, {}):
            time.sleep(10)
    else:
        with pytest.raises(KeyboardInterrupt):
            publish(one, workspace, FakeRun(), files, RunCounts())
    assert len(uploads) == 1


def test_an_error_learns_of_files_that_cannot_be_taken_back(
    settings: Settings, workspace: Workspace, files: list[FileEntry], monkeypatch: pytest.MonkeyPatch
) -> None:
    send, asked = httpx.HTTPTransport.handle_request, list[str]()

    def handle(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        if request.method == "DELETE":
            asked.append(request.url.path)
            raise httpx.ConnectError("Storage is away")
        return send(transport, request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", handle)
    for left in (FILES_LEFT, ""):
        with pytest.raises(PipelineError) as raised, storing(settings, workspace, "runs/x", files, {}):
            raise PipelineError("The reports could not be built.")
        assert raised.value.written == left
        monkeypatch.undo()
    assert len(asked) == 1, "the end of a run does not wait for Storage: retention removes what is left"
    with Bucket(settings) as bucket:
        assert not list(bucket.walk("runs"))
