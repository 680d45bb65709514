"""Writing back, against the least that could do it, on a stack of its own.

- first: plan and load of all-new posts over Postgres, against a bare ADBC ingest + INSERT … ON CONFLICT of the same
  rows (goal ≥ 0.9 of its rows/s), and against dlt's merge into Postgres (goal ≥ 3×);
- quiet: plan and load of the same posts again, which writes nothing (goal ≥ 5× as fast as the first);
- rest: plan and load over REST, against a bare httpx loop over the same RPC and batches, on as many threads
  (goal ≥ 0.9; its bodies are made before the clock starts, ours while it runs).

Ours includes what the bare ways leave out: the comparison, the lease, counts, deletes, rejects, the commit.
"""

from __future__ import annotations

import argparse
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import httpx
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from local_stack import Stack, down, up
from tasks.cleaning.row_hash import row_hashes
from tasks.contracts import POSTS, REJECT_SCHEMA, REPORTS, TABLES
from tasks.files.manifest import ManifestRef
from tasks.ledger.as_of import AsOf
from tasks.ledger.ledger import Ledger, Start
from tasks.platform.functions import open_database
from tasks.platform.postgres import connect
from tasks.reports.figures import RunCounts
from tasks.settings import Settings, Transport
from tasks.sink import load, plan
from tasks.sink.job import json_batches
from tasks.sink.rows import as_array
from tasks.workspace import Spool, Workspace

AS_OF = datetime(2026, 2, 1, tzinfo=UTC)
BATCH = 20_000
REPEATS = 3
_TEXT = "every post is read cleaned counted and written back before anyone wakes up café naïve 🙂 — über"
_WORDS = np.array(_TEXT.split(" "))


def main() -> int:
    """Measure and print; non-zero when something went wrong."""
    parser = argparse.ArgumentParser(prog="python -m bench.writing", description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000, help="posts (default 500,000)")
    rows = parser.parse_args().rows
    with own_stack() as (stack, folder):
        source = Workspace.create(folder, "rows")
        for table in TABLES:
            source.spool("clean", table.name, table.clean_schema).clear()
        make_posts(posts_of(source), rows)
        bench(stack, folder, source, rows)
    return 0


def bench(stack: Stack, folder: Path, source: Workspace, rows: int) -> None:
    """All measurements in turn, REPEATS times: the median counts, as what else the machine does falls on all alike.

    Each is on empty tables but the quiet night, which finds what the first wrote. dlt takes long, and has its goal met
    by far: once is enough.
    """

    def postgres() -> float:
        return ours(stack, folder, source, "postgres")

    bodies = [as_array(texts) for texts in batches(stack, folder, source)]
    taken = [
        (
            fresh(stack, lambda: bare_postgres(stack, folder, source)),
            fresh(stack, postgres),
            timed(postgres),
            fresh(stack, lambda: bare_rest(stack, folder, bodies)),
            fresh(stack, lambda: ours(stack, folder, source, "rest")),
        )
        for _ in range(REPEATS)
    ]
    bare, first, quiet, loop, rest = (median(seconds) for seconds in zip(*taken, strict=True))
    merged = timed(lambda: dlt_merge(stack, folder, source))
    say("Postgres, bare ADBC ingest + INSERT … ON CONFLICT", rows, bare)
    say("Postgres, dlt merge", rows, merged)
    say("Postgres, ours, all new", rows, first, f"{bare / first:.2f} of bare (≥ 0.9), {merged / first:.1f} × dlt (≥ 3)")
    say("Postgres, ours, nothing changed", rows, quiet, f"{first / quiet:.1f} × the first (≥ 5)")
    say("REST, bare httpx loop", rows, loop)
    say("REST, ours, all new", rows, rest, f"{loop / rest:.2f} of bare (≥ 0.9)")


