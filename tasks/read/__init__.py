"""What a data scientist imports: reports and cleaned tables as frames.

    from tasks.read import list_runs, read_report, read_table

    daily = read_report("daily_activity")
    posts = read_table("posts", months=["2026-01"], columns=["id", "word_count"], engine="polars")

Works with the service key, or as a signed-in analyst with `access_token=` and the project's public key (SUPABASE_KEY).
A file is downloaded once, kept by its sha256 in ETL_CACHE_DIR, and proved against its manifest at every read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal, TypedDict, Unpack, overload

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from tasks.contracts import REPORTS, TABLES
from tasks.errors import ConfigurationError
from tasks.files.manifest import parse_run_path
from tasks.files.parquet import file_schema, report_schema
from tasks.platform.bucket import Bucket
from tasks.read.cache import Cache
from tasks.read.catalog import AsOf, Catalog
from tasks.settings import Settings, reader_settings

if TYPE_CHECKING:
    import polars as pl

Filters = Sequence[tuple[str, str, Any]] | Sequence[Sequence[tuple[str, str, Any]]]
Engine = Literal["pandas", "arrow", "polars"]


class Options(TypedDict, total=False):
    """Which run, which part of it, as whom.

    as_of: a day (`2026-01-31`: the last run that speaks of it) or an instant with its zone (`2026-02-01T00:00Z`).
    run: a run's id or path, as `list_runs` gives them. Neither: the latest run.
    columns: only these. filters: only rows that match, as pyarrow takes them: `[("posts", ">", 10)]`.
    access_token: of a signed-in analyst. settings: others than those of the environment.
    """

    as_of: AsOf | None
    run: str | None
    columns: Sequence[str] | None
    filters: Filters | None
    access_token: str | None
    settings: Settings | None


@overload
def read_report(name: str, *, engine: Literal["pandas"] = "pandas", **options: Unpack[Options]) -> pd.DataFrame: ...
@overload
def read_report(name: str, *, engine: Literal["arrow"], **options: Unpack[Options]) -> pa.Table: ...
@overload
def read_report(name: str, *, engine: Literal["polars"], **options: Unpack[Options]) -> pl.DataFrame: ...
def read_report(name: str, *, engine: Engine = "pandas", **options: Unpack[Options]) -> Any:
    """A report as a frame; data/DICTIONARY.md says what its columns mean. `options` as in `Options`.

    engine: `pandas` (days as datetime64, whole numbers that may be null as Int64), `arrow` or `polars`.
    Raises ConfigurationError for a name that is none, ReadError when there is no such run or file.
    """
    reports = {report.name: report for report in REPORTS}
    if name not in reports:
        raise ConfigurationError(f"There is no report {name!r}.", remedy=f"The reports are {', '.join(reports)}.")
    path = f"reports/{name}.parquet"
    return _read(path, lambda file: file == path, report_schema(reports[name]), engine, options)


@overload
def read_table(
    name: str,
    *,
    months: Sequence[str] | None = None,
    engine: Literal["pandas"] = "pandas",
    **options: Unpack[Options],
) -> pd.DataFrame: ...
@overload
def read_table(
    name: str, *, months: Sequence[str] | None = None, engine: Literal["arrow"], **options: Unpack[Options]
) -> pa.Table: ...
@overload
def read_table(
    name: str, *, months: Sequence[str] | None = None, engine: Literal["polars"], **options: Unpack[Options]
) -> pl.DataFrame: ...
def read_table(
    name: str, *, months: Sequence[str] | None = None, engine: Engine = "pandas", **options: Unpack[Options]
) -> Any:
    """Cleaned rows of `users` or `posts`, without names, addresses and texts; otherwise as `read_report`.

    months: of posts, only these (`["2025-12", "2026-01"]`): no other file is downloaded. Rows are sorted by id within a
    month.
    """
    tables = {table.name: table for table in TABLES}
    if name not in tables:
        raise ConfigurationError(f"There is no cleaned table {name!r}.", remedy=f"They are {' and '.join(tables)}.")
    if months is not None and tables[name].by_month is None:
        raise ConfigurationError(f"The files of {name} are not split by month.", remedy="Leave out `months`.")
    if wrong := [month for month in months or () if not re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", month)]:
        raise ConfigurationError(f"{wrong[0]!r} is no month.", remedy="A month looks like 2026-01.")
    folders = (f"clean/{name}/",) if months is None else tuple(f"clean/{name}/month={month}/" for month in months)
    schema = file_schema(tables[name])
    return _read(f"clean/{name}", lambda file: file.startswith(folders), schema, engine, options)


def list_runs(*, days: int = 60, access_token: str | None = None, settings: Settings | None = None) -> pd.DataFrame:
    """The runs that can be read, newest first: date, run_id, as_of, began, historical, thinned, latest, run.

    days: how many days with runs are looked at, from the latest back. thinned: retention took the files that name user
    ids. latest: what is read by default. run: the run's path in the bucket.
    """
    with _catalog(settings, access_token) as catalog:
        latest = (catalog.pointer() or {}).get("run")
        rows = [_row(manifest, latest) for manifest in catalog.manifests(catalog.days()[:days])]
    frame = pd.DataFrame(rows, columns=["date", "run_id", "as_of", "began", "historical", "thinned", "latest", "run"])
    for column in ("as_of", "began"):
        frame[column] = pd.to_datetime(frame[column], utc=True, format="ISO8601").astype("datetime64[us, UTC]")
    frame = frame.astype({"historical": bool, "thinned": bool, "latest": bool})
    return frame.sort_values(["as_of", "began"], ascending=False, ignore_index=True)


def _row(manifest: dict[str, Any], latest: object) -> dict[str, Any]:
    day, _ = parse_run_path(manifest["run"]) or ("", "")
    facts = {name: manifest[name] for name in ("run_id", "as_of", "began", "historical", "run")}
    return {**facts, "date": day, "thinned": "removed" in manifest, "latest": manifest["run"] == latest}


def _read(what: str, wanted: Callable[[str], bool], schema: pa.Schema, engine: Engine, options: Options) -> Any:
    columns, filters, settings = options.get("columns"), options.get("filters"), options.get("settings")
    if unknown := [column for column in columns or [] if column not in schema.names]:
        raise ConfigurationError(
            f"{what} has no column {', '.join(map(repr, unknown))}.", remedy=f"It has {', '.join(schema.names)}."
        )
    with _catalog(settings, options.get("access_token")) as catalog:
        manifest = catalog.find(as_of=options.get("as_of"), run=options.get("run"))
        entries = catalog.files(manifest, what, wanted)
        files = catalog.fetch(manifest, entries, Cache.of(catalog.settings))
    some = list(columns) if columns is not None else None
    tables = [pq.read_table(file, columns=some, filters=filters, partitioning=None) for file in files]
    empty = pa.schema([schema.field(column) for column in some or schema.names]).empty_table()
    return _frame(pa.concat_tables(tables) if tables else empty, engine)


def _frame(table: pa.Table, engine: Engine) -> Any:
    if engine == "arrow":
        return table
    if engine == "polars":
        import polars  # optional: only who asks for it needs it

        return polars.from_arrow(table)
    return _to_pandas(table)


def _to_pandas(table: pa.Table) -> pd.DataFrame:
    """Days as datetime64; a whole number that may be null stays one, as Int64."""
    frame: pd.DataFrame = table.to_pandas(date_as_object=False)
    for field in table.schema:
        if pa.types.is_integer(field.type) and field.nullable:
            frame[field.name] = table[field.name].to_pandas(types_mapper={pa.int64(): pd.Int64Dtype()}.get)
    return frame


@contextmanager
def _catalog(settings: Settings | None, access_token: str | None) -> Iterator[Catalog]:
    settings = settings or reader_settings()
    public, service = (key.get_secret_value() for key in (settings.supabase_key, settings.supabase_service_key))
    key = public if access_token else service or public
    if not settings.supabase_url or not key:
        raise ConfigurationError(
            "SUPABASE_URL and a key are not both set.",
            remedy="Set SUPABASE_URL and SUPABASE_SERVICE_KEY in the environment or in .env; an analyst sets "
            "SUPABASE_URL and SUPABASE_KEY (the public one), and gives access_token=.",
        )
    with Bucket(settings, key=key, access_token=access_token) as bucket:
        yield Catalog(settings, bucket, key, access_token)
