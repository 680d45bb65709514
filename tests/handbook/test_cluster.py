"""The blocks of docs/scaling.md that make a cluster and run on it, as they stand."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from data.demo import load
from local_stack import Stack
from local_stack.state import free_port
from tests.handbook.blocks import ROOT, block, environment, running, shell, with_own

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]
SCHEDULER, WORKER, RUN = block("python -m dask scheduler"), block("python -m dask worker"), block("ETL_DASK_ADDRESS=")


def listens(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=2):
        return True
    return False


@contextmanager
def cluster(env: dict[str, str], folder: Path, *, scheduler_in: Path = ROOT, worker_in: Path = ROOT) -> Iterator[str]:
    """What the blocks make, each from the folder it is started in; yields the block of the run for it."""
    port, log = free_port(), folder / "worker.log"
    here = {"tcp://10.0.0.5:8786": f"tcp://127.0.0.1:{port}"}
    scheduler = with_own(SCHEDULER, {"10.0.0.5": "127.0.0.1", "port 8786": f"port {port}"})
    worker = with_own(WORKER, {**here, "dask worker": f"dask worker --host 127.0.0.1 --local-directory {folder}"})
    with ExitStack() as both:
        first = running(scheduler, env, folder / "scheduler.log", until=lambda: listens(port), cwd=scheduler_in)
        both.enter_context(first)
        both.enter_context(running(worker, env, log, until=lambda: "Registered" in log.read_text(), cwd=worker_in))
        yield with_own(RUN, {**here, "flows.nightly": "flows.nightly --json"})


@pytest.fixture
def env(clean_stack: Stack, tmp_path: Path) -> dict[str, str]:
    load(clean_stack.db_url, users=400, posts=1_200, days=130)
    return environment(tmp_path, {**clean_stack.env(), "ETL_DATA_DIR": str(tmp_path / "data")})


def test_a_cluster_that_the_page_makes_carries_a_night(env: dict[str, str], tmp_path: Path) -> None:
    with cluster(env, tmp_path) as run:
        said = json.loads(shell(run, env))
    assert (said["status"], said["mode"]) == ("committed", "full")
    assert said["tables"]["posts"]["inserted"] > 900


@pytest.mark.parametrize(("part", "who"), [("scheduler_in", "The Dask scheduler at"), ("worker_in", "The Dask worker")])
def test_started_elsewhere_it_lacks_the_code_and_the_run_says_so(
    part: str, who: str, env: dict[str, str], tmp_path: Path
) -> None:
    with cluster(env, tmp_path, **{part: tmp_path}) as run:
        line = ["bash", "-ec", run]
        done = subprocess.run(line, cwd=ROOT, env=env, capture_output=True, text=True, timeout=120, check=False)
    said = json.loads(done.stdout)
    assert done.returncode == 1
    assert who in said["error"]
    assert "cannot find this code. Nothing was read." in said["error"]
    assert "docs/scaling.md" in said["remedy"]
