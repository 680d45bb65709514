"""A full night and an incremental one, side by side: bytes, time, processor and memory, over both transports.

2,000,000 posts and 200,000 users, 0.1 % changed: *recent* (95 % of the changes in the last 60 days, the rest in three
older months) and *scattered* (over all rows). Then the slope: 0, 0.1, 1 and 10 % changed.
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
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from local_stack import Stack, down, up
from tasks.settings import Transport

Night = dict[str, Any]  # figures of a night by name; stages: title to seconds and seconds of CPU

POSTS_PER_USER = 10
AS_OF = "2026-01-31T00:00:00+00:00"
DAYS = 1_800  # of history, growing
# An incremental night stores the cleaned tables from its first report on, a full one all of its files at last.
_STORING = ("Build reports", "Compare with Postgres", "Guard", "Write files", "Publish")
SHAPES = ("recent", "scattered", "slope")
_FILL = """
insert into users (id, name, email, bio, status, created_at, updated_at)
select md5('u' || g)::uuid, 'Person ' || g, 'person' || g || '@example.com', repeat('bio words ', g % 12),
       (array['active', 'inactive', 'other'])[1 + g % 3], at, at
from (select g, timestamptz '{as_of}' - interval '1 day' * {days} * sqrt(g::float8 / {users}) - interval '1 hour' as at
      from generate_series(1, {users}) g) x;
insert into posts (id, user_id, title, content, created_at, updated_at)
select md5('p' || g)::uuid,
       md5('u' || (1 + floor({users} * (hashint8(g)::float8 / 4294967296 + 0.5) ^ 1.7)::int % {users}))::uuid,
       'Title ' || g, repeat('some words of post ' || g || ' ', 4 + g % 20), at, at
from (select g, timestamptz '{as_of}' - interval '1 minute'
                - interval '1 day' * {days} * (1 - sqrt(g::float8 / {posts})) as at
      from generate_series(1, {posts}) g) x;
analyze users; analyze posts;
"""
# The share of the rows of either table that changes; of the posts a tenth each is new and goes.
_CHANGE = """
create temp table chosen_posts as {chosen_posts};
create temp table chosen_users as {chosen_users};
update posts set content = content || ' {salt}' where id in (select id from chosen_posts);
delete from posts where id in (select id from chosen_posts order by id limit {few});
insert into posts (id, user_id, title, content, created_at, updated_at)
select md5('{salt}' || g)::uuid, (select id from users order by id limit 1), 'New', 'A new post',
       timestamptz '{as_of}' - interval '1 hour', now()
