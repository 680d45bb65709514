"""Finds runs and their files in the bucket, as a reader: from the pointer, from an instant, or by a run's id."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from tasks.errors import ConfigurationError, ReadError, RequestRefused
from tasks.files.manifest import (
    LATEST,
    MANIFEST,
    RUNS,
    day_folders,
    day_of,
    day_of_folder,
    instant,
    parse_run_path,
    sha256_of,
)
from tasks.platform.bucket import Bucket, each
from tasks.read.cache import Cache
from tasks.settings import Settings

AsOf = date | datetime | str
Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Catalog:
    """The bucket's runs, as one key (and signed-in user) sees them."""

    settings: Settings
    bucket: Bucket
    key: str = field(repr=False)
    access_token: str | None = field(default=None, repr=False)

    def pointer(self) -> dict[str, Any] | None:
        """What latest.json says; None when there is none, or the user may not see it."""
        body = self.bucket.find(LATEST)
        return json.loads(body) if body else None

    def find(self, *, as_of: AsOf | None = None, run: str | None = None) -> dict[str, Any]:
        """The manifest of a run, by default of the latest; ReadError when there is none such."""
        if as_of is not None and run is not None:
            raise ConfigurationError("A run is chosen by as_of or by run, not by both.")
        if run is not None:
            return self._of_run(run)
        return self._latest() if as_of is None else self._of_instant(as_of)

    def _latest(self) -> dict[str, Any]:
        pointer = self.pointer()
        if pointer is None:
            raise ReadError(
                f"The bucket {self.settings.bucket} of {self.settings.project} shows no {LATEST}.",
                remedy="Either no run was committed yet, or this user is no analyst: the access token must say "
                "app_metadata.etl_role = 'analyst'.",
            )
        body = self.bucket.find(pointer["manifest"])
        if body is None or sha256_of(body) != pointer["manifest_sha256"]:
            raise ReadError(
                f"{pointer['manifest']} is {'missing' if body is None else 'not the one that latest.json means'}.",
                remedy="The next run repairs the pointer; list_runs() shows the other runs.",
            )
        return dict(json.loads(body))

    def _of_run(self, run: str) -> dict[str, Any]:
        path = run.strip("/").removesuffix(f"/{MANIFEST}")
        for place in [path] if parse_run_path(path) else self._paths_of(path):
            if body := self.bucket.find(f"{place}/{MANIFEST}"):
                return dict(json.loads(body))
        raise ReadError(
            f"There is no run {run!r} any more, or there never was.", remedy="list_runs() shows what there is."
        )

    def _paths_of(self, run_id: str) -> Iterator[str]:
        """Where a run of that id may be, latest day first."""
        for folder in self._folders():
            name = run_id if folder == day_of_folder(folder) else f"run={run_id}"
            yield f"{RUNS}/{folder}/{name}"

    def _of_instant(self, as_of: AsOf) -> dict[str, Any]:
        moment = _moment(as_of)
        day = day_of(moment) if isinstance(moment, datetime) else moment.isoformat()
        runs = self.manifests([day])
        found = [run for run in runs if not isinstance(moment, datetime) or instant(run["as_of"]) == moment]
        if not found:
            raise ReadError(
                f"No run speaks of {as_of}.", remedy="list_runs() shows what there is; a backfill makes more."
            )
        return max(found, key=lambda run: (instant(run["as_of"]), instant(run["began"])))

    def days(self) -> list[str]:
        """The days that have runs, as `2026-01-31`, latest first."""
        return list(dict.fromkeys(map(day_of_folder, self._folders())))

    def _folders(self) -> list[str]:
        """The folders of days that have runs, of both formats, latest day first."""
        return sorted(self.bucket.folders(RUNS), key=day_of_folder, reverse=True)

    def manifests(self, days: Sequence[str]) -> list[dict[str, Any]]:
        """The manifests of all runs of these days, in no order. A run without one is not complete yet."""
        folders = [folder for day in days for folder in day_folders(day)]
        runs = [run for found in self._each(_runs_of, folders) for run in found]
        return [json.loads(body) for body in self._each(_manifest_of, runs) if body]

    def files(self, manifest: dict[str, Any], what: str, wanted: Callable[[str], bool]) -> list[Entry]:
        """The entries of a manifest that are wanted, by path; ReadError when retention took them, or it had none."""
        removed = manifest.get("removed") or {"files": [], "at": ""}
        if any(map(wanted, removed["files"])):
            raise ReadError(
                f"{what} of the run for {manifest['as_of']} was removed by retention on {removed['at'][:10]}: "
                "files that name user ids are kept for a time only.",
                remedy="The run's other reports are there; list_runs() shows newer runs.",
            )
        if manifest["historical"] and what.startswith("clean/"):
            raise ReadError(
                f"The run for {manifest['as_of']} told the past from later rows: it has reports, no cleaned tables.",
                remedy="Leave out as_of and run for the latest cleaned tables.",
            )
        return [entry for entry in manifest["files"] if wanted(entry["path"])]

    def fetch(self, manifest: dict[str, Any], entries: Sequence[Entry], cache: Cache) -> list[Path]:
        """Local copies of files, in their order, several downloads at once."""

        def one(bucket: Bucket, entry: Entry) -> tuple[str, Path]:
            path = f"{manifest['run']}/{entry['path']}"
            return entry["path"], cache.get(entry["sha256"], lambda: _download(bucket, path), path)

        local = dict(self._each(one, entries))
        return [local[entry["path"]] for entry in entries]

    def _each(self, work: Callable[[Bucket, Any], Any], items: Sequence[Any]) -> list[Any]:
        if len(items) == 1:
            return [work(self.bucket, items[0])]
        return list(each(self.settings, work, items, key=self.key, access_token=self.access_token))


def _runs_of(bucket: Bucket, day: str) -> list[str]:
    return [f"{RUNS}/{day}/{run}" for run in bucket.folders(f"{RUNS}/{day}")]


def _manifest_of(bucket: Bucket, run: str) -> bytes | None:
    return bucket.find(f"{run}/{MANIFEST}")


def _download(bucket: Bucket, path: str) -> bytes:
    try:
        return bucket.download(path)
    except RequestRefused as error:
        raise ReadError(
            f"{path} cannot be read: {error.message}",
            remedy="If retention is at work just now, list_runs() shows newer runs.",
        ) from None


def _moment(as_of: AsOf) -> date | datetime:
    """A day, or an instant in UTC."""
    if isinstance(as_of, str):
        try:
            as_of = date.fromisoformat(as_of) if len(as_of) == len("2026-01-31") else datetime.fromisoformat(as_of)
        except ValueError:
            raise ConfigurationError(f"as_of is {as_of!r}; it is a day or an instant, as in ISO 8601.") from None
    if not isinstance(as_of, datetime):
        return as_of
    if as_of.tzinfo is None:
        raise ConfigurationError(f"as_of {as_of} has no time zone.", remedy="Add Z for UTC, or an offset.")
    return as_of.astimezone(UTC)
