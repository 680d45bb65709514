"""Which run is current, what a run that failed leaves to the next, and what an accepted metric lets pass."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from data.demo import DemoCounts
from flows.engine.outcome import RunRequest
from flows.engine.pipeline import run_pipeline
from flows.engine.report_page import earlier_figures
from tasks.errors import ConfigurationError, PipelineError, RunHeld, ServiceUnavailable, TerminalError
from tasks.ledger.as_of import AsOf
from tasks.platform.bucket import Bucket
from tasks.platform.functions import RestDatabase
from tests.pipeline.conftest import Runner
from tests.pipeline.kit import AS_OF, Project

TODAY = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


@contextmanager
def broken(project: Project, table: str = "posts") -> Iterator[None]:
    """The source is away while the block runs."""
    project.stack.query(f"alter table public.{table} rename to moved")
    try:
        yield
    finally:
        project.stack.query(f"alter table public.moved rename to {table}")


def _delete(project: Project, posts: int) -> None:
    project.stack.query(f"delete from public.posts where id in (select id from public.posts order by id limit {posts})")


def test_the_scheduled_midnight_after_a_manual_now_is_current(project: Project, demo: DemoCounts, run: Runner) -> None:
    first = run(as_of="now")
    project.stack.query("delete from public.posts where id in (select id from public.posts order by id limit 3)")
    project.stack.query("update etl_runs set current_at = current_at + interval '1 day'")  # the clock was set back
    second = run(as_of="midnight")
    assert second.as_of == TODAY < first.as_of
    assert second.current
    assert not second.notes
    assert second.tables["posts"]["deleted"] > 0, "what left the source leaves the cleaned table"
    latest = project.latest()
    assert latest is not None
    assert latest["run"] == second.run_path
    assert project.stack.query(f"select count(*) from user_statistics where as_of > '{second.as_of}'") == "0"


def test_an_instant_that_somebody_asked_for_is_historical(project: Project, demo: DemoCounts, run: Runner) -> None:
    run(as_of="now")
    latest = project.latest()
    outcome = run(as_of=(TODAY - timedelta(days=3)).isoformat())
    assert outcome.notes
    assert not outcome.current
    assert project.latest() == latest


def test_a_resume_by_name_does_not_take_another_run_s_as_of(project: Project, demo: DemoCounts, run: Runner) -> None:
    with broken(project):
        with pytest.raises(PipelineError):
            run(as_of=(TODAY - timedelta(days=1)).isoformat(), started_by="flow-run-of-the-night")
        with pytest.raises(PipelineError):
            run(as_of="2025-11-11", started_by="somebody-in-the-evening")
    outcome = run(as_of="resume", resume_runs=("flow-run-of-the-night",))
    assert outcome.as_of == TODAY - timedelta(days=1)


def test_a_pointer_that_fell_behind_is_repaired_under_the_lease(
    project: Project, demo: DemoCounts, run: Runner
) -> None:
    first = run()
    stale = project.file("latest.json")
    second = run()
    assert stale is not None
    project.bucket.replace("latest.json", stale)
    with broken(project), pytest.raises(PipelineError):
        run()
    latest = project.latest()
    assert latest is not None
    assert latest["run"] == second.run_path != first.run_path


def test_what_earlier_runs_were_is_asked_for_once(
    project: Project, demo: DemoCounts, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half a megabyte was received a night: 60 rows of the ledger, before the commit and after it."""
    first, asked, send = run("rest"), [], httpx.HTTPTransport.handle_request

    def counted(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        if request.url.path.endswith("/rpc/etl_history"):
            asked.append(json.loads(request.content)["p_filter"].get("limit"))
        return send(transport, request)

    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", counted)
    outcome = run("rest")
    assert [limit for limit in asked if limit > 1] == [60]
    assert outcome.history[0].run_id == first.run_id
    columns = "run_id, token, status, transport, as_of, as_of_mode, lease_seconds, started_at"
    row = f"'watched-' || i, gen_random_uuid(), 'committed', 'rest', '{AS_OF}'::timestamptz + i * interval '5 minutes'"
    project.stack.query(
        f"insert into etl_runs ({columns}) select {row}, 'now', 120, now() from generate_series(292, 351) i"
    )
    today = datetime.fromisoformat(AS_OF) + timedelta(days=1, hours=8)
    dry = run("rest", as_of=today.isoformat(), dry_run=True)
    assert earlier_figures(dry, days=1) == outcome.headline, "of the night before, behind a watch's runs"


def test_a_failure_after_the_commit_is_noted_and_no_failure(
    project: Project, demo: DemoCounts, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run()

    def refuse(*_: object, **__: object) -> None:
        raise TerminalError("Storage takes no more.")

    with monkeypatch.context() as patch:
        patch.setattr(Bucket, "replace", refuse)
        outcome = run()
    assert outcome.status == "committed"
    assert not outcome.current
    assert "latest.json did not move" in " ".join(outcome.notes)
    assert project.stack.query(f"select status from etl_runs where run_id = '{outcome.run_id}'") == "committed"
    latest = project.latest()
    assert latest is not None
    assert latest["run"] == first.run_path
    assert run().current, "the next run repairs the pointer and moves it"


@contextmanager
def away_after_the_commit(monkeypatch: pytest.MonkeyPatch, questions: int) -> Iterator[None]:
    """The first so many questions after a commit are asked in vain, all their tries long; the next one is answered."""
    call, asked = RestDatabase.call, list[str]()

    def away(database: RestDatabase, function: str, /, **arguments: Any) -> Any:
        if asked and len(asked) <= questions:
            asked.append(function)
            raise ServiceUnavailable("The database is away.")
        answer = call(database, function, **arguments)
        if function == "etl_commit":
            asked.append(function)
        return answer

    with monkeypatch.context() as patch:
        patch.setattr(RestDatabase, "call", away)
        yield


@pytest.mark.soak
def test_a_database_away_right_after_the_commit_keeps_the_pointer_back_no_longer_than_it_is_away(
    project: Project, demo: DemoCounts, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    with away_after_the_commit(monkeypatch, 1):
        outcome = run("rest")
    assert outcome.current
    latest = project.latest()
    assert latest is not None
    assert latest["run"] == outcome.run_path
    assert project.stack.query("select status from etl_runs") == "committed"


@pytest.mark.slow
def test_a_database_that_stays_away_after_the_commit_makes_no_second_run(
    project: Project, demo: DemoCounts, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The night, or a run for a past instant, was run once more, or failed, though it was committed."""
    for as_of in (AS_OF, "2026-01-20"):
        with away_after_the_commit(monkeypatch, 99):
            outcome = run("rest", as_of=as_of)
        assert outcome.status == "committed"
        assert not outcome.current
        assert outcome.notes
    assert project.stack.query("select status, historical, count(*) from etl_runs group by 1, 2 order by 2") == (
        "committed|f|1\ncommitted|t|1"
    )


def test_an_accepted_metric_passes_as_it_was_seen_and_not_further(
    project: Project, demo: DemoCounts, run: Runner
) -> None:
    run()
    _delete(project, 400)
    with pytest.raises(RunHeld, match="A dry run leaves nothing that could be accepted") as dry:
        run(dry_run=True)
    names = frozenset(dry.value.values)
    assert "posts_deletes" in names
    assert "--accept" not in str(dry.value)
    with pytest.raises(RunHeld, match=r"posts_deletes.*: the last run was not held by this") as held:
        run(accept=names)
    assert frozenset(held.value.values) == names
    assert run(accept=names, dry_run=True).status == "dry_run"
    _delete(project, 500)  # far more than what the person saw
    with pytest.raises(RunHeld, match="further than what was accepted") as again:
        run(accept=names)
    seen = json.loads(project.stack.query("select counts -> 'held' from etl_runs order by started_at desc limit 1"))
    assert seen == pytest.approx(dict(again.value.values))
    assert run(accept=frozenset(again.value.values)).status == "committed"


def test_a_name_that_no_metric_has_is_refused_before_anything_is_read(
    project: Project, demo: DemoCounts, run: Runner
) -> None:
    with pytest.raises(ConfigurationError, match="posts_dorp") as refused:
        run(accept=frozenset({"posts_dorp"}))
    assert "posts_drop" in refused.value.remedy
    assert project.stack.query("select count(*) from etl_runs") == "0"


def test_an_emptied_table_holds_the_run_however_small_it_is(project: Project, run: Runner) -> None:
    user = "insert into public.users (name, created_at, updated_at) values ('Ann', '2025-05-01Z', '2025-05-01Z')"
    project.stack.query(user)
    run()
    project.stack.query("delete from public.users")
    with pytest.raises(RunHeld, match="users_deletes: 1 of 1 rows"):
        run()


def test_the_disk_is_asked_for_what_the_planner_expects(
    project: Project, demo: DemoCounts, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    project.stack.query("analyze public.users, public.posts")
    monkeypatch.setattr("tasks.ledger.room.SHARE", {"postgres": 1e9, "rest": 1e9})
    with pytest.raises(ConfigurationError, match=r"free; this run needs about \d+(\.\d+)? \w+iB"):
        run()
    assert not project.remove_local_runs()


def test_a_restart_of_the_same_process_is_not_in_its_own_way(project: Project, demo: DemoCounts, run: Runner) -> None:
    request = RunRequest(AsOf("now"), started_by="first")
    run()
    with broken(project), pytest.raises(PipelineError):
        run_pipeline(request)
    assert run_pipeline(request).current
