"""Whole runs on a real stack: what they leave, that again is the same, and that both transports agree."""

from __future__ import annotations

import io
from datetime import UTC, datetime, timedelta

import pyarrow.parquet as pq
import pytest
from supabase import create_client

from data.demo import DemoCounts
from flows.engine.outcome import RunOutcome
from tasks.charts import CHARTS
from tasks.cleaning.rules import RULES
from tasks.contracts import REPORTS
from tasks.errors import PublishError, RunHeld
from tasks.settings import Transport
from tests.pipeline.conftest import Runner
from tests.pipeline.kit import AS_OF, Project

TRANSPORTS: tuple[Transport, ...] = ("postgres", "rest")


def counts_what_the_demo_planted(outcome: RunOutcome, project: Project, demo: DemoCounts) -> None:
    quality = {(row["table"], row["rule"]): (row["rows_checked"], row["rows_affected"]) for row in outcome.quality}
    planted = demo.quality()
    assert {rule: quality[rule] for rule in planted} == planted
    assert quality.keys() == {(table, rule.name) for table, rules in RULES.items() for rule in rules}
    for name in ("users", "posts"):
        counts = outcome.tables[name]
        assert (counts["read"], counts["kept"]) == (demo[name].rows, demo[name].kept)
        assert counts["read"] == counts["kept"] + counts["rejected"]
        assert counts["inserted"] == counts["kept"] == int(project.stack.query(f"select count(*) from clean_{name}"))
        assert (
            int(project.stack.query(f"select count(*) from etl_rejects where \"table\" = '{name}'"))
            == (counts["rejected"])
        )
    assert not project.remove_local_runs(), "the run's folder holds personal data and goes with the commit"


@pytest.mark.usefixtures("charts")
def test_what_is_published_opens_with_the_printed_key(project: Project, demo: DemoCounts, run: Runner) -> None:
    run()
    storage = create_client(project.stack.url, project.stack.service_key).storage
    bucket = storage.from_("reports")
    manifest, latest = project.manifest(), project.latest()
    assert latest is not None
    by_path = {file["path"]: file for file in manifest["files"]}
    assert {f"reports/{report.name}.parquet" for report in REPORTS} <= set(by_path)
    assert {f"charts/{chart}.png" for chart in CHARTS} <= set(by_path)
    for path, file in by_path.items():
        body = bucket.download(f"{latest['run']}/{path}")
        assert len(body) == file["bytes"]
        if path.endswith(".parquet"):
            assert pq.read_metadata(io.BytesIO(body)).num_rows == file["rows"]
    storage.session.close()
    for name in ("users", "posts"):
        in_files = sum(file["rows"] for path, file in by_path.items() if path.startswith(f"clean/{name}/"))
        assert in_files == manifest["counts"]["tables"][name]["kept"] == demo[name].kept


@pytest.mark.as_etl
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_run_counts_what_the_demo_planted_and_again_is_the_same_and_writes_no_row(
    transport: Transport, project: Project, demo: DemoCounts, run: Runner
) -> None:
    first = run(transport)
    counts_what_the_demo_planted(first, project, demo)
    state, writes = project.state(), project.writes()
    second = run(transport)
    assert second.run_id != first.run_id
    assert project.state() == state
    assert project.writes() == writes
    for counts in second.tables.values():
        assert (counts["inserted"], counts["updated"], counts["deleted"]) == (0, 0, 0)
        assert counts["unchanged"] == counts["kept"]


def test_both_transports_give_the_same_files_and_rows(project: Project, demo: DemoCounts, run: Runner) -> None:
    run("rest", ETL_PAGE_ROWS=97, ETL_RANGES=3)
    over_rest = project.state()
    run("postgres", ETL_BATCH_ROWS=111)
    assert project.state() == over_rest


def test_an_earlier_as_of_publishes_and_moves_nothing_else(project: Project, demo: DemoCounts, run: Runner) -> None:
    run()
    state, latest = project.state(), project.latest()
    outcome = run(as_of="2025-12-24T00:00:00+00:00")
    assert outcome.notes
    assert project.state() == state
    assert project.latest() == latest
    assert project.file(f"{outcome.run_path}/reports/user_statistics.parquet")
    assert not any(entry.path.startswith("clean/") for entry in outcome.files)


