"""The answer to a commit is lost and the database is away after it: the run asks the ledger, and is committed once."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from data.demo import DemoCounts
from flows.engine import command
from flows.engine.outcome import RunRequest
from flows.engine.pipeline import run_pipeline
from local_stack.home import Home
from local_stack.postgres import ADMIN, query
from local_stack.state import load
from tasks.ledger.as_of import AsOf
from tests.pipeline.commit_proxy import CommitProxy, losing_the_commit
from tests.pipeline.kit import AS_OF, CLOCK, Project

NOT_KNOWN = "Written: All files, and perhaps all rows and the commit: the database was asked for it"
PAST = "Written: All files, and perhaps the commit: the database was asked for it"


@pytest.fixture
def slow(project: Project) -> Iterator[Callable[[], None]]:
    """Makes the database wait for a standby at each commit, for two seconds."""

    state = load(Home.at(project.stack.home))
    assert state
    superuser = state.url(ADMIN, state.admin_password)

    def standby(name: str) -> None:
        query(superuser, f"alter system set synchronous_standby_names = '{name}'")
        query(superuser, "select pg_reload_conf()")

    timers = [threading.Timer(2, standby, [""])]

    def wait() -> None:
        standby("nobody")
        time.sleep(0.2)
        timers[0].start()

    yield wait
    timers[0].cancel()
    standby("")


@pytest.mark.parametrize("away", [1, 35])
def test_a_commit_that_nobody_heard_of(
    away: float, project: Project, demo: DemoCounts, monkeypatch: pytest.MonkeyPatch
) -> None:
    with losing_the_commit(project.stack.db_url, away=away * CLOCK) as proxy:
        for name, value in {**project.default_env("postgres"), "SUPABASE_DB_URL": proxy.url}.items():
            monkeypatch.setenv(name, value)
        outcome = run_pipeline(RunRequest(AsOf.parse(AS_OF)))
        assert proxy.lost == 1
    assert outcome.status == "committed"
    assert outcome.current
    assert outcome.tables["users"]["kept"] == demo.users.kept
    if away == 1:  # the try that follows finds it committed
        assert outcome.tables["users"]["inserted"] == demo.users.kept
        assert project.stack.query("select status from etl_runs") == "committed"
    project.assert_whole()


@pytest.mark.slow
def test_a_commit_that_is_carried_out_while_the_next_try_begins(
    project: Project, demo: DemoCounts, slow: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """That try ended as if another run had taken over, and `latest.json` stayed."""
    with losing_the_commit(project.stack.db_url, away=0, slow=slow) as proxy:
        for name, value in {**project.default_env("postgres"), "SUPABASE_DB_URL": proxy.url}.items():
            monkeypatch.setenv(name, value)
        outcome = run_pipeline(RunRequest(AsOf.parse(AS_OF)))
        assert proxy.lost == 1
    assert outcome.current
    assert outcome.tables["users"]["inserted"] == demo.users.kept
    project.assert_whole()


@pytest.mark.slow
@pytest.mark.parametrize("words", ["", "Tenant or user not found"])  # as a pooler says that starts again
def test_a_commit_that_nobody_hears_of_before_the_run_ends_is_not_said_to_be_rolled_back(
    words: str, project: Project, demo: DemoCounts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with losing_the_commit(project.stack.db_url, away=600, words=words) as proxy:
        assert nightly(project, proxy, monkeypatch) == command.EXIT["failed"]
    assert project.stack.query("select status from etl_runs") == "committed"
    assert NOT_KNOWN in capsys.readouterr().err
    if words:
        return
    with losing_the_commit(project.stack.db_url, away=600) as proxy:
        assert nightly(project, proxy, monkeypatch, as_of="2026-01-30") == command.EXIT["failed"]
    assert project.stack.query("select count(*) from etl_runs where historical and status = 'committed'") == "1"
    said = capsys.readouterr().err
    assert PAST in said
    assert "does not move `latest.json`" in said


@pytest.mark.slow
@pytest.mark.usefixtures("hears_ctrl_c")
def test_a_commit_that_ctrl_c_meets_is_not_said_to_be_rolled_back(
    project: Project, demo: DemoCounts, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stop = lambda: os.kill(os.getpid(), signal.SIGINT)  # noqa: E731
    with losing_the_commit(project.stack.db_url, away=0, slow=stop) as proxy:
        assert nightly(project, proxy, monkeypatch) == 130
        assert proxy.lost == 1
    assert NOT_KNOWN in capsys.readouterr().err


def nightly(project: Project, proxy: CommitProxy, monkeypatch: pytest.MonkeyPatch, as_of: str = AS_OF) -> int:
    """The command, once. Its code."""
    env = {**project.default_env("postgres"), "SUPABASE_DB_URL": proxy.url, "ETL_RUN_RETRIES": "0"}
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    return command.main(["--as-of", as_of], prog="nightly", run=lambda options: run_pipeline(options.request))
