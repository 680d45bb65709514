"""Where things are in the bucket (layout format 2). The day is the last one that the reports cover: as_of − 1 µs.

    runs/2026-01-31/<run id>/manifest.json
    runs/2026-01-31/<run id>/reports/<report>.parquet
    runs/2026-01-31/<run id>/charts/<chart>.png
    runs/2026-01-31/<run id>/clean/<table>/[month=2026-01/]part-000.parquet
    runs/2026-01-31/<run id>/state/<partial table>/2026-01.parquet
    exports/2026-01-31/<report>-<time>-<unique>.<format>
    latest.json

No folder is named `key=value` where `key` is a column of a file below it: DuckDB, Polars and pyarrow parse such paths,
and would replace the column by the folder's value. Parts are in key order by their numbers, which have more digits from
`part-1000` on: see `part_order`. Format 1 had `runs/date=2026-01-31/run=<run id>/…`; such runs stay
readable until retention removes them.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta

FORMAT = 2
LATEST = "latest.json"
MANIFEST = "manifest.json"
RUNS = "runs"
EXPORTS = "exports"
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_PART = re.compile(r"(?<=/part-)\d+(?=\.parquet$)")
_RUN_PATH = re.compile(rf"{RUNS}/(date=)?(\d{{4}}-\d{{2}}-\d{{2}})/(?(1)run=)([^/=]+)")


def instant(value: datetime | str) -> datetime:
    """An instant in UTC, from a datetime with a zone or its ISO text."""
    parsed = datetime.fromisoformat(value) if isinstance(value, str) else value
    return parsed.astimezone(UTC)


def day_of(as_of: datetime) -> str:
    """as_of's day: that of the last instant before it."""
    return (instant(as_of) - timedelta(microseconds=1)).date().isoformat()


def as_of_day(day: date) -> datetime:
    """The instant, exclusive, that whole days up to and with this one are as of. The calendar's last has one, too."""
    if day == date.max:
        return datetime.max.replace(tzinfo=UTC)
    return datetime.combine(day + timedelta(days=1), time(), UTC)


def run_path(run_id: object, as_of: datetime) -> str:
    """Where a run's files live in the bucket."""
    return f"{RUNS}/{day_of(as_of)}/{run_id}"


def parse_run_path(path: str) -> tuple[str, str] | None:
    """Day and run id of a run's path, of either format; None for any other path."""
    found = _RUN_PATH.fullmatch(path)
    return (found[2], found[3]) if found else None


def manifest_path(run: str) -> str:
    """The path of the manifest of the run with that path."""
    return f"{run}/{MANIFEST}"


def part_order(path: str) -> str:
    """By this files follow one another as their rows do; as text `part-1000` comes before `part-101`."""
    return _PART.sub(lambda number: number[0].zfill(12), path)


def day_of_folder(folder: str) -> str:
    """The day that a folder of runs or exports is named after: `2026-01-31`, or `date=2026-01-31` in format 1."""
    return folder.removeprefix("date=")


def run_id_of_folder(folder: str) -> str:
    """The run that a folder is named after: `<run id>`, or `run=<run id>` in format 1."""
    return folder.removeprefix("run=")


def is_day(text: str) -> bool:
    """Whether a text looks like `2026-01-31`."""
    return _DAY.fullmatch(text) is not None
