"""The same night on worker processes: the same bytes, rows and counts, whoever does the work and whoever is killed."""

from __future__ import annotations

import builtins
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import Any

import cloudpickle
import psutil
import pytest

from data.demo import DemoCounts, load
from flows.engine.outcome import RunOutcome
from local_stack.state import free_port
from tasks.cleaning.units import CleaningUnit, clean_posts_of_range
from tasks.errors import ConfigurationError, ServiceUnavailable
from tasks.platform import dask
from tasks.platform.dask import _expected, open_workers
from tasks.settings import Transport
from tasks.workspace import Workspace
from tests.incremental.kit import assert_same_as_full
from tests.pipeline.conftest import Runner
from tests.pipeline.kit import UNTIL, Project
from tests.pipeline.test_killed import forget

ROOT = Path(__file__).parents[2]
TRANSPORTS: tuple[Transport, ...] = ("postgres", "rest")


def counted(outcome: RunOutcome) -> dict[str, Any]:
    return {"tables": outcome.tables, "quality": outcome.quality, "samples": outcome.samples}


@contextmanager
def cluster(env: dict[str, str], folder: Path, *, workers: int = 2) -> Iterator[str]:
    """A scheduler and workers, as processes with an environment of their own. Yields the scheduler's address."""
    port = free_port()
    address = f"tcp://127.0.0.1:{port}"
    common = {**{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}, "PYTHONPATH": str(ROOT)}
    scheduler = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", str(port)]
    worker = [sys.executable, "-m", "distributed.cli.dask_worker", address, "--host", "127.0.0.1", "--nthreads", "1"]
    scheduler += ["--no-dashboard"]
    worker += ["--nworkers", str(workers), "--no-dashboard", "--local-directory", str(folder)]
    with open(folder / "cluster.log", "wb") as log:
        started = [
            subprocess.Popen(command, cwd=folder, env={**common, **env}, stdout=log, stderr=log)
            for command in (scheduler, worker)
        ]
        try:
            yield address
        finally:
            for process in reversed(started):
                for part in psutil.Process(process.pid).children(recursive=True):
                    part.kill()
                process.kill()
                process.wait()


@pytest.mark.slow
def test_two_processes_give_the_same_bytes_and_rows(project: Project, demo: DemoCounts, run: Runner) -> None:
    alone, expected = counted(run("rest")), project.state()
    forget(project)
    together = run("postgres", ETL_WORKERS=2)
    assert (counted(together), project.state()) == (alone, expected)
    assert not project.remove_local_runs()


def test_what_travels_to_a_worker_holds_no_secret(project: Project) -> None:
    settings = project.settings("postgres")
    workspace = Workspace.create(project.folder / "data", "run")
    expected = _expected(settings, workspace)
    sent = cloudpickle.dumps((clean_posts_of_range, CleaningUnit(workspace, 0, 0), expected))
    for secret in (project.stack.service_key, project.stack.db_url, project.stack.db_url.split(":")[2].split("@")[0]):
        assert secret.encode() not in sent


@pytest.mark.slow
def test_a_worker_without_settings_says_so(project: Project, demo: DemoCounts, run: Runner, tmp_path: Path) -> None:
    with cluster({}, tmp_path) as address, pytest.raises(ConfigurationError) as raised:
        run("rest", ETL_DASK_ADDRESS=address)
    assert "A Dask worker" in raised.value.message
    assert "SUPABASE_URL and SUPABASE_SERVICE_KEY not set" in raised.value.message
    assert "own environment" in raised.value.remedy


@pytest.mark.soak
def test_a_cluster_whose_workers_are_gone_and_then_its_scheduler(
    project: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(dask, "_LOOK_SECONDS", 0.2)
    monkeypatch.setattr(dask, "_NO_WORKER_SECONDS", 1.0)
    workspace = Workspace.create(project.folder / "data", "run")
    units = [CleaningUnit(workspace, 0, 0)]
    with cluster(project.env("rest"), tmp_path, workers=1) as address:
        settings = project.settings().model_copy(update={"dask_address": address, "connect_timeout": 10.0})
        with open_workers(settings, workspace) as workers:
            kill("dask_worker")
            with pytest.raises(ServiceUnavailable, match="has had no worker"):
                list(workers.map(clean_posts_of_range, units))
            impatient = settings.model_copy(update={"connect_timeout": 1.0})
            with pytest.raises(ServiceUnavailable, match="has no workers"), open_workers(impatient, workspace):
                pass
            monkeypatch.setattr(dask, "_NO_WORKER_SECONDS", 60.0)
            kill("dask_scheduler")
            with pytest.raises(ServiceUnavailable, match="went away"):
                list(workers.map(clean_posts_of_range, units))
    assert not [record for record in caplog.records if record.name.startswith("distributed")]


def kill(command: str) -> None:
    """SIGKILL to what this process started by a command of this name."""
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.ZombieProcess):  # of a test before this one, that nobody has waited for
            if command in " ".join(process.cmdline()):
                process.kill()


