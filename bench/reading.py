"""Reading, against the plain ways to read the same rows, on an embedded stack of its own.

Each way runs in a process of its own, in turn, several times; the median counts.
- rest: our REST transport, with its proof, its retries and its files; bare: httpx, the same key ranges at once, no
  more; offset: httpx, offset pages, the first and the last tenth of the table.
- postgres: our Postgres transport, in key order and with its files; copy: psycopg `COPY … CSV` parsed by pyarrow;
  connectorx: 4 partitions to Arrow. Both leave the rows in memory, in no order.
- peak memory of ours at 0.4 and at 4 times the rows.

Goals: rest ≥ 0.8 × bare; its last tenth ≥ 0.9 × its first; postgres ≥ 2 × copy and ≥ 1 × connectorx; memory ≤ 1.2 ×.
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
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import httpx
import orjson
import pyarrow as pa
from pyarrow import csv

from local_stack import Stack, down, find, up
from tasks.contracts import POSTS, Table
from tasks.settings import Settings, Transport
from tasks.source import open_source
from tasks.source.api import Api
from tasks.source.convert import to_arrow
from tasks.source.pages import pages, rows_of
from tasks.source.ranges import KeyRange
from tasks.workspace import Workspace

RANGES = 4
PAGE = 1_000  # the stack's row cap, as of a hosted project
REPEATS = 3
_COLUMNS = "id,user_id,title,content,created_at,updated_at"
_FILL = """
create table public.bench_{rows} (id uuid primary key, user_id uuid, title text, content text, created_at timestamptz,
  updated_at timestamptz);
insert into public.bench_{rows} select gen_random_uuid(), gen_random_uuid(), 'Title number ' || g,
  repeat('words of a post about things ', 5 + g % 7), now() - g * interval '1 second', now()
