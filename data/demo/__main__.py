"""`python -m data.demo`: fill the database that SUPABASE_DB_URL names (an argument would show its password to all)."""

from __future__ import annotations

import argparse
import os
import sys
import time
from datetime import datetime

from rich.console import Console
from rich.progress import Progress, TimeElapsedColumn

from data.demo.fill import POSTS, SEED, USERS, load
from data.demo.plan import DemoCounts, expected_counts
from tasks.errors import PipelineError


def main(arguments: list[str] | None = None) -> int:
    """0 when the rows are in, 1 when the database would not have them, 2 for bad usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    db_url = os.environ.get("SUPABASE_DB_URL", "")
    if not db_url:
        parser.error("SUPABASE_DB_URL is not set")
    try:
        expected_counts(options.users, options.posts)
    except ValueError as error:
        parser.error(str(error))
    try:
        _load(db_url, options)
    except PipelineError as error:
        Console(stderr=True).print(str(error), markup=False)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m data.demo", description=__doc__)
    parser.add_argument("--db-url-from-env", action="store_true", help="take SUPABASE_DB_URL; always so")
    parser.add_argument("--users", type=int, default=USERS, help="rows in public.users (default %(default)s)")
    parser.add_argument("--posts", type=int, default=POSTS, help="rows in public.posts (default %(default)s)")
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--until", type=_instant, help="where its time ends, ISO with zone (default: today 00:00 UTC)")
    return parser


def _instant(text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no instant, such as 2026-01-31T00:00:00Z") from None
    if moment.tzinfo is None:
        raise argparse.ArgumentTypeError("an instant needs its zone, such as 2026-01-31T00:00:00Z")
    return moment


def _load(db_url: str, options: argparse.Namespace) -> None:
    console = Console(stderr=True)
    started = time.perf_counter()
    with Progress(*Progress.get_default_columns(), TimeElapsedColumn(), console=console) as bar:
        task = bar.add_task("Demo data", total=options.users + options.posts)
        counts = load(
            db_url, options.users, options.posts, options.seed, until=options.until,
            progress=lambda done, total: bar.update(task, completed=done, total=total),
        )  # fmt: skip
    console.print(_summary(counts, time.perf_counter() - started))


def _summary(counts: DemoCounts, seconds: float) -> str:
    users, posts = counts.users, counts.posts
    return (
        f"{users.rows:,} users ({users.rejected:,} of them to be rejected) and "
        f"{posts.rows:,} posts ({posts.rejected:,}) in {seconds:.1f} s"
    )


if __name__ == "__main__":
    sys.exit(main())
