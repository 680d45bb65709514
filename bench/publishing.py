"""Publishing, against pandas' own Parquet and against one bare upload.

Files: the cleaned posts as the pipeline writes them (from its spool, by month, documented, with both checksums), beside
`DataFrame.to_parquet()` with its defaults, of the same columns and rows that are in memory already, as one file.
Seconds are of the processor, so that a busy machine does not show in them.
Upload: one file by `Bucket.store`, and the files of a run by `publish` (several at once, each verified, the manifest
last), beside bare httpx POSTs of the same files, one after the other and with no check, to the embedded stack.

Goals: files ≤ 0.7 × the size of pandas' defaults; uploads at ≥ 0.8 × the speed of the bare ones.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pyarrow as pa

from local_stack import Stack, down, up
from tasks.contracts import POSTS
from tasks.files.clean import write_clean
from tasks.files.manifest import FileEntry
from tasks.files.parquet import to_file_shape
from tasks.platform.bucket import Bucket
from tasks.publish.upload import publish
from tasks.reports.figures import RunCounts
from tasks.settings import Settings, load_settings
from tasks.workspace import Workspace

AS_OF = datetime(2026, 2, 1, tzinfo=UTC)
BATCH = 50_000
MEBI = 2**20


@dataclass(frozen=True)
class BenchRun:
    """What publishing needs to know of a run."""

    run_id: str = "bench"
    as_of: datetime = AS_OF
    as_of_mode: str = "now"
    snapshot_at: datetime = AS_OF
    historical: bool = False


def main() -> None:
    """Measure files, then uploads, and print both beside their goals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory(prefix="bench-publishing-") as folder:
        workspace = Workspace.create(Path(folder), "bench")
        workspace.spool("clean", "posts", POSTS.clean_schema).write(0, _posts(rows))
        entries = _files(workspace, rows)
        home = Path(folder) / "stack"
        Path(folder).chmod(0o711)  # under root PostgreSQL runs as another account, which passes through here
        stack = up(home, empty=True)
        try:
            _uploads(workspace, stack, entries)
        finally:
            down(home)


def _posts(rows: int) -> Iterator[pa.RecordBatch]:
    """Cleaned posts of two years, sorted by id; a few authors write most of them."""
    rng = np.random.default_rng(1)
    ids, users = _uuids(rng, rows), _uuids(rng, max(1, rows // 25))
    for at in range(0, rows, BATCH):
        some = ids[at : at + BATCH]
        count = len(some)
        created = int(AS_OF.timestamp() * 1e6) - rng.integers(1, 730 * 86_400_000_000, count)
        updated = created + np.where(rng.random(count) < 0.7, 0, rng.integers(0, 10**12, count))
        columns: dict[str, Any] = {
            "id": some,
            "user_id": users.take(pa.array((rng.pareto(1.2, count) * 100).astype(np.int64) % len(users))),
            "title": pa.array(np.full(count, "A title"), mask=rng.random(count) < 0.1),
            "content": pa.nulls(count, pa.string()),
            "word_count": rng.poisson(60, count),
            "char_count": rng.poisson(360, count),
            "is_before_signup": rng.random(count) < 0.01,
            "created_at": pa.array(created, pa.timestamp("us", tz="UTC")),
            "updated_at": pa.array(updated, pa.timestamp("us", tz="UTC")),
            "row_hash": pa.array(np.full(count, "0" * 32)),
            "fingerprint": rng.integers(-(2**62), 2**62, count),
            "rule_mask": np.zeros(count, np.int64),
        }
        yield pa.RecordBatch.from_pydict(columns, schema=POSTS.clean_schema)


def _uuids(rng: np.random.Generator, count: int) -> Any:
    texts = [rng.bytes(16).hex() for _ in range(count)]
    return pa.array(sorted(f"{t[:8]}-{t[8:12]}-{t[12:16]}-{t[16:20]}-{t[20:]}" for t in texts))


def _files(workspace: Workspace, rows: int) -> list[FileEntry]:
    spool = workspace.spool("clean", "posts", POSTS.clean_schema)
    frame: pd.DataFrame = pa.Table.from_batches([to_file_shape(POSTS, batch) for batch in spool.batches()]).to_pandas()
    plain = workspace.root / "plain.parquet"
    theirs, _ = _timed(lambda: frame.to_parquet(plain), time.process_time)
    entries: list[FileEntry]
    ours, entries = _timed(lambda: write_clean(workspace, POSTS, Settings()), time.process_time)
    size, reference = sum(entry.bytes for entry in entries), plain.stat().st_size
    _say(f"{rows:,} posts in {len(entries)} files")
    _say(f"  size   ours {size / MEBI:7.1f} MiB   to_parquet() {reference / MEBI:7.1f} MiB   "
         f"ratio {size / reference:.2f} (goal ≤ 0.70)")  # fmt: skip
    _say(f"  write  ours {ours:7.2f} s     to_parquet() {theirs:7.2f} s     ratio {ours / theirs:.2f} "
         "(ours by month, from disk)")  # fmt: skip
    return entries


def _uploads(workspace: Workspace, stack: Stack, entries: list[FileEntry]) -> None:
    settings = load_settings(
        supabase_url=stack.url, supabase_service_key=stack.service_key, transport="rest", data_dir=workspace.root
    )
    one = workspace.root / "plain.parquet"
    files = [workspace.files / entry.path for entry in entries]
    bare = _best(lambda turn: _bare(stack, f"bench/bare-{turn}", [one]))
    with Bucket(settings) as bucket:
        stored = _best(lambda turn: bucket.store(f"bench/stored-{turn}.parquet", one))
    many, _ = _timed(lambda: _bare(stack, "bench/many", files))
    whole, _ = _timed(lambda: publish(settings, workspace, BenchRun(), entries, RunCounts()))
    size = one.stat().st_size / MEBI
    _say(f"  one file of {size:.1f} MiB   bare POST {size / bare:6.1f} MiB/s   store   {size / stored:6.1f} MiB/s   "
         f"ratio {bare / stored:.2f} (goal ≥ 0.80)")  # fmt: skip
    count = len(files)
    _say(f"  {count} files            bare POST {count / many:6.1f} files/s   publish {count / whole:6.1f} files/s   "
         f"ratio {many / whole:.2f} (goal ≥ 0.80)")  # fmt: skip


def _bare(stack: Stack, folder: str, files: list[Path]) -> None:
    headers = {"apikey": stack.service_key, "authorization": f"Bearer {stack.service_key}"}
    with httpx.Client(base_url=stack.url, headers=headers, timeout=120) as client:
        for number, file in enumerate(files):
            answer = client.post(f"/storage/v1/object/reports/{folder}/{number}", content=file.read_bytes())
            answer.raise_for_status()


def _best(work: Callable[[int], object], turns: int = 3) -> float:
    """Seconds of the fastest of some turns: the others waited for someone else."""
    return min(_timed(lambda turn=turn: work(turn))[0] for turn in range(turns))  # type: ignore[misc]


def _timed(work: Callable[[], Any], clock: Callable[[], float] = time.perf_counter) -> tuple[float, Any]:
    started = clock()
    result = work()
    return clock() - started, result


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