from generate_series(1, {few}) g;
update users set bio = bio || ' {salt}' where id in (select id from chosen_users);
"""
_SOME = "(select id from {table} where {where} order by md5(id::text || '{salt}') limit {rows})"
_RECENT = "created_at > timestamptz '{as_of}' - interval '60 days'"
_OLD = "date_trunc('month', created_at at time zone 'UTC') in ('2023-03-01', '2024-01-01', '2024-09-01')"
GOALS = {
    "recent": {
        "received warm": 0.02,
        "received empty": 0.06,
        "uploaded": 0.15,
        "postgres": 0.25,
        "rest": 0.10,
        "cpu": 0.20,
        "memory": 1.0,
    },
    "scattered": {
        "received warm": 0.03,
        "received empty": 0.20,
        "postgres": 0.40,
        "rest": 0.15,
        "cpu": 0.35,
        "memory": 1.0,
    },
}


@contextmanager
def project(rows: int) -> Iterator[Stack]:
    """A stack with so many posts, and a tenth as many users."""
    home = Path(tempfile.mkdtemp(prefix="supabase-nightly-bench-"))
    home.chmod(0o711)
    try:
        stack = up(home, empty=True)
        stack.query(_FILL.format(posts=rows, users=rows // POSTS_PER_USER, as_of=AS_OF, days=DAYS))
        yield stack
    finally:
        down(home)
        shutil.rmtree(home, ignore_errors=True)


def change(stack: Stack, rows: int, share: float, shape: str, salt: str) -> None:
    """Change a share of the posts and of the users. rows: posts."""
    posts, users = round(rows * share), round(rows / POSTS_PER_USER * share)
    if not posts:
        return
    chosen_posts, chosen_users = _chosen("posts", posts, shape, salt), _chosen("users", max(1, users), shape, salt)
    values = {"chosen_posts": chosen_posts, "chosen_users": chosen_users, "few": max(1, posts // 10)}
    stack.query(_CHANGE.format(**values, salt=salt, as_of=AS_OF))
    for table in ("clean_users", "clean_posts"):
        stack.query(f"vacuum {table}")  # as autovacuum does in the day between two nights


def _chosen(table: str, rows: int, shape: str, salt: str) -> str:
    """A query for the keys that change: anywhere, or 95 % of the last 60 days and the rest of three older months."""
    old = rows // 20
    wanted = {"true": rows} if shape == "scattered" else {_RECENT.format(as_of=AS_OF): rows - old, _OLD: old}
    return " union all ".join(_SOME.format(table=table, where=w, rows=n, salt=salt) for w, n in wanted.items())


def measure(stack: Stack, transport: Transport, folder: Path, *, full: bool, as_of: str = AS_OF) -> Night:
    """One night in a process of its own."""
    command = [
        sys.executable,
        "-m",
        "bench.incremental",
        "--night",
        "full" if full else "incremental",
        "--as-of",
        as_of,
    ]
    env = {
        **os.environ, **stack.env(), "ETL_TRANSPORT": transport, "ETL_DATA_DIR": str(folder),
        "ETL_MAX_CHANGED_SHARE": "1", "ETL_MAX_DELETE_SHARE": "1", "ETL_MAX_RULE_POINTS": "100",
    }  # fmt: skip
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=env)
    found: Night = json.loads(done.stdout.splitlines()[-1])
    sys.stderr.write(f"  {transport} {json.dumps(found)}\n")
    return found


def night(*, full: bool, as_of: str) -> Night:
    """Run it here, and say what it cost."""
    from flows.engine.outcome import RunRequest
    from flows.engine.pipeline import run_pipeline
    from tasks.ledger.as_of import AsOf

    started = time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_SELF)
    outcome = run_pipeline(RunRequest(as_of=AsOf.parse(as_of), full_refresh=full))
    after = resource.getrusage(resource.RUSAGE_SELF)
    assert outcome.mode == ("full" if full else "incremental"), outcome.full_because
    stages = outcome.stages
    return {
        "seconds": round(time.perf_counter() - started, 2),
        "cpu": round(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, 2),
        "mib": after.ru_maxrss / 1024,
        "received": sum(of["received"] for of in stages.values()),
        "uploaded": sum(stages[title]["sent"] for title in _STORING),
        "written": sum(of["inserted"] + of["updated"] + of["deleted"] for of in outcome.tables.values()),
        "stages": {title: [round(of["seconds"], 2), round(of["cpu"], 2)] for title, of in stages.items()},
    }


def nights(stack: Stack, transport: Transport, folder: Path, rows: int, shape: str) -> list[str]:
    """A full night, and incremental ones with the base's files on this disk and without, as lines."""
    ways: dict[str, Night] = {}
    for way in ("full", "warm", "empty"):
        change(stack, rows, 0.001, shape, f"{transport}{shape}{way}")
        if way == "empty":
            shutil.rmtree(folder / "base", ignore_errors=True)
        ways[way] = measure(stack, transport, folder, full=way == "full")
    return [*by_stage(ways["full"], ways["warm"]), *ratios(transport, shape, ways)]


def slope(stack: Stack, transport: Transport, folder: Path, rows: int, shape: str) -> list[str]:
    """A full night, and incremental ones after more and more changes all over the table, as lines."""
    change(stack, rows, 0.001, "scattered", f"{transport}{shape}full")
    full = measure(stack, transport, folder, full=True)
    found = {}
    for share in (0.0, 0.001, 0.01, 0.1):
        change(stack, rows, share, "scattered", f"{transport}{shape}{share}")
        found[share] = measure(stack, transport, folder, full=False)
    return report_slope(transport, found, full)


