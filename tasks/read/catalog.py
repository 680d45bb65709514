"""Finds runs and their files in the bucket, as a reader: from the pointer, from an instant, or by a run's id."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from itertools import chain
from pathlib import Path

from tasks.errors import AccessError, ConfigurationError, FileLost, NotThere, ReadError, RequestRefused
from tasks.files.layout import (
    LATEST,
    MANIFEST,
    RUNS,
    day_of,
    day_of_folder,
    manifest_path,
    parse_run_path,
)
from tasks.files.manifest import FileEntry, Manifest, ManifestRef, Pointer
from tasks.files.published import NotAsPublished, read_manifest, read_pointer
from tasks.platform.bucket import Bucket
from tasks.read.access import checked_token, nothing_there, reader_key, refused, why_hidden
from tasks.read.cache import Cache
from tasks.read.facts import RunFacts, asked_at
from tasks.read.options import AsOf, parse_as_of, settings_of
from tasks.read.runs import Runs, end_of, may_be_as_of
from tasks.settings import Settings

logger = logging.getLogger(__name__)
_LIST = "list_runs() shows what there is."
_RUN_ID = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]*")
_INSTANTS = 5  # of a day's runs, in a message


class Catalog(Runs):
    """Finds one of the bucket's runs, and its files."""

    def pointer(self) -> Pointer | None:
        """What latest.json says; None when there is none. ReadError when this user may not see it."""
        try:
            pointer = read_pointer(self.bucket)
        except NotAsPublished as problem:
            raise ReadError(f"{problem}.", remedy=f"The next run writes it again; {_LIST}") from None
        if pointer is None:
            if why := why_hidden(self.settings, self.access_token):
                raise why
            self.bucket.folders(RUNS)  # a false token: a download is only hidden from it, a listing is refused
        return pointer

    def find(self, *, as_of: AsOf | None = None, run: str | None = None) -> Manifest:
        """The manifest of a run, by default of the latest; ReadError when there is none such."""
        if as_of is not None and run is not None:
            raise ConfigurationError("A run is chosen by as_of or by run, not by both.")
        if run is not None:
            return self._of_run(run)
        return self._latest() if as_of is None else self._of_instant(as_of)

    def _latest(self) -> Manifest:
        pointer = self.pointer()
        if pointer is None:
            raise nothing_there(self.settings, self.access_token, self._newest())
        try:
            return read_manifest(self.bucket, ManifestRef(path=pointer.manifest, sha256=pointer.manifest_sha256))
        except NotAsPublished as problem:
            raise ReadError(
                f"{problem}, so what {LATEST} names cannot be read.",
                remedy="The next run repairs the pointer; list_runs() shows the other runs.",
            ) from None

    def _newest(self) -> Manifest | None:
        """The run to read by what is in the bucket alone; None when there is none at all."""
        newest = None
        for folder in self.folders:
            (runs,) = self.ranked([folder]).values()
            found = self._first(runs)
            if found and (newest is None or found.rank > newest.rank):
                newest = found
            if newest and not newest.historical:
                break
        return newest

    def _first(self, runs: Iterable[RunFacts]) -> Manifest | None:
        """The manifest of the first of these runs that has one: another may be removed just now."""
        return next((found for of in runs if (found := self.manifest(self.bucket, of.run))), None)

    def _of_run(self, run: str) -> Manifest:
        if not isinstance(run, str):
            raise ConfigurationError(f"run is {run!r}; it is a run's id or path, as text.", remedy=_LIST)
        paths = list(self._paths_of(run.strip("/").removesuffix(f"/{MANIFEST}")))
        for path in chain(paths[:1], self._published(paths[1:])):
            if manifest := self.manifest(self.bucket, path):
                return manifest
        raise why_hidden(self.settings, self.access_token) or NotThere(
            f"There is no run {run!r} any more, or there never was.", remedy=_LIST
        )

    def _published(self, paths: Sequence[str]) -> Iterator[str]:
        """Those of these paths that have a manifest; all are asked for at once, when the first is wanted."""
        there = self.there([manifest_path(path) for path in paths])
        yield from (path for path in paths if manifest_path(path) in there)

    def _paths_of(self, run: str) -> Iterator[str]:
        """Where a run of that id or path may be, first near the day that its id names; nowhere for what is no name."""
        _, run_id = parse_run_path(run) or ("", run)
        if not _RUN_ID.fullmatch(run_id):
            return
        if run_id != run:
            yield run
            return
        asked = asked_at(run_id)
        for folder in sorted(self.folders, key=lambda folder: abs(end_of(day_of_folder(folder)) - asked)):
            name = run_id if folder == day_of_folder(folder) else f"run={run_id}"
            yield f"{RUNS}/{folder}/{name}"

    def _of_instant(self, as_of: AsOf) -> Manifest:
        moment = parse_as_of(as_of)
        day = day_of(moment) if isinstance(moment, datetime) else moment.isoformat()
        of_day = self.runs([day, f"date={day}"])
        if isinstance(moment, datetime):
            found = self._as_of(moment, day, of_day[day])
        else:
            found = self._first(*self.in_order(of_day).values())
        if found is None:
            raise why_hidden(self.settings, self.access_token) or self._no_such_run(as_of, day, of_day[day])
        return found

    def _as_of(self, moment: datetime, day: str, runs: Sequence[str]) -> Manifest | None:
        """The run of these that is as of an instant. One that waited for long has an id of before: it is read last."""
        likely = [run for run in runs if may_be_as_of(run, moment)]
        tries = (of for some in (likely, runs) for of in self.in_order({day: some})[day])
        return self._first(of for of in tries if of.as_of == moment)

    def _no_such_run(self, as_of: AsOf, day: str, runs: Sequence[str]) -> NotThere:
        """runs: those of the day, by their paths."""
        if instants := {of.as_of for of in self.facts(runs)}:
            return _no_such_instant(as_of, day, instants)
        days = sorted(self.days())
        days_before, days_after = [d for d in days if d < day], [d for d in days if d > day]
        near = [*days_before[-1:], *days_after[:1]]
        said = f"The nearest {'days' if near[1:] else 'day'} with a run: {' and '.join(near)}. " if near else ""
        return NotThere(
            f"No run is as of {as_of}: a day names the run whose reports end with it. {said}".rstrip(),
            remedy=f"{_LIST} {_how_to_make(date.fromisoformat(day))}".rstrip(),
        )

    def fetch(self, files: Sequence[tuple[str, FileEntry]], cache: Cache) -> list[Path]:
        """Local copies of files (the run's path and the entry of each), in their order, several downloads at once."""

        def one(bucket: Bucket, file: tuple[str, FileEntry]) -> tuple[str, Path]:
            run, entry = file
            path = f"{run}/{entry.path}"
            return path, cache.get(entry.sha256, lambda: _download(bucket, path), path)

        local = dict(self.each(one, files))
        return [local[f"{run}/{entry.path}"] for run, entry in files]

    def fetch_what_is_there(self, files: Sequence[tuple[Manifest, FileEntry]], cache: Cache) -> dict[str, Path]:
        """Local copies of files, by the path of the run; without those that are not in the bucket any more."""

        def one(bucket: Bucket, file: tuple[Manifest, FileEntry]) -> tuple[str, Path] | None:
            run, entry = file
            path = f"{run.run}/{entry.path}"
            try:
                return run.run, cache.get(entry.sha256, lambda: bucket.download_published(path), path)
            except FileLost:
                return None

        return dict(found for found in self.each(one, files) if found)


