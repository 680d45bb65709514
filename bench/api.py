"""The reports API: how fast a warm report is, and how much memory a large file takes on its way through.

One worker of uvicorn in a process of its own, on the embedded stack, asked over kept connections by several threads of
this process with an analyst's token. Latencies are of whole answers, the last byte included. Memory is the resident set
of the worker, sampled while a Parquet report of more than 100 MB is downloaded: the first time from Storage, then from
the worker's disk; and while the same rows are sent as JSON, CSV and Arrow.

Goals: p95 of /reports/daily_activity ≤ 30 ms; ≥ 200 requests/s; ≤ 100 MB more memory while the large file streams.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from data.demo import load
from local_stack import Stack, down, up
from local_stack.state import free_port
from scripts.api import MASTER, demo_analyst
from tasks.contracts.reports import AUTHOR_ACTIVITY
from tasks.files.layout import manifest_path, run_path
from tasks.files.manifest import FileEntry
from tasks.files.parquet import report_schema
from tasks.platform.bucket import Bucket
from tasks.read import open_run
from tasks.settings import Settings

SECONDS, CONNECTIONS = 8.0, 4
LARGE_ROWS = 1_100_000
LARGE_RUN = "bench-large"
MEGA = 1e6
P95, RATE, MEMORY = 0.030, 200, 100 * MEGA
REPORT = "/reports/daily_activity"


@dataclass(frozen=True)
class Worker:
    """The API's process, and how it is asked."""

    process: psutil.Process
    port: int
    token: str

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def read(self, connection: http.client.HTTPConnection, path: str) -> int:
        """Ask for a path; the bytes of the whole answer, which are not kept."""
        connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
        answer = connection.getresponse()
        size = 0
        while chunk := answer.read(2**18):
            size += len(chunk)
        if answer.status != http.HTTPStatus.OK:
            raise SystemExit(f"{path} answered {answer.status}")
        return size


