"""What a retention does of its plan, on the real Storage."""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, tzinfo
from pathlib import Path

import pytest
from pydantic import SecretStr

from flows.engine.command import stopped
from flows.forms import RetentionForm
from flows.retention import clean_up, outcome, page
from local_stack import Stack
from tasks.contracts import REPORTS
from tasks.errors import PipelineError, ReadError
from tasks.files.manifest import ManifestRef, sha256_of
from tasks.files.published import find_manifest
from tasks.files.run_files import write_files
from tasks.platform.bucket import Bucket
from tasks.publish import retention
from tasks.publish.pointer import repair_pointer
from tasks.publish.retention import retain
from tasks.publish.upload import publish
from tasks.read import list_runs, read_report
from tasks.reports.figures import RunCounts
from tasks.settings import Settings
from tests.pipeline.identities import token
from tests.publish.builders import FakeRun, make_workspace, settings_of
from tests.publish.test_retention_plan import NOW, day


@pytest.fixture
def settings(clean_stack: Stack, tmp_path: Path) -> Settings:
    return settings_of(clean_stack, tmp_path, cache_dir=tmp_path / "cache")


@pytest.fixture
def filled(settings: Settings, tmp_path: Path) -> Settings:
    """Runs for 5 January, 31 January and 1 March, the last of them the latest, and one left half published."""
    for name, as_of in (("a", day(1, 6)), ("b", day(2, 1)), ("c", day(3, 2))):
        workspace = make_workspace(tmp_path, name, users=10, posts=12)
        files = [f for f in write_files(workspace, as_of=as_of, settings=settings) if "clean/posts" not in f.path]
        manifest = publish(
            settings, workspace, FakeRun(run_id=name, as_of=as_of, snapshot_at=as_of), files, RunCounts()
        )
        repair_pointer(settings, manifest)
    with Bucket(settings) as bucket:
        bucket.store("runs/2026-01-09/half/reports/daily_activity.parquet", b"PAR1")
        bucket.store("exports/2026-01-09/author_activity-031500-0a1b2c3d.parquet", b"PAR1")
        bucket.store("exports/date=2026-01-08/author_activity-031500-0a1b2c3d.parquet", b"PAR1")
        bucket.store("exports/2025/kept-by-hand.parquet", b"PAR1")
        bucket.store("exports/2026-03-14/author_activity-031500-0a1b2c3d.parquet", b"PAR1")
    return settings


def _paths(settings: Settings) -> set[str]:
    with Bucket(settings) as bucket:
        return {file.path for top in ("runs", "exports") for file in bucket.walk(top)}


# The half published run was written to the bucket just now, by the server's clock: the day after it is a leftover.
LATER = datetime.now(UTC) + timedelta(days=2)


def test_a_dry_run_lists_and_removes_nothing(filled: Settings) -> None:
    before = _paths(filled)
    planned = retain(filled, {}, now=NOW, dry_run=True)
    assert _paths(filled) == before
    assert {action.path.rpartition("/")[2]: action.verb for action in planned} == {
        "a": "remove", "b": "prune", "c": "keep", "half": "keep", "2026-01-09": "remove", "date=2026-01-08": "remove",
    }  # fmt: skip


def test_retention_does_what_it_lists_and_then_nothing(filled: Settings) -> None:
    planned = retain(filled, {}, now=NOW, dry_run=True)
    assert retain(filled, {}, now=NOW) == planned
    after = _paths(filled)
    assert not any("/a/" in path or "exports/2026-01" in path or "exports/date=" in path for path in after)
    assert {path.partition("/b/")[2] for path in after if "/b/" in path} == {
        "manifest.json", *(f"reports/{report.name}.parquet" for report in REPORTS if not report.names_users),
    }  # fmt: skip
    assert any("/c/clean/users" in path for path in after)
    with Bucket(filled) as bucket:
        manifest = json.loads(bucket.download("runs/2026-01-31/b/manifest.json"))
    assert {entry["path"] for entry in manifest["files"]} == {
        path.partition("/b/")[2] for path in after if "/b/" in path and "manifest" not in path
    }
    assert "reports/author_activity.parquet" in manifest["removed"]["files"]
    assert manifest["removed"]["at"] == NOW.isoformat()
    assert {action.verb for action in retain(filled, {}, now=NOW)} == {"keep"}
    assert _paths(filled) == after


