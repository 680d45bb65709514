"""What Prefect costs: a nightly as a flow against the same stages called as plain functions.

Both run the whole pipeline on one stack with the same rows, in a process each, in turn: a first one that is not
counted, since it writes all rows, then pairs of nights without changes. The server is there for both. Starting Python,
importing Prefect and starting a server are not counted: a worker's run pays the first two, and says so below.

Goal at 500,000 posts: at most 10 s or 10 % more.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from data.demo import load
from deploy.prefect_services import Prefect, server
from local_stack import down, up
from local_stack.state import free_port

POSTS_PER_USER = 10
GOAL_SECONDS, GOAL_SHARE = 10.0, 0.10


def main() -> int:
    """Measure and print; the exit code says whether it could be measured, not whether the goal was met."""
    parser = argparse.ArgumentParser(prog="python -m bench.overhead", description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000, help="posts")
    parser.add_argument("--pairs", type=int, default=3)
    parser.add_argument("--child", choices=("flow", "plain"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return _child(options.child)
    return _compare(options.rows, options.pairs)


def _compare(rows: int, pairs: int) -> int:
    home = Path(tempfile.mkdtemp(prefix="supabase-nightly-bench-"))
    home.chmod(0o711)
    try:
        stack = up(home / "stack", empty=True)
        load(stack.db_url, users=max(rows // POSTS_PER_USER, 1), posts=rows)
        settings = {**stack.env(), "ETL_DATA_DIR": str(home / "data"), "PREFECT_LOGGING_LEVEL": "WARNING"}
        prefect = Prefect.at(home / "prefect", port=free_port(), extra=settings)
        with server(prefect):
            _measure("plain", prefect)
            pairs_taken = [(_measure("plain", prefect), _measure("flow", prefect)) for _ in range(pairs)]
    finally:
        down(home / "stack")
        shutil.rmtree(home)
    _print(rows, [plain for plain, _ in pairs_taken], [flow for _, flow in pairs_taken])
    return 0


def _measure(kind: str, prefect: Prefect) -> tuple[float, float]:
    """Seconds of the pipeline and of the whole process."""
    started = time.monotonic()
    command = [sys.executable, "-m", "bench.overhead", "--child", kind]
    done = subprocess.run(command, env=prefect.env, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout.splitlines()[-1])["seconds"]), time.monotonic() - started


def _child(kind: str) -> int:
    """One night, timed from inside: the imports are done."""
    from flows.engine.outcome import RunRequest
    from flows.engine.pipeline import run_pipeline
    from flows.forms import NightlyForm
    from flows.nightly import nightly

    if kind == "plain":
        _undress()
    started = time.monotonic()
    if kind == "plain":
        run_pipeline(RunRequest())
    else:
        nightly(NightlyForm(as_of="now", dry_run=False))
    seconds = time.monotonic() - started
    print(json.dumps({"seconds": seconds}))  # noqa: T201 - the parent reads it
    sys.stdout.flush()
    os._exit(0)  # what Prefect does at exit is not the pipeline's time


def _undress() -> None:
    """The stages as the plain functions that they are beneath."""
    from prefect import Task

    from flows.engine import stages

    for name, value in list(vars(stages).items()):
        if isinstance(value, Task):
            setattr(stages, name, value.fn)


def _print(rows: int, plain: list[tuple[float, float]], flow: list[tuple[float, float]]) -> None:
    bare, dressed = (statistics.median(seconds for seconds, _ in runs) for runs in (plain, flow))
    whole = statistics.median(wall - seconds for seconds, wall in flow)
    more = dressed - bare
    met = more <= GOAL_SECONDS or more <= GOAL_SHARE * bare
    sys.stdout.write(
        f"{rows:,} posts, a night without changes, median of {len(plain)}\n"
        f"  stages as plain functions  {bare:8.2f} s\n"
        f"  nightly under Prefect      {dressed:8.2f} s\n"
        f"  more                       {more:8.2f} s  {more / bare:+.1%}   goal ≤ {GOAL_SECONDS:g} s or ≤ "
        f"{GOAL_SHARE:.0%}: {'met' if met else 'missed'}\n"
        f"  start of a process and its imports, not counted: {whole:.1f} s\n"
    )


if __name__ == "__main__":
    sys.exit(main())
