"""A command that is asked to end does so at once, says what it had written, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from data.demo import DemoCounts
from flows.engine import command
from tests.pipeline.conftest import Runner
from tests.pipeline.kit import AS_OF, Project

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("hears_ctrl_c")]
ROOT = Path(__file__).parents[2]
WAITS = "select from pg_stat_activity where application_name = 'supabase-nightly' and wait_event_type = 'Lock'"
END_IDLE = """
select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'supabase-nightly' and state = 'idle'"""


COMMAND = ("-m", "flows.nightly", "--as-of", AS_OF, "--json")
WITH_A_HANDLER_OF_ITS_OWN = """
import signal
from flows.engine.outcome import RunRequest
from flows.engine.pipeline import run_pipeline

def end(*_):
    raise SystemExit("ended by its own handler")

signal.signal(signal.SIGTERM, end)
run_pipeline(RunRequest())
"""


def stopped_at_a_lock(
    project: Project, number: int | tuple[int, ...], *arguments: str, table: str = "clean_users", before: str = "select"
) -> subprocess.CompletedProcess[str]:
    """The process gets a signal, or some, while it waits for somebody's lock, which is held until it has ended."""
    env = {"PATH": os.environ["PATH"], **project.default_env("postgres")}
    line = [sys.executable, *arguments]
    with (
        psycopg.connect(project.stack.db_url) as session,
        psycopg.connect(project.stack.db_url, autocommit=True) as eye,
    ):
        session.execute(f"lock table {table} in access exclusive mode")
        run = subprocess.Popen(line, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        while not eye.execute(WAITS).fetchall():
            assert run.poll() is None
            time.sleep(0.05)
        eye.execute(before)
        for each in number if isinstance(number, tuple) else (number,):
            run.send_signal(each)
            time.sleep(0.07)  # the first has ended the statement, and not yet the run
        out, err = run.communicate(timeout=60)
    return subprocess.CompletedProcess(line, run.returncode, out, err)


@pytest.mark.parametrize(
    ("number", "more", "by", "at"),
    [
        (signal.SIGINT, (), "by hand", {}),
        (signal.SIGTERM, (), "by SIGTERM", {"table": "posts", "before": END_IDLE}),  # the ledger's connection is gone
        (signal.SIGHUP, (signal.SIGHUP,), "by SIGHUP", {}),  # of a terminal that is closed: its shell's, too
    ],
)
def test_a_signal_ends_a_run_that_waits_for_the_database(
    number: signal.Signals, more: tuple[signal.Signals, ...], by: str, at: dict[str, str], project: Project,
    demo: DemoCounts,
) -> None:  # fmt: skip
    done = stopped_at_a_lock(project, (number, *more), *COMMAND, **at)
    assert done.returncode in (128 + number, *(-each for each in more)), done.stderr
    assert f"✗ Stopped {by}.\n  Written: Nothing: no file and no row." in done.stderr
    assert "Traceback" not in done.stderr
    said = json.loads(done.stdout)
    assert (said["status"], said["transport"], said["as_of"]) == ("failed", "postgres", AS_OF)
    ended = project.stack.query("select run_id, status, left(error, 20) from etl_runs")
    assert ended == f"{said['run_id']}|failed|Stopped. Start it ag"
    assert not list((project.folder / "data").glob("runs/*/*")), "no row of anybody is left on the disk"


def test_a_signal_reaches_a_handler_that_somebody_else_has_set(project: Project, demo: DemoCounts) -> None:
    """As Prefect's in a flow run that is cancelled."""
    done = stopped_at_a_lock(project, signal.SIGTERM, "-c", WITH_A_HANDLER_OF_ITS_OWN)
    assert "ended by its own handler" in done.stderr
    said = "failed|Stopped. Start it again; with `--as-of resume` it has the same as_of."
    assert project.stack.query("select status, error from etl_runs") == said


@pytest.mark.parametrize("function", ["etl_find_changes", "etl_write"])
def test_a_signal_does_not_wait_for_an_api_that_is_away(
    function: str, project: Project, demo: DemoCounts, run: Runner, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The requests that are under way on threads are not tried again."""

    def away(transport: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        if not asked and not request.url.path.endswith(f"/{function}"):
            return send(transport, request)
        if not asked:
            signal.pthread_kill(main, signal.SIGINT)
        asked.append(time.monotonic())
        raise httpx.ConnectError("The API is away")

    run("rest")
    project.stack.query("update users set name = 'Another' where id in (select id from users order by id limit 3)")
    send, main, asked = httpx.HTTPTransport.handle_request, threading.get_ident(), list[float]()
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", away)
    with pytest.raises(KeyboardInterrupt):
        run("rest", ETL_RETRY_BASE=30)
    assert time.monotonic() - asked[0] < 10


def test_a_run_that_is_stopped_after_its_commit_says_so(
    project: Project, demo: DemoCounts, run: Runner, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: Any) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(1)

    monkeypatch.setattr("flows.engine.pointing.point_to_current", stop)
    code = command.main(["--as-of", AS_OF, "--json"], prog="nightly", run=lambda _: run("postgres"))
    said, shown = capsys.readouterr()
    assert code == 130
    assert json.loads(said)["status"] == "committed" == project.stack.query("select status from etl_runs")
    assert "Stopped by hand after the commit.\n  Written: Everything, and it is committed" in shown
    assert "resume" not in shown