def test_readers_are_served_after_a_retention(filled: Settings) -> None:
    retain(filled, {}, now=NOW)
    assert list_runs(settings=filled)["run_id"].tolist() == ["c", "b"]
    assert not read_report("author_activity", settings=filled).empty
    assert not read_report("daily_activity", as_of="2026-01-31", settings=filled).empty
    with pytest.raises(ReadError, match="removed by retention"):
        read_report("author_activity", as_of="2026-01-31", settings=filled)


def test_as_many_days_stay_as_are_asked_for(filled: Settings) -> None:
    actions = retain(filled, {}, now=NOW, keep_days=60, dry_run=True)
    assert {action.path.rpartition("/")[2]: action.verb for action in actions} == {
        "a": "prune", "b": "keep", "c": "keep", "half": "keep", "2026-01-09": "remove", "date=2026-01-08": "remove",
    }  # fmt: skip


def test_a_manifest_that_cannot_be_read_is_not_what_a_run_left_incomplete(filled: Settings) -> None:
    with Bucket(filled) as bucket:
        bucket.store("runs/2026-01-09/half/manifest.json", b'{"of": "a later version"}')
    action = next(of for of in retain(filled, {}, now=LATER, dry_run=True) if "half" in of.path)
    assert (action.verb, action.why) == ("keep", "has a manifest that cannot be read")


def test_a_half_published_run_goes_when_no_run_is_working_on_it(filled: Settings) -> None:
    busy = retain(filled, {"half": "loading"}, now=LATER, dry_run=True)
    assert next(action for action in busy if "half" in action.path).verb == "keep"
    retain(filled, {"half": "failed"}, now=LATER)
    assert not any("half" in path for path in _paths(filled))


def test_a_half_published_run_is_as_old_as_its_last_file(filled: Settings, clean_stack: Stack) -> None:
    with Bucket(filled) as bucket:
        bucket.store("runs/2026-01-09/half/reports/author_activity.parquet", b"PAR1")
    first = "runs/2026-01-09/half/reports/daily_activity.parquet"
    clean_stack.query(f"update storage.objects set created_at = created_at - interval '3 days' where name = '{first}'")
    actions = retain(filled, {}, now=datetime.now(UTC), dry_run=True)
    assert next(action for action in actions if "half" in action.path).why == "is not a day old"


def test_a_retention_cut_short_goes_on(filled: Settings) -> None:
    pruned = next(action for action in retain(filled, {}, now=NOW, dry_run=True) if action.verb == "prune")
    with Bucket(filled) as bucket:  # as if it had been killed before it wrote the manifest
        bucket.remove([f"{pruned.path}/{file}" for file in pruned.files])
    retain(filled, {}, now=NOW)
    with pytest.raises(ReadError, match="removed by retention"):
        read_report("author_activity", as_of="2026-01-31", settings=filled)
    assert {action.verb for action in retain(filled, {}, now=NOW)} == {"keep"}


REFUSED = """
create function public.refuse() returns trigger language plpgsql as $$ begin raise exception 'no'; end $$;
create trigger refuse before delete on storage.objects for each row
when (old.name like 'runs/2026-01-31/%') execute function public.refuse()"""


def test_a_retention_that_fails_says_what_is_gone(filled: Settings, clean_stack: Stack) -> None:
    """Its page said *Nothing*, whatever it had removed by then."""
    clean_stack.query(REFUSED)
    try:
        with pytest.raises(PipelineError) as failed:
            retain(filled.model_copy(update={"retries": 0}), {}, now=NOW)
    finally:
        clean_stack.query("drop function public.refuse cascade")
    assert failed.value.written == (
        "Removed: 1 of 4 runs and folders of exports that are past their time; of runs/2026-01-31/b perhaps some files."
    )
    assert not any("/a/" in path for path in _paths(filled))


