"""What stays and what goes: the plan for every mixture of runs, and what is done of it on the real Storage."""

from __future__ import annotations

import json
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.forms import RetentionForm
from flows.retention import clean_up, outcome, page
from local_stack import Stack
from tasks.contracts import REPORTS
from tasks.errors import ReadError
from tasks.files.layout import day_of, run_path
from tasks.files.manifest import FileEntry, Manifest, ManifestRef, sha256_of
from tasks.files.published import find_manifest
from tasks.files.run_files import write_files
from tasks.platform.bucket import Bucket
from tasks.publish import retention
from tasks.publish.pointer import repair_pointer
from tasks.publish.retention import Action, Published, names_users, plan, retain
from tasks.publish.upload import publish
from tasks.read import list_runs, read_report
from tasks.reports.figures import RunCounts
from tasks.settings import Settings
from tests.publish.builders import FakeRun, make_workspace, settings_of

NOW = datetime(2026, 3, 15, 12, tzinfo=UTC)
FILES = [
    "reports/daily_activity.parquet",
    "reports/author_activity.parquet",
    "clean/users/part-000.parquet",
    "charts/growth.png",
]


def _run(
    as_of: datetime,
    *,
    snapshot_at: datetime | None = None,
    run_id: str = "",
    files: list[str] = FILES,
    past: bool = False,
) -> Published:
    run_id = run_id or f"{as_of:%m%d%H}"
    entries = tuple(FileEntry(path=f, rows=1, bytes=9, sha256="0", version=1, kind="report") for f in files)
    path = run_path(run_id, as_of)
    return Published(
        path,
        Manifest(run=path, run_id=run_id, as_of=as_of, started_at=snapshot_at or as_of, historical=past, files=entries),
    )


def _manifest(run: Published) -> Manifest:
    assert run.manifest
    return run.manifest


def _run_of_format_1(run: Published) -> Published:
    """The same run where format 1 of the layout had it."""
    _, day, run_id = run.path.split("/")
    path = f"runs/date={day}/run={run_id}"
    return Published(path, _manifest(run).model_copy(update={"run": path, "format": 1}))


def _plan(*runs: Published, latest: str | None = None, **statuses: str) -> dict[str, Action]:
    actions = plan(runs, statuses, latest=latest, now=NOW, keep_days=30)
    return {action.path.rpartition("/")[2]: action for action in actions}


def _day(month: int, day: int) -> datetime:
    return datetime(2026, month, day, tzinfo=UTC)


def test_every_run_of_thirty_days_stays_whole() -> None:
    actions = _plan(_run(_day(3, 14)), _run(_day(2, 20)), _run(NOW - timedelta(days=30), run_id="edge"))
    assert {action.verb for action in actions.values()} == {"keep"}


def test_of_older_runs_the_last_of_each_month_stays_without_user_ids() -> None:
    actions = _plan(*(_run(_day(1, day)) for day in (2, 20, 31)), _run(_day(2, 1)), _run(_day(2, 10)))
    assert {name: action.verb for name, action in actions.items()} == {
        "010200": "remove", "012000": "remove", "013100": "remove", "020100": "prune", "021000": "prune",
    }  # fmt: skip
    assert actions["020100"].why.startswith("is the last of 2026-01"), "midnight of the first is as of the month before"
    assert actions["020100"].files == ("reports/author_activity.parquet", "clean/users/part-000.parquet")


def test_runs_of_format_1_are_the_same_runs() -> None:
    old = [_run_of_format_1(_run(_day(1, day), run_id=f"r{day}")) for day in (2, 31)]
    actions = plan([*old, _run(_day(1, 30), run_id="r30")], {"r2": "loading"}, latest=None, now=NOW, keep_days=30)
    assert {action.path: action.verb for action in actions} == {
        "runs/date=2026-01-01/run=r2": "keep", "runs/date=2026-01-30/run=r31": "prune", "runs/2026-01-29/r30": "remove",
    }  # fmt: skip


def test_of_two_runs_for_one_instant_the_later_one_stays() -> None:
    first, second = (_run(_day(1, 31), snapshot_at=_day(1, 31) + timedelta(hours=h), run_id=f"r{h}") for h in (3, 5))
    assert {name: a.verb for name, a in _plan(second, first).items()} == {"r3": "remove", "r5": "prune"}


def test_a_night_that_really_ran_outranks_a_backfill_computed_later() -> None:
    night = _run(_day(2, 1), run_id="night")
    backfill = _run(_day(2, 1), snapshot_at=_day(2, 9), run_id="backfill", past=True)
    assert {name: a.verb for name, a in _plan(backfill, night).items()} == {"night": "prune", "backfill": "remove"}


def test_a_pruned_run_is_left_alone() -> None:
    assert _plan(_run(_day(1, 31), files=["reports/daily_activity.parquet"]))["013100"].verb == "keep"


def test_what_latest_names_stays_whole_however_old() -> None:
    old = _run(_day(1, 2))
    assert _plan(old, _run(_day(1, 31)), latest=old.path)["010200"].verb == "keep"


def test_a_backfill_of_last_year_is_young_today() -> None:
    assert _plan(_run(_day(1, 2), snapshot_at=NOW - timedelta(days=2)))["010200"].verb == "keep"


