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

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Literal, Unpack, overload

import pandas as pd
import pyarrow as pa

from tasks.read.diff import Diff, diff
from tasks.read.history import read_history
from tasks.read.listing import list_runs, run_before
from tasks.read.options import (
    AsOf,
    Choice,
    Engine,
    Filters,
    Options,
    Part,
    check_engine,
    check_options,
    checked_months,
    report_named,
    table_named,
)
from tasks.read.run import OfflineWarning, OpenRun, find_run, open_run

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
