"""Publishing on the real Storage: whole or not at all, whatever happens in between."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import httpx
import pytest

from local_stack import Stack, up
from tasks.errors import PublishError, ServiceUnavailable
from tasks.files.layout import run_path
from tasks.files.manifest import FileEntry, ManifestRef, entry_of
from tasks.files.published import NotAsPublished, read_manifest
from tasks.files.stored import stored_below
from tasks.platform.bucket import Bucket
from tasks.platform.stored import StoredInfo
from tasks.publish.pointer import repair_pointer
from tasks.publish.upload import publish, signed_links, storing
from tasks.reports.figures import RunCounts
from tasks.settings import Settings
from tasks.workspace import Workspace
from tests.publish.builders import AS_OF, SNAPSHOT_AT, FakeRun, settings_of

RUN = FakeRun()
PATH = f"runs/2026-01-31/{RUN.run_id}"


def _later(days: int, **changes: object) -> FakeRun:
    """A run of some days later, in the same bucket."""
    moved = {
        "as_of": AS_OF + timedelta(days=days),
        "snapshot_at": SNAPSHOT_AT + timedelta(days=days),
        "run_id": f"later-{days}",
    }
    return dataclasses.replace(RUN, **{**moved, **changes})  # type: ignore[arg-type]


def _pointer(settings: Settings) -> dict[str, str]:
    with Bucket(settings) as bucket:
        return dict(json.loads(bucket.find("latest.json") or b"{}"))


def _assert_whole(settings: Settings) -> str:
    """The pointer names a run whose manifest and files are all there and what they should be; its path."""
    pointer = _pointer(settings)
    with Bucket(settings) as bucket:
        body = bucket.download(pointer["manifest"])
        assert hashlib.sha256(body).hexdigest() == pointer["manifest_sha256"]
        for entry in json.loads(body)["files"]:
            stored = bucket.download(f"{pointer['run']}/{entry['path']}")
            assert hashlib.sha256(stored).hexdigest() == entry["sha256"]
    return pointer["run"]


def test_a_published_run_is_as_its_manifest_says(
    settings: Settings, workspace: Workspace, files: list[FileEntry]
) -> None:
    seen: list[tuple[int, int | None]] = []
    manifest = publish(
        settings, workspace, RUN, files, RunCounts.model_validate({"rows": 660}), code_version="1.2.3",
        progress=lambda done, total: seen.append((done, total)),
    )  # fmt: skip
    assert manifest.run_path == PATH
    with Bucket(settings) as bucket:
        body = bucket.download(manifest.path)
        assert {file.path for file in bucket.walk("runs")} == {manifest.path, *(f"{PATH}/{f.path}" for f in files)}
    assert hashlib.sha256(body).hexdigest() == manifest.sha256
    stored = json.loads(body)
    assert {key: stored[key] for key in ("run_id", "as_of", "as_of_mode", "started_at", "historical", "transport")} == {
        "run_id": RUN.run_id, "as_of": "2026-02-01T00:00:00+00:00", "as_of_mode": "midnight",
        "started_at": "2026-02-01T03:00:05.123456+00:00", "historical": False, "transport": "rest",
    }  # fmt: skip
    assert (stored["format"], stored["mode"]) == (2, "full")
    assert (stored["counts"], stored["code_version"]) == ({"rows": 660}, "1.2.3")
    assert [(e["path"], e["rows"], e["bytes"], e["sha256"], e["schema_version"]) for e in stored["files"]] == sorted(
        (f.path, f.rows, f.bytes, f.sha256, f.version) for f in files
    )
    assert seen[-1] == (sum(f.bytes for f in files),) * 2


def test_publishing_moves_no_pointer(settings: Settings, workspace: Workspace, files: list[FileEntry]) -> None:
    publish(settings, workspace, RUN, files, RunCounts())
    assert _pointer(settings) == {}


def test_publishing_again_finds_what_is_there(settings: Settings, workspace: Workspace, files: list[FileEntry]) -> None:
    first = publish(settings, workspace, RUN, files, RunCounts())
    assert publish(settings, workspace, RUN, files, RunCounts()) == first


@pytest.mark.parametrize("ahead", [False, True])
def test_files_of_the_run_before_are_copied_and_what_else_is_under_their_paths_is_replaced(
    settings: Settings, workspace: Workspace, files: list[FileEntry], ahead: bool
) -> None:
    of_state = [f"state/author_days/2025-0{month}.parquet" for month in range(1, 5)]
    for path in of_state:
        (workspace.files / path).parent.mkdir(parents=True, exist_ok=True)
        (workspace.files / path).write_bytes(path.encode())
    files += [entry_of(workspace.files / p, workspace.files, rows=1, version=1, kind="state") for p in of_state]
    publish(settings, workspace, RUN, files, RunCounts())
    copied = {e.path: f"{PATH}/{e.path}" for e in files}

    def publish_later(run: FakeRun) -> str:
        path = run_path(run.run_id, run.as_of)
        with storing(settings, workspace, path, files if ahead else [], copied):
            pass
        publish(settings, workspace, run, files, RunCounts(), copied=copied, ahead=copied if ahead else ())
        return path

    with Bucket(settings) as bucket:
        path = run_path(_later(1).run_id, AS_OF + timedelta(days=1))
        bucket.store(f"{path}/{of_state[1]}", b"PAR1 of another try")
        assert publish_later(_later(1)) == path
        stored = {file.path: file.info for file in bucket.walk(path)}
        assert {f"{path}/{e.path}": StoredInfo(e.bytes, e.md5) for e in files}.items() <= stored.items()
        assert stored_below(settings, path) == stored
        bucket.remove([f"{PATH}/{of_state[2]}"])
        with pytest.raises(PublishError, match=rf"{of_state[2]} is not in the bucket any more"):
            publish_later(_later(2))
        assert not ahead or not list(bucket.walk(run_path(_later(2).run_id, AS_OF + timedelta(days=2))))


def test_the_day_of_a_midnight_run_is_the_day_before() -> None:
    assert run_path("x", datetime(2026, 2, 1, tzinfo=UTC)) == "runs/2026-01-31/x"
    assert run_path("x", datetime(2026, 2, 1, 0, 0, 0, 1, tzinfo=UTC)) == "runs/2026-02-01/x"


def test_the_pointer_never_names_what_is_not_there(
    settings: Settings, workspace: Workspace, files: list[FileEntry], caplog: pytest.LogCaptureFixture
) -> None:
    manifest = publish(settings, workspace, RUN, files[:1], RunCounts())
    assert not repair_pointer(settings, manifest.model_copy(update={"sha256": "0" * 64}))
    assert "not the one that the ledger committed" in caplog.text
    assert not repair_pointer(settings, manifest.model_copy(update={"path": "runs/2026-01-01/none/manifest.json"}))
    assert "is not in the bucket" in caplog.text
    assert _pointer(settings) == {}
    assert repair_pointer(settings, manifest)
    assert _pointer(settings)["run"] == PATH == _assert_whole(settings)


def test_repair_follows_the_ledger_both_ways(settings: Settings, workspace: Workspace, files: list[FileEntry]) -> None:
    today = publish(settings, workspace, RUN, files[:1], RunCounts())
    tomorrow = publish(settings, workspace, _later(1), files[:1], RunCounts())
    assert repair_pointer(settings, tomorrow), "a crash before the pointer moved"
    assert not repair_pointer(settings, tomorrow)
    assert repair_pointer(settings, today), "a restore"
    assert _pointer(settings)["run"] == PATH
    assert not repair_pointer(settings, None)
    assert not repair_pointer(settings, ManifestRef(path="runs/2026-01-01/x/manifest.json", sha256="0"))
    assert _pointer(settings)["run"] == PATH


def test_a_pointer_of_someone_else_is_replaced(
    settings: Settings, workspace: Workspace, files: list[FileEntry]
) -> None:
    with Bucket(settings) as bucket:
        bucket.replace("latest.json", b"[not ours]")
    manifest = publish(settings, workspace, RUN, files[:1], RunCounts())
    assert repair_pointer(settings, manifest)


def test_links_work_without_a_key(settings: Settings, workspace: Workspace, files: list[FileEntry]) -> None:
    publish(settings, workspace, RUN, files[:2], RunCounts())
    path = f"{PATH}/{files[0].path}"
    links = signed_links(settings, [path, f"{PATH}/none.parquet"])
    assert list(links) == [path]
    assert httpx.get(links[path]).content == (workspace.files / files[0].path).read_bytes()


def test_a_run_without_instants_cannot_be_published(settings: Settings, workspace: Workspace) -> None:
    with pytest.raises(PublishError, match="when its reading started"):
        publish(settings, workspace, dataclasses.replace(RUN, snapshot_at=None), [], RunCounts())
    workspace.note(snapshot_at=SNAPSHOT_AT)
    assert publish(settings, workspace, dataclasses.replace(RUN, snapshot_at=None), [], RunCounts()).run_path == PATH


KILLED = """
import sys
from pathlib import Path
from tasks.files.run_files import write_files
from tasks.publish.upload import publish
from tasks.reports.figures import RunCounts
from tasks.settings import Settings
from tests.publish.builders import AS_OF, FakeRun, make_workspace
settings = Settings(part_rows=20, row_group_rows=10, writers=2)
workspace = make_workspace(Path(sys.argv[1]), "killed", users=60, posts=600, seed=2)
files = write_files(workspace, as_of=AS_OF, settings=settings)
run = FakeRun(run_id="killed")
publish(settings, workspace, run, files, RunCounts(), progress=lambda done, total: print(done, flush=True))
"""


def test_a_killed_publish_leaves_readers_with_the_run_before(
    stack: Stack, settings: Settings, workspace: Workspace, files: list[FileEntry], tmp_path: Path
) -> None:
    before = publish(settings, workspace, RUN, files, RunCounts())
    repair_pointer(settings, before)
    environment = {**stack.env(), "ETL_TRANSPORT": "rest", "PATH": "/usr/bin:/bin"}
    (tmp_path / "killed").mkdir()
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(tmp_path / "killed")], env=environment, stdout=subprocess.PIPE, text=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    with child:
        assert child.stdout
        for _ in range(5):
            assert child.stdout.readline(), "the child publishes"
        child.send_signal(signal.SIGKILL)
    with Bucket(settings) as bucket:
        left = {file.path.rpartition("/")[2] for file in bucket.walk("runs/2026-01-31/killed")}
    assert left
    assert "manifest.json" not in left
    assert _assert_whole(settings) == PATH


def test_a_network_that_drops_leaves_readers_with_the_run_before(
    stack: Stack, settings: Settings, workspace: Workspace, files: list[FileEntry]
) -> None:
    before = publish(settings, workspace, RUN, files, RunCounts())
    repair_pointer(settings, before)
    impatient = settings_of(stack, workspace.root, retries=1, writers=2)
    try:
        with pytest.raises(ServiceUnavailable, match=r"Upload of|Checksum of"):
            publish(impatient, workspace, _later(1), files, RunCounts(), progress=lambda done, total: stack.kill_api())
    finally:
        up(stack.home, empty=True)
    assert _assert_whole(settings) == PATH
    after = publish(settings, workspace, _later(1), files, RunCounts())
    assert repair_pointer(settings, after)
    assert _assert_whole(settings) == after.run_path


def test_a_short_outage_is_sat_out(
    stack: Stack, settings: Settings, workspace: Workspace, files: list[FileEntry]
) -> None:
    patient = settings_of(stack, workspace.root, retries=20, retry_base=0.3)
    outage: list[float] = []

    def cut(done: int, total: int | None) -> None:
        if not outage:
            outage.append(time.monotonic())
            stack.kill_api()
            up(stack.home, empty=True)

    manifest = publish(patient, workspace, RUN, files, RunCounts(), progress=cut)
    assert repair_pointer(settings, manifest)
    assert _assert_whole(settings) == PATH


def test_a_run_that_was_pruned_says_so_to_who_would_read_it_as_it_was(
    settings: Settings, workspace: Workspace, files: list[FileEntry]
) -> None:
    ref = publish(settings, workspace, RUN, files, RunCounts())
    with Bucket(settings) as bucket:
        manifest = read_manifest(bucket, ref)
        bucket.replace(ref.path, manifest.without([files[-1].path], at=AS_OF + timedelta(days=40)).to_json())
        with pytest.raises(NotAsPublished) as caught:
            read_manifest(bucket, ref)
    assert caught.value.pruned
    assert caught.value.pruned.removed
    assert caught.value.pruned.removed.files == (files[-1].path,)
