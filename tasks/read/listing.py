"""The runs there are, and the one before another: what a reader imports as `list_runs` and `run_before`."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta
from itertools import islice

import pandas as pd

from tasks.errors import NotThere
from tasks.files.layout import day_of_folder, parse_run_path
from tasks.files.manifest import Manifest
from tasks.read.access import nothing_there
from tasks.read.catalog import Catalog, open_catalog
from tasks.read.facts import CLOCKS, RunFacts, asked_at, may_have_started
from tasks.read.options import Access, AsOf, checked_number
from tasks.read.run import OpenRun, opened
from tasks.settings import Settings

LIMIT = 100
_COLUMNS = ["date", "run_id", "as_of", "started_at", "historical", "pruned", "latest", "run"]
_DAYS = 7  # that are looked at together
_RUNS = 8  # that are read together


def list_runs(
    *,
    days: int = 60,
    limit: int | None = LIMIT,
    access_token: str | None = None,
    settings: Settings | None = None,
) -> pd.DataFrame:
    """The runs that can be read, newest first: date, run_id, as_of, started_at, historical, pruned, latest, run.

    days: how many days with runs are looked at, from the latest back; at least 1. limit: at most so many runs, those of
    the latest days, and of a day those that were asked for last; None: all, which takes long where hundreds run a day.
    A warning says that the default left some out. pruned: retention removed the files that name user ids. latest: what
    is read by default. run: the run's path in the bucket. ReadError when this user may not see them.
    """
    days, limit = checked_number("days", days), None if limit is None else checked_number("limit", limit)
    with open_catalog(settings, access_token) as catalog:
        pointer = catalog.pointer()
        latest = pointer.run if pointer else None
        paths = _newest(catalog, days)
        rows = [_row(facts, latest) for facts in _whole(catalog, paths, limit)]
        if not rows and access_token:
            warnings.warn(nothing_there(catalog.settings, access_token).message, stacklevel=2)
        are_more = limit == LIMIT and next(paths, None) is not None
    if are_more:
        text = f"These are the newest {limit} runs of the last {days} days with runs; limit=None lists all of them."
        warnings.warn(text, stacklevel=2)
    return _frame(rows)


def _newest(catalog: Catalog, days: int) -> Iterator[str]:
    """The paths of the newest runs; also of those that are being published, or were left half published."""
    folders = catalog.folders_of(catalog.days()[:days])
    for some in (folders[:1], *_in_parts(folders[1:], _DAYS)):  # one busy day may be enough
        for of_day in catalog.runs(some).values():  # the latest day first
            yield from sorted(of_day, key=lambda run: run.rpartition("/")[2].removeprefix("run="), reverse=True)


def _whole(catalog: Catalog, paths: Iterator[str], limit: int | None) -> list[RunFacts]:
    """The facts of the first of these runs that can be read, at most `limit`: one without a manifest takes no place."""
    found: list[RunFacts] = []
    while some := list(islice(paths, limit and limit - len(found))):
        found += catalog.facts_now(some)
    return found


def _row(facts: RunFacts, latest: str | None) -> tuple[object, ...]:
    day, _ = parse_run_path(facts.run) or ("", "")
    run = (facts.run_id, facts.as_of, facts.started_at, facts.historical, facts.pruned, facts.run == latest, facts.run)
    return day, *run


def _frame(rows: Sequence[tuple[object, ...]]) -> pd.DataFrame:
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
    with open_catalog(settings, access_token) as catalog:
        earlier = _as_of_before if newer.manifest.historical else _started_before
        for facts in earlier(catalog, newer.manifest):
            if catalog.manifest(catalog.bucket, facts.run):  # another may be removed just now
                return facts.run
    raise NotThere(
        f"No run was published before {newer.run_id}.", remedy="Choose a base by its id; list_runs() shows them."
    )


def _as_of_before(catalog: Catalog, newer: Manifest) -> Iterator[RunFacts]:
    """The runs that really ran and are as of before a historical one, the last of them first."""
    for folder in catalog.folders:
        if day_of_folder(folder) <= newer.day:
            (runs,) = catalog.ranked([folder]).values()
            yield from (facts for facts in runs if not facts.historical and facts.order < newer.order)


def _started_before(catalog: Catalog, newer: Manifest) -> Iterator[RunFacts]:
    """The runs that really ran and started before another one, the last of them first; some days after the other."""
    last = f"{date.fromisoformat(newer.day) + timedelta(days=1)}"
    for some in _in_parts([folder for folder in catalog.folders if day_of_folder(folder) <= last], _DAYS):
        runs = [run for of_day in catalog.runs(some).values() for run in of_day]
        yield from _by_start(catalog, runs, newer.started_at)


def _by_start(catalog: Catalog, runs: Sequence[str], before: datetime) -> Iterator[RunFacts]:
    """Of these runs those that started before; one is read only when its id allows that it is the next."""
    left = sorted(runs, key=asked_at, reverse=True)
    left = [run for run in left if may_have_started(run, before)]
    found: list[RunFacts] = []
    while left:
        some, left = left[:_RUNS], left[_RUNS:]
        found += [of for of in catalog.facts(some) if not of.historical and of.started_at < before]
        found.sort(key=lambda of: of.started_at)
        while found and not (left and asked_at(left[0]) + CLOCKS >= found[-1].started_at):
            yield found.pop()


def _in_parts(values: Sequence[str], length: int) -> Iterator[Sequence[str]]:
    return (values[start : start + length] for start in range(0, len(values), length))
