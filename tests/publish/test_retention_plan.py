"""What stays and what goes: the plan for every mixture of runs."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.contracts import REPORTS
from tasks.files.layout import day_of, run_path
from tasks.files.manifest import FileEntry, Manifest
from tasks.publish.retention import Action, Published, names_users, plan

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


def _plan(*runs: Published, latest: str | None = None, base: str | None = None, **statuses: str) -> dict[str, Action]:
    actions = plan(runs, statuses, latest=latest, now=NOW, keep_days=30, base=base)
    return {action.path.rpartition("/")[2]: action for action in actions}


def day(month: int, number: int) -> datetime:
    return datetime(2026, month, number, tzinfo=UTC)


def test_every_run_of_thirty_days_stays_whole() -> None:
    actions = _plan(_run(day(3, 14)), _run(day(2, 20)), _run(NOW - timedelta(days=30), run_id="edge"))
    assert {action.verb for action in actions.values()} == {"keep"}


def test_of_older_runs_the_last_of_each_month_stays_without_user_ids() -> None:
    actions = _plan(*(_run(day(1, number)) for number in (2, 20, 31)), _run(day(2, 1)), _run(day(2, 10)))
    assert {name: action.verb for name, action in actions.items()} == {
        "010200": "remove", "012000": "remove", "013100": "remove", "020100": "prune", "021000": "prune",
    }  # fmt: skip
    assert actions["020100"].why == "is the last of 2026-01: aggregates stay", (
        "midnight of the first is as of the month before"
    )
    assert actions["020100"].files == ("clean/users/part-000.parquet", "reports/author_activity.parquet")


def test_runs_of_format_1_are_the_same_runs() -> None:
    old = [_run_of_format_1(_run(day(1, n), run_id=f"r{n}")) for n in (2, 31)]
    actions = plan([*old, _run(day(1, 30), run_id="r30")], {"r2": "loading"}, latest=None, now=NOW, keep_days=30)
    assert {action.path: action.verb for action in actions} == {
        "runs/date=2026-01-01/run=r2": "keep", "runs/date=2026-01-30/run=r31": "prune", "runs/2026-01-29/r30": "remove",
    }  # fmt: skip


def test_of_two_runs_for_one_instant_the_later_one_stays() -> None:
    first, second = (_run(day(1, 31), snapshot_at=day(1, 31) + timedelta(hours=h), run_id=f"r{h}") for h in (3, 5))
    assert {name: a.verb for name, a in _plan(second, first).items()} == {"r3": "remove", "r5": "prune"}


def test_a_night_that_really_ran_outranks_a_backfill_computed_later() -> None:
    night = _run(day(2, 1), run_id="night")
    backfill = _run(day(2, 1), snapshot_at=day(2, 9), run_id="backfill", past=True)
    assert {name: a.verb for name, a in _plan(backfill, night).items()} == {"night": "prune", "backfill": "remove"}


def test_a_pruned_run_is_left_alone() -> None:
    assert _plan(_run(day(1, 31), files=["reports/daily_activity.parquet"]))["013100"].verb == "keep"


def test_what_readers_get_and_what_the_next_night_starts_from_stay_whole_however_old() -> None:
    old, base, newest = (_run(day(1, number)) for number in (2, 20, 31))
    actions = _plan(old, base, newest, latest=old.path, base=base.run_id)
    assert {name: action.verb for name, action in actions.items()} == {
        "010200": "keep", "012000": "keep", "013100": "prune",
    }  # fmt: skip
    assert [actions[name].why for name in ("010200", "012000")] == [
        "is what readers get", "is what the next night starts from",
    ]  # fmt: skip


def test_a_backfill_of_last_year_is_young_today() -> None:
    assert _plan(_run(day(1, 2), snapshot_at=NOW - timedelta(days=2)))["010200"].verb == "keep"


@pytest.mark.parametrize("status", ["running", "loading"])
def test_a_running_run_is_not_touched(status: str) -> None:
    half = Published("runs/2026-01-01/busy", None, NOW - timedelta(days=3))
    assert _plan(half, busy=status)["busy"] == Action("keep", half.path, "is running")
    assert _plan(_run(day(1, 2), run_id="busy"), busy=status)["busy"].verb == "keep"


def test_leftovers_go_after_aday() -> None:
    ages = {"young": timedelta(hours=23), "old": timedelta(hours=25)}
    foreign = Published("runs/2026-03-14/foreign", None, NOW - timedelta(days=29), unreadable=True)
    assert _plan(foreign)["foreign"].verb == "keep", "what this program cannot read is not what it left incomplete"
    halves = [Published(f"runs/2026-03-14/{name}", None, NOW - age) for name, age in ages.items()]
    unknown = Published("runs/2026-03-14/unknown", None, None)
    failed = [_run(NOW - age, run_id=f"failed_{name}") for name, age in ages.items()]
    actions = _plan(*halves, unknown, *failed, failed_young="failed", failed_old="failed")
    assert {name: action.verb for name, action in actions.items()} == {
        "young": "keep", "old": "remove", "unknown": "remove", "failed_young": "keep", "failed_old": "remove",
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
    runs = [_run(day(1, 30)), _run(day(1, 31))]
    first = plan(runs, {}, latest=None, now=NOW, keep_days=30)
    assert [action.verb for action in first] == ["remove", "prune"]
    pruned = Published(runs[1].path, _manifest(runs[1]).without(first[1].files, at=NOW))
    assert [a.verb for a in plan([pruned], {}, latest=None, now=NOW, keep_days=30)] == ["keep"]
