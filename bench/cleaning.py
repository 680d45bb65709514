"""Cleaning and statistics, against the fastest thing that can be said of the same texts, and against plain pandas.

Three ways over the same posts, each in a process of its own so that its peak memory is its own:
- ours: clean_posts and build_reports, from spool to spool; the row hash apart;
- arrow: one pass of NFC, one pattern match and one word count over the contents, nothing else;
- pandas: the same rules and statistics written plainly over one frame in memory, without row hash.
All three are one thread; seconds are of the processor, so that a busy machine shows in the wall clock only.

Goals: ours ≤ 2 × arrow; ours ≥ 3 × as fast as pandas at ≤ 1/3 of its peak memory (above the bare interpreter's).
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from bench.plain_pandas import clean_and_aggregate
from tasks.cleaning import units as clean
from tasks.cleaning.partials import to_micros
from tasks.cleaning.passes import clean_posts, clean_users
from tasks.cleaning.row_hash import row_hashes
from tasks.contracts import POSTS, USERS
from tasks.reports.build import build_reports
from tasks.workspace import Workspace, read_batches

SNAPSHOT_AT = datetime(2026, 1, 31, 12, tzinfo=UTC)
BATCH = 50_000
POSTS_PER_USER = 25
_TEXT = (
    "the supabase nightly pipeline reads every post and counts its words before anyone wakes up so that a chart of "
    "yesterday is ready with the first coffee of the day and nobody has to ask where a number came from again"
)
_WORDS = _TEXT.split()
_ACCENTED = [*_WORDS, "café", "naïve", "Zürich", "señor", "crème", "“quoted”", "—", "🙂", "über", "façade"]


@dataclass
class Clock:
    """Seconds that some pieces of work took together: of the processor, and on the wall."""

    cpu: float = 0.0
    wall: float = 0.0

    def time(self, work: Callable[[], Any]) -> Any:
        wall, cpu = time.perf_counter(), time.process_time()
        try:
            return work()
        finally:
            self.cpu += time.process_time() - cpu
            self.wall += time.perf_counter() - wall


def make_spools(workspace: Workspace, rows: int, *, seed: int = 1) -> dict[str, float]:
    """Raw spools of users and posts of about 300 bytes: 30 % not ASCII, 5 % with something to clean, 1 % orphans."""
    random = np.random.default_rng(seed)
    users = _ids(random, max(1, rows // POSTS_PER_USER))
    workspace.spool("raw", "users", USERS.raw_schema).write(0, [_users(random, users)])
    texts = _texts(random, 4_000)
    ids = _ids(random, rows)
    cuts = range(0, rows, BATCH)
    batches = (_posts(random, ids[at : at + BATCH], users, texts) for at in cuts)
    workspace.spool("raw", "posts", POSTS.raw_schema).write(0, batches)
    return {}


def _ids(random: np.random.Generator, count: int) -> pa.Array:
    hexes = [bytes(row).hex() for row in random.integers(0, 256, (count, 16), dtype=np.uint8)]
    return pa.array(sorted(f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}" for h in hexes))


def _instants(random: np.random.Generator, count: int) -> pa.Array:
    end = to_micros(SNAPSHOT_AT)
    return pa.array(end - random.integers(1, 730 * 86_400_000_000, count)).cast(pa.timestamp("us", tz="UTC"))


def _users(random: np.random.Generator, ids: pa.Array) -> pa.RecordBatch:
    rows = len(ids)
    columns: dict[str, pa.Array] = {
        "id": ids,
        "name": pa.array([f"Person {i}" for i in range(rows)]),
        "email": pa.array([f"Person{i}@Example.com" for i in range(rows)]),
        "bio": pa.array(["Writes."] * rows),
        "status": pa.array(random.choice(["active", "ACTIVE", "inactive", "banned"], rows).tolist()),
        "created_at": _instants(random, rows),
        "updated_at": _instants(random, rows),
        "_invalid": pa.nulls(rows, pa.string()),
        "_fingerprint": pa.array(random.integers(-(2**62), 2**62, rows)),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in USERS.raw_schema.names], schema=USERS.raw_schema)


def _texts(random: np.random.Generator, count: int) -> pa.Array:
    texts = []
    for _ in range(count):
        words = _WORDS if random.random() < 0.7 else _ACCENTED
        text = " ".join(random.choice(words, 64))[:300]
        texts.append(f"{text}\r\n\u200b " if random.random() < 0.05 else text.strip())
    return pa.array(texts)


def _posts(random: np.random.Generator, ids: pa.Array, users: pa.Array, texts: pa.Array) -> pa.RecordBatch:
    rows = len(ids)
    author = users.take(pa.array(random.integers(0, len(users), rows), mask=random.random(rows) < 0.01))
    columns: dict[str, pa.Array] = {
        "id": ids,
        "user_id": author,
        "title": pc.utf8_slice_codeunits(texts.take(pa.array(random.integers(0, len(texts), rows))), 0, 30),
        "content": texts.take(pa.array(random.integers(0, len(texts), rows))),
        "created_at": _instants(random, rows),
        "updated_at": _instants(random, rows),
        "_invalid": pa.nulls(rows, pa.string()),
        "_fingerprint": pa.array(random.integers(-(2**62), 2**62, rows)),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in POSTS.raw_schema.names], schema=POSTS.raw_schema)


def run_ours(workspace: Workspace) -> dict[str, float]:
    """Clean and aggregate; `hash` is the part of it that the row hashes take."""
    clean_users(workspace, snapshot_at=SNAPSHOT_AT)
    hashing = Clock()
    with patch.object(clean, "row_hashes", lambda *given: hashing.time(lambda: row_hashes(*given))):
        working = Clock()
        working.time(lambda: clean_posts(workspace, snapshot_at=SNAPSHOT_AT, as_of=SNAPSHOT_AT))
        working.time(lambda: build_reports(workspace, as_of=SNAPSHOT_AT))
    return {"seconds": working.cpu - hashing.cpu, "wall": working.wall - hashing.wall, "hash": hashing.cpu}


def run_arrow(workspace: Workspace) -> dict[str, float]:
    """NFC, a match for what cleaning would remove, and a word count: Arrow's own kernels, batch by batch."""
    clock = Clock()
    for path in workspace.spool("raw", "posts", POSTS.raw_schema).files():
        for batch in read_batches(path):
            clock.time(partial(_arrow_pass, batch["content"]))
    return {"seconds": clock.cpu, "wall": clock.wall}


