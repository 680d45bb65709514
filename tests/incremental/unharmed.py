"""What holds after each operation, whatever it was: readers see one whole committed run, and nothing is left behind."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from flows.engine.outcome import RunOutcome
from tasks.files.layout import run_id_of_folder
from tests.pipeline.kit import Project

_SESSIONS = (
    "select count(*) from pg_stat_activity where application_name like 'supabase-nightly%' and pid <> pg_backend_pid()"
)
_TEMPORARY = "select count(*) from pg_class where relpersistence = 't'"
_RUNNING = "select run_id from etl_runs where status in ('running', 'loading')"


class Unharmed:
    """reader: the run that readers must see, by what was done. broken: paths of runs of which somebody took a file."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.reader = ""
        self.broken: set[str] = set()
        self.pointer_lost = False
        self.verified: list[object] = []  # what latest.json named, and the files there, when they were read last
        self.folders: set[str] = set()  # left by a run that did not end by itself, until the next one
        self.unfinished: set[str] = set()  # such runs, of which the ledger does not know yet

    def committed(self, outcome: RunOutcome) -> None:
        assert outcome.current
        self.reader, self.pointer_lost = outcome.run_id, False
        self.folders, self.unfinished = set(), set()

    def restored(self, target: RunOutcome) -> None:
        self.reader, self.pointer_lost = target.run_id, False

    def ended_somehow(self, *, killed: bool = False) -> None:
        """A run that did not end well may have committed: the ledger says so, and the next start moves the pointer.

        Its folder stays until the next run.
        """
        if (current := self._current()) != self.reader:
            self.reader, self.pointer_lost = current, True
        self.folders = set(self.project.remove_local_runs())
        running = set(self.project.stack.query(_RUNNING).split())
        self.unfinished = running if killed else running & self.unfinished

    def database_replaced(self) -> None:
        self.reader, self.pointer_lost = self._current(), True

    def damaged(self, path: str) -> None:
        self.pointer_lost |= path == "latest.json"
        self.broken.add("/".join(path.split("/")[:3]))

    def latest(self) -> dict[str, str] | None:
        """What `latest.json` says; None where it may be lost or damaged."""
        return None if self.pointer_lost else self.project.latest()

    def listing(self) -> list[str]:
        return sorted(file.path for file in self.project.bucket.walk("runs"))

    def retained(self, before: Sequence[str], base: str | None, *, dry: bool) -> None:
        """The base and what readers see have lost nothing."""
        gone = sorted(set(before) - set(self.listing()))
        latest = self.latest()
        assert not (dry and gone), gone
        kept = [f"/{base}/"] if base else []
        kept += [f"{latest['run']}/"] if latest else []
        assert not [path for path in gone if any(of in path for of in kept)], gone

    def _current(self) -> str:
        rows = "select coalesce((etl_history('{\"current\": true, \"limit\": 1}') -> 0) ->> 'run_id', '')"
        return self.project.stack.query(rows)

    def check(self, log: Sequence[str]) -> None:
        found = [*self._of_readers(), *self._left()]
        assert not found, "\n".join([*log, *found])

    def _of_readers(self) -> list[str]:
        found = []
        if (current := self._current()) != self.reader:
            found.append(f"the ledger's current run is {current!r}, not {self.reader!r}")
        if self.pointer_lost:
            return found
        latest = self.project.latest()
        named = run_id_of_folder(latest["run"].rpartition("/")[2]) if latest else ""
        if named != self.reader:
            found.append(f"latest.json names {named!r}, not {self.reader!r}")
        if latest and latest["run"] not in self.broken:
            found += self._of_files(latest)
        return found

    def _of_files(self, latest: Mapping[str, str]) -> list[str]:
        seen = [latest["manifest_sha256"], *self.project.bucket.walk(latest["run"])]
        if seen == self.verified:
            return []
        self.verified = seen
        manifest = self.project.file(latest["manifest"]) or b""
        if hashlib.sha256(manifest).hexdigest() != latest["manifest_sha256"]:
            return [f"the manifest of {latest['run']} is not what latest.json says"]
        paths = {f"{latest['run']}/{of['path']}": of["sha256"] for of in json.loads(manifest)["files"]}
        there = {path: self.project.file(path) for path in paths}
        wrong = [p for p, sha256 in paths.items() if hashlib.sha256(there[p] or b"").hexdigest() != sha256]
        return [f"{path} is not what its manifest says" for path in wrong]

    def _left(self) -> list[str]:
        found = [f"folder {name} is left" for name in {*self.project.remove_local_runs()} - self.folders]
        found += [
            f"run {name} is not ended" for name in {*self.project.stack.query(_RUNNING).split()} - self.unfinished
        ]
        for what, query in (("sessions", _SESSIONS), ("temporary tables", _TEMPORARY)):
            if (count := self.project.stack.query(query)) != "0":
                found.append(f"{count} {what} are left")
        return found
