"""From a change to its report: how long `watch` takes on a project of 2,000,000 posts, change by change.

N = 1, T = 10 s, a poll every 5 s, by polling alone. The first run after the start is not counted, as it publishes what
changed since the full night before. Goal: every report is there within 60 s.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.incremental import measure, project
from local_stack import Stack
from tasks.settings import Transport

POLL_SECONDS = 5
GOAL_SECONDS = 60
_WAIT_SECONDS = 600
_CHANGE = {
    "a post changes": "update posts set content = content || ' more' where id = (select id from posts limit 1)",
    "a user signs up": "insert into users (id, email, created_at) values "
    "(gen_random_uuid(), gen_random_uuid() || '@example.com', now())",
    "a post appears": "insert into posts (id, user_id, content, created_at) "
    "select gen_random_uuid(), id, 'a new post', now() from users limit 1",
    "a post goes": "delete from posts where id = (select max(id::text)::uuid from posts)",
}
_PUBLISHED = """
select extract(epoch from finished_at)::float8, extract(epoch from started_at)::float8, seconds
from etl_runs where status = 'committed' and began >= to_timestamp({at}) order by began limit 1"""


@contextmanager
def watching(stack: Stack, transport: Transport, folder: Path) -> Iterator[None]:
    """A watch in a process of its own."""
    env = {
        **os.environ, **stack.env(), "ETL_TRANSPORT": transport, "ETL_DATA_DIR": str(folder), "ETL_WATCH_CHANGES": "1",
        "ETL_WATCH_MINUTES": str(10 / 60), "ETL_WATCH_EVERY_MINUTES": "0", "ETL_WATCH_POLL_SECONDS": str(POLL_SECONDS),
        "ETL_WATCH_CLEAR_MINUTES": "0",
    }  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "flows.watch"], env=env)
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def publish(stack: Stack, statement: str) -> dict[str, float]:
    """Make a change; seconds until its run starts, and until it is committed, with those of the longest stages."""
    stack.query(statement)
    at = float(stack.query("select extract(epoch from clock_timestamp())::float8"))
    deadline = time.monotonic() + _WAIT_SECONDS
    while not (found := stack.query(_PUBLISHED.format(at=at))):
        if time.monotonic() > deadline:
            raise RuntimeError("The change was not published.")
        time.sleep(0.2)
    finished, started, seconds = found.split("|")
    stages = sorted(json.loads(seconds).items(), key=lambda of: -of[1])
    return {"all": float(finished) - at, "until it starts": float(started) - at, **dict(stages[:8])}


def run(rows: int, transport: Transport, rounds: int) -> str:
    """Fill a project, run a full night, watch, change."""
    with project(rows) as stack, tempfile.TemporaryDirectory() as folder:
        measure(stack, transport, Path(folder), full=True)
        taken: list[float] = []
        lines = [f"{rows:,} posts over {transport}, N = 1, T = 10 s, a poll every {POLL_SECONDS} s"]
        with watching(stack, transport, Path(folder)):
            publish(stack, _CHANGE["a post changes"])
            for number in range(rounds):
                name = list(_CHANGE)[number % len(_CHANGE)]
                found = publish(stack, _CHANGE[name])
                taken.append(found["all"])
                lines.append(f"  {name:<16} {', '.join(f'{what} {of:.1f}' for what, of in found.items())}")
                sys.stderr.write(f"{lines[-1]}\n")
        met = "" if max(taken) <= GOAL_SECONDS else "   NOT MET"
        lines.append(f"  the slowest     {max(taken):.1f} s   (goal ≤ {GOAL_SECONDS}){met}")
        return "\n".join(lines) + "\n"


def main() -> int:
    """Measure one transport."""
    parser = argparse.ArgumentParser(prog="make bench watch", description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--transport", choices=("postgres", "rest"), default="postgres")
    parser.add_argument("--rounds", type=int, default=len(_CHANGE))
    options = parser.parse_args()
    sys.stdout.write(run(options.rows, options.transport, options.rounds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
