"""Back to an earlier run: its aggregates, the pointer and the ledger; the cleaned tables stay as they are."""

from __future__ import annotations

import json
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from flows.restore import listed_runs, previous
from local_stack import Stack
from tasks.contracts import REPORTS
from tasks.errors import ConfigurationError, PipelineError, PublishError
from tasks.files.layout import day_of
from tasks.files.manifest import FileEntry, ManifestRef, entry_of
from tasks.files.published import find_manifest
from tasks.ledger.lease import Lease
from tasks.ledger.ledger import Ledger
from tasks.platform.bucket import Bucket
from tasks.platform.functions import open_database
from tasks.publish.pointer import repair_pointer
from tasks.publish.restore import restore
from tasks.publish.upload import publish
from tasks.reports.figures import RunCounts
from tasks.settings import Settings, Transport
from tasks.sink import load, plan
from tasks.workspace import Workspace
from tests.publish.builders import content_of
from tests.publish.format_1 import move_to_format_1
from tests.sink.kit import (
    AS_OF,
    TRANSPORTS,
    Night,
    days_before,
    expected_state,
    fill,
    post,
    rows_of,
    settings_for,
    start,
    versions,
    work,
)

CHART = "charts/growth.png"
both = pytest.mark.parametrize("transport", TRANSPORTS)


def published(settings: Settings, night: Night, as_of: datetime) -> Lease:
    """A run with its reports in Storage, committed and pointed to."""
    with open_database(settings) as database:
        ledger = Ledger(database, settings)
        run = start(ledger, settings, as_of)
        workspace = Workspace.create(settings.data_dir, run.run_id)
        fill(workspace, night, as_of=as_of)
        plans = plan(settings, workspace, run)
        manifest = publish(settings, workspace, run, _files(workspace), RunCounts())
        load(settings, workspace, run, plans, manifest=manifest, counts=RunCounts())
    repair_pointer(settings, manifest)
    return run


def _files(workspace: Workspace) -> list[FileEntry]:
    entries = []
    for report in REPORTS:
        if report.in_postgres:
            path = workspace.files / "reports" / f"{report.name}.parquet"
            path.parent.mkdir(parents=True, exist_ok=True)
            table = workspace.spool("reports", report.name, report.schema).table()
            pq.write_table(table, path)
            entries.append(entry_of(path, workspace.files, rows=table.num_rows, version=1, kind="report"))
    chart = workspace.files / CHART
    chart.parent.mkdir()
    chart.write_bytes(b"a picture")
    return [*entries, entry_of(chart, workspace.files, rows=0, version=1, kind="chart")]


def pointer(settings: Settings) -> str:
    with Bucket(settings) as bucket:
        return str(json.loads(bucket.download("latest.json", fresh=True))["run"])


def nights(settings: Settings) -> tuple[Lease, Lease]:
    """Two published nights; the second one is the current one."""
    day = {"date": date(2026, 1, 1), "posts": 1}
    first = published(settings, Night(posts=[post(1)], statistics={"total_posts": 1}, days=[day]), days_before(1))
    days = [{**day, "posts": 5}, {"date": date(2026, 1, 2), "posts": 4}]
    second = published(settings, Night(posts=[post(1), post(2)], statistics={"total_posts": 2}, days=days), AS_OF)
    return first, second


@both
def test_a_restore_moves_the_aggregates_and_the_pointer(
    clean_stack: Stack, tmp_path: Path, transport: Transport
) -> None:
    settings = settings_for(clean_stack, transport, tmp_path)
    first, second = nights(settings)
    clean_stack.query("update public.etl_runs set current_at = current_at + interval '1 day'")  # the clock was set back
    done = restore(settings, first.run_id)
    assert (done.run_id, done.rows, done.pointer_moved) == (
        first.run_id,
        {"user_statistics": 1, "daily_activity": 1},
        True,
    )
    assert [row["total_posts"] for row in rows_of(clean_stack, "user_statistics")] == [1]
    assert [(row["date"], row["posts"]) for row in rows_of(clean_stack, "daily_activity")] == [("2026-01-01", 1)]
    assert pointer(settings).endswith(first.run_id)
    expected_state(clean_stack, Night(posts=[post(1), post(2)]))
    note = rows_of(clean_stack, "etl_runs", "kind, status, restored_run", "started_at")[-1]
    assert note == {"kind": "restore", "status": "committed", "restored_run": first.run_id}
    restore(settings, second.run_id)  # and forward again
    assert [row["total_posts"] for row in rows_of(clean_stack, "user_statistics")] == [1, 2]
    assert pointer(settings).endswith(second.run_id)


