"""A guest in the product's database: at any stage but the reading, the product's own work does not wait for a run."""

from __future__ import annotations

import threading
import time
from typing import Any

import psycopg
import pytest

from data.demo import DemoCounts
from tasks.platform.functions import PostgresDatabase
from tasks.settings import Transport
from tests.pipeline.conftest import Runner
from tests.pipeline.killed import paused_child
from tests.pipeline.kit import AS_OF, Project
from tests.pipeline.test_killed import STAGES, TRANSPORTS

# What a product does to its own tables; the whole has to be through within its second.
WORK = (
    "alter table public.posts add column guest_test int",
    "select count(guest_test) from public.posts",
    "alter table public.posts drop column guest_test",
    "vacuum public.posts",
    "vacuum public.users",
)
READING = ("Check sources", "Read posts", "Read users")  # one snapshot; it ends with the look for orphans
AFTER_READING = [stage for stage in STAGES[:-1] if stage not in READING]


def check_guest(project: Project, transport: Transport, stage: str) -> None:
    """Pause the run at the end of a stage, and do the product's work with a second for each statement."""
    with paused_child(project.default_env(transport), AS_OF, stage) as (process, go):
        for statement in WORK:
            project.stack.query(f"set statement_timeout = '1s';\n{statement}")
        held = project.stack.query(
            "select count(*) from pg_stat_activity where application_name = 'supabase-nightly'"
            " and (backend_xmin is not null or state like 'idle in transaction%')"
        )
        go.touch()
        process.join(120)
        assert process.exitcode == 0
    assert held == "0", "no transaction of the run's is open between its stages"
    project.assert_whole()


@pytest.mark.parametrize("stage", ["Recheck orphans", "Clean posts", "Publish"])
def test_the_product_does_not_wait(stage: str, project: Project, demo: DemoCounts) -> None:
    check_guest(project, "postgres", stage)


@pytest.mark.parametrize("transport", TRANSPORTS)
def test_nor_before_the_reading_starts(transport: Transport, project: Project, demo: DemoCounts) -> None:
    check_guest(project, transport, "Check sources")


@pytest.mark.soak
@pytest.mark.parametrize("stage", AFTER_READING)
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_the_product_does_not_wait_at_any_stage(
    transport: Transport, stage: str, project: Project, demo: DemoCounts
) -> None:
    check_guest(project, transport, stage)


def test_a_run_says_whose_lock_it_waits_for(
    project: Project, demo: DemoCounts, run: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    def said() -> list[str]:
        return [text for text in caplog.messages if "for a lock on" in text]

    def release() -> None:
        deadline = time.monotonic() + 60
        while not said() and time.monotonic() < deadline:
            time.sleep(0.1)
        time.sleep(1)  # some beats more: it is said once
        session.rollback()

    with psycopg.connect(project.stack.db_url, application_name="somebody's tool") as session:
        session.execute("lock table clean_posts in share mode")
        who = f"clean_posts that session {session.info.backend_pid} (somebody's tool, idle in transaction) holds"
        threading.Thread(target=release).start()
        run("postgres", ETL_LEASE_SECONDS=2)
    (text,) = said()
    assert who in text
    project.assert_whole()


def test_a_prepared_transaction_has_no_session_that_could_be_ended(
    project: Project, run: Runner, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A server allows none by default; of one, pg_blocking_pids gives 0."""
    call, wait = PostgresDatabase.call, {"table": "posts", "seconds": 48, "pid": 0, "application": None, "state": None}

    def waiting(database: PostgresDatabase, function: str, /, **arguments: Any) -> Any:
        return [wait] if function == "etl_waits" else call(database, function, **arguments)

    monkeypatch.setattr(PostgresDatabase, "call", waiting)
    run("postgres")
    (text,) = [text for text in caplog.messages if "for a lock on posts" in text]
    assert "pg_prepared_xacts" in text
    assert "session" not in text