def say(what: str, rows: int, seconds: float, ratio: str = "") -> None:
    sys.stdout.write(f"{what:<52} {seconds:8.2f} s {rows / seconds:12,.0f} rows/s   {ratio}\n")


@contextmanager
def own_stack() -> Iterator[tuple[Stack, Path]]:
    folder = Path(tempfile.mkdtemp(prefix="supabase-nightly-bench-"))
    folder.chmod(0o711)
    try:
        yield up(folder / "stack", empty=True), folder / "data"
    finally:
        down(folder / "stack")
        shutil.rmtree(folder, ignore_errors=True)


def settings_of(stack: Stack, folder: Path, transport: Transport) -> Settings:
    values: dict[str, object] = {
        "supabase_url": stack.url,
        "supabase_service_key": stack.service_key,
        "supabase_db_url": stack.db_url,
        "transport": transport,
        "data_dir": folder,
    }
    return Settings(_env_file=None, **values)  # type: ignore[arg-type]


def posts_of(workspace: Workspace) -> Spool:
    return workspace.spool("clean", POSTS.name, POSTS.clean_schema)


def make_posts(spool: Spool, rows: int) -> None:
    """Cleaned posts of about 300 bytes, in key order, as cleaning leaves them."""
    random = np.random.default_rng(1)
    ids = [bytes(row).hex() for row in random.integers(0, 256, (rows, 16), dtype=np.uint8)]
    keys = sorted(f"{h[:8]}-{h[8:12]}-{h[12:16]}-{h[16:20]}-{h[20:]}" for h in ids)
    texts = pa.array([" ".join(random.choice(_WORDS, 48)) for _ in range(2_000)])
    for index, start in enumerate(range(0, rows, BATCH)):
        spool.write(index, [posts_batch(random, keys[start : start + BATCH], texts)])