def test_a_run_of_long_ago_is_found_at_once_behind_all_newer_ones(clean_stack: Stack, tmp_path: Path) -> None:
    """A watch commits hundreds of runs a day. Each row since the restored one took another look for the current run:
    a call over REST has eight seconds, and without an answer no run starts."""
    settings = settings_for(clean_stack, "postgres", tmp_path)
    first, _ = nights(settings)
    columns = "run_id, token, status, transport, as_of, as_of_mode, lease_seconds, current_at"
    row = "'watched-' || i, gen_random_uuid(), 'committed', 'rest', now(), 'now', 120, clock_timestamp()"
    clean_stack.query(f"insert into etl_runs ({columns}) select {row} from generate_series(1, 3000) i")
    hurried = settings.model_copy(update={"statement_timeout": 1, "retries": 0})
    restore(hurried, first.run_id)
    with open_database(hurried) as database:
        current = Ledger(database, hurried).current()
    assert current is not None
    assert current.run_id == first.run_id


@both
def test_a_dry_restore_changes_nothing(clean_stack: Stack, tmp_path: Path, transport: Transport) -> None:
    settings = settings_for(clean_stack, transport, tmp_path)
    first, second = nights(settings)
    before = versions(clean_stack)
    assert restore(settings, first.run_id, dry_run=True).rows["daily_activity"] == 1
    assert versions(clean_stack) == before
    assert pointer(settings).endswith(second.run_id)
    assert len(rows_of(clean_stack, "etl_runs")) == 2


def test_the_run_after_a_restore_goes_on_from_there(clean_stack: Stack, tmp_path: Path) -> None:
    settings = settings_for(clean_stack, "rest", tmp_path)
    first, _ = nights(settings)
    restore(settings, first.run_id)
    with open_database(settings) as database:
        ledger = Ledger(database, settings)
        current = ledger.current()
        assert current is not None
        assert current.run_id == first.run_id
        assert database.call("etl_base_run")["behind"] is False, "a restore is no run that the base missed"
    run = work(settings, Night(posts=[post(3)]), as_of=AS_OF + timedelta(microseconds=1)).run
    assert not run.historical
    assert run.last == current.counts