def test_no_scheduler_at_the_address(project: Project, demo: DemoCounts, run: Runner) -> None:
    address = f"tcp://127.0.0.1:{free_port()}"
    with pytest.raises(ServiceUnavailable, match=address):
        run("rest", ETL_DASK_ADDRESS=address, ETL_RUN_RETRIES=0, ETL_CONNECT_TIMEOUT=1)


def test_something_else_at_the_address(project: Project, demo: DemoCounts, run: Runner) -> None:
    """A web server greets as none of Dask's does."""
    address = project.stack.url.replace("http://", "tcp://")
    with pytest.raises(ConfigurationError, match=f"What answers at {address} is no Dask scheduler"):
        run("rest", ETL_DASK_ADDRESS=address)
    with pytest.raises(ConfigurationError, match="ETL_DASK_ADDRESS: must be the address of a Dask scheduler"):
        run("rest", ETL_DASK_ADDRESS="tcp://127.0.0.1")


def test_without_dask_the_message_names_the_command(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def no_dask(name: str, *args: Any, **more: Any) -> Any:
        if name.split(".")[0] in ("dask", "prefect_dask"):
            raise ImportError(name)
        return real(name, *args, **more)

    monkeypatch.setattr(builtins, "__import__", no_dask)
    settings = project.settings("rest").model_copy(update={"workers": 2})
    workspace = Workspace.create(project.folder / "data", "run")
    with pytest.raises(ConfigurationError, match="not installed") as raised, open_workers(settings, workspace):
        pass
    assert "make install-dask" in raised.value.remedy


@pytest.mark.soak
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_workers_without_a_shared_disk(transport: Transport, project: Project, run: Runner, tmp_path: Path) -> None:
    load(project.stack.db_url, users=2_000, posts=20_000, until=datetime.fromisoformat(UNTIL))
    alone, expected = counted(run(transport)), project.state()
    forget(project)
    url = f"file://{tmp_path}/exchange"
    apart = project.env(transport, ETL_DATA_DIR=str(tmp_path / "elsewhere"))
    with cluster(apart, tmp_path) as address:
        together = run(transport, ETL_DASK_ADDRESS=address, ETL_SHARED_DIR=url)
        assert (counted(together), project.state()) == (alone, expected)
        project.stack.query("update users set name = 'New' where id in (select id from users limit 20)")
        project.stack.query("delete from posts where id in (select id from posts limit 20)")
        night = run(transport, ETL_DASK_ADDRESS=address, ETL_SHARED_DIR=url)
    assert_same_as_full(
        project, night, lambda: run(transport, full_refresh=True, ETL_DASK_ADDRESS="", ETL_SHARED_DIR="")
    )
    assert not list((tmp_path / "exchange").glob("*/*")), "what was exchanged is personal, and goes with the run"


@pytest.mark.soak
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_any_number_of_processes_and_a_cluster(
    transport: Transport, project: Project, run: Runner, tmp_path: Path
) -> None:
    load(project.stack.db_url, users=2_000, posts=20_000, until=datetime.fromisoformat(UNTIL))
    alone, expected = counted(run(transport)), project.state()
    for workers in (1, 2, 4):
        forget(project)
        assert (counted(run(transport, ETL_WORKERS=workers)), project.state()) == (alone, expected)
    forget(project)
    with cluster(project.env(transport), tmp_path) as address:
        assert (counted(run(transport, ETL_DASK_ADDRESS=address)), project.state()) == (alone, expected)


@pytest.mark.soak
@pytest.mark.parametrize("stage", ["Read users", "Clean users", "Guard"])
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_worker_killed_in_the_stage_after(
    stage: str, transport: Transport, project: Project, run: Runner, caplog: pytest.LogCaptureFixture
) -> None:
    load(project.stack.db_url, users=5_000, posts=100_000, until=datetime.fromisoformat(UNTIL))
    alone, expected = counted(run(transport)), project.state()
    forget(project)
    with killing_after(stage) as killed:
        together = run(transport, ETL_WORKERS=2, ETL_RANGES=24)  # so many files that a task has several of them
    assert killed, "no worker was there to be killed"
    assert (counted(together), project.state()) == (alone, expected)
    assert not project.remove_local_runs()


@contextmanager
def killing_after(stage: str) -> Iterator[list[int]]:
    """SIGKILL to one worker a moment after a stage has ended, when the next one has its units on the workers."""
    import logging

    killed: list[int] = []

    def kill() -> None:
        workers = [p for p in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(p.cmdline())]
        if workers:
            os.kill(workers[-1].pid, signal.SIGKILL)
            killed.append(workers[-1].pid)

    class Watch(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.getMessage().startswith(f"stage={stage!r}") and not killed:
                threading.Timer(0.15, kill).start()

    logger, watch = logging.getLogger("flows.engine.run"), Watch(logging.INFO)
    level = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(watch)
    try:
        yield killed
    finally:
        logger.removeHandler(watch)
        logger.setLevel(level)