def main() -> None:
    """Measure both and print them beside their goals."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=50_000, help="posts of the demo data (default 50,000)")
    rows = parser.parse_args().rows
    with tempfile.TemporaryDirectory(prefix="bench-api-") as name:
        home = Path(name)
        home.chmod(0o711)
        stack = up(home / "stack", empty=True, max_file_mib=512)
        try:
            _fill(stack, home, rows)
            with _worker(stack, home) as worker:
                _speed(worker)
                _memory(worker)
        finally:
            down(home / "stack")


def _fill(stack: Stack, home: Path, posts: int) -> None:
    """A night on demo data, and a run whose author_activity is large."""
    load(stack.db_url, users=posts // 10, posts=posts)
    environment = {
        **os.environ,
        **stack.env(),
        "ETL_DATA_DIR": str(home / "data"),
        "PREFECT_HOME": str(home / "prefect"),
    }
    run = [sys.executable, "-m", "scripts.run", "--as-of", "midnight"]
    subprocess.run(run, env=environment, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    settings = Settings(
        _env_file=None,
        supabase_url=stack.url,
        supabase_service_key=stack.service_key,
        supabase_db_url=stack.db_url,
        cache_dir=home / "cache",
    )
    _publish_large(settings, home / "large.parquet")


def _publish_large(settings: Settings, file: Path) -> None:
    """A run beside the current one whose only file is a report of more than 100 MB."""
    pq.write_table(_authors(LARGE_ROWS), file, compression="zstd", row_group_size=100_000)
    with open_run(settings=settings) as current:
        manifest = current.manifest
    path = "reports/author_activity.parquet"
    size, sha256 = file.stat().st_size, hashlib.sha256(file.read_bytes()).hexdigest()
    entry = FileEntry(path=path, rows=LARGE_ROWS, bytes=size, sha256=sha256, version=1, kind="report")
    run = run_path(LARGE_RUN, manifest.as_of)
    large = manifest.model_copy(update={"run": run, "run_id": LARGE_RUN, "files": (entry,)})
    with Bucket(settings) as bucket:
        bucket.store(f"{run}/{path}", file)
        bucket.store(manifest_path(run), large.to_json())


def _authors(rows: int) -> pa.Table:
    """Rows of the report that hardly compress."""
    random = np.random.default_rng(7)
    moments = pa.array(1_600_000_000_000_000 + random.integers(0, 10**14, rows))
    by_type = {
        pa.string(): lambda: pa.array([f"{number:032x}" for number in random.integers(0, 2**62, rows)]),
        pa.int64(): lambda: pa.array(random.integers(0, 10**9, rows)),
        pa.float64(): lambda: pa.array(random.random(rows)),
        pa.timestamp("us", tz="UTC"): lambda: moments.cast(pa.timestamp("us", tz="UTC")),
    }
    schema = report_schema(AUTHOR_ACTIVITY)
    return pa.Table.from_arrays([by_type[field.type]() for field in schema], schema=schema)


@contextmanager
def _worker(stack: Stack, home: Path) -> Iterator[Worker]:
    """One worker of the API without the service key; ended afterwards."""
    email, password = demo_analyst(stack, home / "analyst.json")
    port = free_port()
    environment = {**os.environ, **stack.env(), "SUPABASE_JWT_SECRET": stack.jwt_secret}
    environment["ETL_CACHE_DIR"] = str(home / "api-cache")
    environment = {name: value for name, value in environment.items() if name not in MASTER}
    command = [
        sys.executable,
        "-m",
        "uvicorn",
        "api.app:create_app",
        "--factory",
        "--port",
        str(port),
        "--no-access-log",
    ]
    with (
        (home / "api.log").open("wb") as log,
        subprocess.Popen(command, env=environment, stdout=log, stderr=log) as api,
    ):
        try:
            token = _sign_in(f"http://127.0.0.1:{port}", email, password)
            yield Worker(psutil.Process(api.pid), port, token)
        finally:
            api.terminate()


def _sign_in(url: str, email: str, password: str) -> str:
    """A token, once the worker answers."""
    for _ in range(200):
        try:
            answer = httpx.post(f"{url}/auth/sign-in", json={"email": email, "password": password}, timeout=30)
            return str(answer.raise_for_status().json()["access_token"])
        except httpx.TransportError:
            time.sleep(0.2)
    raise SystemExit("The API did not start.")


def _speed(worker: Worker) -> None:
    """Requests one after the other, then on several connections at once."""
    connection = worker.connect()
    size = [worker.read(connection, REPORT) for _ in range(30)][-1]
    alone, _ = _asked(worker, 1)
    together, rate = _asked(worker, CONNECTIONS)
    _say(f"{REPORT}, warm, {size / 1e3:,.0f} kB of JSON")
    _say(f"  1 connection    {_percentiles(alone)}")
    is_fast = bool(np.percentile(together, 95) <= P95)
    _say(f"  {CONNECTIONS} connections   {_percentiles(together)}   goal: p95 ≤ 30 ms  {_mark(is_fast)}")
    _say(f"  {rate:,.0f} requests/s   goal: ≥ {RATE}  {_mark(rate >= RATE)}")


def _asked(worker: Worker, connections: int) -> tuple[list[float], float]:
    """Seconds of each request, and requests a second, of so many connections that ask without a pause."""
    seconds: list[float] = []
    until = time.perf_counter() + SECONDS

    def ask() -> None:
        connection = worker.connect()
        while time.perf_counter() < until:
            started = time.perf_counter()
            worker.read(connection, REPORT)
            seconds.append(time.perf_counter() - started)

    threads = [threading.Thread(target=ask) for _ in range(connections)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return seconds, len(seconds) / SECONDS


def _memory(worker: Worker) -> None:
    """What the worker's resident set grows by while a large report goes through it."""
    path = f"/reports/author_activity?run={LARGE_RUN}&format="
    for said, form in (("Parquet, from Storage", "parquet"), ("Parquet, kept here", "parquet"), ("CSV", "csv"),
                       ("Arrow", "arrow"), ("JSON", "json")):  # fmt: skip
        size, seconds, grown = _watched(worker, path + form)
        goal = f"   goal: ≤ 100 MB  {_mark(grown <= MEMORY)}"
        _say(f"  {said:22} {size / MEGA:6,.0f} MB in {seconds:5.1f} s, {grown / MEGA:4,.0f} MB more memory{goal}")


def _watched(worker: Worker, path: str) -> tuple[int, float, float]:
    before, peak, done = worker.process.memory_info().rss, [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            peak[0] = max(peak[0], worker.process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    watcher.start()
    started = time.perf_counter()
    size = worker.read(worker.connect(), path)
    seconds = time.perf_counter() - started
    done.set()
    watcher.join()
    return size, seconds, max(0.0, peak[0] - before)


def _percentiles(seconds: list[float]) -> str:
    return "  ".join(f"p{one} {1e3 * float(np.percentile(seconds, one)):5.1f} ms" for one in (50, 95, 99))


def _mark(reached: bool) -> str:
    return "✓" if reached else "✗"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