from generate_series(1, {rows}) g;
vacuum analyze public.bench_{rows};
grant select on public.bench_{rows} to service_role, etl;
"""
_TIMES = pa.timestamp("us", tz="UTC")


def table_of(rows: int) -> Table:
    """The contract of posts over the table with so many rows."""
    return replace(POSTS, source=f"bench_{rows}")


def settings_of(stack: Stack, transport: Transport, folder: Path) -> Settings:
    return Settings(
        _env_file=None, supabase_url=stack.url, supabase_service_key=stack.service_key, supabase_db_url=stack.db_url,
        transport=transport, data_dir=folder, ranges=RANGES,
    )  # fmt: skip


# --- the ways: each reads a whole table and returns its rows and seconds ---


def ours(stack: Stack, rows: int, transport: Transport) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder, open_source(settings_of(stack, transport, Path(folder))) as source:
        table = table_of(rows)
        source.preflight([table])
        spool = Workspace.create(Path(folder), "bench").spool("raw", table.name, table.raw_schema)
        done = source.read(table, spool)
        return {"rows": done.rows, "seconds": done.seconds}


def bare(stack: Stack, rows: int) -> dict[str, float]:
    """What one writes by hand: a thread a range, pages by key, JSON to Arrow; no retry and no proof."""
    edges = [None, *(f"{n * 64:02x}000000-0000-0000-0000-000000000000" for n in range(1, RANGES)), None]
    started = time.perf_counter()
    with ThreadPoolExecutor(RANGES) as pool:
        tables = list(pool.map(lambda pair: _bare_range(stack, rows, *pair), pairwise(edges)))
    return {"rows": sum(t.num_rows for t in tables), "seconds": time.perf_counter() - started}


def _bare_range(stack: Stack, rows: int, after: str | None, until: str | None) -> pa.Table:
    batches: list[pa.Table] = []
    with _http(stack) as http:
        while True:
            keys = [("id", f"gt.{after}")] if after else []
            keys += [("id", f"lte.{until}")] if until else []
            page = _page(http, rows, [*keys, ("order", "id")])
            if not page.num_rows:
                return pa.concat_tables(batches)
            batches.append(page)
            after = page["id"][-1].as_py()


def offset(stack: Stack, rows: int) -> dict[str, float]:
    tenth = rows // 10
    first, last = (_offset_seconds(stack, rows, start, tenth) for start in (0, rows - tenth))
    return {"rows": 2 * tenth, "seconds": first + last, "first": tenth / first, "last": tenth / last}


def _offset_seconds(stack: Stack, rows: int, start: int, count: int) -> float:
    with _http(stack) as http:
        _page(http, rows, [("order", "id")])  # the connection stands before the clock runs
        started = time.perf_counter()
        for at in range(start, start + count, PAGE):
            _page(http, rows, [("order", "id"), ("offset", str(at))])
        return time.perf_counter() - started


def tenths(stack: Stack, rows: int) -> dict[str, float]:
    """Our keyset pages over the whole table as one range: the first tenth of the rows against the last."""
    settings = settings_of(stack, "rest", Path())
    with open_source(settings) as source, Api(settings) as api:
        info = source.preflight([table_of(rows)]).tables["posts"]
        api.count(info.table, KeyRange(0, None, None))  # the connection stands before the clock runs
        marks = [(0, time.perf_counter())]
        whole = KeyRange(0, None, None)
        read = pages(api, info, whole, rows_of(api, info, whole), lambda r: to_arrow(r, info), 2**23)
        for batch in read:
            marks.append((marks[-1][0] + batch.num_rows, time.perf_counter()))
    first = [m for m in marks if m[0] <= rows / 10]
    last = [m for m in marks if m[0] >= rows * 0.9]
    return {"rows": marks[-1][0], "seconds": marks[-1][1] - marks[0][1], "first": _rate(first), "last": _rate(last)}


def _rate(marks: Sequence[tuple[int, float]]) -> float:
    return (marks[-1][0] - marks[0][0]) / (marks[-1][1] - marks[0][1])


def _http(stack: Stack) -> httpx.Client:
    headers = {"apikey": stack.service_key, "authorization": f"Bearer {stack.service_key}"}
    return httpx.Client(base_url=f"{stack.url}/rest/v1/", headers=headers, timeout=60)


def _page(http: httpx.Client, rows: int, params: list[tuple[str, str]]) -> pa.Table:
    answer = http.get(f"bench_{rows}", params=[("select", _COLUMNS), ("limit", str(PAGE)), *params])
    answer.raise_for_status()
    page = pa.Table.from_pylist(
        orjson.loads(answer.content), schema=pa.schema([(c, pa.string()) for c in _COLUMNS.split(",")])
    )
    return page.set_column(4, "created_at", page[4].cast(_TIMES)).set_column(5, "updated_at", page[5].cast(_TIMES))


def copy(stack: Stack, rows: int) -> dict[str, float]:
    import psycopg

    started = time.perf_counter()
    with psycopg.connect(stack.db_url) as connection, connection.cursor() as cursor, BytesIO() as text:
        with cursor.copy(f"copy public.bench_{rows} to stdout (format csv, header)") as out:
            for data in out:
                text.write(data)
        text.seek(0)
        kinds = {"created_at": _TIMES, "updated_at": _TIMES}
        read = csv.read_csv(text, csv.ReadOptions(), csv.ParseOptions(newlines_in_values=True),
                            csv.ConvertOptions(column_types=kinds))  # fmt: skip
    return {"rows": float(len(read)), "seconds": time.perf_counter() - started}


def connectorx(stack: Stack, rows: int) -> dict[str, float]:
    import connectorx as cx

    edges = [f"{n * 64:02x}000000-0000-0000-0000-000000000000" for n in range(1, RANGES)]
    parts = [f"id <= '{edges[0]}'", *(f"id > '{a}' and id <= '{b}'" for a, b in pairwise(edges)),
             f"id > '{edges[-1]}'"]  # fmt: skip
    queries = [f"select {_COLUMNS} from public.bench_{rows} where {part}" for part in parts]  # noqa: S608 - our own
    started = time.perf_counter()
    read = cx.read_sql(stack.db_url, queries, return_type="arrow")
    return {"rows": float(len(read)), "seconds": time.perf_counter() - started}


WAYS: dict[str, Callable[[Stack, int], dict[str, float]]] = {
    "rest": lambda stack, rows: ours(stack, rows, "rest"),
    "postgres": lambda stack, rows: ours(stack, rows, "postgres"),
    "bare": bare,
    "offset": offset,
    "tenths": tenths,
    "copy": copy,
    "connectorx": connectorx,
}
IN_TURN = ("rest", "bare", "tenths", "offset", "postgres", "copy", "connectorx")


# --- measuring ---


def measure(way: str, home: Path, rows: int) -> dict[str, float]:
    """One way in a process of its own: rows per second, and `mib`, its peak memory."""
    command = [sys.executable, "-m", "bench.reading", "--way", way, "--home", str(home), "--rows", str(rows)]
    done = subprocess.run(command, check=True, capture_output=True, text=True, env=os.environ)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    if way != "offset" and found["rows"] != rows:
        raise RuntimeError(f"{way} read {found['rows']} rows of {rows}")
    return {**found, "rate": found["rows"] / found["seconds"]}


def medians(home: Path, rows: int) -> dict[str, dict[str, float]]:
    """All ways in turn, REPEATS times, so that what else the machine does falls on all alike."""
    taken = [{way: measure(way, home, rows) for way in IN_TURN} for _ in range(REPEATS)]
    return {way: {name: float(median(t[way][name] for t in taken)) for name in taken[0][way]} for way in IN_TURN}


def report(rows: int, found: dict[str, dict[str, float]], memory: dict[str, tuple[float, float]]) -> str:
    rate = {way: figures["rate"] for way, figures in found.items()}
    lines = [f"{rows:,} posts, {RANGES} ranges at once, median of {REPEATS}"]
    lines += [f"  {way:<11}{rate[way]:>12,.0f} rows/s {found[way]['mib']:>8,.0f} MiB" for way in IN_TURN]
    for way in ("tenths", "offset"):
        first, last = found[way]["first"], found[way]["last"]
        lines.append(f"  {way}: first {first:,.0f}, last {last:,.0f} rows/s")
    goals = [
        ("REST against a bare httpx loop", rate["rest"] / rate["bare"], "≥ 0.8"),
        ("REST against offset pages", rate["rest"] / rate["offset"], "more"),
        ("REST, last tenth against the first", found["tenths"]["last"] / found["tenths"]["first"], "≥ 0.9"),
        ("offset pages, likewise", found["offset"]["last"] / found["offset"]["first"], "for comparison"),
        ("Postgres against COPY and pyarrow", rate["postgres"] / rate["copy"], "≥ 2"),
        ("Postgres against ConnectorX", rate["postgres"] / rate["connectorx"], "≥ 1"),
        *(
            (f"{way}, peak memory at ten times the rows", large / small, "≤ 1.2")
            for way, (small, large) in memory.items()
        ),
    ]
    lines += [f"  {name:<42}{ratio:>6.2f} ×   (goal {goal})" for name, ratio, goal in goals]
    return "\n".join(lines) + "\n"


def run(rows: int) -> str:
    """Make a stack, fill it, measure, and leave nothing."""
    home = Path(tempfile.mkdtemp(prefix="supabase-nightly-bench-"))
    home.chmod(0o711)
    small, large = max(1, rows * 2 // 5), rows * 4
    try:
        stack = up(home, empty=True)
        for size in (rows, small, large):
            for statement in filter(str.strip, _FILL.format(rows=size).split(";")):
                stack.query(statement)
        httpx.post(f"{stack.url}/_system/reload", headers={"apikey": stack.service_key}).raise_for_status()
        found = medians(home, rows)
        memory = {w: (measure(w, home, small)["mib"], measure(w, home, large)["mib"]) for w in ("rest", "postgres")}
        return report(rows, found, memory)
    finally:
        down(home)
        subprocess.run(["rm", "-rf", str(home)], check=False)


def main() -> int:
    """Measure all ways, or (inside) one."""
    parser = argparse.ArgumentParser(prog="python -m bench.reading", description=__doc__)
    parser.add_argument("--rows", type=int, default=500_000)
    parser.add_argument("--way", choices=sorted(WAYS), help=argparse.SUPPRESS)
    parser.add_argument("--home", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.way:
        sys.stdout.write(run(options.rows))
        return 0
    stack = find(options.home)
    if stack is None:
        return 1
    figures = WAYS[options.way](stack, options.rows)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    sys.stdout.write(json.dumps({**figures, "mib": peak}) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
