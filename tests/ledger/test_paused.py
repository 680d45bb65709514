"""A holder of the lease that is paused past its term, in the middle of its load, writes nothing more."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from local_stack import Stack
from tasks.settings import Transport
from tests.sink.kit import TRANSPORTS, Night, empty, expected_state, post, rows_of, settings_for, versions, work

ROOT = Path(__file__).parents[2]

PAUSED = """
import os, signal, sys
from pathlib import Path
from local_stack import find
from tasks.platform.functions import open_database
from tasks.errors import LeaseLost
from tasks.ledger.ledger import Ledger
from tasks.sink import plan
from tasks.workspace import Workspace
from tests.sink.kit import Night, fill, post, settings_for, start, write

home, transport, folder = sys.argv[1:]
settings = settings_for(find(home), transport, Path(folder), lease_seconds=2, writers=1)

paused = []

def pause(done, total):
    if not paused:  # once, in the midst of the load: over Postgres, inside the transaction
        paused.append(done)
        os.kill(os.getpid(), signal.SIGSTOP)

with open_database(settings) as database:
    ledger = Ledger(database, settings)
    run = start(ledger, settings)
    workspace = Workspace.create(settings.data_dir, run.run_id)
    fill(workspace, Night(posts=[post(n, title="of the paused run") for n in range(30)]))
    with ledger.holding(run):
        plan(settings, workspace, run)
        try:
            write(settings, workspace, run, progress=pause)
        except LeaseLost:
            sys.exit(7)
"""


@pytest.mark.slow
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_a_holder_that_was_paused_past_its_term_writes_nothing(
    stack: Stack, transport: Transport, tmp_path: Path
) -> None:
    empty(stack)
    settings = settings_for(stack, transport, tmp_path)
    arguments = [sys.executable, "-c", PAUSED, str(stack.home), transport, str(tmp_path)]
    with subprocess.Popen(arguments, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}) as paused:
        try:
            _until_stopped(paused)
            night = Night(posts=[post(n, title="of the taker") for n in range(20)])
            work(settings.model_copy(update={"wait_for_lease": 60}), night)
            before = versions(stack)
            paused.send_signal(signal.SIGCONT)
            assert paused.wait(60) == 7
        finally:
            paused.kill()
    expected_state(stack, night)
    assert versions(stack) == before
    assert sorted(row["status"] for row in rows_of(stack, "etl_runs")) == ["committed", "failed"]


def _until_stopped(process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + 60
    while psutil.Process(process.pid).status() != psutil.STATUS_STOPPED:
        assert process.poll() is None, "it ended before it was paused"
        assert time.monotonic() < deadline
        time.sleep(0.05)
