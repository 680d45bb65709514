"""Cleaning, partial tables and files on worker processes, against this process alone. No database takes part.

Goals: 2 processes ≥ 1.6 × as fast at 2,000,000 posts on 2 cores; at 200,000 posts the engine costs ≤ 10 s; the peak
memory of a worker at five times the rows ≤ 1.3 ×. `--rows 2000000` is the size that the goals are for.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.cleaning import BATCH, POSTS_PER_USER, SNAPSHOT_AT, _ids, _posts, _texts, _users
from tasks.cleaning.passes import clean_posts, clean_users
from tasks.contracts import POSTS, USERS
from tasks.files.run_files import write_tables
from tasks.platform.dask import open_workers
from tasks.settings import Settings
from tasks.workspace import Workspace

Figures = dict[int, dict[str, float]]  # by the number of processes; 0: this process alone

SMALL = 200_000
FILES = 256  # as many ranges as a source is cut into at most
PROJECT = {"SUPABASE_URL": "http://127.0.0.1:9", "SUPABASE_SERVICE_KEY": "none", "ETL_TRANSPORT": "rest"}


def make_ranges(workspace: Workspace, rows: int) -> None:
    """Raw spools as a read leaves them: one file a key range."""
    random = np.random.default_rng(1)
    users = _ids(random, max(1, rows // POSTS_PER_USER))
    _in_files(workspace, USERS.name, [_users(random, users)])
    texts, ids = _texts(random, 4_000), _ids(random, rows)
    size = max(BATCH, -(-rows // FILES))
    spool = workspace.spool("raw", POSTS.name, POSTS.raw_schema)
    for index, start in enumerate(range(0, rows, size)):
        spool.write(index, [_posts(random, ids[start : start + size], users, texts)])


def _in_files(workspace: Workspace, table: str, batches: list[pa.RecordBatch]) -> None:
    spool = workspace.spool("raw", table, USERS.raw_schema)
    rows = batches[0].num_rows
    half = max(1, rows // 2)
    for index, start in enumerate(range(0, rows, half)):
        spool.write(index, [batches[0].slice(start, half)])


def run(workspace: Workspace, processes: int) -> dict[str, float]:
    """Clean and write all files. Seconds of the work, of the whole with the engine's start and end, and peak MiB."""
    settings = Settings(_env_file=None, workers=processes)
    whole = time.perf_counter()
    with open_workers(settings, workspace) as workers:
        started = time.perf_counter()
        clean_users(workspace, snapshot_at=SNAPSHOT_AT, workers=workers)
        clean_posts(workspace, snapshot_at=SNAPSHOT_AT, as_of=SNAPSHOT_AT, workers=workers)
        write_tables(workspace, settings, workers=workers)
        seconds = time.perf_counter() - started
        worker = workers.peak_mib() if processes else 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "whole": time.perf_counter() - whole, "mib": peak, "worker_mib": worker}


def measure(root: Path, rows: int, processes: int) -> dict[str, float]:
    """One way, in a process of its own, on a copy of the raw spools that is never changed."""
    for name in ("clean", "rejects", "staged", "partials", "partial_tables", "files", "months", "dask"):
        shutil.rmtree(root / name, ignore_errors=True)
    command = [sys.executable, "-m", "bench.scale", "--way", str(processes), "--root", str(root), "--rows", str(rows)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, **PROJECT})
    return dict(json.loads(done.stdout))


def at(rows: int, ways: tuple[int, ...]) -> Figures:
    """The figures at so many posts, by the number of processes (0: this process alone)."""
    with tempfile.TemporaryDirectory() as folder:
        root = Workspace.create(Path(folder), "bench").root
        command = [sys.executable, "-m", "bench.scale", "--way", "make", "--root", str(root), "--rows", str(rows)]
        subprocess.run(command, check=True)
        return {processes: measure(root, rows, processes) for processes in ways}


def report(rows: int, small: Figures, normal: Figures, large: Figures) -> str:
    """The figures as a table, and the ratios beside the goals."""
    lines = ["posts        processes   seconds   whole   peak MiB   of a worker"]
    for count, found in ((SMALL, small), (rows, normal), (5 * rows, large)):
        for processes, of in found.items():
            lines.append(
                f"{count:<12,} {processes or 'none':>9} {of['seconds']:9.1f} {of['whole']:7.1f} {of['mib']:10,.0f}"
                f" {of['worker_mib']:13,.0f}"
            )
    lines += [
        f"2 processes, times as fast            {normal[0]['seconds'] / normal[2]['seconds']:6.2f}   goal ≥ 1.6",
        f"engine at {SMALL:,} posts, seconds     {small[2]['whole'] - small[0]['whole']:6.1f}   goal ≤ 10",
        f"a worker's memory at 5 × the rows     {large[2]['worker_mib'] / normal[2]['worker_mib']:6.2f}   goal ≤ 1.3",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure all ways, or (inside) one."""
    parser = argparse.ArgumentParser(prog="python -m bench.scale", description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--way", help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way == "make":
        make_ranges(Workspace(options.root), options.rows)
    elif options.way:
        sys.stdout.write(json.dumps(run(Workspace(options.root), int(options.way))))
    else:
        ways = at(SMALL, (0, 2)), at(options.rows, (0, 2)), at(5 * options.rows, (2,))
        sys.stdout.write(report(options.rows, *ways))
    return 0


if __name__ == "__main__":
    sys.exit(main())