def test_a_dry_run_writes_nothing(project: Project, demo: DemoCounts, run: Runner) -> None:
    outcome = run(dry_run=True)
    assert outcome.tables["users"]["inserts"] == demo.users.kept
    assert project.latest() is None
    assert project.stack.query("select count(*) from etl_runs") == "0"
    assert project.stack.query("select count(*) from storage.objects where bucket_id = 'reports'") == "0"
    assert not project.remove_local_runs()


def test_a_dry_run_is_not_sound_without_its_bucket(project: Project, demo: DemoCounts, run: Runner) -> None:
    with pytest.raises(PublishError, match=r"The bucket other cannot be used: .*Nothing was uploaded") as caught:
        run("rest", dry_run=True, ETL_BUCKET="other")
    assert caught.value.stage == "Check sources"
    assert caught.value.remedy.startswith("ETL_BUCKET names `other`: make a private bucket of that name")


def test_a_figure_out_of_bounds_holds_the_run_until_it_is_accepted(
    project: Project, demo: DemoCounts, run: Runner
) -> None:
    run(ETL_DRIFT_FLOOR_ROWS=10)
    state = project.state()
    project.stack.query("delete from posts where id in (select id from posts order by id limit 500)")
    with pytest.raises(RunHeld, match="posts_deletes") as held:
        run(ETL_DRIFT_FLOOR_ROWS=10)
    assert project.state() == state
    assert project.stack.query("select status from etl_runs order by started_at desc limit 1") == "held"
    assert not project.remove_local_runs()
    names = [word for word in str(held.value).split() if word.startswith(("posts_", "users_", "rule_share:"))]
    accepted = frozenset(name.rstrip(":.;,") for name in names)
    outcome = run(accept=accepted, ETL_DRIFT_FLOOR_ROWS=10)
    assert outcome.tables["posts"]["deleted"] > 400


@pytest.mark.usefixtures("charts")
def test_charts_that_cannot_be_drawn_end_the_run_and_leave_no_file(
    project: Project, demo: DemoCounts, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise ValueError("no chart")

    run()
    latest = project.latest()
    stored = project.stack.query("select count(*), max(created_at) from storage.objects")
    monkeypatch.setattr("tasks.charts.draw_charts", fail)
    for full in (False, True):  # whose tables are stored before and after
        with pytest.raises(ValueError, match="no chart"):
            run(full_refresh=full)
        assert project.stack.query("select count(*), max(created_at) from storage.objects") == stored
    assert project.latest() == latest


def test_rejects_go_when_they_are_fixed(project: Project, demo: DemoCounts, run: Runner) -> None:
    run()
    assert int(project.stack.query("select count(*) from etl_rejects where rule = 'missing_created_at'")) > 0
    project.stack.query("update users set created_at = '2025-01-01Z' where created_at is null")
    project.stack.query("update posts set created_at = '2025-06-01Z' where created_at is null")
    run(ETL_MAX_RULE_POINTS=100)
    assert project.stack.query("select count(*) from etl_rejects where rule = 'missing_created_at'") == "0"


def test_a_database_whose_clock_is_seconds_behind_the_schedule_is_waited_for(
    project: Project, demo: DemoCounts, run: Runner
) -> None:
    """A night of 00:00 is as of the instant at which Prefect's clock starts it."""
    soon = datetime.now(UTC) + timedelta(seconds=3)
    assert run(as_of=soon.isoformat()).as_of == soon


def test_an_as_of_in_the_future_is_refused_in_a_sentence(project: Project, demo: DemoCounts, run: Runner) -> None:
    with pytest.raises(Exception, match="later than the database's clock"):
        run(as_of="2199-01-01T00:00:00+00:00")
    assert project.latest() is None
    assert AS_OF not in project.stack.query("select coalesce(as_of::text, '') from etl_runs")
