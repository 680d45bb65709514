"""The base: the run whose files, counts and stored fingerprints an incremental night starts from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from tasks.files.manifest import BaseFacts, FileEntry, Manifest, ManifestRef
from tasks.files.published import NotAsPublished, read_manifest
from tasks.files.stored import verify_stored
from tasks.platform.bucket import Bucket
from tasks.platform.functions import Database
from tasks.reports.figures import RunCounts
from tasks.settings import Settings

# What an incremental night needs of the base's files; reports and charts are made each night.
NEEDED = ("clean", "state")


@dataclass(frozen=True)
class Base:
    """run_id: of the last committed run that was not historical. dirty: rows were written since that no commit covers.

    problem: why its manifest cannot be used; then manifest is None. seed: the id of the database's seed now.
    """

    run_id: str
    dirty: bool
    seed: str
    manifest: Manifest | None
    problem: str = ""

    @property
    def published(self) -> Manifest:
        """The manifest, where the base can be used."""
        if self.manifest is None:
            raise ValueError("the base has no manifest")
        return self.manifest

    @property
    def facts(self) -> BaseFacts | None:
        """What the run left for the next night; None when it was made before there was such."""
        return self.manifest.base if self.manifest else None

    @property
    def run_path(self) -> str:
        return self.published.run

    @property
    def as_of(self) -> datetime:
        return self.published.as_of

    @property
    def started_at(self) -> datetime:
        return self.published.started_at

    @property
    def counts(self) -> RunCounts:
        return self.published.counts

    def entries(self, *kinds: str) -> dict[str, FileEntry]:
        """The run's files of these kinds, by path."""
        return {entry.path: entry for entry in self.published.files if entry.kind in (kinds or NEEDED)}


def load_base(database: Database, settings: Settings) -> Base | None:
    """The base as the ledger names it; None when there is none yet."""
    row = database.call("etl_base_run")
    if not row or (row["run_id"] is None and not row["dirty"]):
        return None
    run, seed, dirty = row["run"], str(row["seed"]), bool(row["dirty"])
    if not run or not run["manifest_path"]:
        return Base(str(row["run_id"] or ""), dirty, seed, None, "the last run is not in the ledger any more")
    if row["behind"]:
        return Base(row["run_id"], dirty, seed, None, "a later run was committed that did not become the base")
    ref = ManifestRef(path=run["manifest_path"], sha256=run["manifest_sha256"])
    try:
        with Bucket(settings) as bucket:
            return Base(row["run_id"], dirty, seed, read_manifest(bucket, ref))
    except NotAsPublished as problem:
        return Base(row["run_id"], dirty, seed, None, without_file(problem))


def base_run(database: Database) -> str | None:
    """The run that the next night starts from; None when there is none."""
    row = database.call("etl_base_run")
    return row["run_id"] if row else None


def missing_files(base: Base, settings: Settings) -> str:
    """Why the base's files cannot be used, in words that follow `because`; '' when each is there as it was stored."""
    try:
        verify_stored(settings, base.run_path, base.entries().values())
    except NotAsPublished as problem:
        return without_file(problem)
    return ""


def without_file(problem: object) -> str:
    """Why a night without a whole base is full, in words that follow `because`. problem: which file, and what it is."""
    return f"a file of the last run cannot be used: {problem}"