def _no_such_instant(as_of: AsOf, day: str, found: Iterable[datetime]) -> NotThere:
    instants = sorted(found, reverse=True)
    named = ", ".join(instant.isoformat() for instant in instants[:_INSTANTS])
    more = f" and {len(instants) - _INSTANTS} more" if len(instants) > _INSTANTS else ""
    return NotThere(
        f"No run is as of {as_of}. The runs of {day} are as of {named}{more}.",
        remedy=f"Give one of these instants, or the day {day} for its last run. {_LIST}",
    )


def _how_to_make(day: date) -> str:
    """How the reports of a past day are made; nothing of a day that is not over."""
    if day >= datetime.now(UTC).date():
        return ""
    return (
        f"A run with `--as-of {day + timedelta(days=1)}`, the midnight with which {day} ended, makes reports that "
        f"cover whole days up to and including {day}; so does a backfill of {day}."
    )


def _download(bucket: Bucket, path: str) -> bytes:
    try:
        return bucket.download(path)
    except RequestRefused as error:
        raise ReadError(
            f"{path} cannot be read: {error.message}",
            remedy="If retention is running just now, list_runs() shows newer runs.",
        ) from None


@contextmanager
def open_catalog(settings: Settings | None, access_token: str | None) -> Iterator[Catalog]:
    """The runs as this reader sees them. ReadError says when a key or token is refused, and why."""
    settings, access_token = settings_of(settings), checked_token(access_token)
    key = reader_key(settings, access_token)
    with Bucket(settings, key=key, access_token=access_token) as bucket:
        try:
            yield Catalog(settings, bucket, key, access_token)
        except AccessError as error:
            raise refused(settings, access_token, error.message) from None