def by_stage(full: Night, incremental: Night) -> list[str]:
    """What each stage of both nights took, side by side: seconds, and of them seconds of CPU."""
    titles = dict.fromkeys([*full["stages"], *incremental["stages"]])
    lines = [f"{'seconds (of CPU) by stage':<28} {'full':>16} {'incremental':>16}"]
    for title in titles:
        took = (night["stages"].get(title) for night in (full, incremental))
        lines.append(f"  {title:<26} " + " ".join(f"{s[0]:8.2f} ({s[1]:5.2f})" if s else " " * 16 for s in took))
    return lines


def ratios(transport: Transport, shape: str, ways: Mapping[str, Night]) -> list[str]:
    """The lines of the table: measured, as a share of the full night, and the goal."""
    full, warm, empty = ways["full"], ways["warm"], ways["empty"]
    goals = GOALS[shape]
    lines = []
    for name, value, of, goal in (
        ("bytes received, disk warm", warm["received"], full["received"], goals["received warm"]),
        ("bytes received, disk empty", empty["received"], full["received"], goals["received empty"]),
        ("bytes uploaded", warm["uploaded"], full["uploaded"], goals.get("uploaded")),
        ("wall time", warm["seconds"], full["seconds"], goals[transport]),
        ("client CPU", warm["cpu"], full["cpu"], goals["cpu"]),
        ("peak memory", warm["mib"], full["mib"], goals["memory"]),
    ):
        wanted = "" if goal is None else f"goal ≤ {goal:.0%}{'' if value <= goal * of else '   NOT MET'}"
        lines.append(
            f"{transport:<9} {shape:<10} {name:<28} {value / max(of, 1e-9):7.1%}   "
            f"{value:14,.1f} of {of:16,.1f}   {wanted}"
        )
    return lines


def report_slope(transport: Transport, found: Mapping[float, Night], full: Night) -> list[str]:
    """The slope, and the share above which a full night is cheaper, by the line through its ends."""
    lines = [
        f"{transport:<9} {share:6.1%} changed   {of['seconds'] / full['seconds']:6.1%} of the time   "
        f"{of['received'] / full['received']:6.1%} of the bytes   {of['cpu'] / full['cpu']:6.1%} of the CPU"
        for share, of in found.items()
    ]
    low, high = found[0.01]["seconds"], found[0.1]["seconds"]
    per_share = (high - low) / 0.09
    bound = 0.01 + (full["seconds"] - low) / per_share if per_share > 0 else 1.0
    return [*lines, f"{transport:<9} a full night is cheaper in time above about {bound:.0%} changed"]


def main() -> int:
    """Measure all, or (inside) one night."""
    parser = argparse.ArgumentParser(prog="make bench incremental", description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--transport", choices=("postgres", "rest", "both"), default="both")
    parser.add_argument("--shape", nargs="+", choices=SHAPES, default=SHAPES, help="which to measure; all by default")
    parser.add_argument("--night", choices=("full", "incremental"), help=argparse.SUPPRESS)
    parser.add_argument("--as-of", default=AS_OF, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.night:
        sys.stdout.write(json.dumps(night(full=options.night == "full", as_of=options.as_of)) + "\n")
        return 0
    transports: tuple[Transport, ...] = ("postgres", "rest") if options.transport == "both" else (options.transport,)
    with project(options.rows) as stack, tempfile.TemporaryDirectory() as folder:
        lines = []
        for transport in transports:
            measure(stack, transport, Path(folder), full=True)  # the base, and the first load
            for shape in options.shape:
                found = (slope if shape == "slope" else nights)(stack, transport, Path(folder), options.rows, shape)
                lines += found
                sys.stdout.write("\n".join(found) + "\n")
                sys.stdout.flush()
        sys.stdout.write("\n" + "\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