def test_a_restore_waits_for_a_run_as_long_as_the_settings_say(
    clean_stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(clean_stack, "rest", tmp_path, wait_for_lease=60)
    first, _ = nights(settings)
    waiting: list[str] = []

    def the_run_ends(_: float) -> None:
        waiting.extend(clean_stack.query("select run_id from etl_waiting").splitlines())  # a backfill lets it go first
        ledger.fail(running, PipelineError("Over."))

    with open_database(settings) as database:
        ledger = Ledger(database, settings)
        running = start(ledger, settings, AS_OF + timedelta(days=1))
        monkeypatch.setattr("tasks.ledger.ledger.time.sleep", the_run_ends)
        assert restore(settings, first.run_id).pointer_moved
    assert len(waiting) == 1


def test_what_cannot_be_restored(clean_stack: Stack, tmp_path: Path) -> None:
    settings = settings_for(clean_stack, "rest", tmp_path)
    first, second = nights(settings)
    with pytest.raises(ConfigurationError, match=second.run_id):
        restore(settings, "20200101T000000Z-00000000")
    historical = work(settings, Night(), as_of=days_before(9)).run
    with pytest.raises(ConfigurationError, match="that was ever current"):
        restore(settings, historical.run_id)
    before = versions(clean_stack)
    with open_database(settings) as database:
        row = Ledger(database, settings).run(first.run_id)
    assert row is not None
    assert row.manifest is not None
    report = f"{row.manifest.run_path}/reports/daily_activity.parquet"
    for path in (f"{row.manifest.run_path}/{CHART}", report):
        with Bucket(settings) as bucket:
            body = bucket.download(path)
            bucket.remove([path])
        with pytest.raises(PublishError, match=f"{path} is not in the bucket any more"):
            restore(settings, first.run_id)
        with Bucket(settings) as bucket:
            bucket.store(path, body)
    assert versions(clean_stack) == before
    assert restore(settings, second.run_id).pointer_moved is False
    with Bucket(settings) as bucket:  # as in another bucket since
        bucket.remove([file.path for file in bucket.walk(row.manifest.run_path)])
    with pytest.raises(ConfigurationError, match=f"can be restored are {second.run_id}: give"):
        restore(settings, "20200101T000000Z-00000000")
    with pytest.raises(PublishError, match="No other run has its files in the bucket reports"):
        restore(settings, previous(settings))
    assert [run.run_id for run in listed_runs(settings)] == [second.run_id]


@pytest.mark.parametrize("file", [CHART, "reports/daily_activity.parquet"])
def test_a_run_of_which_a_file_is_damaged_is_not_restored(clean_stack: Stack, tmp_path: Path, file: str) -> None:
    """Whether the restore itself would read the file or not."""
    settings = settings_for(clean_stack, "rest", tmp_path)
    first, second = nights(settings)
    path = f"runs/{day_of(days_before(1))}/{first.run_id}/{file}"
    with Bucket(settings) as bucket:
        bucket.replace(path, b"another")
    with pytest.raises(PublishError, match=f"{path} is damaged"):
        restore(settings, first.run_id)
    assert pointer(settings).endswith(second.run_id)


def test_a_run_of_which_storage_lost_a_file_that_it_lists_is_not_restored(clean_stack: Stack, tmp_path: Path) -> None:
    """As after a restore of the database alone: readers found it."""
    settings = settings_for(clean_stack, "rest", tmp_path)
    first, _ = nights(settings)
    with open_database(settings) as database:
        row = Ledger(database, settings).run(first.run_id)
    assert row is not None
    assert row.manifest is not None
    content_of(clean_stack, f"{row.manifest.run_path}/{CHART}").unlink()
    for dry_run in (True, False):
        with pytest.raises(PublishError, match=f"{CHART} is not in the bucket any more"):
            restore(settings, first.run_id, dry_run=dry_run)


def test_a_run_that_a_retention_takes_meanwhile_is_not_said_to_be_restored(
    clean_stack: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = settings_for(clean_stack, "rest", tmp_path)
    first, second = nights(settings)

    def restore_and_remove(ledger: Ledger, *arguments: Any) -> None:
        in_ledger(ledger, *arguments)
        current = ledger.current()
        assert current
        assert current.manifest
        with Bucket(settings) as bucket:
            bucket.remove([current.manifest.path])

    in_ledger = Ledger.restore
    monkeypatch.setattr(Ledger, "restore", restore_and_remove)
    with pytest.raises(PublishError, match="readers still see the run before") as refused:
        restore(settings, first.run_id)
    assert f"are those of {first.run_id}" in refused.value.written
    assert second.run_id in pointer(settings)


def test_a_run_of_the_first_layout_can_be_restored(clean_stack: Stack, tmp_path: Path) -> None:
    settings = settings_for(clean_stack, "rest", tmp_path)
    first, _ = nights(settings)
    row = rows_of(clean_stack, "etl_runs", "run_id, manifest_path, manifest_sha256", "started_at")[0]
    old = move_to_format_1(settings, ManifestRef(path=row["manifest_path"], sha256=row["manifest_sha256"]))
    facts = {"path": old.path, "sha256": old.sha256, "run": first.run_id}
    clean_stack.query(
        "update public.etl_runs set manifest_path = :'path', manifest_sha256 = :'sha256' where run_id = :'run'", facts
    )
    assert restore(settings, first.run_id).pointer_moved
    assert pointer(settings) == old.run_path


def test_a_pruned_run_is_refused_by_what_happened_to_it(clean_stack: Stack, tmp_path: Path) -> None:
    settings = settings_for(clean_stack, "rest", tmp_path)
    first, second = nights(settings)
    with Bucket(settings) as bucket:
        manifest = find_manifest(bucket, f"runs/{day_of(days_before(1))}/{first.run_id}")
        assert manifest
        gone = manifest.without(["clean/users/part-000.parquet"], at=AS_OF + timedelta(days=40))
        bucket.replace(manifest.path, gone.to_json())
    day = (AS_OF + timedelta(days=40)).date()
    with pytest.raises(PublishError, match=rf"was pruned by retention on {day}.* Nothing was changed") as caught:
        restore(settings, first.run_id)
    assert "damaged" not in str(caught.value)
    assert pointer(settings).endswith(second.run_id)