def test_without_the_right_to_delete_it_fails_and_claims_nothing(filled: Settings, clean_stack: Stack) -> None:
    """Storage says 200 then: all was said to be gone, also by the manifest, and nothing went."""
    before = _paths(filled)
    with Bucket(filled) as bucket:
        manifests = {path: bucket.download(path) for path in before if path.endswith("manifest.json")}
    of_etl = {"supabase_service_key": SecretStr(""), "access_token": SecretStr(token(clean_stack))}
    clean_stack.query("create policy none on storage.objects as restrictive for delete to etl using (false)")
    try:
        for days in (30, 60):  # the first action removes, then it prunes
            with pytest.raises(PipelineError, match="are past their time and cannot be deleted") as failed:
                retain(filled.model_copy(update=of_etl), {}, now=NOW, keep_days=days)
            assert "The role etl lacks delete on storage.objects." in failed.value.remedy
            assert failed.value.written.startswith("Removed: 0 of ")
    finally:
        clean_stack.query("drop policy none on storage.objects")
    assert _paths(filled) == before
    with Bucket(filled) as bucket:
        assert {path: bucket.download(path) for path in manifests} == manifests


def test_a_retention_that_is_stopped_says_so_too(filled: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def remove_or_stop(bucket: Bucket, paths: Sequence[str]) -> int:
        if any("/b/" in path for path in paths):
            raise KeyboardInterrupt
        return remove(bucket, paths)

    remove = Bucket.remove
    monkeypatch.setattr(Bucket, "remove", remove_or_stop)
    with pytest.raises(KeyboardInterrupt) as stop:
        retain(filled, {}, now=NOW)
    said, code = stopped(stop.value, [signal.SIGINT])
    assert (said.message, code) == ("Stopped by hand.", 130)
    assert said.written.startswith("Removed: 1 of 4 runs and folders of exports")


def test_a_run_that_is_restored_meanwhile_stays_whole(filled: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def remove_and_restore(bucket: Bucket, path: str) -> None:
        remove(bucket, path)
        repair_pointer(filled, named)

    remove = retention._remove
    with Bucket(filled) as bucket:
        manifest = find_manifest(bucket, "runs/2026-01-31/b")
    assert manifest
    named = ManifestRef(path=manifest.path, sha256=sha256_of(manifest.to_json()))
    monkeypatch.setattr(retention, "_remove", remove_and_restore)
    actions = {action.path: action.verb for action in retain(filled, {}, now=NOW)}
    assert actions[manifest.run] == "keep"
    assert not read_report("author_activity", settings=filled).empty


def test_an_empty_bucket_has_nothing_to_remove(settings: Settings) -> None:
    assert retain(settings, {}, now=NOW) == []


class WrongClock(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> WrongClock:
        return cls(2000, 1, 1, tzinfo=tz)


def test_the_flow_asks_ledger_and_clock_of_the_database_and_reports_what_it_did(
    filled: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("flows.retention.datetime", WrongClock, raising=False)
    actions = clean_up.fn(filled, RetentionForm(dry_run=True, keep_days=10))
    assert {action.verb for action in actions} == {"keep", "prune", "remove"}
    counts = {verb: sum(action.verb == verb for action in actions) for verb in ("keep", "prune", "remove")}
    text = page(actions, counts, dry_run=True)
    assert text.startswith("# Dry run: nothing was removed")
    assert outcome(counts, dry_run=True) in text
    assert all(f"`{action.path}`" in text for action in actions)


COLUMNS = "run_id, token, as_of_mode, status, transport, lease_seconds, started_at"
OF_A_WATCH = f"""
insert into public.etl_runs ({COLUMNS}) select r, gen_random_uuid(), 'now', s, 'rest', 120, t
from (select 'b' r, 'failed' s, '2026-02-01'::timestamptz t union all
      select 'w' || n, 'committed', '2026-03-01'::timestamptz + n * interval '5 min'
      from generate_series(1, 1001) n) x
"""


def test_a_failed_run_is_none_of_those_that_stay_however_many_follow_it(filled: Settings, clean_stack: Stack) -> None:
    """Four days of a watch are more than a thousand runs."""
    clean_stack.query(OF_A_WATCH)
    actions = clean_up.fn(filled, RetentionForm(dry_run=True, keep_days=10))
    verbs = {action.path.rpartition("/")[2]: action.verb for action in actions}
    assert (verbs["a"], verbs["b"]) == ("prune", "remove")
