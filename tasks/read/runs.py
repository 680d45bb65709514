"""The runs in the bucket, and what is known of them, without the manifest of each."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from functools import cached_property
from operator import attrgetter
from typing import Any

from tasks.files.layout import RUNS, as_of_day, day_of_folder, is_day
from tasks.files.manifest import Manifest
from tasks.files.published import NotAsPublished, find_manifest
from tasks.platform.bucket import Bucket
from tasks.platform.buckets import each
from tasks.read.cache import Cache
from tasks.read.facts import CLOCKS, KnownRuns, RunFacts, asked_at
from tasks.settings import Settings

logger = logging.getLogger(__name__)
ONE_AFTER_THE_OTHER = 2
_LINKS = 200  # that are asked for together
_LINK_SECONDS = 60  # of links that nobody gets: signing one says whether its file is there


@dataclass(frozen=True)
class Runs:
    """The bucket's runs, as one key (and signed-in user) sees them while one question is answered."""

    settings: Settings
    bucket: Bucket
    key: str | None = field(repr=False)  # None: as the identity of the settings
    access_token: str | None = field(default=None, repr=False)

    def days(self) -> list[str]:
        """The days that have runs, as `2026-01-31`, latest first."""
        return list(dict.fromkeys(map(day_of_folder, self.folders)))

    @cached_property
    def folders(self) -> list[str]:
        """The folders of days that have runs, of both formats, latest day first."""
        found = (folder for folder in self.bucket.folders(RUNS) if is_day(day_of_folder(folder)))
        return sorted(found, key=day_of_folder, reverse=True)

    def folders_of(self, days: Sequence[str]) -> list[str]:
        """The folders of these days."""
        wanted = set(days)
        return [folder for folder in self.folders if day_of_folder(folder) in wanted]

    def runs(self, folders: Sequence[str]) -> dict[str, list[str]]:
        """The paths of the runs in these folders, by day; also of those that are not complete."""
        runs: dict[str, list[str]] = {day_of_folder(folder): [] for folder in folders}
        for folder, of_folder in self.each(_runs_of, folders):
            runs[day_of_folder(folder)] += of_folder
        return runs

    def ranked(self, folders: Sequence[str]) -> dict[str, Iterator[RunFacts]]:
        """The runs of each day of these folders, the one to read first. Most are read only when they are asked for."""
        return self.in_order(self.runs(folders))

    def in_order(self, runs: Mapping[str, Sequence[str]]) -> dict[str, Iterator[RunFacts]]:
        """The same of runs whose paths are known, by day."""
        self.facts([run for day, of_day in runs.items() for run in of_day if may_be_as_of(run, end_of(day))])
        return {day: self._ranked(day, of_day) for day, of_day in runs.items()}

    def _ranked(self, day: str, runs: Sequence[str]) -> Iterator[RunFacts]:
        """None of a day is as of later than its end, so whoever really ran as of then comes before all others."""
        known, rank = self.kept.of(runs), attrgetter("rank")
        end = end_of(day)
        first = {of.run: of for of in known.values() if not of.historical and of.as_of == end}
        yield from sorted(first.values(), key=rank, reverse=True)
        yield from sorted((of for of in self.facts(runs) if of.run not in first), key=rank, reverse=True)

    @cached_property
    def kept(self) -> KnownRuns:
        return KnownRuns(Cache.of(self.settings))

    def facts(self, runs: Iterable[str]) -> list[RunFacts]:
        """The facts of these runs, in no order, as they were when they were read first. One without a manifest is not
        complete yet."""
        known = self.kept.of(runs := list(runs))
        return [*known.values(), *self._read([run for run in runs if run not in known])]

    def facts_now(self, runs: Sequence[str]) -> list[RunFacts]:
        """The facts of these runs as they are now, in no order: pruned or removed since is seen."""
        known = self.kept.of(runs)
        there = self.there(sorted(path for of in known.values() for path in of.paths))
        same = {run: of for run, of in known.items() if of.paths <= there}
        return [*same.values(), *self._read([run for run in runs if run not in same])]

    def _read(self, runs: Sequence[str]) -> list[RunFacts]:
        facts = [RunFacts.of(manifest) for manifest in self.manifests(runs).values()]
        self.kept.keep(facts)
        return facts

    def there(self, paths: Sequence[str]) -> set[str]:
        """Those of these files that are in the bucket: hundreds are asked for at once."""
        some = [paths[start : start + _LINKS] for start in range(0, len(paths), _LINKS)]
        return {path for links in self.each(_sign, some) for path in links}

    def manifest(self, bucket: Bucket, run: str) -> Manifest | None:
        """The manifest under a run's path as it is now; None when there is none, or one that cannot be read."""
        try:
            return find_manifest(bucket, run)
        except NotAsPublished as problem:
            logger.warning("%s; the run is left out.", problem)
            return None

    def manifests(self, runs: Sequence[str]) -> dict[str, Manifest]:
        """The manifests under these paths as they are now, by path; without those that are not there."""
        found = self.each(lambda bucket, run: (run, self.manifest(bucket, run)), runs)
        return {run: manifest for run, manifest in found if manifest}

    def each(self, work: Callable[[Bucket, Any], Any], items: Sequence[Any]) -> list[Any]:
        """Results of `work` on each item, in no order, several at once where that is worth new connections."""
        if len(items) <= ONE_AFTER_THE_OTHER:
            return [work(self.bucket, item) for item in items]
        return list(each(self.settings, work, items, key=self.key, access_token=self.access_token))


def end_of(day: str) -> datetime:
    """The midnight with which a day, as its folder is called, ends."""
    return as_of_day(date.fromisoformat(day))


def may_be_as_of(run: str, moment: datetime) -> bool:
    """Whether a run may have read after an instant, by its id: none is as of later than its reading."""
    return asked_at(run) - moment >= -CLOCKS


def _runs_of(bucket: Bucket, folder: str) -> tuple[str, list[str]]:
    return folder, [f"{RUNS}/{folder}/{run}" for run in bucket.folders(f"{RUNS}/{folder}")]


def _sign(bucket: Bucket, paths: Sequence[str]) -> dict[str, str]:
    return bucket.sign(paths, _LINK_SECONDS)