def _arrow_pass(content: pa.Array) -> None:
    text = pc.utf8_normalize(content, form="NFC")
    pc.match_substring_regex(text, r"[\x00-\x08\x0b-\x1f\x7f-\x{9f}\x{200b}\x{2060}\x{feff}]")
    pc.count_substring_regex(text, r"[^\s\pZ]+")


def run_pandas(workspace: Workspace) -> dict[str, float]:
    """Everything in one frame."""
    users = workspace.spool("raw", "users", USERS.raw_schema).table().to_pandas()
    posts = workspace.spool("raw", "posts", POSTS.raw_schema).table().to_pandas()
    clock = Clock()
    clock.time(lambda: clean_and_aggregate(users, posts, SNAPSHOT_AT))
    return {"seconds": clock.cpu, "wall": clock.wall}


WAYS: dict[str, Callable[[Workspace, int], dict[str, float]]] = {
    "make": lambda workspace, rows: make_spools(workspace, rows),
    "nothing": lambda workspace, rows: {},
    "arrow": lambda workspace, rows: run_arrow(workspace),
    "ours": lambda workspace, rows: run_ours(workspace),
    "pandas": lambda workspace, rows: run_pandas(workspace),
}


def measure(way: str, root: Path, rows: int) -> dict[str, float]:
    """One way in a process of its own; with its peak memory in MiB."""
    command = [sys.executable, "-m", "bench.cleaning", "--way", way, "--root", str(root), "--rows", str(rows)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ})
    return dict(json.loads(done.stdout))


def report(rows: int, found: dict[str, dict[str, float]]) -> str:
    """The figures as a table, and the ratios beside the goals."""
    ours, arrow, pandas = found["ours"], found["arrow"], found["pandas"]
    bare = found["nothing"]["mib"]
    lines = [
        f"{rows:,} posts of about 300 bytes",
        "way          seconds   rows/s   wall seconds   peak MiB above the interpreter",
    ]
    for name in ("ours", "arrow", "pandas"):
        seconds, mib = found[name]["seconds"], found[name]["mib"] - bare
        lines.append(f"{name:10} {seconds:9.2f} {rows / seconds:8,.0f} {found[name]['wall']:14.2f} {mib:12,.0f}")
    lines += [
        f"row hash   {ours['hash']:9.2f} {rows / ours['hash']:8,.0f}  (apart from ours)",
        f"ours / arrow          {ours['seconds'] / arrow['seconds']:6.2f}   goal ≤ 2",
        f"pandas / ours, time   {pandas['seconds'] / ours['seconds']:6.2f}   goal ≥ 3",
        f"ours / pandas, memory {(ours['mib'] - bare) / (pandas['mib'] - bare):6.2f}   goal ≤ 0.33",
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Measure all ways, or (inside) one."""
    parser = argparse.ArgumentParser(prog="python -m bench.cleaning", description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--way", choices=sorted(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.way:
        figures = WAYS[options.way](Workspace(options.root), options.rows)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        sys.stdout.write(json.dumps({**figures, "mib": peak}))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        root = Workspace.create(Path(folder), "bench").root
        # A child's peak memory is never below what its parent held: the texts are made in a child too.
        measure("make", root, options.rows)
        found = {way: measure(way, root, options.rows) for way in ("nothing", "arrow", "ours", "pandas")}
    sys.stdout.write(report(options.rows, found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
