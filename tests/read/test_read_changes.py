"""The reading kit when the bucket changes: runs come, files go, bytes are damaged."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from flows.compare import compare_runs
from flows.forms import CompareForm
from tasks.errors import ReadError
from tasks.files.manifest import FileEntry, Manifest
from tasks.files.run_files import write_files
from tasks.platform.bucket import Bucket
from tasks.publish.pointer import repair_pointer
from tasks.publish.upload import publish
from tasks.read import list_runs, open_run, read_report, read_table
from tasks.read.cache import Cache
from tasks.reports.figures import RunCounts
from tests.publish.builders import AS_OF, SNAPSHOT_AT, make_workspace
from tests.publish.format_1 import move_to_format_1
from tests.read.conftest import Bucketful, later_of


def test_of_two_runs_of_a_day_the_later_one_is_read(changeable: Bucketful, tmp_path: Path) -> None:
    settings = changeable.settings
    again = later_of(run_id="again", snapshot_at=SNAPSHOT_AT + timedelta(hours=1), as_of=AS_OF - timedelta(hours=1))
    workspace = make_workspace(tmp_path, "again", users=5, posts=9, seed=7)
    publish(settings, workspace, again, write_files(workspace, as_of=again.as_of, settings=settings), RunCounts())
    assert len(read_report("author_activity", as_of="2026-01-31", settings=settings)) == 40
    assert len(read_report("author_activity", as_of="2026-01-31T23:00Z", settings=settings)) == 5


def test_an_empty_bucket_has_no_runs(changeable: Bucketful) -> None:
    empty = changeable.settings.model_copy(update={"bucket": "reports"})
    with Bucket(empty) as bucket:
        bucket.remove([file.path for file in bucket.walk("runs")] + ["latest.json"])
    assert list_runs(settings=empty).empty
    with pytest.raises(ReadError, match=r"shows no latest\.json"):
        read_report("daily_activity", settings=empty)


def test_what_was_read_once_is_not_downloaded_again(changeable: Bucketful) -> None:
    settings = changeable.settings
    first = read_report("signup_cohorts", settings=settings)
    with Bucket(settings) as bucket:
        bucket.remove([f"{changeable.later.run_path}/reports/signup_cohorts.parquet"])
    assert read_report("signup_cohorts", settings=settings).equals(first)


def test_a_file_that_was_changed_in_the_bucket_is_refused(changeable: Bucketful) -> None:
    with Bucket(changeable.settings) as bucket:
        path = f"{changeable.later.run_path}/reports/signup_cohorts.parquet"
        bucket.remove([path])
        bucket.store(path, b"PAR1 something else")
    with pytest.raises(ReadError, match="not what its manifest says"):
        read_report("signup_cohorts", settings=changeable.settings)
    with pytest.raises(ReadError, match="not what its manifest says") as caught:
        compare_runs.fn(changeable.settings, CompareForm(report="signup_cohorts"))
    assert "ask the operator" in caught.value.remedy  # no other run was asked for


def test_a_file_that_another_process_forgets_meanwhile_is_downloaded_again(
    published: Bucketful, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of another project that shares the folder and keeps its files for a shorter time."""
    settings = published.settings
    first, *others = [entry for entry in _files_of(published) if entry.path.startswith("clean/posts/")]
    read_table("posts", months=[first.path.split("=")[1][:7]], settings=settings)
    two_days_ago = time.time() - 2 * 86_400
    os.utime(settings.cache_dir / f"{first.sha256}.parquet", (two_days_ago, two_days_ago))
    send, sent = httpx.HTTPTransport.handle_request, list[str]()

    def handle(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        sent.append(request.url.path)
        if request.url.path.endswith(others[0].path):
            Cache.of(settings.model_copy(update={"keep_days": 1}))
        return send(self, request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", handle)
    assert len(read_table("posts", settings=settings)) == 400
    assert sum(path.endswith(first.path) for path in sent) == 1


def _files_of(published: Bucketful) -> tuple[FileEntry, ...]:
    with open_run(settings=published.settings) as run:
        return run.manifest.files


def test_what_retention_took_is_reported(changeable: Bucketful) -> None:
    settings = changeable.settings
    with Bucket(settings) as bucket:
        manifest = Manifest.model_validate_json(bucket.download(changeable.earlier.path))
        gone = {entry.path for entry in manifest.files if "clean/" in entry.path or "author" in entry.path}
        bucket.remove([f"{changeable.earlier.run_path}/{path}" for path in gone])
        bucket.replace(changeable.earlier.path, manifest.without(gone, at=AS_OF + timedelta(days=40)).to_json())
    reads: list[Callable[[], object]] = [
        lambda: read_report("author_activity", run="earlier", settings=settings),
        lambda: read_table("posts", run="earlier", settings=settings),
    ]
    for read in reads:
        with pytest.raises(ReadError, match="removed by retention on 2026-03-13"):
            read()
    assert not read_report("daily_activity", run="earlier", settings=settings).empty
    assert list_runs(settings=settings)["pruned"].tolist() == [False, True]


def test_a_historical_run_has_no_cleaned_tables(changeable: Bucketful, tmp_path: Path) -> None:
    settings, past = changeable.settings, later_of(run_id="past", as_of=AS_OF - timedelta(days=9), historical=True)
    workspace = make_workspace(tmp_path, "past", users=5, posts=9)
    files = write_files(workspace, as_of=past.as_of, settings=settings, historical=True)
    publish(settings, workspace, past, files, RunCounts())
    assert not read_report("daily_activity", run="past", settings=settings).empty
    with pytest.raises(ReadError, match="no cleaned tables"):
        read_table("posts", run="past", settings=settings)


def test_a_run_of_the_first_layout_is_read_like_any_other(changeable: Bucketful) -> None:
    settings = changeable.settings
    expected = read_report("daily_activity", run="earlier", settings=settings)
    users = read_table("users", run="earlier", settings=settings)
    old = move_to_format_1(settings, changeable.earlier)
    for choice in ({"run": "earlier"}, {"run": old.run_path}, {"run": old.path}, {"as_of": "2026-01-30"}):
        assert read_report("daily_activity", settings=settings, **choice).equals(expected)  # type: ignore[call-overload]
    assert read_table("users", run="earlier", settings=settings).equals(users)
    runs = list_runs(settings=settings)
    assert runs["run"].tolist() == [changeable.later.run_path, old.run_path]
    assert runs["date"].tolist() == ["2026-01-31", "2026-01-30"]
    latest = move_to_format_1(settings, changeable.later)
    repair_pointer(settings, latest)
    assert list_runs(days=1, settings=settings)["latest"].tolist() == [True]
    assert len(read_report("daily_activity", settings=settings)) == len(expected)
