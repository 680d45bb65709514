"""What a reader must know of a run to choose it, kept on this machine by the run's path.

A manifest has tens of kilobytes, a busy day hundreds of runs, and what runs are chosen by never changes once a run is
published: its instants, whether it is historical, which reports it has. So that is read once. That retention pruned or
removed a run since must be asked, for which `paths` are enough.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Self

from pydantic import TypeAdapter, ValidationError

from tasks.files.layout import manifest_path, parse_run_path
from tasks.files.manifest import Dated, Manifest
from tasks.publish.retention import names_users
from tasks.read.cache import Cache

# By the clock of the machine that asked for it a run's id begins with the time; its reading starts within this of it,
# as a run waits an hour for another one. One that ETL_WAIT_FOR_LEASE let wait for longer is out of its place only where
# more runs than are read together were asked for after it and read before it.
CLOCKS = timedelta(hours=1)
UNKNOWN = datetime(9000, 1, 1, tzinfo=UTC)
_REPORTS = "reports/"
_ASKED_AT = re.compile(r"\d{8}T\d{6}Z(?=-)")


class RunFacts(Dated):
    """A run, without what makes its manifest large. reports: those it was published with, by name.

    witness: a file that is there as long as the run was not pruned, below the run's path; empty: there is none.
    """

    pruned: bool
    reports: tuple[str, ...]
    witness: str

    @classmethod
    def of(cls, manifest: Manifest) -> Self:
        """The facts of a run from its manifest."""
        gone = manifest.removed.files if manifest.removed else ()
        files = [*(entry.path for entry in manifest.files), *gone]
        reports = [path for path in files if path.startswith(_REPORTS)]
        # Cleaned rows name users by any version's rules, a report by those of its contract.
        of_users = sorted(filter(names_users, files), key=lambda path: path.startswith(_REPORTS))
        return cls(
            run=manifest.run,
            run_id=manifest.run_id,
            as_of=manifest.as_of,
            started_at=manifest.started_at,
            historical=manifest.historical,
            pruned=manifest.removed is not None,
            reports=tuple(path.removeprefix(_REPORTS).removesuffix(".parquet") for path in reports),
            witness=of_users[0] if of_users else "",
        )

    @property
    def paths(self) -> set[str]:
        """The files that are in the bucket as long as these facts hold."""
        witness = set() if self.pruned else {f"{self.run}/{self.witness}"}
        return {manifest_path(self.run), *witness}


_LIST = TypeAdapter(list[RunFacts])


@dataclass(frozen=True, slots=True)
class KnownRuns:
    """The facts of runs that were read on this machine, a file for each day."""

    cache: Cache

    def of(self, runs: Iterable[str]) -> dict[str, RunFacts]:
        """What is kept of these runs, by their paths."""
        found: dict[str, RunFacts] = {}
        for day, some in _by_day(runs).items():
            found |= {run: facts for run, facts in self._of_day(day).items() if run in some}
        return found

    def keep(self, facts: Iterable[RunFacts]) -> None:
        """Add to what is kept. What another process adds meanwhile may be lost: it is read again."""
        new = {of.run: of for of in facts}
        for day, some in _by_day(new).items():
            known = self._of_day(day) | {run: new[run] for run in some}
            self.cache.remember(_name(day), _LIST.dump_json(list(known.values())))

    def _of_day(self, day: str) -> dict[str, RunFacts]:
        body = self.cache.recall(_name(day))
        try:
            return {of.run: of for of in _LIST.validate_json(body)} if body else {}
        except ValidationError:  # of another version
            return {}


def _name(day: str) -> str:
    return f"facts of the runs of {day}"


def _by_day(runs: Iterable[str]) -> dict[str, set[str]]:
    days: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        day, _ = parse_run_path(run) or ("", run)
        days[day].add(run)
    return days


def asked_at(run: str) -> datetime:
    """When a run was asked for, by its id; `UNKNOWN`, far ahead, for an id that does not say."""
    _, run_id = parse_run_path(run) or ("", run)
    found = _ASKED_AT.match(run_id)
    return datetime.strptime(found[0], "%Y%m%dT%H%M%S%z") if found else UNKNOWN


def may_have_started(run: str, before: datetime) -> bool:
    """Whether the reading of a run may have started before an instant, by its id."""
    at = asked_at(run)
    return at == UNKNOWN or at - CLOCKS < before