def posts_batch(random: np.random.Generator, keys: list[str], texts: pa.Array) -> pa.RecordBatch:
    count = len(keys)
    content = texts.take(pa.array(random.integers(0, len(texts), count)))
    micros = AS_OF.timestamp() * 1e6 - random.integers(1, 10**13, count)
    instants = pa.array(micros.astype(np.int64)).cast(pa.timestamp("us", tz="UTC"))
    columns: dict[str, pa.Array] = {
        "id": pa.array(keys),
        "user_id": pa.array(keys[: count // 25 + 1]).take(pa.array(random.integers(0, count // 25 + 1, count))),
        "title": pc.utf8_slice_codeunits(content, 0, 30),
        "content": content,
        "word_count": pa.array(np.full(count, 48)),
        "char_count": pc.utf8_length(content).cast(pa.int64()),
        "is_before_signup": pa.array(np.zeros(count, bool)),
        "created_at": instants,
        "updated_at": instants,
    }
    batch = pa.RecordBatch.from_pydict(columns)
    batch = batch.append_column("row_hash", row_hashes(batch, POSTS))
    batch = batch.append_column("fingerprint", pa.array(random.integers(-(2**62), 2**62, count)))
    batch = batch.append_column("rule_mask", pa.array(np.zeros(count, np.int64)))
    return batch.select(POSTS.clean_schema.names).cast(POSTS.clean_schema)


def timed(work: Callable[[], float | None]) -> float:
    """Seconds of a piece of work; its own word counts where it stops the clock itself."""
    started = time.perf_counter()
    said = work()
    return said if said is not None else time.perf_counter() - started


def fresh(stack: Stack, work: Callable[[], float | None]) -> float:
    """The same on empty tables."""
    stack.query("truncate public.clean_users, public.clean_posts, public.etl_runs, public.etl_batches")
    return timed(work)


def ours(stack: Stack, folder: Path, source: Workspace, transport: Transport) -> float:
    """Seconds of plan and load, the write stage of a run."""
    settings = settings_of(stack, folder, transport)
    with open_database(settings) as database:
        ledger = Ledger(database, settings)
        run = ledger.begin(ledger.start(Start(AsOf.instant(AS_OF), transport)), datetime.now(UTC))
        workspace = Workspace.create(folder, run.run_id)
        (workspace.root / "clean").symlink_to(source.root / "clean")
        for report in (report for report in REPORTS if report.in_postgres):
            workspace.spool("reports", report.name, report.schema).write(0, [])
        for table in TABLES:
            workspace.spool("rejects", table.name, REJECT_SCHEMA).clear()
        with ledger.holding(run):
            started = time.perf_counter()
            plans = plan(settings, workspace, run)
            load(settings, workspace, run, plans, manifest=ManifestRef(path="bench", sha256="0"), counts=RunCounts())
            return time.perf_counter() - started


def bare_postgres(stack: Stack, folder: Path, source: Workspace) -> None:
    """The least: ingest into a temporary table, one statement, one commit."""
    names = [c.name for c in POSTS.columns]
    casts = ", ".join(f"{c.name}::uuid" if c.kind == "uuid" else c.name for c in POSTS.columns)
    updates = ", ".join(f"{name} = excluded.{name}" for name in names if name != "id")
    connection = connect(settings_of(stack, folder, "postgres"), autocommit=False)
    with connection, connection.cursor() as cursor:
        reader = pa.RecordBatchReader.from_batches(POSTS.clean_schema, posts_of(source).batches())
        cursor.adbc_ingest("bare", reader, mode="create", temporary=True)
        cursor.execute(
            f"insert into public.clean_posts as t ({', '.join(names)}) select {casts} from bare "  # noqa: S608
            f"on conflict (id) do update set {updates} where t.row_hash is distinct from excluded.row_hash"
        )
        connection.commit()


def batches(stack: Stack, folder: Path, source: Workspace) -> Iterator[pa.Array]:
    settings = settings_of(stack, folder, "rest")
    for batch in posts_of(source).batches():
        yield from json_batches(batch, rows=settings.write_rows, size=settings.write_bytes)


def bare_rest(stack: Stack, folder: Path, bodies: Sequence[bytes]) -> float:
    """The same function and batches, posted by as many threads as ours."""
    settings = settings_of(stack, folder, "rest")
    with open_database(settings) as database:
        run = Ledger(database, settings).start(Start(AsOf.instant(AS_OF), "rest"))
    url, key = f"{stack.url}/rest/v1/rpc/etl_write", stack.service_key
    head = f'"p_run":"{run.run_id}","p_token":"{run.token}","p_table":"posts","p_limit":0'
    headers = {"apikey": key, "authorization": f"Bearer {key}", "content-type": "application/json"}
    with httpx.Client(timeout=60, headers=headers) as client, ThreadPoolExecutor(settings.writers) as pool:

        def send(numbered: tuple[int, bytes]) -> None:
            index, rows = numbered
            content = b'{%b,"p_batch":"%d","p_rows":%b}' % (head.encode(), index, rows)
            client.post(url, content=content).raise_for_status()

        started = time.perf_counter()
        list(pool.map(send, enumerate(bodies)))
        return time.perf_counter() - started


def dlt_merge(stack: Stack, folder: Path, source: Workspace) -> float:
    """dlt's merge by primary key into an empty table, from the same Arrow batches."""
    os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"
    os.environ["DESTINATION__POSTGRES__CREDENTIALS"] = stack.db_url
    import dlt

    rows = dlt.resource(
        lambda: (pa.Table.from_batches([batch]) for batch in posts_of(source).batches()),
        name="posts",
        primary_key="id",
        write_disposition="merge",
    )
    pipeline = dlt.pipeline(
        "bench", destination="postgres", dataset_name="dlt_bench", pipelines_dir=str(folder / "dlt")
    )
    started = time.perf_counter()
    pipeline.run(rows, loader_file_format="csv").raise_on_failed_jobs()
    return time.perf_counter() - started


if __name__ == "__main__":
    sys.exit(main())
