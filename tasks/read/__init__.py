"""What a data scientist imports: reports and cleaned tables as frames.

    from tasks.read import diff, list_runs, open_run, read_history, read_report, read_table

    daily = read_report("daily_activity")
    posts = read_table("posts", months=["2026-01"], columns=["id", "word_count"], engine="polars")
    with open_run() as run:  # both of one run, also while another one is committed
        daily, users = run.report("daily_activity"), run.table("users")

Works with the service key, or as a signed-in analyst with `access_token=` and the project's public key (SUPABASE_KEY).
A file is downloaded once, kept by its sha256 in ETL_CACHE_DIR, and verified against its manifest at every read. What
was read once can be read again without a network, with an OfflineWarning.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from datetime import date, timedelta
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

import pandas as pd
import pyarrow as pa

from tasks.errors import ReadError
from tasks.files.layout import parse_run_path
from tasks.files.manifest import Manifest
from tasks.read.access import nothing_there
from tasks.read.catalog import open_catalog
from tasks.read.diff import Diff, diff
from tasks.read.history import read_history
from tasks.read.options import (
    Access,
    AsOf,
    Choice,
    Engine,
    Filters,
    Options,
    Part,
    check_engine,
    check_options,
    checked_days,
    checked_months,
    report_named,
    table_named,
)
from tasks.read.run import OfflineWarning, OpenRun, find_run, open_run, opened
from tasks.settings import Settings

if TYPE_CHECKING:
    import polars as pl

__all__ = [
    "AsOf",
    "Diff",
    "Engine",
    "Filters",
    "OfflineWarning",
    "OpenRun",
    "Options",
    "diff",
    "list_runs",
    "open_run",
    "read_history",
    "read_report",
    "read_table",
    "run_before",
]
_COLUMNS = ["date", "run_id", "as_of", "started_at", "historical", "pruned", "latest", "run"]


@overload
def read_report(name: str, *, engine: Literal["pandas"] = "pandas", **options: Unpack[Options]) -> pd.DataFrame: ...
@overload
def read_report(name: str, *, engine: Literal["arrow"], **options: Unpack[Options]) -> pa.Table: ...
@overload
def read_report(name: str, *, engine: Literal["polars"], **options: Unpack[Options]) -> pl.DataFrame: ...
def read_report(name: str, *, engine: Engine = "pandas", **options: Unpack[Options]) -> Any:
    """A report as a frame; data/DICTIONARY.md says what its columns mean. `options` as in `Options`.

    engine: `pandas` (days as datetime64, whole numbers that may be null as Int64), `arrow` or `polars`. A DataFrame's
    `attrs` say which run it is of: run_id, run (its path), as_of and the file's sha256; so does an Arrow table's
    metadata.
    Raises TypeError for an option that there is not, ConfigurationError for a wrong name or value, ReadError when
    there is no such run or the run has no such file.
    """
    check_options("read_report", options, Options, "engine")
    check_engine(engine)
    report_named(name)
    choice, part = _split(options)
    return find_run(choice).report(name, engine=engine, **part)


@overload
def read_table(
    name: str,
    *,
    months: Iterable[str] | None = None,
    engine: Literal["pandas"] = "pandas",
    **options: Unpack[Options],
) -> pd.DataFrame: ...
@overload
def read_table(
    name: str, *, months: Iterable[str] | None = None, engine: Literal["arrow"], **options: Unpack[Options]
) -> pa.Table: ...
@overload
def read_table(
    name: str, *, months: Iterable[str] | None = None, engine: Literal["polars"], **options: Unpack[Options]
) -> pl.DataFrame: ...
def read_table(
    name: str, *, months: Iterable[str] | None = None, engine: Engine = "pandas", **options: Unpack[Options]
) -> Any:
    """Cleaned rows of `users` or `posts`, without names, addresses and texts; otherwise as `read_report`.

    months: of posts, only these (`["2025-12", "2026-01"]`): no other file is downloaded. A month that is named twice is
    read once, and `[]` selects none: no rows, with their types. Rows are sorted by id within a month. In `attrs`,
    sha256 is by file. ReadError when the run has no rows of a month.
    """
    check_options("read_table", options, Options, "engine", "months")
    check_engine(engine)
    wanted = checked_months(table_named(name), months)
    choice, part = _split(options)
    return find_run(choice).table(name, months=wanted, engine=engine, **part)


def _split(options: Options) -> tuple[Choice, Part]:
    """Which run, and which part of it; without what was left out."""
    part = Part(columns=options.get("columns"), filters=options.get("filters"))
    choice = Choice(
        as_of=options.get("as_of"),
        run=options.get("run"),
        access_token=options.get("access_token"),
        settings=options.get("settings"),
    )
    return choice, part


def list_runs(*, days: int = 60, access_token: str | None = None, settings: Settings | None = None) -> pd.DataFrame:
    """The runs that can be read, newest first: date, run_id, as_of, started_at, historical, pruned, latest, run.

    days: how many days with runs are looked at, from the latest back; at least 1. pruned: retention removed the files
    that name user ids. latest: what is read by default. run: the run's path in the bucket. ReadError when this user may
    not see them.
    """
    days = checked_days(days)
    with open_catalog(settings, access_token) as catalog:
        pointer = catalog.pointer()
        latest = pointer.run if pointer else None
        rows = [_row(manifest, latest) for manifest in catalog.manifests(catalog.days()[:days])]
        if not rows and access_token:
            warnings.warn(nothing_there(catalog.settings, access_token).message, stacklevel=2)
    frame = pd.DataFrame(rows, columns=_COLUMNS)
    for column in ("as_of", "started_at"):
        frame[column] = pd.to_datetime(frame[column], utc=True).astype("datetime64[us, UTC]")
    frame = frame.astype({"historical": bool, "pruned": bool, "latest": bool})
    return frame.sort_values(["as_of", "started_at"], ascending=False, ignore_index=True)


def run_before(
    run: AsOf | OpenRun | None = None, *, access_token: str | None = None, settings: Settings | None = None
) -> str:
    """The path of the run before another one, of those that really ran.

    run: its id, path, day or instant, or an open run; None: the latest. They follow one another as they started: after
    a run as of now, that of midnight is the next. A run for a past instant has its place by what it is as of.
    ReadError when there is none.
    """
    newer = opened(run, Access(access_token=access_token, settings=settings))
    place: Callable[[Manifest], Any] = attrgetter("order" if newer.manifest.historical else "started_at")
    last = f"{date.fromisoformat(newer.manifest.day) + timedelta(days=1)}"
    with open_catalog(settings, access_token) as catalog:
        days = [day for day in catalog.days() if day <= last]
        for some in (days[start : start + 7] for start in range(0, len(days), 7)):
            earlier = [m for m in catalog.manifests(some) if not m.historical and place(m) < place(newer.manifest)]
            if earlier:
                return max(earlier, key=place).run
    raise ReadError(
        f"No run was published before {newer.run_id}.", remedy="Choose a base by its id; list_runs() shows them."
    )


def _row(manifest: Manifest, latest: str | None) -> tuple[object, ...]:
    day, _ = parse_run_path(manifest.run) or ("", "")
    pruned, is_latest = manifest.removed is not None, manifest.run == latest
    run = (manifest.run_id, manifest.as_of, manifest.started_at, manifest.historical, pruned, is_latest, manifest.run)
    return day, *run