@pytest.mark.parametrize("status", ["running", "loading"])
def test_a_running_run_is_not_touched(status: str) -> None:
    half = Published("runs/2026-01-01/busy", None, NOW - timedelta(days=3))
    assert _plan(half, busy=status)["busy"].verb == "keep"
    assert _plan(_run(_day(1, 2), run_id="busy"), busy=status)["busy"].verb == "keep"


def test_leftovers_go_after_a_day() -> None:
    ages = {"young": timedelta(hours=23), "old": timedelta(hours=25)}
    foreign = Published("runs/2026-03-14/foreign", None, NOW - timedelta(days=29), unreadable=True)
    assert _plan(foreign)["foreign"].verb == "keep", "what this program cannot read is not what it left incomplete"
    halves = [Published(f"runs/2026-03-14/{name}", None, NOW - age) for name, age in ages.items()]
    unknown = Published("runs/2026-03-14/unknown", None, None)
    failed = _run(_day(3, 10), run_id="failed")
    actions = _plan(*halves, unknown, failed, failed="failed")
    assert {name: action.verb for name, action in actions.items()} == {
        "young": "keep", "old": "remove", "unknown": "remove", "failed": "remove",
    }  # fmt: skip


RUNS = st.lists(
    st.builds(
        lambda hours, late, whole, past: (NOW - timedelta(hours=hours), timedelta(hours=late), whole, past),
        st.integers(1, 24 * 200), st.integers(0, 24 * 40), st.booleans(), st.booleans(),
    ),
    max_size=30, unique_by=lambda run: run[0],
)  # fmt: skip


@given(made=RUNS, latest=st.integers(0, 29))
def test_whatever_there_is(made: list[tuple[datetime, timedelta, bool, bool]], latest: int) -> None:
    runs = [
        _run(
            as_of, snapshot_at=min(as_of + late, NOW), run_id=str(index), files=FILES if whole else FILES[:1], past=past
        )
        for index, (as_of, late, whole, past) in enumerate(made)
    ]
    named = runs[latest].path if latest < len(runs) else None
    actions = {action.path: action for action in plan(runs, {}, latest=named, now=NOW, keep_days=30)}
    assert set(actions) == {run.path for run in runs}
    left: dict[str, list[Published]] = defaultdict(list)
    for run in runs:
        young = NOW - _manifest(run).started_at <= timedelta(days=30)
        if young or run.path == named:
            assert actions[run.path].verb == "keep"
        else:
            left[day_of(_manifest(run).as_of)[:7]].append(run)
    for of_month in left.values():
        staying = [run for run in of_month if actions[run.path].verb != "remove"]
        assert len(staying) == 1
        assert all(_manifest(run).rank <= _manifest(staying[0]).rank for run in of_month)


def test_only_aggregates_are_free_of_user_ids() -> None:
    assert names_users("clean/posts/month=2026-01/part-000.parquet")
    assert names_users("reports/a_report_of_old.parquet"), "unknown today: nobody can say that it is free of them"
    assert not names_users("charts/growth.png")
    for report in REPORTS:
        assert names_users(f"reports/{report.name}.parquet") == report.names_users


def test_the_order_after_a_thinning_is_the_same() -> None:
    runs = [_run(_day(1, 30)), _run(_day(1, 31))]
    first = plan(runs, {}, latest=None, now=NOW, keep_days=30)
    assert [action.verb for action in first] == ["remove", "prune"]
    pruned = Published(runs[1].path, _manifest(runs[1]).without(first[1].files, at=NOW))
    assert [a.verb for a in plan([pruned], {}, latest=None, now=NOW, keep_days=30)] == ["keep"]


@pytest.fixture
def settings(clean_stack: Stack, tmp_path: Path) -> Settings:
    return settings_of(clean_stack, tmp_path, cache_dir=tmp_path / "cache")


@pytest.fixture
def filled(settings: Settings, tmp_path: Path) -> Settings:
    """Runs for 5 January, 31 January and 1 March, the last of them the latest, and one left half published."""
    for name, as_of in (("a", _day(1, 6)), ("b", _day(2, 1)), ("c", _day(3, 2))):
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


def test_a_half_published_run_goes_when_no_run_is_working_on_it(filled: Settings) -> None:
    busy = retain(filled, {"half": "loading"}, now=LATER, dry_run=True)
    assert next(action for action in busy if "half" in action.path).verb == "keep"
    retain(filled, {"half": "failed"}, now=LATER)
    assert not any("half" in path for path in _paths(filled))


def test_a_retention_cut_short_goes_on(filled: Settings) -> None:
    pruned = next(action for action in retain(filled, {}, now=NOW, dry_run=True) if action.verb == "prune")
    with Bucket(filled) as bucket:  # as if it had been killed before it wrote the manifest
        bucket.remove([f"{pruned.path}/{file}" for file in pruned.files])
    retain(filled, {}, now=NOW)
    with pytest.raises(ReadError, match="removed by retention"):
        read_report("author_activity", as_of="2026-01-31", settings=filled)
    assert {action.verb for action in retain(filled, {}, now=NOW)} == {"keep"}


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


def test_the_flow_asks_the_ledger_and_tells_what_it_did(filled: Settings) -> None:
    actions = clean_up.fn(filled, RetentionForm(dry_run=True, keep_days=10))
    counts = {verb: sum(action.verb == verb for action in actions) for verb in ("keep", "prune", "remove")}
    text = page(actions, counts, dry_run=True)
    assert text.startswith("# Dry run: nothing was removed")
    assert outcome(counts, dry_run=True) in text
    assert all(f"`{action.path}`" in text for action in actions)
